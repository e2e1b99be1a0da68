"""A thread has a lock and keeps it; each child uses it.

    locks_victim.py KIND SECONDS

One child, ended by its own alarm after SECONDS. Prints "done" when it has ended well, "hung" when the alarm ended it.
"""
import os
import queue
import signal
import sys
import threading
import time
import warnings

warnings.simplefilter("ignore")


def use(lock):
    with lock:
        pass


def use_twice_and_apart(lock):
    with lock:
        if lock.acquire(blocking=False):
            raise AssertionError("had twice")
    with lock:
        pass
    if lock.locked():
        raise AssertionError("still locked")


def notify(condition):
    with condition:
        condition.notify_all()


def use_in_thread(lock):
    thread = threading.Thread(target=use, args=(lock,))
    thread.start()
    thread.join(60)
    if thread.is_alive():
        raise AssertionError("the thread hangs")


def use_in_threads(lock):
    """Another thread of theirs might be meant to release it, until all of them sleep."""
    threads = [threading.Thread(target=use, args=(lock,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Locks(list):
    """Many locks, which a thread has together."""

    def __enter__(self):
        for lock in self:
            lock.acquire()

    def __exit__(self, *error):
        for lock in self:
            lock.release()


def use_each(locks):
    """As many threads begin to wait at one moment, each for a lock of its own."""
    threads = [threading.Thread(target=use, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def put_and_get(numbers):
    numbers.put(5)
    if numbers.get() != 5:
        raise AssertionError("the queue gave back something else")


def set_event(event):
    event.set()
    if not event.wait(60):
        raise AssertionError("not set")


def in_child_of_child(lock):
    pid = os.fork()
    if pid == 0:
        use(lock)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        raise AssertionError("the child's child hangs")


def leave(lock):
    use(lock)
    sys.exit(0)


def with_handler(lock):
    signal.signal(signal.SIGTERM, lambda *_: None)
    use(lock)


def with_handler_that_interrupts(lock):
    signal.signal(signal.SIGUSR1, lambda *_: None)
    waiter = os.getpid()
    if os.fork() == 0:
        while os.getppid() == waiter:
            os.kill(waiter, signal.SIGUSR1)
            time.sleep(0.1)
        os._exit(0)
    use(lock)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def with_limit(lock):
    if not lock.acquire(timeout=50):
        raise AssertionError("not had in time")
    lock.release()


def with_tries(lock):
    while not lock.acquire(blocking=False):
        time.sleep(0.01)
    others = []
    thread = threading.Thread(target=lambda: others.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    if others != [False]:
        raise AssertionError("another thread has it, too")
    lock.release()
    use_in_thread(lock)


def with_handler_until_named(lock):
    """The handler may be meant to release it."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    until_named(lock)


def until_named(lock):
    """The line comes where all errors go, to a file."""
    while not lock.acquire(blocking=False) and os.fstat(2).st_size == 0:
        pass


def with_handler_and_limit(lock):
    signal.signal(signal.SIGTERM, lambda *_: None)
    begin = time.monotonic()
    if lock.acquire(timeout=0.1) or not 0.1 <= time.monotonic() - begin < 50:
        raise AssertionError("the limit was not kept")
    with_limit(lock)


# What is made, the lock in it, what the child does.
KINDS = {
    "lock": (threading.Lock, lambda made: made, use_twice_and_apart),
    "rlock": (threading.RLock, lambda made: made, use),
    "derived-rlock": (type("Derived", (type(threading.RLock()),), {}), lambda made: made, use_in_thread),
    "condition": (threading.Condition, lambda made: made, notify),
    "condition-of-lock": (lambda: threading.Condition(threading.Lock()), lambda made: made, notify),
    "event": (threading.Event, lambda made: made._cond, set_event),
    "queue": (queue.Queue, lambda made: made.mutex, put_and_get),
    "thread": (threading.Lock, lambda made: made, use_in_thread),
    "generation": (threading.Lock, lambda made: made, in_child_of_child),
    "exit": (threading.Lock, lambda made: made, leave),
    "handler": (threading.Lock, lambda made: made, with_handler),
    "limit": (threading.Lock, lambda made: made, with_limit),
    "tries": (threading.Lock, lambda made: made, with_tries),
    "rlock-tries": (threading.RLock, lambda made: made, with_tries),
    "unnamed-tries": (threading.Lock, lambda made: made, until_named),
    "new-threads": (threading.Lock, lambda made: made, use_in_threads),
    "new-locks": (lambda: Locks(threading.Lock() for _ in range(48)), lambda made: made, use_each),
    "new-handler": (threading.Lock, lambda made: made, with_handler),
    "new-handler-tries": (threading.Lock, lambda made: made, with_handler_until_named),
    "new-handler-limit": (threading.Lock, lambda made: made, with_handler_and_limit),
    "new-handler-often": (threading.Lock, lambda made: made, with_handler_that_interrupts),
}


def main(kind, seconds):
    make, lock_of, child = KINDS[kind]
    made = make()
    lock = lock_of(made)
    # What has been given back by its taker is used as a lock. From the first thread on somebody looks.
    if not kind.startswith("new"):
        use_in_thread(lock)
    holds, forever = threading.Event(), threading.Event()

    def hold():
        with lock:
            with lock if isinstance(lock, type(threading.RLock())) else open(os.devnull):
                holds.set()
                forever.wait()

    threading.Thread(target=hold, daemon=True).start()
    holds.wait()
    threading.Thread(target=use, args=(lock,), daemon=True).start()  # and one that waits
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, float(seconds))
        child(made)
        sys.exit(0)
    status = os.waitpid(pid, 0)[1]
    print({0: "done", signal.SIGALRM: "hung"}.get(status, f"status {status}"), flush=True)
    os._exit(0)


main(*sys.argv[1:])
