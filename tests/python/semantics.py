#!/usr/bin/env python3
"""What Python's locks, events, queues and processes mean is the same under the library, before and after a fork.

Each part is a program that asks questions and says WRONG behind an answer that Python does not promise; it runs bare
and under the library, and the outputs must also be equal. The last two parts hang bare and are right under the library.
"""
import difflib
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True

import harness

VICTIM = os.path.join(harness.HERE, "semantics_victim.py")
POPENS = 50

PARTS = {
    "primitives": "locks, conditions, events, queues, semaphores, barriers, executors, timers",
    "inherited": "the same in a child, with vanished waiters",
    "handed_over": "locks taken by one thread and released by another, over a fork",
    "vanished": "join and state of vanished threads, inherited timers and executors",
    "processes": "multiprocessing and ProcessPoolExecutor after threads",
}


def victim(part, *arguments):
    return [harness.PYTHON3, VICTIM, part, *arguments]


def right(outcome):
    return outcome.status == 0 and outcome.out and "WRONG" not in outcome.out


def wrong(outcome):
    return "\n".join(text for text in outcome.out.splitlines() if "WRONG" in text) or "(none)"


def try_same(part, meaning):
    bare = harness.run(victim(part), False, 90)
    saved = harness.run(victim(part), True, 90)
    difference = difflib.unified_diff(bare.out.splitlines(), saved.out.splitlines(), "bare", "library", "", "", 0, "")
    return {
        f"{meaning}: bare right": right(bare),
        f"{meaning}: the same under the library": right(saved) and saved.out == bare.out,
    }, {"bare": bare, "wrong answers bare": wrong(bare), "library": saved, "wrong answers": wrong(saved),
        "difference": "\n".join(difference)}


def try_saved(meaning):
    bare = harness.run(victim("saved", f"{harness.HANG_SECONDS:g}"), False, harness.HANG_SECONDS + 30)
    saved = harness.run(victim("saved", "60"), True, 90)
    return {
        # The child of the bare run dies of its alarm (14) before it could answer anything.
        f"{meaning}: bare the child hangs": bare.out.startswith("child: -14 WRONG"),
        f"{meaning}: under the library it is": right(saved),
    }, {"bare": bare, "library": saved}


def run_popens(preload, seconds):
    with tempfile.TemporaryFile() as log:
        outcome = harness.run(victim("preexec"), preload, seconds, stdout=log)
        log.seek(0)
        lines = log.read().decode(errors="replace")
    return outcome, outcome.err.count("finished\n"), lines


def try_preexec(meaning):
    # Bare it is the parent that hangs: it waits for news from a child that waits for a lock.
    bare, bare_finished, _ = run_popens(False, harness.HANG_SECONDS + 1)
    saved, saved_finished, lines = run_popens(True, 90)
    whole = re.compile(r"(first|second|child) \d+")
    torn = [text for text in lines.splitlines() if not whole.fullmatch(text)]
    children = {text for text in lines.splitlines() if text.startswith("child ")}
    return {
        f"{meaning}: bare {bare_finished}/{POPENS} finish, library {saved_finished}/{POPENS}":
        bare.timed_out and bare_finished < POPENS and saved.status == 0 and saved_finished == POPENS,
        f"{meaning}: every child's line is in the log and no line is torn":
        not torn and children == {f"child {number}" for number in range(POPENS)},
    }, {"bare": bare, "library": saved, "torn lines": "\n".join(torn) or "(none)"}


harness.begin(2 * len(PARTS) + 4)
for part, meaning in PARTS.items():
    harness.row(try_same, part, meaning)
harness.row(try_saved, "a lock of a vanished thread is a lock again: had once, excluding, released once")
harness.row(try_preexec, "Popen with a preexec_fn that logs while threads log")
