#!/usr/bin/env python3
"""Fork storms: two threads use a lock without pause, hundreds of children use it too. Bare they hang, saved they do
not.

What is demanded of the output under the library, and why it can be (CPython 3.11):

- Every line of the parent's threads is there, and whole. print() and StreamHandler hand a whole line to the
  BufferedWriter while they hold the GIL, and its flush is one write() to a file opened for appending.
- Every line of a child that ended well is there, exactly once.
- A line of the *parent* may be there again, whole, brought by a child, where a buffer is involved: a thread that
  vanished inside write() has not yet taken its line out of the buffer, so the child has a copy and writes it before its
  own. The same happens without threads whenever a program forks with a filled buffer. How many one child can bring:
  while write() runs the buffer's lock is held and nothing is added; between filling and flushing it is free, so each of
  the two threads may have left one line there; and logging, whose two steps write() and flush() are Python code, may
  have one more in the text layer above. That makes three. A line that waits for the buffer's lock is in no buffer yet:
  it is lost to the child and safe in the parent.
- Where no buffer is involved (each line is one os.write under the lock) nothing is ever doubled.
"""
import collections
import json
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True

import harness

VICTIM = os.path.join(harness.HERE, "storm_victim.py")
LINE = re.compile(rb"(\w+) (\d+) \.{40} end")

BARE_FORKS = min(harness.FORKS, 100)  # all hung children hang at the same time, so they cost their 2 s once
SAVED_TOGETHER = 12
GIVE_UP_AFTER = 10  # children that hang under the library: enough to know

DOUBLED_PER_FORK = 3

Storm = collections.namedtuple("Storm", "kind title buffered")

STORMS = [
    Storm("print", "print(flush=True) to a file", True),
    Storm("logging", "logging to a file", True),
    Storm("buffered-writer", "BufferedWriter", True),
    Storm("lock", "Lock", False),
    Storm("rlock", "RLock", False),
    Storm("queue", "queue.Queue", False),
    Storm("process", "multiprocessing.Process", True),
    Storm("pool", "multiprocessing.Pool", True),
]


def run_storm(kind, preload, forks, together, hang_seconds, stop_after, seconds):
    """Returns the victim's outcome, its report (None without one) and what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path, report_path = os.path.join(folder, "lines"), os.path.join(folder, "report")
        with open(path, "ab") as lines:
            outcome = harness.run(
                [harness.PYTHON3, VICTIM, kind, str(forks), str(together), f"{hang_seconds:g}", str(stop_after),
                 path, report_path],
                preload, seconds, stdout=lines)
        report = None
        if os.path.exists(report_path):
            with open(report_path) as file:
                report = json.load(file)
        with open(path, "rb") as file:
            return outcome, report, file.read()


def examine(written, report, storm):
    """What is wrong with the lines, in words; empty when all is well."""
    complaints = []
    seen = collections.defaultdict(collections.Counter)
    torn = []
    if not written.endswith(b"\n"):
        complaints.append("the last line has no end")
    for raw in written.split(b"\n")[:-1]:
        match = LINE.fullmatch(raw)
        if match:
            seen[match[1].decode()][int(match[2])] += 1
        else:
            torn.append(raw)
    if torn:
        complaints.append(f"{len(torn)} torn lines, the first one is {torn[0][:200]!r}")

    doubled = 0
    for who, count in report["written"].items():
        lines = seen.pop(who, collections.Counter())
        missing = [number for number in range(count) if number not in lines]
        if missing:
            complaints.append(f"{who}: {len(missing)} of {count} lines are missing, the first one is {missing[0]}")
        if len(lines) + len(missing) > count:
            complaints.append(f"{who}: {len(lines)} different lines, but only {count} were written")
        doubled += sum(lines.values()) - len(lines)
    allowed = DOUBLED_PER_FORK * report["forks"] if storm.buffered else 0
    if doubled > allowed:
        complaints.append(f"{doubled} lines of the parent are doubled, {allowed} may be")
    else:
        lines = sum(report["written"].values())
        harness.note(f"{storm.title}: {lines} lines of the parent, {doubled} doubled by children")

    children = seen.pop("C", collections.Counter())
    ended_well = report["forks"] - report["hung"] - report["failed"]
    if len(children) != ended_well:
        complaints.append(f"{ended_well} children ended well, but lines are there of {len(children)}")
    if sum(children.values()) != len(children):
        complaints.append("lines of children are doubled")
    seen.pop("T", None)  # a pool may give several of its tasks to the same worker or none
    if seen:
        complaints.append(f"lines of unknown writers: {sorted(seen)}")
    return complaints


def rate(report):
    return f"{report['hung']}/{report['forks']} hang" if report else "did not report"


def try_storm(storm):
    bare_outcome, bare, _ = run_storm(storm.kind, False, BARE_FORKS, BARE_FORKS, harness.HANG_SECONDS, BARE_FORKS, 90)
    outcome, saved, written = run_storm(
        storm.kind, True, harness.FORKS, SAVED_TOGETHER, harness.PATIENT_HANG_SECONDS, GIVE_UP_AFTER, 120)
    complaints = examine(written, saved, storm) if saved else ["the parent did not end well"]
    if saved:
        harness.note(f"{storm.title}: the slowest child under the library took {saved['slowest']:.2f} s")
    return {
        f"{storm.title}: bare {rate(bare)}, library {rate(saved)}":
        (bare["hung"] > 0 if bare else bare_outcome.timed_out)  # a parent that does not end hangs, too
        and saved is not None and saved["hung"] == 0 and saved["failed"] == 0 and saved["forks"] >= harness.FORKS
        and outcome.status == 0,
        f"{storm.title}: under the library the parent's output is complete and whole": not complaints,
    }, {"complaints": "\n".join(complaints), "bare": bare, "library": saved, "outcome": outcome}


harness.begin(2 * len(STORMS))
wanted = sys.argv[1:]  # by hand: storms.py print lock
for storm in STORMS:
    if wanted and storm.kind not in wanted:
        harness.skip(f"{storm.title}: hung children", "not asked for")
        harness.skip(f"{storm.title}: output", "not asked for")
    else:
        harness.row(try_storm, storm)
