#!/usr/bin/env python3
"""Forks that a C program makes past os.fork, beside C threads that take the GIL and leave it: no child hangs.

The forking thread has the GIL and tells the interpreter of the fork, or has it and tells nobody, or has not got it.
"""
import os
import re
import sys

sys.dont_write_bytecode = True

import harness

FORKS, BARE_FORKS, BARE_RUNS = 12, 4, 5
PROGRAM = os.path.join(os.environ.get("TESTS_BUILT") or "", "python", "forks_in_c")
WAYS = {
    "told": "with the GIL, as the C API asks",
    "held": "with the GIL, and the interpreter is not told",
    "free": "without the GIL",
}


def run(how, preload, forks, seconds):
    """How many children hung, were killed, found something half changed, were wrong; None where that is not known."""
    outcome = harness.run([PROGRAM, library, how, str(forks), f"{seconds:g}"], preload, 30 + forks * seconds)
    counts = re.fullmatch(r"\d+ forks: (\d+) hung, (\d+) killed, (\d+) half changed, (\d+) wrong\n", outcome.out)
    return outcome, [int(count) for count in counts.groups()] if counts else None


def try_way(how, meaning):
    for _ in range(BARE_RUNS):  # beside other work the threads are not always inside when the fork comes
        bare, hung = run(how, False, BARE_FORKS, harness.HANG_SECONDS)
        if not hung or hung[0] > 0:
            break
    saved, counts = run(how, True, FORKS, harness.PATIENT_HANG_SECONDS)
    # Only where the interpreter is told are the threads let out of their locks before; on a busy machine one may not
    # get out in the time that a fork gives it: 1 of 12 half changed, once. Without the GIL the interpreter itself may
    # be in the middle of something: 1 of 20 children crashed once, on 3.11.
    return {
        f"{meaning}: bare children hang": hung and hung[0] > 0,
        f"{meaning}: under the library none does":
        counts and counts[0] == counts[3] == 0 and (counts[1] == 0 or how == "free")
        and (how != "told" or counts[2] == 0),
    }, {f"bare {hung}": bare, f"library {counts}": saved}


harness.begin(2 * len(WAYS))
library = harness.libpython()
for how, meaning in WAYS.items():
    if os.path.isfile(PROGRAM) and library:
        harness.row(try_way, how, meaning)
    else:
        for _ in range(2):
            harness.skip(meaning, "no libpython or no program here")
