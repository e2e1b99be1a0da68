#!/usr/bin/env python3
"""Counts instructions by callgrind: of each pair in count.c, bare and with the library, and of starting `true`.

counts.py          tells what became dearer than counts.bounds allows (TAP); skips where the bounds are of another
                   compiler, other options or another C library, or without valgrind
counts.py --store  prints bounds to store
counts.py --table  prints a table
FORKSAFE_LIB = the library; TESTS_BUILT = the directory in which make built bench/count."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

TIMES = 1000
ALLOWED = 1.05
BOUNDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "counts.bounds")


def callgrind(options, command, preload):
    """The instructions of each dump, in order."""
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "out")
        # Few and short variables: the start of a program is counted, too.
        environment = {"PATH": os.environ["PATH"], **({"LD_PRELOAD": preload} if preload else {})}
        subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options, *command], check=True,
                       env=environment, timeout=300, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        dumps = sorted(glob.glob(out + "*"), key=lambda name: int(name.rpartition(".")[2]) if name != out else 1 << 30)
        return [int(re.search(r"^(?:totals|summary): (\d+)", open(dump).read(), re.M).group(1)) for dump in dumps]


def count(program, names, preload):
    """Instructions of each pair: of the second of its two runs."""
    options = [f"--{what}=run_{name}" for name in names for what in ("zero-before", "dump-after")]
    dumps = callgrind(options, [program], preload)[:-1]
    order = names[:-1] * 2 + names[-1:] * 2  # as count.c runs them
    if len(dumps) != len(order):
        sys.exit(f"counts: {len(dumps)} dumps for {len(order)} runs")
    return {name: instructions / TIMES for name, instructions in zip(order, dumps)}


def measure(program, names):
    preload = os.environ["FORKSAFE_LIB"]
    bare, ours = count(program, names, None), count(program, names, preload)
    true = shutil.which("true")
    bare["start"], ours["start"] = (callgrind([], [true], library)[-1] for library in (None, preload))
    return bare, ours


def main():
    program = os.path.abspath(os.path.join(os.environ.get("TESTS_BUILT", "tests"), "bench", "count"))
    key, *names = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.splitlines()
    if len(sys.argv) > 1:
        bare, ours = measure(program, names)
        if sys.argv[1] == "--store":
            print("# What tests/bench/counts --store found: the pair, its instructions bare and with the library")
            print(key)
        for name in bare:
            line = f"{name} {bare[name]:.1f} {ours[name]:.1f}"
            print(line if sys.argv[1] == "--store" else f"{line} {ours[name] / bare[name]:.2f}")
        return 0
    stored_key, *rows = [line for line in open(BOUNDS).read().splitlines() if not line.startswith("#")]
    if shutil.which("valgrind") is None:
        print("1..0 # SKIP there is no valgrind")
        return 0
    if key != stored_key:
        print(f"1..0 # SKIP the bounds are of {stored_key}, this is {key}")
        return 0
    _, ours = measure(program, names)
    print(f"1..{len(rows)}")
    failed = 0
    for number, (name, _, bound) in enumerate((row.split() for row in rows), 1):
        # What starts a program depends on the names and the number of files a little, too.
        good = name in ours and ours[name] <= float(bound) * ALLOWED + 1
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {name}: {ours.get(name, 0):.1f} instructions, stored {bound}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
