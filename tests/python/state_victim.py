"""Victims of state.py: state that only the interpreter knows, left behind by threads that vanish in a fork.

    state_victim.py PART SECONDS [past|in_c]

past: forks are made without the GIL, past os.fork, as an embedder's are. in_c: so are threads. PART is a function of
this file's: imports, own_import, body, wakeup, places, ending, owners, first, waiters, tokens ...

A child that runs for SECONDS ends by its alarm. The parent says how each child ended.
"""
import _thread
import asyncio
import atexit
import concurrent.futures
import contextlib
import ctypes
import faulthandler
import hashlib
import importlib
import mmap
import os
import queue
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import types

SECONDS = int(sys.argv[2])
PARENT = os.getpid()
FORKS = 20  # of the GIL: at some of them nobody has it


def say(text):
    os.write(1, (text + "\n").encode())


def fork_past():
    """Forks as C code does that has not got the GIL, when no other thread has it or waits for it."""
    def look():
        for task in os.listdir("/proc/self/task"):
            if int(task) != os.getpid():
                with open(f"/proc/self/task/{task}/status") as status:
                    yield status.read()

    before = None
    while before != (before := [*look()]) or not all("State:\tS" in status for status in before):
        time.sleep(0.05)  # who waits for the GIL wakes every 5 ms
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)  # as uwsgi has one of its own
    pid = libc.fork()
    libc.pthread_mutex_unlock(mutex)
    return pid


def in_child(work, fork=fork_past if sys.argv[3:] == ["past"] else os.fork):
    """Runs `work` in a child, which ends; returns its status in the parent."""
    child = fork()  # forked here
    if child == 0:
        signal.alarm(SECONDS)
        try:
            work()
        except BaseException as error:
            say(f"WRONG {error!r}")
            os._exit(9)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(child):
    """Its status, -9 after SECONDS: it may hang before it could set an alarm."""
    limit = time.monotonic() + SECONDS
    status = 0, 0
    while not status[0] and time.monotonic() < limit:
        time.sleep(0.01)
        status = os.waitpid(child, os.WNOHANG)
    if not status[0]:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status[1])


# --- Imports -------------------------------------------------------------------------------------------------

MODULES = {
    "plain.py": "BEGUN = 1\nimport gate; gate.enter(__name__)\nENDED = 1\n",
    "outer/__init__.py": "BEGUN = 1\nfrom . import inner\nENDED = 1\n",
    "outer/inner.py": "BEGUN = 1\nimport gate; gate.enter(__name__)\nENDED = 1\n",
    "space/part.py": "BEGUN = 1\nimport gate; gate.enter(__name__)\nENDED = 1\n",  # of a namespace package
    "late.py": "import time\ntime.sleep(0.2)\n",
    # Their work is done while they are imported, in threads.
    "body/__init__.py": "from . import work\n",
    "body/work.py": "import threading, gate\nwas = 1\ndef run(): gate.work()\n"
                    "threading.Thread(target=run).start()\nthreading.Event().wait()\n",
    "forks.py": "import gate\nBEGUN = 1\ngate.fork()\nENDED = 1\n",
    # What an extension module, written in C, imports while it is initialized.
    "numbers.py": "import abc\nBEGUN = 1\nimport gate; gate.enter(__name__)\n"
                  "class Number(metaclass=abc.ABCMeta): pass\nclass Rational(Number): pass\nENDED = 1\n",
    # On the second run its part is there already, and no attribute of it.
    "slow/__init__.py": "import gate, slow.part\ngate.enter()\nENDED = slow.part.BEGUN\n",
    "slow/part.py": "BEGUN = 1\n",
    "again.py": "RUNS = globals().get('RUNS', 0) + 1\nif RUNS == 2: import gate; gate.enter(__name__)\n",
}
NAMES = ["plain", "outer.inner", "space.part"]
EXTENSION = "_decimal"


def make_modules(folder):
    for path, text in MODULES.items():
        path = os.path.join(folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as module:
            module.write(text)
    sys.path.insert(0, folder)


def start_imports():
    """Threads get into the modules and stay there; a child runs through."""
    inside = queue.SimpleQueue()
    gate = sys.modules["gate"] = types.ModuleType("gate")

    def enter(name):
        if os.getpid() == PARENT:
            inside.put(name)
            threading.Event().wait()

    gate.enter = enter
    for name in (EXTENSION, "numbers"):
        sys.modules.pop(name, None)
    for name in [*NAMES, EXTENSION]:
        threading.Thread(target=__import__, args=(name,), daemon=True).start()
    threading.Thread(target=importlib.reload, args=(__import__("again"),), daemon=True).start()
    for _ in range(len(NAMES) + 2):
        inside.get()
    return gate


def import_all():
    for name in [*NAMES, "numbers"]:
        __import__(name)
        module = sys.modules[name]
        if not (module.BEGUN and module.ENDED) or module.__spec__._initializing:
            say(f"WRONG {name} is half a module")
    if not sys.modules["outer"].ENDED or sys.modules["outer"].inner is not sys.modules["outer.inner"]:
        say("WRONG the package is half a package")
    if __import__(EXTENSION).Decimal(2) + 3 != 5:
        say("WRONG the extension module does not work")
    if importlib.reload(sys.modules["again"]).RUNS != 3:
        say("WRONG it was not reloaded")


def imports():
    start_imports()
    say(f"child: {in_child(import_all)}")


def not_wanted():
    """A child that has no need of the half modules, and its child, which has."""
    start_imports()

    def fork_once_more():
        say(f"its child: {in_child(import_all)}")

    say(f"child: {in_child(int)}")
    say(f"child: {in_child(fork_once_more)}")


def under_way():
    """An import that ends soon is whole in the child, which does not run it again."""
    gate = sys.modules["gate"] = types.ModuleType("gate")
    runs = []

    def enter():
        runs.append("run")
        taken.set()
        time.sleep(0.2)

    gate.enter = enter
    threading.Thread(target=__import__, args=("slow",), daemon=True).start()
    taken.wait()

    def look():
        if not __import__("slow").ENDED or len(runs) != 1:
            say("WRONG it ran again")

    say(f"child: {in_child(look)}")


def under_lock():
    """What a lock guards, and its owner is about to complete, is whole in the child."""
    lock = threading.Lock()
    halves = []

    def work():
        with lock:
            halves.append("one")
            taken.set()
            time.sleep(0.2)
            halves.append("other")

    threading.Thread(target=work, daemon=True).start()
    taken.wait()

    def look():
        with lock:
            if len(halves) != 2:
                say("WRONG half of it")

    say(f"child: {in_child(look)}")


def own_import():
    """The import in which the fork is made goes on in the child, and is that very import."""
    gate = start_imports()
    status = []

    def fork():
        child = os.fork()
        if child:
            status.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        else:
            signal.alarm(SECONDS)

    gate.fork = fork
    import forks
    if os.getpid() != PARENT:
        again = __import__("forks")
        os._exit(0 if again is forks and forks.ENDED and sys.modules["forks"] is forks else 9)
    say(f"child: {status[0]}")


def body():
    """The child of a thread whose functions are those of a module that is still being imported finds that very
    module."""
    gate = start_imports()
    done = queue.SimpleQueue()

    def look():
        if sys.modules["body.work"].was != 1 or not hasattr(sys.modules["body"], "__path__"):
            say("WRONG it is another module")

    def import_it():
        before = sys.modules["body"], sys.modules["body.work"]
        __import__("body.work")
        if (sys.modules["body"], sys.modules["body.work"]) != before:
            say("WRONG it was imported anew")

    gate.work = lambda: done.put((in_child(look), in_child(import_it)))
    threading.Thread(target=__import__, args=("body.work",), daemon=True).start()
    say("child: {} {}".format(*done.get()))


def serving():
    """A program that imports a module which never ends, because it serves; a thread of that module forks."""
    signal.alarm(4 * SECONDS)
    gate, done = types.ModuleType("gate"), queue.SimpleQueue()
    sys.modules["gate"], gate.enter = gate, lambda name: threading.Event().wait()
    gate.work = lambda: done.put(in_child(lambda: None))
    threading.Thread(target=__import__, args=("body.work",), daemon=True).start()
    say(f"child: {done.get()}")


def wakeup():
    """A vanished thread had been woken and was about to wake the next one that waits for the module."""
    lock = importlib._bootstrap._get_module_lock("late")
    threading.Thread(target=lambda: (lock.wakeup.acquire(), taken.set(), threading.Event().wait()), daemon=True).start()
    taken.wait()

    def import_twice():
        threads = [threading.Thread(target=__import__, args=("late",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    say(f"child: {in_child(import_twice)}")


# --- Places --------------------------------------------------------------------------------------------------

lock = threading.RLock()
pending = queue.Queue()
plain = threading.Lock()
taken = threading.Event()


class Holder(threading.Thread):
    def run(self):
        lock.acquire()  # taken here
        self.rest()

    def rest(self):
        taken.set()
        threading.Event().wait()


def hold_queue():
    with pending.mutex:  # the queue's is taken here
        taken.set()
        threading.Event().wait()


def hold_plain():
    def go_deep(left):
        if left > 0:
            go_deep(left - 1)
        taken.set()
        threading.Event().wait()

    with plain:  # the plain one is taken here
        go_deep(20)


def want_plain():
    plain.acquire()


def want():
    lock.acquire()  # wanted here


def want_queue():
    pending.put(1)  # the queue's is wanted here


def places():
    Holder(name="holding thread", daemon=True).start()
    taken.wait()
    taken.clear()
    threading.Thread(target=hold_queue, name="queue keeper", daemon=True).start()
    taken.wait()
    taken.clear()
    threading.Thread(target=hold_plain, daemon=True).start()
    taken.wait()
    say(f"child: {in_child(want)}")
    say(f"child: {in_child(want_queue)}")
    say(f"child: {in_child(want_plain, ctypes.CDLL(None).fork)}")  # as an embedder forks: without the GIL


def ending():
    """A fork while the interpreter ends."""
    Holder(daemon=True).start()
    taken.wait()
    atexit.register(lambda: say(f"child: {in_child(want)}"))
    sys.exit()


def check_owner():
    """A new thread has the pthread_t of the lock's vanished owner, as if libc had given it the stack."""
    entered = []

    def claim():
        words = (ctypes.c_size_t * 2).from_address(id(lock) + 24)
        words[0], words[1] = threading.get_ident(), 1

    def use():
        claim()
        if lock._is_owned():
            os._exit(5)
        claim()
        with contextlib.suppress(RuntimeError):
            lock.release()
            os._exit(6)
        claim()
        with lock:
            in_thread(lambda: entered.append(lock.acquire(False)))

    in_thread(use)
    assert entered == [False], "two are inside"
    lock.acquire()


def check_owner_in_c():
    """The same in a thread that C code made without the GIL."""
    go, entered = threading.Event(), []

    def use(_):
        go.wait()
        words = (ctypes.c_size_t * 2).from_address(id(lock) + 24)
        words[0], words[1] = threading.get_ident(), 1
        entered.append(lock._is_owned())

    made, start = ctypes.c_ulong(), ctypes.CFUNCTYPE(None, ctypes.c_void_p)(use)
    libc = ctypes.CDLL(None)
    libc.pthread_create(ctypes.byref(made), None, start, None)
    time.sleep(0.01)
    go.set()
    libc.pthread_join(made, None)
    os._exit(5 if entered == [True] else 0)


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def owners():
    Holder(daemon=True).start()
    taken.wait()
    say(f"child: {in_child(check_owner_in_c)}")
    say(f"child: {in_child(check_owner)}")


def first():
    """An RLock that nobody has given back so far, in a child whose other thread sleeps with a limit."""
    Holder(daemon=True).start()
    taken.wait()

    def want_it():
        threading.Thread(target=lambda: [time.sleep(0.05) for _ in range(20 * SECONDS)], daemon=True).start()
        with lock, lock:
            in_thread(lambda: lock.acquire(False) and os._exit(6))
        in_thread(lambda: lock.acquire(False) or os._exit(7))

    say(f"child: {in_child(want_it)}")


def first_beside_c():
    """The same beside a thread that C code made without the GIL."""
    Holder(daemon=True).start()
    taken.wait()
    libc = ctypes.CDLL(None)
    sleeps = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: [time.sleep(0.05) for _ in range(20 * SECONDS)] and None)

    def want_it():
        libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, sleeps, None)
        with lock:
            pass

    say(f"child: {in_child(want_it)}")


# --- A lock that is never free -----------------------------------------------------------------------------------

def handed_on():
    """
    One of two threads always has its lock, and each is without at times, so that each fork would wait as long as it
    may. How much the threads do meanwhile, at the end.
    """
    turns, calls = 0, [os.pipe(), os.pipe()]

    def work(own, other):
        nonlocal turns
        lock = threading.Lock()
        if own == 1:
            os.read(calls[own][0], 1)  # goes out when the other is in once more
        while True:
            with lock:
                os.write(calls[other][1], b"x")
                turns += 1
                time.sleep(0.0003)
                os.read(calls[own][0], 1)
            time.sleep(0.0003)

    for own in range(2):
        threading.Thread(target=work, args=(own, 1 - own), daemon=True).start()
    during = []
    for _ in range(3 * FORKS):
        before = turns
        child = os.fork()
        if child == 0:
            os._exit(0)
        during.append(turns - before)
        os.waitpid(child, 0)
    during = sorted(during[-FORKS:])
    print(f"{during}", file=sys.stderr)
    say(f"later forks wait: {during[FORKS // 2] > 5}")


# --- Conditions -------------------------------------------------------------------------------------------------

class ThreadInC:
    def __init__(self, target, daemon):
        self.body, self.id = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: target() and None), ctypes.c_ulong()

    def start(self):
        ctypes.CDLL(None).pthread_create(ctypes.byref(self.id), None, self.body, None)

    def join(self):
        ctypes.CDLL(None).pthread_join(self.id, None)


def waiters():
    items, condition, tokens = queue.Queue(), threading.Condition(), threading.Semaphore(0)

    def wait():
        with condition:
            condition.wait()

    def notify():
        with condition:
            condition.notify()

    def put_to_sleep(what, where):
        before = list(where)
        in_c = sys.argv[3:] == ["in_c"] and os.getpid() != PARENT
        thread = (ThreadInC if in_c else threading.Thread)(target=what, daemon=True)
        thread.start()
        while not where or where[-1] in before:
            time.sleep(0.001)
        return thread

    kinds = [(items.get, items.not_empty._waiters, lambda: items.put(1)), (wait, condition._waiters, notify),
             (tokens.acquire, tokens._cond._waiters, tokens.release)]
    for what, where, _ in kinds * 2:
        put_to_sleep(what, where)

    def work():
        for what, where, wake in kinds:
            thread = put_to_sleep(what, where)
            wake()
            thread.join()

    def have_it_done():
        if in_child(work) != 0:
            signal.raise_signal(signal.SIGALRM)

    say(f"child: {in_child(work)}")
    say(f"its child: {in_child(have_it_done)}")
    for _, _, wake in kinds * 2:
        wake()
    while any(where for _, where, _ in kinds):
        time.sleep(0.001)
    say("parent: its own wake up")


def tokens():
    one, two, other = threading.Semaphore(), threading.BoundedSemaphore(2), threading.Semaphore(2)
    roomy = threading.Semaphore(3)

    class Same(threading.Semaphore):
        pass

    class Limit(threading.BoundedSemaphore):
        def acquire(self, *arguments):  # not what a with statement calls
            return super().acquire(*arguments)

        def full(self):
            return self._value == 0

    class Counts(threading.Semaphore):
        uses = 0

        def release(self):
            self.uses += 1
            super().release()

    class Signal(threading.Semaphore):
        def __enter__(self):
            return self

    same, limit, counts, signalled = Same(), Limit(2), Counts(), Signal(0)
    inside, finish = threading.Semaphore(0), threading.Event()

    def have_both():
        with one:
            with two:  # the token is had here
                inside.release()
                finish.wait()  # or here at the fork

    def have_one():
        def be_inside():
            inside.release()
            finish.wait()
            raise KeyError

        with contextlib.suppress(KeyError), two, other, roomy:
            be_inside()

    def have_by_call():
        other.acquire()
        inside.release()
        finish.wait()
        other.release()

    def have_derived():
        with same, limit, counts, signalled:
            inside.release()
            finish.wait()

    threads = [threading.Thread(target=body) for body in (have_both, have_one, have_by_call, have_derived)]
    for thread in threads:
        thread.start()
        inside.acquire()
    assert not other.acquire(False)

    def work():
        with one, two, two, other, roomy, roomy, roomy:
            assert not one.acquire(False) and not two.acquire(False)
            assert not other.acquire(False), "a token that no with statement had"
        with same, limit, limit:
            assert not same.acquire(False) and limit.full()
        assert not counts.acquire(False), "a token whose giving back is the program's own"
        assert not signalled.acquire(False), "a token that nobody had"
        for bounded in two, limit:
            bounded.acquire()
            bounded.release()
            try:
                bounded.release()
            except ValueError:
                continue
            raise RuntimeError("a token too many")

    say(f"child: {in_child(work)}")
    finish.set()
    for thread in threads:
        thread.join()
    say(f"parent: {one._value} {two._value} {other._value} {same._value} {limit._value}")


def replaced():
    """Many threads, in a program that has put classes of its own in the place of threading's."""
    threading.Semaphore = threading.Condition = type("Own", (), {})
    start = sys.modules["_thread"].start_new_thread
    ended = sys.modules["_thread"].allocate_lock()

    def make(count):
        for _ in range(count):
            ended.acquire()
            start(ended.release, ())
        with ended:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = make(2000)
    say(f"grown: {make(40000) - before > 3000}")


# --- Sub-interpreters -------------------------------------------------------------------------------------------

# With GILs of their own and in threads from 3.13 on: before, they hang in threads, bare as well.
LIVES = """
import queue, threading
lock, again, passed, turns = threading.Lock(), threading.RLock(), queue.Queue(), []
def work():
    for turn in range(100):
        with lock, again, again:
            turns.append(turn)
        passed.put(turn)
        passed.get()
%s
assert len(turns) == %d
"""
THREADS = """
them = [threading.Thread(target=work) for _ in range(3)]
[one.start() for one in them], [one.join() for one in them]
"""


def make_interpreters():
    """Two of them, which run. Returns what ends them."""
    if sys.version_info >= (3, 13):
        import _interpreters as module
        made = [module.create() for _ in range(2)]
        failed = []

        def run(one):
            failed.append(module.exec(one, LIVES % (THREADS, 300)))

        them = [threading.Thread(target=run, args=(one,)) for one in made]
        for thread in them:
            thread.start()
        for thread in them:
            thread.join()
        if failed != [None, None]:
            say(f"WRONG {failed}")
    else:
        import _xxsubinterpreters as module
        made = [module.create() for _ in range(2)]
        for one in made:
            module.run_string(one, LIVES % ("work()", 100))
    return lambda: [module.destroy(one) for one in made]


def ended():
    """Their locks were other objects of another type, with the methods of the main one's."""
    make_interpreters()()
    Holder(daemon=True).start()
    taken.wait()
    say(f"child: {in_child(lambda: [want(), in_thread(int)])}")


def beside():
    """CPython cannot end them in a child: it ends the child, or hangs, before os.fork returns."""
    end = make_interpreters()  # to 3.12 they end when nobody knows them any more
    Holder(daemon=True).start()
    taken.wait()
    child = os.fork()
    if child == 0:
        os._exit(0)
    say(f"child: {wait_for(child)}")
    del end


# --- Locks inside the interpreter -------------------------------------------------------------------------------


def inner():
    """A hash's lock, whose holder hashes without the GIL; from 3.13 on also that of the interpreter's list of
    threads."""
    # The kernel's one page of zeroes, so often that no fork is likely to come between two updates.
    digest, much = hashlib.sha1(), mmap.mmap(-1, 1 << 34 if sys.maxsize > 1 << 32 else 1 << 29,
                                             mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)

    def hash_much():
        while True:
            digest.update(much)

    sys.setswitchinterval(60)  # this thread goes on when the other hashes
    threading.Thread(target=hash_much, daemon=True).start()
    time.sleep(0.05)
    sys.setswitchinterval(0.005)
    say(f"child: {in_child(digest.digest)}")
    say(f"child: {in_child(lambda: [in_thread(digest.digest), digest.digest()])}")

    python, forever = ctypes.CDLL(None), threading.Event()
    if sys.version_info < (3, 13):
        return
    # The interpreter publishes where the list begins; its lock lies before that.
    runtime = ctypes.addressof(ctypes.c_char.in_dll(python, "_PyRuntime"))
    mutex = ctypes.c_void_p(runtime + ctypes.c_uint64.from_address(runtime + 5 * 8).value - 8)
    threading.Thread(target=lambda: (python.PyMutex_Lock(mutex), taken.set(), forever.wait()), daemon=True).start()
    taken.wait()
    say(f"child: {in_child(lambda: threading.Thread(target=int).start(), python.fork)}")


# --- Waits that nobody ends --------------------------------------------------------------------------------------


def second_wait():
    """A signal handler ends the child's first wait. Nobody ends the second, by the same method in another place, nor
    that of the child's child."""
    ended, never = threading.Event(), threading.Event()
    threading.Thread(target=never.wait, daemon=True).start()
    signal.signal(signal.SIGUSR1, lambda *_: ended.set())

    def work():
        parent = os.getpid()
        if os.fork() == 0:
            time.sleep(0.5)
            os.kill(parent, signal.SIGUSR1)
            os._exit(0)
        ended.wait()
        if os.fork() == 0:
            signal.alarm(SECONDS)
            never.wait()  # the child's child waits here
        never.wait()  # the child waits here

    say(f"child: {in_child(work)}")


def interrupt():
    """Only Ctrl-C could end these waits: by the interpreter's own handler; by that, and it does; by the program's."""
    never = threading.Event()
    threading.Thread(target=never.wait, daemon=True).start()

    def interrupted():
        signal.alarm(10 * SECONDS)  # however loaded the machine is
        parent = os.getpid()
        if os.fork() == 0:
            time.sleep(0.5)
            with contextlib.suppress(ProcessLookupError):  # mode abort has ended it
                os.kill(parent, signal.SIGINT)
            os._exit(0)
        try:
            never.wait()
        except KeyboardInterrupt:
            os._exit(7)

    def parked():
        never.wait()  # nobody has asked for a handler

    def handled():
        signal.signal(signal.SIGINT, lambda *_: None)
        never.wait()  # the program has asked for a handler

    for work in parked, interrupted, handled:
        say(f"child: {in_child(work)}")


def executor():
    """A loop of asyncio's waits for an executor's thread that only the parent has: idle, so that no other is made."""
    workers = concurrent.futures.ThreadPoolExecutor()
    workers.submit(int).result()
    while not workers._idle_semaphore._value:  # the thread says that it is idle after the result is there
        time.sleep(0.01)

    async def ask():
        await asyncio.get_running_loop().run_in_executor(workers, int)

    def work():
        asyncio.run(ask())

    say(f"child: {in_child(work)}")


# --- A thread of the interpreter's own ---------------------------------------------------------------------------


def watchdog():
    """faulthandler's: a child that cancels it, sets another, or ends waits for it; the first, and one set anew."""
    for _ in range(2):
        faulthandler.dump_traceback_later(1000, exit=True)
        say(f"cancels: {in_child(faulthandler.cancel_dump_traceback_later)}")
        say(f"sets another: {in_child(lambda: [faulthandler.dump_traceback_later(1000) for _ in range(2)])}")
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            sys.exit(0)
        say(f"ends: {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
        faulthandler.cancel_dump_traceback_later()


# --- The GIL -------------------------------------------------------------------------------------------------


def count():
    number = 0
    while True:
        number += 1


def gil():
    """A fork without the GIL, as ctypes makes it, while other threads have it."""
    libc = ctypes.CDLL(None)
    for _ in range(1000):  # takes a while, in which they get it
        libc.__register_atfork(ctypes.cast(libc.sched_yield, ctypes.c_void_p), None, None, None)
    for _ in range(2):
        threading.Thread(target=count, daemon=True).start()

    def work():
        thread = threading.Thread(target=found.append, args=(1,))
        thread.start()
        thread.join()
        os._exit(7 if found == [1] else 8)

    found = []
    for _ in range(FORKS):
        child = libc.fork()
        if child == 0:
            work()
        status = wait_for(child)
        if status != 7:
            break
    say(f"child: {status}")


def left():
    """A child of which the interpreter is not told keeps states of vanished threads, and gives others their stacks."""
    asleep = threading.Semaphore(0)

    def sleep():
        asleep.release()
        time.sleep(SECONDS)

    def use_stack():
        compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        ctypes.CDLL(None).qsort((ctypes.c_int * 50)(*range(50, 0, -1)), 50, 4, compare(lambda one, other: 0))
        re.match("((a|b)*c)*d", "ab" * 3000)
        sleep()

    def have_child():
        for _ in range(4):
            _thread.start_new_thread(use_stack, ())
        for _ in range(4):
            asleep.acquire()
        say(f"its child: {in_child(threading.active_count)}")

    for _ in range(4):
        threading.Thread(target=sleep, daemon=True).start()
    for _ in range(4):
        asleep.acquire()
    say(f"child: {in_child(have_child, ctypes.PyDLL(None).fork)}")


with tempfile.TemporaryDirectory() as scratch:
    make_modules(scratch)
    globals()[sys.argv[1]]()
    sys.stdout.flush()
    import shutil
    shutil.rmtree(scratch, True)
    os._exit(0)
