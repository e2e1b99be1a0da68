#!/usr/bin/env python3
"""The library finds the interpreter of whatever Python there is, when it gets a thread, and nowhere else.

PYTHON3T in the environment: a free-threaded one (else python3.14t or python3.13t, where they are installed).
"""
import os
import shutil
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


# In each life of an interpreter: what a vanished thread has, and what it sleeps in, is the child's.
LIFE = """
import os, queue, signal, threading, time
lock, again, token, queued = threading.Lock(), threading.RLock(), threading.Semaphore(), queue.Queue()
held, stop = threading.Event(), threading.Event()
def hold():
    with lock, again, token:
        held.set()
        stop.wait()
def take():
    with lock, again, token:
        asleep = threading.Thread(target=queued.get)
        asleep.start()
        time.sleep(0.05)
        queued.put(1)
        asleep.join()
threads = [threading.Thread(target=body) for body in (hold, queued.get)]
[thread.start() for thread in threads]
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(%d)
    take()
    os._exit(0)
print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
stop.set()
queued.put(1)
[thread.join() for thread in threads]
"""


MEANINGS = ("and in each of its lives a child gets the locks of vanished threads",
            "so it is when the program unloads it after each life, and forks")


def try_lives(host, library, *unload):
    """An interpreter that a host finalizes and begins anew has other objects, and is looked after as the first."""
    bare = harness.run([host, library, LIFE % harness.HANG_SECONDS, "3", *unload], False, 60)
    saved = harness.run([host, library, LIFE % 30, "3", *unload], True, 120)
    right = (bare.out, bare.status, saved.out, saved.status) == (3 * "child: -14\n", 0, 3 * "child: 0\n", 0)
    return {MEANINGS[len(unload)]: right}, {"bare": bare, "library": saved}


# As gevent and eventlet do.
PATCH = """
import threading, _thread
class Green:
    def __init__(self):
        self.lock = threading.RLock()
    def __enter__(self):
        return self.lock.__enter__()
    def __exit__(self, *error):
        self.lock.release()
    def __getattr__(self, name):
        return getattr(self.lock, name)
_thread.LockType = _thread.RLock = Green
"""


def try_patched():
    """The types in the module _thread may be others than the interpreter's."""
    child = harness.run([harness.PYTHON3, "-c", PATCH + LIFE % 30], True, 60)
    right = (child.out, child.status, "as forksafe knows them" in child.err) == ("child: 0\n", 0, False)
    return {"one whose module _thread was given other types is looked after": right}, {"library": child}


FREE = ("a free-threaded one is left alone, in one line", "there a child hangs on a Lock as bare, by name",
        "and takes an RLock over")


def try_free(python):
    """It steps aside, with one line. A child is as bare, but for what C functions show, and what it waits for is
    named."""
    if python is None:
        return dict.fromkeys(FREE, "there is no free-threaded Python here"), {}
    aside = "this CPython is a free-threaded one: its locks are not looked after"
    said = harness.run([python, "-c", THREAD], True, 60)
    victim = os.path.join(harness.HERE, "locks_victim.py")
    lock, rlock = (harness.run([python, victim, kind, "5"], True, 60) for kind in ("lock", "rlock"))
    return dict(zip(FREE, (
        said.status == 0 and said.err.count(aside) == said.err.count("\n") == 1,
        lock.out == "hung\n" and aside in lock.err and "the child's wait" in lock.err,
        rlock.out == "done\n" and aside in rlock.err and "took over" in rlock.err,
    ))), {"alone": said, "lock": lock, "rlock": rlock}


harness.begin(13)
library = harness.libpython()
minor = subprocess.run([harness.PYTHON3, "-c", "import sys; print(sys.version_info[1])"], capture_output=True,
                       text=True,
                       check=True).stdout.strip()
harness.ok(found([harness.PYTHON3, "-c", THREAD]) == (minor, 0), f"CPython 3.{minor} that makes a thread is found")
harness.ok(found([harness.PYTHON3, "-c", "pass"]) == ("", 0), "one that makes none is left alone")
harness.ok(found([harness.PYTHON3, "-c", THREAD], FORKSAFE_PYTHON="0") == ("", 0),
           "FORKSAFE_PYTHON=0: it is left alone")
harness.ok(found([harness.PYTHON3, "-c", THREAD], FORKSAFE_MODE="off") == ("", 0), "FORKSAFE_MODE=off: so it is")
harness.ok(found(["/bin/sh", "-c", ":"]) == ("", 0), "a program without Python says nothing")
hide_proc = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
if subprocess.run([*hide_proc, "true"], capture_output=True).returncode != 0:
    harness.skip("without /proc it is found", "this user may not mount anything")
else:
    harness.ok(found([*hide_proc, harness.PYTHON3, "-c", THREAD]) == (minor, 0), "without /proc it is found")
if not BUILT or not library:
    harness.skip("one that a C program loads late is found", "no libpython or no host here")
    for meaning in MEANINGS:
        harness.skip(meaning, "no libpython or no host here")
else:
    host = os.path.join(BUILT, "python", "host")
    harness.ok(found([host, library, THREAD]) == (minor, 0), "one that a C program loads late is found")
    harness.row(try_lives, host, library)
    harness.row(try_lives, host, library, "unload")
harness.row(try_patched)
harness.row(try_free, next(filter(None, (os.environ.get("PYTHON3T"), shutil.which("python3.14t"),
                                         shutil.which("python3.13t"))), None))
