#!/usr/bin/env python3
"""Processor time of whole programs, bare and with the library (FORKSAFE_LIB), alternating; what is not installed is left
out. real.py [ROUNDS [FILE.csv]]"""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

PYTHON = sys.executable
LOCKS = "import threading; l = threading.{}()\nfor _ in range(400000):\n with l: pass"
QUEUE = ("import queue, threading; q = queue.Queue()\nt = threading.Thread(target=lambda: [q.get() for _ in range(60000)])\n"
         "t.start()\nfor i in range(60000): q.put(i)\nt.join()")
SQLITE = ("import sqlite3, threading\ndef work():\n c = sqlite3.connect(':memory:'); c.execute('create table t(a)')\n"
          " for i in range(20000): c.execute('insert into t values(?)', (i,))\n"
          "ts = [threading.Thread(target=work) for _ in range(4)]\n[t.start() for t in ts]; [t.join() for t in ts]")
LOGGING = ("import logging, io\nlogging.basicConfig(stream=io.StringIO())\n"
           "for i in range(20000): logging.warning('%d', i)")
MAKEFILE = "all: " + " ".join(f"o{i}" for i in range(200)) + "\no%:\n\t@true $@\n"

PROGRAMS = [
    ("python3, Lock", [PYTHON, "-c", LOCKS.format("Lock")]),
    ("python3, RLock", [PYTHON, "-c", LOCKS.format("RLock")]),
    ("python3, Condition", [PYTHON, "-c", LOCKS.format("Condition")]),
    ("python3, Queue", [PYTHON, "-c", QUEUE]),
    ("python3, logging", [PYTHON, "-c", LOGGING]),
    ("python3, sqlite3 in 4 threads", [PYTHON, "-c", SQLITE]),
    ("python3 -c pass, 20 times", ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do "
                                   f"{PYTHON} -S -c pass; done"]),
    ("sh starts true, 200 times", ["sh", "-c", "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"]),
    ("make -j2, 200 targets", ["make", "-j2", "-s", "-f", "MAKEFILE"]),
    ("perl, localtime", ["perl", "-e", "localtime($_) for 1..300000"]),
    ("sort, 2 threads", ["sort", "--parallel=2", "-S", "8M", "LINES"]),
    ("xz, 2 threads", ["xz", "-T2", "-2", "-c", "LINES"]),
    ("gcc -O1 of a small file", ["gcc", "-O1", "-x", "c", "-c", "-o", "/dev/null", "SOURCE"]),
    ("git init and commit", ["sh", "-c", "d=$(mktemp -d) && cd $d && git init -q && git -c user.name=a -c user.email=a@b "
                             "commit -q --allow-empty -m x && rm -rf $d"]),
]


def seconds(command, preload):
    environment = dict(os.environ, **({"LD_PRELOAD": preload} if preload else {}))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ends with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def compare(command, rounds, preload):
    bare, ours = [], []
    for number in range(rounds):
        for kind in (0, 1) if number % 2 else (1, 0):
            (ours if kind else bare).append(seconds(command, preload if kind else None))
    return statistics.median(bare), statistics.median(ours), statistics.median(o / b for o, b in zip(ours, bare))


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    preload = os.environ["FORKSAFE_LIB"]
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        files = {"MAKEFILE": MAKEFILE, "SOURCE": "int main(void) { return 0; }\n",
                 "LINES": "".join(f"{i * 7919 % 1000003}\n" for i in range(200000))}
        for name, text in files.items():
            with open(os.path.join(scratch, name), "w") as file:
                file.write(text)
        for name, command in PROGRAMS:
            if shutil.which(command[0]) is None or (name.startswith("git") and shutil.which("git") is None):
                print(f"{name:32} not installed")
                continue
            command = [os.path.join(scratch, part) if part in files else part for part in command]
            bare, ours, ratio = compare(command, rounds, preload)
            print(f"{name:32} {bare * 1000:8.1f} ms {ours * 1000:8.1f} ms   ratio {ratio:.3f}", flush=True)
            results.append((name, f"{bare * 1000:.1f}", f"{ours * 1000:.1f}", f"{ratio:.3f}"))
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", newline="") as file:
            csv.writer(file).writerows([("program", "bare_ms", "with_ms", "ratio"), *results])


if __name__ == "__main__":
    main()
