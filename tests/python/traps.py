#!/usr/bin/env python3
"""Programs that come right without the library, and would not if a lock were given to whoever asks."""
import sys

sys.dont_write_bytecode = True

import harness

VICTIM = harness.os.path.join(harness.HERE, "traps_victim.py")
names = harness.run([harness.PYTHON3, VICTIM], False, 60).out.split()

harness.begin(2 * len(names) + 1)
harness.ok(len(names) >= 20, "the victim has its traps")
for name in names:
    for preload in (False, True):
        outcome = harness.run([harness.PYTHON3, VICTIM, name], preload, 60)
        how = "under the library" if preload else "bare"
        if not harness.ok(outcome.status == 0 and outcome.out == "right\n", f"{name.replace('_', ' ')}: {how}"):
            harness.note(f"{outcome.out!r}, exit status {outcome.status}{', timed out' if outcome.timed_out else ''}")
            harness.note_tail("said", outcome.err)
