#!/usr/bin/env python3
"""Third remedy: take the lock before every fork, let it go on both sides afterwards.

The forking thread then owns the lock at the moment of the copy, and the forking thread is the one that the
child has. libforksafe must not disturb programs that already help themselves like this.
"""
import os
import sys
import threading

CHILDREN = 20

lock = threading.RLock()
stop = threading.Event()


def use_the_lock():
    while not stop.is_set():
        with lock:
            stop.wait(0.002)  # nearly always held, so that a fork without the remedy would find it locked


def main():
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

    worker = threading.Thread(target=use_the_lock, name="worker")
    worker.start()
    children = []
    for _ in range(CHILDREN):
        pid = os.fork()
        if pid == 0:
            with lock:
                pass
            try:
                lock.release()
            except RuntimeError:
                os._exit(0)  # released exactly as often as taken: nobody holds it now
            os._exit(1)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    stop.set()
    worker.join()

    print(f"children that took the lock and found it free afterwards: {codes.count(0)} of {CHILDREN}")
    free = lock.acquire(blocking=False)
    print("parent: the lock is free" if free else "parent: the lock was left locked")
    return 0 if free and not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main())
