#!/usr/bin/env python3
"""First remedy: fork first, start threads afterwards.

The child's copy of the lock was made while it was free, so child and thread can hold "the same" lock together.
"""
import os
import sys
import threading

lock = threading.RLock()
worker_has_lock = threading.Event()
worker_may_release = threading.Event()


def say(text):
    print(text, flush=True)


def hold_the_lock():
    with lock:
        say("worker: I hold the lock")
        worker_has_lock.set()
        worker_may_release.wait()
        say("worker: I release the lock")


def main():
    # A pipe, and not a pause, makes the child try only when the worker really holds its lock.
    read_end, write_end = os.pipe()

    say("parent: forking")
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)
        say("child: I want the lock")
        with lock:
            say("child: I got the lock")
        sys.exit(0)

    os.close(read_end)
    worker = threading.Thread(target=hold_the_lock, name="worker")
    worker.start()
    worker_has_lock.wait()
    os.write(write_end, b"!")

    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    say(f"parent: the child ended with exit code {code}")
    worker_may_release.set()
    worker.join()
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
