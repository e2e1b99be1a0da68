#!/usr/bin/env python3
"""What the library costs a Python program: each row timed bare and under the library in turn, the least of ROUNDS each.

    python.py [ROUNDS]        FORKSAFE_LIB: the library; PYTHON3: the interpreter
"""
import os
import subprocess
import sys

THREAD = """
import threading, time, os, gc
t = threading.Thread(target=threading.Event().wait, daemon=True); t.start()
def least(f, n):
    best = 9e9
    for _ in range(400 if n > 100 else 3):  # short, so that some are not interrupted
        a = time.perf_counter(); f(n); best = min(best, time.perf_counter() - a)
    print(best / n * 1e9); os._exit(0)
"""
FORKS = """
def fork(n):
    for _ in range(n):
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
"""
ROWS = {
    "with lock": THREAD + """
l = threading.Lock()
def f(n):
    for _ in range(n):
        with l: pass
least(f, 1000)""",
    "with rlock": THREAD + """
l = threading.RLock()
def f(n):
    for _ in range(n):
        with l: pass
least(f, 1000)""",
    "acquire, release": THREAD + """
l = threading.Lock()
def f(n):
    for _ in range(n):
        l.acquire(); l.release()
least(f, 1000)""",
    "make a lock": THREAD + """
L = threading.Lock
def f(n):
    for _ in range(n): L()
least(f, 1000)""",
    "fork": THREAD + FORKS + "least(fork, 3)",
    "fork, 1,000 locks, 500,000 objects": THREAD + FORKS + """
locks = [threading.Lock() for _ in range(1000)]; objects = [[i] for i in range(500000)]
for l in locks:
    with l: pass
least(fork, 3)""",
    "python3 -c pass": None,
}


def once(row, preload):
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "FORKSAFE_LIB")}
    if preload:
        environment["LD_PRELOAD"] = os.environ["FORKSAFE_LIB"]
    python = os.environ.get("PYTHON3") or "/usr/bin/python3"
    if ROWS[row] is None:
        import time
        begin = time.perf_counter()
        subprocess.run([python, "-c", "pass"], env=environment, check=True)
        return (time.perf_counter() - begin) * 1e9
    return float(subprocess.run([python, "-W", "ignore", "-c", ROWS[row]], env=environment, check=True,
                                capture_output=True, text=True).stdout)


rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
for row in ROWS:
    pairs = [(once(row, False), once(row, True)) for _ in range(rounds if ROWS[row] else 8 * rounds)]
    bare, saved = (min(column) for column in zip(*pairs))
    print(f"{row:36} bare {bare:12,.1f} ns  with {saved:12,.1f} ns  ratio {saved / bare:.3f}", flush=True)
