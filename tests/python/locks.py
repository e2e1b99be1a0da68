#!/usr/bin/env python3
"""A Python lock that a vanished thread has: bare the child hangs, under the library it has the lock and a line says
so."""
import re
import sys

sys.dont_write_bytecode = True

import harness

VICTIM = harness.os.path.join(harness.HERE, "locks_victim.py")
KINDS = ("lock", "rlock", "derived-rlock", "condition", "condition-of-lock", "event", "queue", "thread", "generation",
         "exit", "handler", "limit", "tries", "rlock-tries", "unnamed-tries", "new-threads", "new-locks",
         "new-handler", "new-handler-tries", "new-handler-limit", "new-handler-often")


def try_kind(kind):
    command = [harness.PYTHON3, VICTIM, kind]
    bare = harness.run([*command, f"{harness.HANG_SECONDS:g}"], False, 60)
    harness.SETTINGS = {"FORKSAFE_ONLY": "nothing" if kind.startswith("unnamed") else ""}
    saved = harness.run([*command, "60"], True, 90)
    named = kind in ("new-handler-tries", "unnamed-tries")
    return {
        f"{kind}: bare the child hangs": bare.out == "hung\n",
        f"{kind}: under the library it {'is named' if named else 'has the lock, and a line says so'}":
        saved.out == "done\n" and ("child may hang on" if named else "child took over") in saved.err,
    }, {"bare": bare, "library": saved}


def try_report():
    harness.SETTINGS = {"FORKSAFE_MODE": "report", "FORKSAFE_HANG_MS": "100"}
    told = harness.run([harness.PYTHON3, VICTIM, "lock", f"{harness.HANG_SECONDS:g}"], True, 60)
    return {"in mode report one line says that the child would hang":
            told.out == "hung\n" and re.findall(r"^forksafe\S+ child (.*) on ", told.err, re.M) == ["would hang"]
            and told.err.count("forksafe[") == 1}, {"library": told}


harness.begin(2 * len(KINDS) + 1)
for kind in KINDS:
    harness.row(try_kind, kind)
harness.row(try_report)
