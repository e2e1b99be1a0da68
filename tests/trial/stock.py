"""What the services of the trial have in common: a thread holds a lock for long, and requests want it.

Whoever looks for the cause of a hanging worker has to be led to the line of refresh() that takes the lock.
"""
import ctypes
import os
import signal
import threading
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

# Not part of the story: a worker that hangs must not outlive a test that was killed.
os.register_at_fork(after_in_child=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))

lock = threading.Lock()
prices = {"bread": 3}
_holds = threading.Event()


def refresh():
    while True:
        with lock:  # (the culprit)
            _holds.set()
            time.sleep(600)  # a download that takes its time (it stands here)


def price(name):
    with lock:
        return prices[name]


threading.Thread(target=refresh, name="refresher", daemon=True).start()
_holds.wait()
