#!/usr/bin/env python3
"""A thread holds a lock while the program forks, and the child wants that lock.

fork() copies the lock in its locked state but not the thread that would unlock it, so the child waits
for ever. Under libforksafe the child gets the lock at once, and the parent's thread keeps its own.

    python3 rlock_held_by_thread.py                                    the child hangs, exit status 1
    LD_PRELOAD=libforksafe.so python3 rlock_held_by_thread.py          the child runs, exit status 0
"""
import argparse
import os
import signal
import sys
import threading
import time

lock = threading.RLock()
lock_is_held = threading.Event()


def say(text):
    # Flushed at once: nothing may wait in a buffer that fork() would copy into the child.
    print(text, flush=True)


def hold_the_lock(seconds):
    with lock:
        say("worker: I hold the lock")
        lock_is_held.set()
        time.sleep(seconds)
        lock_is_held.clear()
        say("worker: I release the lock")


def wait_for_child(pid, limit):
    """The child's exit code, or None when it was still running after `limit` seconds and had to be killed."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hold", type=float, default=5, metavar="SECONDS", help="how long the worker has the lock (5)")
    parser.add_argument("--limit", type=float, default=4, metavar="SECONDS", help="when to give the child up (4)")
    options = parser.parse_args()

    worker = threading.Thread(target=hold_the_lock, args=(options.hold,), name="worker")
    worker.start()
    lock_is_held.wait()

    say("parent: forking")
    pid = os.fork()
    if pid == 0:
        say("child: I want the lock")
        with lock:
            say("child: I got the lock")
        sys.exit(0)

    code = wait_for_child(pid, options.limit)
    if code is None:
        say(f"parent: the child still waited for the lock after {options.limit:g} seconds, so I killed it")
    else:
        say(f"parent: the child ended with exit code {code}")

    # The child had a copy. Whatever happened to that, the lock in this process is the worker's until it lets go.
    if lock_is_held.is_set():
        if lock.acquire(blocking=False):
            say("parent: the worker lost its lock")
            lock.release()
            code = None
        else:
            say("parent: the worker still holds its lock")
    worker.join()
    with lock:
        say("parent: I got the lock after the worker")
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
