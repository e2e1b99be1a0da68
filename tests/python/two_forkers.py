#!/usr/bin/env python3
"""Two threads fork at once, one by os.fork, the other in C without the GIL: what the library found out for the first
one's child is not overwritten by the second. The first one's fork waits for a thread in a long regexec() meanwhile."""
import os
import sys

sys.dont_write_bytecode = True

import harness

VICTIM = r"""
import ctypes, os, signal, sys, threading, time
from importlib.machinery import ModuleSpec

seconds, rounds = float(sys.argv[1]), 5
parent = os.getpid()
libc = ctypes.CDLL(None)
expression, text = ctypes.create_string_buffer(512), b"a" * (1 << 25)
assert libc.regcomp(expression, b"^a*$", 9) == 0  # extended, no places
importing, may_end = threading.Event(), threading.Event()

# A module that a thread is in the middle of importing, in the parent for ever.
class Loader:
    def find_spec(name, path, target=None):
        return ModuleSpec(name, Loader) if name == "slow" else None
    def create_module(spec):
        return None
    def exec_module(module):
        if os.getpid() == parent:
            importing.set()
            may_end.wait()

sys.meta_path.insert(0, Loader)
threading.Thread(target=__import__, args=("slow",), daemon=True).start()
importing.wait()

# A timer whose thread calls fork() itself, so that nobody needs the GIL for that. The child ends with its only thread.
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("notify", ctypes.c_int),
                ("function", ctypes.c_void_p), ("rest", ctypes.c_void_p * 5)]
SIGEV_THREAD, CLOCK_MONOTONIC = 2, 1
timer = ctypes.c_void_p()
event = Event(notify=SIGEV_THREAD, function=ctypes.cast(libc.fork, ctypes.c_void_p).value)
timers = libc if hasattr(libc, "timer_settime") else ctypes.CDLL("librt.so.1")  # glibc before 2.34
assert timers.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) == 0
soon = (ctypes.c_long * 4)(0, 0, 0, 20000000)

hung = 0
for _ in range(rounds):
    other = threading.Thread(target=libc.regexec, args=(expression, text, 0, None, 0))
    other.start()
    time.sleep(0.005)
    assert timers.timer_settime(timer, 0, soon, None) == 0
    pid = os.fork()
    if pid == 0:
        import slow
        os._exit(0)
    since = time.monotonic()
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() - since > seconds:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            hung += 1
            break
        time.sleep(0.01)
    other.join()
print(hung, rounds, flush=True)
os._exit(0)
"""


def count_hung(preload, seconds):
    outcome = harness.run([harness.PYTHON3, "-c", VICTIM, f"{seconds:g}"], preload, 60 + 10 * seconds)
    return outcome, [int(word) for word in outcome.out.split()]


def try_both():
    bare_outcome, bare = count_hung(False, harness.HANG_SECONDS)
    outcome, saved = count_hung(True, harness.PATIENT_HANG_SECONDS)
    return ({f"bare {bare}, library {saved}: hung, of so many": bare == [5, 5] and saved == [0, 5]},
            {"bare": bare_outcome, "library": outcome})


harness.begin(1)
harness.row(try_both)
