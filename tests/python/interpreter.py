#!/usr/bin/env python3
"""The library finds the interpreter of whatever Python there is, when it gets a thread, and nowhere else."""
import os
import subprocess
import sys

sys.dont_write_bytecode = True

import harness

FOUND = "Python: looking after the locks of CPython 3."
THREAD = "import threading; t = threading.Thread(target=int); t.start(); t.join()"
BUILT = os.environ.get("TESTS_BUILT")


def found(command, **settings):
    """The minor version that the library names, "" for none; and the exit status."""
    environment = dict(os.environ, LD_PRELOAD=harness.LIBRARY, FORKSAFE_VERBOSE="1", **settings)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stderr.splitlines() if "Python" in line]
    if len(lines) > 1:
        harness.note_tail("more than one line", done.stderr)
        return None, done.returncode
    return (lines[0].partition(FOUND)[2] if lines else ""), done.returncode


harness.begin(7)
library = harness.libpython()
minor = subprocess.run([harness.PYTHON3, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True,
                       check=True).stdout.strip()
harness.ok(found([harness.PYTHON3, "-c", THREAD]) == (minor, 0), f"CPython 3.{minor} that makes a thread is found")
harness.ok(found([harness.PYTHON3, "-c", "pass"]) == ("", 0), "one that makes none is left alone")
harness.ok(found([harness.PYTHON3, "-c", THREAD], FORKSAFE_PYTHON="0") == ("", 0), "FORKSAFE_PYTHON=0: it is left alone")
harness.ok(found([harness.PYTHON3, "-c", THREAD], FORKSAFE_MODE="off") == ("", 0), "FORKSAFE_MODE=off: so it is")
harness.ok(found(["/bin/sh", "-c", ":"]) == ("", 0), "a program without Python says nothing")
hide_proc = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
if subprocess.run([*hide_proc, "true"], capture_output=True).returncode != 0:
    harness.skip("without /proc it is found", "this user may not mount anything")
else:
    harness.ok(found([*hide_proc, harness.PYTHON3, "-c", THREAD]) == (minor, 0), "without /proc it is found")
if not BUILT or not library:
    harness.skip("one that a C program loads late is found", "no libpython or no host here")
else:
    harness.ok(found([os.path.join(BUILT, "python", "host"), library, THREAD]) == (minor, 0),
               "one that a C program loads late is found")
