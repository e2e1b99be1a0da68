#!/usr/bin/env python3
"""The four example programs: the hanging one is saved, the three remedies are not disturbed."""
import os
import sys

sys.dont_write_bytecode = True

import harness


def example(name, *arguments):
    return [harness.PYTHON3, os.path.join(harness.EXAMPLES, name), *arguments]


def positions(text, *lines):
    """Where each line stands in the output; -1 for one that is not there exactly once."""
    found = text.splitlines()
    return [found.index(line) if found.count(line) == 1 else -1 for line in lines]


def try_held_lock():
    name = "rlock_held_by_thread.py"
    limit = harness.HANG_SECONDS
    bare = harness.run(example(name, "--hold", f"{limit + 2:g}", "--limit", f"{limit:g}"), False, limit + 30)
    killed = f"parent: the child still waited for the lock after {limit:g} seconds, so I killed it"
    # The child must come through while the worker is still holding: the hold is far longer than the child needs.
    saved = harness.run(example(name, "--hold", "5", "--limit", "30"), True, 60)
    got, still_held, released, after = positions(
        saved.out, "child: I got the lock", "parent: the worker still holds its lock",
        "worker: I release the lock", "parent: I got the lock after the worker")
    return {
        f"{name}: bare the child hangs":
        bare.status == 1 and killed in bare.out and "child: I got the lock" not in bare.out,
        f"{name}: under the library the child gets the lock at once and exits 0":
        saved.status == 0 and 0 <= got < released,
        f"{name}: under the library the parent's thread keeps its lock and releases it":
        0 <= got < still_held < released < after,
    }, {"bare": bare, "library": saved}


def try_remedy(name):
    bare = harness.run(example(name), False, 30)
    saved = harness.run(example(name), True, 30)
    return {
        f"{name}: works bare": bare.status == 0,
        f"{name}: the same output under the library": saved.status == 0 and saved.out == bare.out,
    }, {"bare": bare, "library": saved}


harness.begin(9)
harness.row(try_held_lock)
for remedy in ("fork_before_thread.py", "lock_free_logging.py", "atfork_remedy.py"):
    harness.row(try_remedy, remedy)
