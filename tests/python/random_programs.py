#!/usr/bin/env python3
"""Random Python programs that fork: under the library no child hangs and none goes wrong. Bare many hang, and none
goes wrong.

PROGRAMS in the environment: how many there are (6); SEED: the first one's seed (1).
"""
import json
import os
import sys

sys.dont_write_bytecode = True

import harness

VICTIM = os.path.join(harness.HERE, "random_victim.py")
PROGRAMS = int(os.environ.get("PROGRAMS") or 6)
SEED = int(os.environ.get("SEED") or 1)
BARE_PROGRAMS = min(PROGRAMS, 4)
FORKS, BARE_FORKS = 25, 6


def run(seed, preload, forks, seconds):
    outcome = harness.run([harness.PYTHON3, VICTIM, str(seed), str(forks), f"{seconds * harness.SLOWNESS:g}"], preload,
                          150)
    try:
        return outcome, json.loads(outcome.out)
    except ValueError:
        return outcome, None


def try_program(seed):
    outcome, report = run(seed, True, FORKS, harness.PATIENT_HANG_SECONDS)
    if report:
        harness.note(f"{report['torn']} of {report['forks']} children saw something half-changed, of which no drain "
                     "could be had")
    return ({f"program {seed}" + (f" of {', '.join(report['of'])}" if report else ""):
             report is not None and report["hung"] == 0 and not report["wrong"] and outcome.status == 0},
            {"report": report, "outcome": outcome})


def try_bare():
    bare = [run(seed, False, BARE_FORKS, harness.HANG_SECONDS)[1] for seed in range(SEED, SEED + BARE_PROGRAMS)]
    wrong = [words for report in bare if report for words in report["wrong"]]
    hung = sum(report["hung"] if report else 1 for report in bare)
    return {f"bare {hung} children hang, and of the others none goes wrong": hung > 0 and not wrong}, {"wrong": wrong}


harness.begin(PROGRAMS + 1)
for seed in range(SEED, SEED + PROGRAMS):
    harness.row(try_program, seed)
harness.row(try_bare)
