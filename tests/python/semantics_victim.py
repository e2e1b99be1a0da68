"""What locks, events and processes mean, asked before and after a fork: the same bare and under the library.

    semantics_victim.py PART

Each line of output is one answer, with WRONG in it where Python promises something else. Nothing that changes from
run to run is printed. A token is what a waiter waits for: somebody's release, notify, put. One that nobody gave and
that a waiter gets all the same is a phantom, and above all there must be none of these.
"""
import concurrent.futures
import logging
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time

NOBODY = 0.1    # how long to wait for what nobody gives
LONG = 20       # how long to wait for what somebody gives
CHILD_LIMIT = 40


def answer(what, got, wanted):
    print(f"{what}: {got!r}" + ("" if got == wanted else f" WRONG, {wanted!r} is right"), flush=True)


def outcome(function, *arguments, **named):
    """What a call returns, or the name of what it raises."""
    try:
        return function(*arguments, **named)
    except Exception as error:
        return type(error).__name__


def thread(function, *arguments):
    started = threading.Thread(target=function, args=arguments, daemon=True)
    started.start()
    return started


def in_thread(function, *arguments, **named):
    """The result of a call made by a thread of its own."""
    results = []
    thread(lambda: results.append(outcome(function, *arguments, **named))).join(LONG)
    return results[0] if results else "did not return"


def settle():
    """Gives the threads time to arrive where they wait."""
    time.sleep(0.3)


def set_alarm(seconds=CHILD_LIMIT):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default action kills, wherever the child is stuck
    signal.setitimer(signal.ITIMER_REAL, seconds)


# All of them, also those that multiprocessing and subprocess start: no child may outlive a test that was killed.
os.register_at_fork(after_in_child=set_alarm)


def in_child(function, alarm=CHILD_LIMIT):
    """Forks, calls in the child, returns the child's exit code."""
    pid = os.fork()
    if pid == 0:
        set_alarm(alarm)
        function()
        sys.exit(0)  # and not _exit: an orderly end joins threads and runs exit functions
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- The primitives, used by living threads only -------------------------------------------------------------


def primitives():
    lock = threading.Lock()
    answer("Lock: free", lock.acquire(), True)
    answer("Lock: own, not blocking", lock.acquire(blocking=False), False)
    answer("Lock: own, timed", lock.acquire(timeout=NOBODY), False)
    answer("Lock: other's, not blocking", in_thread(lock.acquire, blocking=False), False)
    answer("Lock: other's, timed", in_thread(lock.acquire, timeout=NOBODY), False)
    releaser = threading.Timer(0.1, lock.release)
    releaser.start()
    answer("Lock: released by another thread", lock.acquire(timeout=LONG), True)
    releaser.join()
    answer("Lock: and only once", lock.acquire(timeout=NOBODY), False)
    lock.release()
    answer("Lock: released too often", outcome(lock.release), "RuntimeError")

    rlock = threading.RLock()
    answer("RLock: three times", [rlock.acquire() for _ in range(3)], [True] * 3)
    answer("RLock: other's", in_thread(rlock.acquire, timeout=NOBODY), False)
    answer("RLock: released by another thread", in_thread(rlock.release), "RuntimeError")
    for _ in range(3):
        rlock.release()
    answer("RLock: released too often", outcome(rlock.release), "RuntimeError")
    answer("RLock: free for others", in_thread(rlock.acquire, timeout=LONG), True)

    condition = threading.Condition()
    with condition:
        answer("Condition: nobody notifies", condition.wait(NOBODY), False)
        notifier = thread(notify, condition)
        answer("Condition: notified", condition.wait(LONG), True)
        answer("Condition: and only once", condition.wait(NOBODY), False)
    notifier.join()

    event = threading.Event()
    answer("Event: nobody sets", event.wait(NOBODY), False)
    setter = thread(event.set)
    answer("Event: set", event.wait(LONG), True)
    setter.join()
    event.clear()
    answer("Event: cleared", event.wait(NOBODY), False)

    for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue):
        name = kind.__name__
        numbers = kind()
        answer(f"{name}: empty, timed", outcome(numbers.get, timeout=NOBODY), "Empty")
        answer(f"{name}: empty, not blocking", outcome(numbers.get, block=False), "Empty")
        putter = thread(numbers.put, 7)
        answer(f"{name}: filled", outcome(numbers.get, timeout=LONG), 7)
        putter.join()
        answer(f"{name}: and only once", outcome(numbers.get, timeout=NOBODY), "Empty")
    short = queue.Queue(maxsize=1)
    short.put(1)
    answer("Queue: full, timed", outcome(short.put, 2, timeout=NOBODY), "Full")

    semaphore = threading.Semaphore(2)
    answer("Semaphore: two of two", [semaphore.acquire(), semaphore.acquire()], [True, True])
    answer("Semaphore: none left", semaphore.acquire(timeout=NOBODY), False)
    thread(semaphore.release).join()
    answer("Semaphore: released by another thread", semaphore.acquire(timeout=LONG), True)
    answer("Semaphore: and only once", semaphore.acquire(timeout=NOBODY), False)
    answer("BoundedSemaphore: released too often", outcome(threading.BoundedSemaphore(1).release), "ValueError")

    barrier = threading.Barrier(2)
    other = thread(barrier.wait)
    answer("Barrier: both there", barrier.wait(LONG) in (0, 1), True)
    other.join()
    answer("Barrier: alone", outcome(barrier.wait, NOBODY), "BrokenBarrierError")

    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        answer("ThreadPoolExecutor", sum(executor.map(abs, range(-50, 50))), 2500)

    fired = threading.Event()
    cancelled = threading.Event()
    timer, late = threading.Timer(0.1, fired.set), threading.Timer(0.1, cancelled.set)
    late.start()
    late.cancel()
    timer.start()
    answer("Timer: fired", fired.wait(LONG), True)
    answer("Timer: cancelled", cancelled.wait(NOBODY), False)
    ping_pong()


def notify(condition):
    with condition:
        condition.notify()


def ping_pong(rounds=2000):
    """Two locks as events: each is always taken by one thread and released by the other."""
    ping, pong = threading.Lock(), threading.Lock()
    ping.acquire()
    pong.acquire()
    order = []

    def returner():
        for number in range(rounds):
            ping.acquire()
            order.append(("pong", number))
            pong.release()

    other = thread(returner)
    for number in range(rounds):
        order.append(("ping", number))
        ping.release()
        pong.acquire()
    other.join(LONG)
    answer("ping-pong: order kept", order == [(who, n) for n in range(rounds) for who in ("ping", "pong")], True)
    answer("ping-pong: both taken", [ping.acquire(blocking=False), pong.acquire(timeout=NOBODY)], [False, False])


# --- The same in a child, where the objects have waiters that vanished ----------------------------------------


def inherited():
    condition = threading.Condition()
    event = threading.Event()
    numbers, simple, full = queue.Queue(), queue.SimpleQueue(), queue.Queue(maxsize=1)
    full.put("parent's")
    semaphore = threading.Semaphore(3)
    used_up = threading.Semaphore(1)
    barrier = threading.Barrier(3)

    def wait_for_notify():
        with condition:
            condition.wait()

    def take_one():
        semaphore.acquire()
        event.wait()

    for _ in range(3):
        thread(wait_for_notify)
    for waiter in (event.wait, take_one, numbers.get, numbers.get, simple.get, lambda: full.put("late"), barrier.wait):
        thread(waiter)
    used_up.acquire()
    thread(used_up.acquire)
    settle()

    def child():
        with condition:
            answer("Condition: nobody notifies", condition.wait(NOBODY), False)
        for _ in range(5):
            # More often than there are vanished waiters: the fourth may reach a living one.
            with condition:
                condition.notify()
        with condition:
            answer("Condition: still nobody notifies", condition.wait(NOBODY), False)
            notifier = thread(notify, condition)
            answer("Condition: notified", condition.wait(LONG), True)
        notifier.join()
        with condition:
            condition.notify_all()
            answer("Condition: notified before the wait", condition.wait(NOBODY), False)

        answer("Event: nobody sets", event.wait(NOBODY), False)
        setter = thread(event.set)
        answer("Event: set", event.wait(LONG), True)
        setter.join()

        for name, inherited_queue in (("Queue", numbers), ("SimpleQueue", simple)):
            answer(f"{name}: empty, timed", outcome(inherited_queue.get, timeout=NOBODY), "Empty")
            putter = thread(inherited_queue.put, 7)
            answer(f"{name}: filled", outcome(inherited_queue.get, timeout=LONG), 7)
            putter.join()
            answer(f"{name}: and only once", outcome(inherited_queue.get, timeout=NOBODY), "Empty")
            answer(f"{name}: empty, in a thread", in_thread(inherited_queue.get, timeout=NOBODY), "Empty")
        answer("full Queue: full", outcome(full.put, "child's", timeout=NOBODY), "Full")
        answer("full Queue: get", outcome(full.get, timeout=LONG), "parent's")
        answer("full Queue: empty", outcome(full.get, timeout=NOBODY), "Empty")

        answer("Semaphore: two of three left", [semaphore.acquire(timeout=NOBODY) for _ in range(3)],
               [True, True, False])
        answer("Semaphore: used up", used_up.acquire(timeout=NOBODY), False)
        used_up.release()
        answer("Semaphore: one came back", [used_up.acquire(timeout=NOBODY) for _ in range(2)], [True, False])
        answer("Barrier: one that vanished is not enough", outcome(barrier.wait, NOBODY), "BrokenBarrierError")
        primitives()

    answer("child", in_child(child), 0)
    answer("parent's Event", event.wait(NOBODY), False)
    answer("parent's SimpleQueue", simple.empty(), True)
    primitives()


# --- Locks that another thread may release -------------------------------------------------------------------


class Obedient:
    """A thread that does one call after another, and keeps living (and holding) in between."""

    def __init__(self):
        self.calls, self.results = queue.SimpleQueue(), queue.SimpleQueue()
        thread(self.obey)

    def obey(self):
        while True:
            self.results.put(self.calls.get()())

    def start(self, call):
        self.calls.put(call)

    def do(self, call):
        self.start(call)
        return self.results.get(timeout=LONG)


def handed_over():
    a = Obedient()

    # Held by the forking thread, waited for by one that vanishes: nobody releases it in the child.
    gate = threading.Lock()
    gate.acquire()
    thread(gate.acquire)

    # Taken by a thread, released by this one, taken by this one: the thread's memory of it is out of date.
    moved = threading.Lock()
    a.do(moved.acquire)
    moved.release()
    moved.acquire()

    # Taken by a thread, released by this one: free.
    freed = threading.Lock()
    a.do(freed.acquire)
    freed.release()

    # Always taken by the thread and released by this one: an event, and now it has not happened.
    event = threading.Lock()
    for _ in range(3):
        a.do(event.acquire)
        event.release()
    a.do(event.acquire)

    # Taken by a thread that then waits for it to be released by somebody: what Condition does for each of its waiters.
    parked = threading.Lock()

    def park():
        parked.acquire()
        parked.acquire()

    thread(park)

    # Held by the forking thread, more than once.
    own = threading.RLock()
    own.acquire()
    own.acquire()
    settle()

    def child():
        def check(name, lock):
            answer(f"{name}: not blocking", lock.acquire(blocking=False), False)
            answer(f"{name}: timed", lock.acquire(timeout=NOBODY), False)
            answer(f"{name}: timed, in a thread", in_thread(lock.acquire, timeout=NOBODY), False)
            releaser = threading.Timer(0.1, lock.release)
            releaser.start()
            answer(f"{name}: released by another thread", lock.acquire(timeout=LONG), True)
            releaser.join()
            answer(f"{name}: and only once", lock.acquire(timeout=NOBODY), False)
            lock.release()
            answer(f"{name}: released too often", outcome(lock.release), "RuntimeError")

        check("gate", gate)
        check("moved", moved)
        answer("freed: free once", [freed.acquire(timeout=NOBODY) for _ in range(2)], [True, False])
        check("event", event)
        check("parked", parked)
        answer("own RLock: in a thread", in_thread(own.acquire, timeout=NOBODY), False)
        answer("own RLock: once more", own.acquire(), True)
        answer("own RLock: released", [outcome(own.release) for _ in range(4)], [None, None, None, "RuntimeError"])
        answer("own RLock: free for others", in_thread(own.acquire, timeout=LONG), True)

    answer("child", in_child(child), 0)

    def child_of_child():
        answer("grandchild", in_child(child), 0)

    answer("child with a child", in_child(child_of_child), 0)
    answer("parent's locks", [lock.acquire(timeout=NOBODY) for lock in (gate, moved, event, parked)], [False] * 4)
    answer("parent's free lock", [freed.acquire(timeout=NOBODY) for _ in range(2)], [True, False])


# --- Threads that vanished -----------------------------------------------------------------------------------


def vanished():
    stay = threading.Event()
    idle = thread(stay.wait)
    busy_end = threading.Event()

    def count():
        while not busy_end.is_set():
            pass

    busy = thread(count)
    fired = threading.Event()
    timer = threading.Timer(3600, fired.set)
    timer.daemon = True
    timer.start()
    executor = concurrent.futures.ThreadPoolExecutor(1)
    answer("executor before the fork", executor.submit(abs, -1).result(LONG), 1)
    settle()

    def child():
        answer("threads", [started.name for started in threading.enumerate()], ["MainThread"])
        answer("active", threading.active_count(), 1)
        for name, started in (("idle", idle), ("busy", busy), ("timer", timer)):
            answer(f"{name}: alive", started.is_alive(), False)
            answer(f"{name}: join", outcome(started.join), None)
            answer(f"{name}: join, timed", outcome(started.join, NOBODY), None)
        answer("timer: fired", fired.is_set(), False)
        soon = threading.Timer(0.1, fired.set)
        soon.start()
        answer("timer of the child: fired", fired.wait(LONG), True)
        soon.join()

        # Its idle thread is counted but gone, in Python's own books: the task waits.
        future = executor.submit(abs, -2)
        answer("executor of the parent", outcome(future.result, NOBODY), "TimeoutError")
        with concurrent.futures.ThreadPoolExecutor(2) as own:
            answer("executor of the child", list(own.map(abs, [-3, 4])), [3, 4])

        joined = [thread(time.sleep, 0.01) for _ in range(20)]
        for started in joined:
            started.join(LONG)
        answer("threads of the child: ended", any(started.is_alive() for started in joined), False)
        answer("again a child", in_child(lambda: None), 0)

    answer("child", in_child(child), 0)
    answer("child", in_child(child), 0)
    answer("alive in the parent", [idle.is_alive(), busy.is_alive(), timer.is_alive()], [True] * 3)
    busy_end.set()
    busy.join(LONG)
    answer("busy: ended", busy.is_alive(), False)
    stay.set()
    idle.join(LONG)
    answer("idle: ended", idle.is_alive(), False)
    timer.cancel()
    answer("executor after the forks", executor.submit(abs, -5).result(LONG), 5)
    executor.shutdown()


# --- Processes after threads ---------------------------------------------------------------------------------


def echo(source, sink):
    while (item := source.get()) is not None:
        sink.put(item * 2)


def shared_counts(table, name, lock):
    for _ in range(50):
        with lock:
            table[name] = table.get(name, 0) + 1


def square(number):
    return number * number


def processes():
    context = multiprocessing.get_context("fork")
    stay = threading.Event()
    numbers = queue.Queue()
    for waiter in (stay.wait, numbers.get):
        thread(waiter)
    settle()

    there, back = context.Queue(), context.Queue()
    process = context.Process(target=echo, args=(there, back))
    process.start()
    for number in range(100):
        there.put(number)  # a feeder thread of the queue starts with the first one
    answer("Queue there and back", [back.get(timeout=LONG) for _ in range(100)], list(range(0, 200, 2)))
    # Now the feeder thread is one of those that the next child does not have.
    second = context.Process(target=echo, args=(there, back))
    second.start()
    for number in range(100):
        there.put(number)
    answer("Queue with two at its end", sorted(back.get(timeout=LONG) for _ in range(100)), list(range(0, 200, 2)))
    there.put(None)
    there.put(None)
    process.join(LONG)
    second.join(LONG)
    answer("exit codes", [process.exitcode, second.exitcode], [0, 0])
    answer("Queue: empty", outcome(back.get, timeout=NOBODY), "Empty")

    with context.Pool(3) as pool:
        answer("Pool", pool.map(square, range(20)), [number * number for number in range(20)])
        with context.Pool(2) as inner:
            answer("Pool beside a Pool", inner.map(square, range(5)), [0, 1, 4, 9, 16])

    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as executor:
        answer("ProcessPoolExecutor", list(executor.map(square, range(20))), [number * number for number in range(20)])

    with context.Manager() as manager:
        table, lock = manager.dict(), manager.Lock()
        counters = [context.Process(target=shared_counts, args=(table, "shared", lock)) for _ in range(3)]
        for counter in counters:
            counter.start()
        for counter in counters:
            counter.join(LONG)
        answer("Manager", dict(table), {"shared": 150})

    # A lock between processes is never one that vanished with a thread: its holder lives on, in the parent.
    shared = context.Lock()
    answer("shared Lock: taken by a thread", in_thread(shared.acquire), True)
    news = context.SimpleQueue()

    def wait_for_parent():
        news.put(shared.acquire(timeout=NOBODY))
        news.put(shared.acquire(timeout=LONG))
        shared.release()

    waiting = context.Process(target=wait_for_parent)
    waiting.start()
    answer("shared Lock: while a thread of the parent holds it", news.get(), False)
    shared.release()
    answer("shared Lock: after that", news.get(), True)
    waiting.join(LONG)
    answer("shared Lock: exit code", waiting.exitcode, 0)


# --- A lock that is saved: the child has it, once, and it is a lock again ------------------------------------


def saved():
    def hold(lock, times=1):
        for _ in range(times):
            lock.acquire()
        threading.Event().wait()

    lock, rlock, contended = threading.Lock(), threading.RLock(), threading.Lock()
    inside = threading.Condition()
    for held in (lock, contended, inside):
        thread(hold, held)
    thread(hold, rlock, 2)  # the child has it once
    settle()
    for _ in range(3):
        thread(contended.acquire)  # vanished ones that waited, too
    settle()

    def child():
        for name, held in (("Lock", lock), ("contended Lock", contended)):
            answer(f"{name}: taken", held.acquire(), True)
            answer(f"{name}: and only once", held.acquire(timeout=NOBODY), False)
            answer(f"{name}: not by a thread", in_thread(held.acquire, timeout=NOBODY), False)
            held.release()
            answer(f"{name}: released too often", outcome(held.release), "RuntimeError")
            exclude(name, held)

        answer("RLock: taken", rlock.acquire(), True)
        answer("RLock: twice", rlock.acquire(), True)
        answer("RLock: not by a thread", in_thread(rlock.acquire, timeout=NOBODY), False)
        answer("RLock: released", [outcome(rlock.release) for _ in range(3)], [None, None, "RuntimeError"])
        exclude("RLock", rlock)

        with inside:
            answer("Condition: nobody notifies", inside.wait(NOBODY), False)
            notifier = thread(notify, inside)
            answer("Condition: notified", inside.wait(LONG), True)
        notifier.join()
        answer("child of the child", in_child(lambda: answer("Lock: free", lock.acquire(timeout=NOBODY), True)), 0)

    answer("child", in_child(child, alarm=float(sys.argv[2])), 0)
    answer("parent's locks are still held",
           [held.acquire(timeout=NOBODY) for held in (lock, rlock, contended)], [False] * 3)


def exclude(name, lock, threads=4, rounds=100):
    """Four threads count with a pause between reading and writing: only exclusion makes the sum right."""
    total = 0

    def add():
        nonlocal total
        for _ in range(rounds):
            with lock:
                seen = total
                time.sleep(0)
                total = seen + 1

    adding = [thread(add) for _ in range(threads)]
    for started in adding:
        started.join(LONG)
    answer(f"{name}: four threads exclude each other", total, threads * rounds)


# --- Popen with a preexec_fn that logs, while threads log ------------------------------------------------------


def preexec():
    """Standard output is the log file; how many got through is the exit status."""
    log = logging.getLogger("preexec")
    handler = logging.StreamHandler(sys.stdout)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    stop = threading.Event()

    def log_on(name):
        number = 0
        while not stop.is_set():
            log.info("%s %d", name, number)
            number += 1

    threads = [thread(log_on, name) for name in ("first", "second")]
    for number in range(50):
        subprocess.Popen(["true"], preexec_fn=lambda: log.info("child %d", number)).wait()
        # On its own descriptor, at once: bare the next line is never reached.
        os.write(2, b"finished\n")
    stop.set()
    for started in threads:
        started.join()


PARTS = {function.__name__: function for function in
         (primitives, inherited, handed_over, vanished, processes, saved, preexec)}

if __name__ == "__main__":
    PARTS[sys.argv[1]]()
