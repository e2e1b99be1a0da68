#!/usr/bin/env python3
"""Programs that come right without the library, and would not if a lock were given to whoever asks."""
import sys

sys.dont_write_bytecode = True

import harness

VICTIM = harness.os.path.join(harness.HERE, "traps_victim.py")
names = harness.run([harness.PYTHON3, VICTIM], False, 60).out.split()


def try_trap(name, how):
    harness.SETTINGS["FORKSAFE_MODE"] = "abort" if how == "in mode abort" else "repair"
    outcome = harness.run([harness.PYTHON3, VICTIM, name], how != "bare", 60)
    return {f"{name.replace('_', ' ')}: {how}": outcome.status == 0 and outcome.out == "right\n"}, {how: outcome}


harness.begin(3 * len(names) + 1)
harness.ok(len(names) >= 20, "the victim has its traps")
for name in names:
    for how in ("bare", "under the library", "in mode abort"):
        harness.row(try_trap, name, how)
