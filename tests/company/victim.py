#!/usr/bin/env python3
"""A thread holds a Lock and an RLock, the program forks, the child wants them and then has threads of its own."""
import os
import queue
import signal
import sys
import threading
import warnings

lock = threading.Lock()
reentrant = threading.RLock()
taken = threading.Event()
release = threading.Event()


def hold():
    with lock, reentrant:
        taken.set()
        release.wait()


def answer(into):
    with lock:
        into.put(1)


def check(right, what):
    print(f"{what}: {'right' if right else 'WRONG'}", flush=True)


def main():
    warnings.simplefilter("ignore", DeprecationWarning)  # since 3.12 os.fork warns of what this program shows
    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(sys.argv[1]))
        with lock, reentrant:
            pass
        answers = queue.Queue()
        threads = [threading.Thread(target=answer, args=(answers,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(7 if answers.qsize() == 3 else 1)
    check(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7, "child")
    check(not lock.acquire(False), "parent's thread still holds it")
    release.set()
    holder.join()
    check(lock.acquire(False), "parent got it after the thread")


main()
