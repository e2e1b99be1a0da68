"""A random program: random_victim.py SEED FORKS SECONDS. Threads use locks and what is built on them without an end;
children are forked at random moments, by the main thread or another, and use the same things, some with threads and
children of their own.

Each program follows from its seed but for the scheduler, and is right by construction: a child can only hang in what a
vanished thread had, or see half-changed what a vanished thread was changing. Prints a report as JSON: children that
hung (longer than SECONDS), that went wrong, that saw something half-changed, and the last words of the wrong ones. """
import contextlib
import json
import logging
import multiprocessing
import multiprocessing.popen_fork
import multiprocessing.queues  # threads that import these at once fail in CPython 3.9, 39 of 60 times in a bare child
import multiprocessing.synchronize
import os
import queue
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

warnings.simplefilter("ignore")
seed, forks, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
dice = random.Random(seed)
folder = tempfile.mkdtemp(prefix="random_victim")
sys.path.insert(0, folder)
sys.dont_write_bytecode = True
stop = False


class Torn(Exception):
    """What a vanished thread was changing."""


def nap(own, most):
    time.sleep(own.random() * most)


# --- Things that threads share; each has a turn for the parent's threads and one for a child ------------------------


class Guarded:
    """Two numbers that change together, and that nobody else is inside."""

    def __init__(self):
        self.lock = dice.choice([threading.Lock, threading.RLock, threading.Condition])()
        self.first = self.second = 0
        self.inside = {}
        if dice.random() < 0.5:
            with self.lock:
                pass

    @contextlib.contextmanager
    def alone(self):
        with self.lock:
            # By process: what a vanished thread says of itself does not count.
            assert not self.inside.get(os.getpid()), "two are inside"
            self.inside[os.getpid()] = True
            yield
            self.inside[os.getpid()] = False

    def change(self, own):
        self.first += 1
        nap(own, 0.0005)
        self.second += 1

    def turn(self, own):
        with self.alone():
            self.change(own)
        nap(own, 0.004)

    def check(self, own):
        with self.alone():
            torn = self.first != self.second
            self.first = self.second = 0
        with self.alone():
            self.change(own)
            assert self.first == self.second
        if torn:
            raise Torn


class Waiters:
    def __init__(self):
        self.condition = threading.Condition(dice.choice([None, threading.Lock()]))
        self.limit = dice.choice([0.001, 0.01])

    def turn(self, own):
        with self.condition:
            if own.random() < 0.5:
                self.condition.wait(self.limit)
            else:
                self.condition.notify_all()
        nap(own, 0.002)

    def check(self, own):
        with self.condition:
            self.condition.notify_all()
            self.condition.wait(0.001)
        came = []

        def wait():
            with self.condition:
                self.condition.wait_for(lambda: came, 20)
                came.append("woken")

        waiter = threading.Thread(target=wait)
        waiter.start()
        with self.condition:
            came.append("now")
            self.condition.notify_all()
        waiter.join()
        assert came == ["now", "woken"], came


class Signs:
    def __init__(self):
        self.event = threading.Event()

    def turn(self, own):
        self.event.set()
        nap(own, 0.001)
        self.event.clear()
        self.event.wait(0.0005)

    def check(self, own):
        while not self.event.wait(0.001):  # another thread may clear it
            self.event.set()
        self.event.clear()


class Queue:
    def __init__(self):
        self.queue = dice.choice([queue.Queue, queue.LifoQueue, queue.SimpleQueue])()

    def turn(self, own):
        self.queue.put(own.random())
        with contextlib.suppress(queue.Empty):
            for _ in range(3):
                # With a limit SimpleQueue's get may wait for ever to CPython 3.11, bare as well: it forgets that time
                # passes.
                self.queue.get(*((False,) if isinstance(self.queue, queue.SimpleQueue) else (True, 0.001)))
        nap(own, 0.002)

    def check(self, own):
        for i in range(3):
            self.queue.put(i)
        for _ in range(3):
            self.queue.get()
        later = threading.Thread(target=self.queue.put, args=("late",))
        later.start()
        self.queue.get()
        later.join()


class Log:
    def __init__(self):
        self.log = logging.getLogger(f"log{dice.random()}")
        self.log.propagate = False
        self.log.setLevel(logging.INFO)
        self.handler = logging.FileHandler(os.path.join(folder, self.log.name))
        self.log.addHandler(self.handler)

    def turn(self, own):
        self.log.info("a line of %d", os.getpid())
        nap(own, 0.002)

    check = turn


class Output:
    def __init__(self):
        self.file = open(os.path.join(folder, f"out{dice.random()}"), "w")

    def turn(self, own):
        print("a line of", os.getpid(), file=self.file, flush=own.random() < 0.8)
        nap(own, 0.002)

    check = turn


class Pool:
    def __init__(self):
        self.pool = ThreadPoolExecutor(2)

    def turn(self, own):
        assert self.pool.submit(pow, 2, 10).result() == 1024
        nap(own, 0.003)

    def check(self, own):
        with ThreadPoolExecutor(2) as pool:
            assert sum(pool.map(int, range(20))) == 190


class Modules:
    """Each import of the module runs it anew."""

    def __init__(self):
        self.name = f"module{dice.randrange(10**9)}"
        with open(os.path.join(folder, self.name + ".py"), "w") as file:
            file.write("import time\nbegun = True\ntime.sleep(0.0005)\ndone = True\n")

    def turn(self, own):
        __import__(self.name)
        sys.modules.pop(self.name, None)
        nap(own, 0.003)

    def check(self, own):
        module = __import__(self.name)
        if not hasattr(module, "done"):
            raise Torn


class Programs:
    def turn(self, own):
        assert subprocess.run(["/bin/true"]).returncode == 0
        nap(own, 0.02)

    check = turn


class Tasks:
    """Only in children: multiprocessing's parent is made for its main thread."""

    def turn(self, own):
        nap(own, 0.01)

    def check(self, own):
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()
        process = context.Process(target=answers.put, args=(5,))
        process.start()
        assert answers.get() == 5
        process.join()
        # None: another thread's start() has reaped the process and not yet said so, bare as well (cpython issue
        # 148318).
        # With a waitpid that gives its answer 2 ms late: 1 to 3 of 40 times on 3.9, 3.11, 3.13 and 3.14.
        assert process.exitcode in (0, None), process.exitcode


KINDS = [Guarded, Guarded, Guarded, Waiters, Signs, Queue, Log, Output, Pool, Modules, Programs, Tasks]
things = [dice.choice(KINDS)() for _ in range(dice.randint(2, 5))]


def work(number):
    own = random.Random(seed * 1000 + number)
    while not stop:
        own.choice(things).turn(own)


# --- Children -------------------------------------------------------------------------------------------------


def live(own, depth):
    """A child's life. Returns whether it saw something half-changed."""
    torn = []

    def use(one):
        try:
            one.check(own)
        except Torn:
            torn.append(True)

    threads = [threading.Thread(target=lambda: [use(one) for one in own.sample(things, 2)])
               for _ in range(own.choice([0, 0, 1, 3]))]
    errors = []
    threading.excepthook = lambda args: errors.append(args.exc_value)
    for thread in threads:
        thread.start()
    for one in own.sample(things, own.randint(1, len(things))):
        use(one)
    if depth == 0 and own.random() < 0.2:
        torn.append(fork(own, 1) == "torn")
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return any(torn)


def fork(own, depth):
    """Forks and waits. Returns "fine", "torn", "hung" or what was wrong."""
    reading, writing = os.pipe()
    held = contextlib.nullcontext()
    guarded = [one for one in things if isinstance(one, Guarded) and not isinstance(one.lock, type(threading.Lock()))]
    if depth == 0 and guarded and own.random() < 0.2:
        held = own.choice(guarded).lock  # its owner may take it again
    with held:
        pid = os.fork()
        with held:
            pass
    if pid == 0:
        try:
            words = "torn" if live(own, depth) else "fine"
        except BaseException as error:
            words = repr(error)
        os.write(writing, words.encode())
        if depth > 0 or own.random() < 0.5:
            os._exit(0)
        sys.exit(0)  # with the interpreter's own end, where that is not a thread's
    os.close(writing)
    words = "hung"
    if select.select([reading], [], [], seconds / (1 + depth))[0]:
        words = os.read(reading, 4096).decode() or "no word"
    os.close(reading)
    deadline = time.monotonic() + (seconds if words != "hung" else 0)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            break
        time.sleep(0.0005)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "hung"
    return words if words == "hung" or status == 0 else f"{words}, status {status}"


def forker(results):
    own = random.Random(seed + 7)
    for _ in range(forks):
        nap(own, 0.005)
        results.append(fork(own, 0))


rings = 0


def ring(*_):
    global rings
    rings += 1


if dice.random() < 0.4:
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(dice.randint(1, 4))]
for thread in threads:
    thread.start()
results = []
if dice.random() < 0.3:
    other = threading.Thread(target=forker, args=(results,))
    other.start()
    other.join()
else:
    forker(results)
stop = True
for thread in threads:
    thread.join()
wrong = [words for words in results if words not in ("fine", "torn", "hung")]
print(json.dumps({"forks": len(results), "hung": results.count("hung"), "torn": results.count("torn"),
                  "wrong": wrong[:5],
                  "of": sorted({type(one).__name__ for one in things})}), flush=True)
subprocess.run(["rm", "-rf", folder])
os._exit(0)
