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


def show(title, outcome):
    harness.note(f"{title}: exit status {outcome.status}{', timed out' if outcome.timed_out else ''}")
    wrong = [text for text in outcome.out.splitlines() if "WRONG" in text]
    harness.note_tail("wrong answers", "\n".join(wrong) or "(none)")
    harness.note_tail("errors", outcome.err or "(none)")


def check_same(part, meaning):
    bare = harness.run(victim(part), False, 90)
    saved = harness.run(victim(part), True, 90)
    if not harness.ok(right(bare), f"{meaning}: bare right"):
        show("bare", bare)
    if not harness.ok(right(saved) and saved.out == bare.out, f"{meaning}: the same under the library"):
        show("library", saved)
        difference = difflib.unified_diff(bare.out.splitlines(), saved.out.splitlines(), "bare", "library", "", "", 0,
                                          "")
        harness.note_tail("difference", "\n".join(difference))


def check_saved():
    meaning = "a lock of a vanished thread is a lock again: had once, excluding, released once"
    bare = harness.run(victim("saved", f"{harness.HANG_SECONDS:g}"), False, harness.HANG_SECONDS + 30)
    saved = harness.run(victim("saved", "60"), True, 90)
    # The child of the bare run dies of its alarm (14) before it could answer anything.
    if not harness.ok(bare.out.startswith("child: -14 WRONG"), f"{meaning}: bare the child hangs"):
        show("bare", bare)
    if not harness.ok(right(saved), f"{meaning}: under the library it is"):
        show("library", saved)


def run_popens(preload, seconds):
    with tempfile.TemporaryFile() as log:
        outcome = harness.run(victim("preexec"), preload, seconds, stdout=log)
        log.seek(0)
        lines = log.read().decode(errors="replace")
    return outcome, outcome.err.count("finished\n"), lines


def check_preexec():
    meaning = "Popen with a preexec_fn that logs while threads log"
    # Bare it is the parent that hangs: it waits for news from a child that waits for a lock.
    bare, bare_finished, _ = run_popens(False, harness.HANG_SECONDS + 1)
    saved, saved_finished, lines = run_popens(True, 90)
    passed = harness.ok(bare.timed_out and bare_finished < POPENS and saved.status == 0 and saved_finished == POPENS,
                        f"{meaning}: bare {bare_finished}/{POPENS} finish, library {saved_finished}/{POPENS}")

    whole = re.compile(r"(first|second|child) \d+")
    torn = [text for text in lines.splitlines() if not whole.fullmatch(text)]
    children = {text for text in lines.splitlines() if text.startswith("child ")}
    passed = harness.ok(not torn and children == {f"child {number}" for number in range(POPENS)},
                        f"{meaning}: every child's line is in the log and no line is torn") and passed
    if not passed:
        show("bare", bare)
        show("library", saved)
        harness.note_tail("torn lines", "\n".join(torn) or "(none)")


harness.begin(2 * len(PARTS) + 4)
for part, meaning in PARTS.items():
    check_same(part, meaning)
check_saved()
check_preexec()
