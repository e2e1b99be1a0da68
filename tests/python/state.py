#!/usr/bin/env python3
"""State that only the interpreter knows: half done imports, the GIL, and the Python places in the library's lines.

Each victim hangs bare, in a child that wants what a vanished thread had, and goes on under the library.
"""
import os
import re
import signal
import sys

sys.dont_write_bytecode = True

import harness

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with a SIGINT that is ignored
VICTIM = os.path.join(harness.HERE, "state_victim.py")


def run(part, preload, hangs, how):
    seconds = max(1, int(harness.HANG_SECONDS if hangs else harness.PATIENT_HANG_SECONDS))
    return harness.run([harness.PYTHON3, "-W", "ignore", VICTIM, part, str(seconds), *how], preload,
                       (30 + 40 * seconds) * harness.SLOWNESS)


def line_of(words):
    """`words` is how the line ends."""
    with open(VICTIM) as source:
        return next(number for number, text in enumerate(source, 1) if text.endswith(words + "\n"))


def names(said, words):
    return re.search(rf"state_victim\.py:{line_of(words)}\b", said)


def try_part(part, bare_says, saved_says, meaning, *lines, how=(), **settings):
    """What both print, by patterns; "": there is no need to run it bare. `lines` are meanings, each with what has to be
    true of what the saved one said."""
    bare = run(part, False, True, how) if bare_says else harness.Outcome(0, "", "", False)
    harness.SETTINGS = settings
    saved = run(part, True, "-" in saved_says, how)
    points = {meaning: re.fullmatch(bare_says, bare.out) and re.fullmatch(saved_says, saved.out)}
    points.update((meaning, holds(saved.out + saved.err)) for meaning, holds in lines)
    return points, {"bare": bare, "library": saved}


def check(*part, **settings):
    harness.row(try_part, *part, **settings)


def hangs_in(said, deed, words):
    return re.search(rf"{deed} semaphore .* wanted in \w+\(\) in \S*state_victim\.py:{line_of(words)}\b", said)


HUNG, SAVED = "child: -14\n", "child: 0\n"
harness.begin(45)
check("imports", HUNG, SAVED, "modules that vanished threads were importing are imported anew",
      ("each is named",
       lambda said: all(re.search(rf"child runs again Python import \w+ \({name}\)", said)
                       for name in ("plain", "outer", "outer.inner", "space.part"))),
      ("so is one that a vanished thread was reloading: nothing of it runs again by itself",
       lambda said: re.search(r"child took over Python import \w+ \(again\)", said)
       and not re.search(r"runs again Python import \w+ \(again\)", said)))
check("not_wanted", SAVED + HUNG, SAVED + "its " + SAVED + SAVED,
      "also by the child of a child that imports none of them",
      ("a line names the place that imports it, and a child that does not has none",
       lambda said: len(re.findall(r"runs again Python import \w+ \(plain\)", said)) == 1 and
       len(re.findall(r" wanted in import_all\(\) in \S*state_victim\.py", said)) >= 4))
patient = {"FORKSAFE_DRAIN_MS": "60000"}  # a twentieth of it is for locks, and for such a module
check("under_way", HUNG, SAVED, "a fork waits for an import that ends soon: the child has the whole module", **patient)
check("under_lock", HUNG, SAVED, "a fork waits for a lock that is held for a moment: the child has whole data",
      **patient)
check("serving", SAVED, SAVED,
      "not as long for that of a module in which the forking thread runs: it may never end", **patient)
check("wakeup", HUNG, SAVED, "a module that vanished threads were waiting for is imported by two threads at once")
check("own_import", SAVED, SAVED, "an import that forks goes on in the child")
check("body", "child: 0 -14\n", "child: 0 0\n", "a module in which the forking thread runs is the child's as it is",
      ("and is named", lambda said: re.search(r"child took over Python import \w+ \(body\)", said)
       and "runs again Python import (body" not in said))
check("ending", HUNG, SAVED, "a lock is taken over in a child of an interpreter that ends")
check("owners", 2 * "child: 5\n", 2 * SAVED, "an RLock is no new thread's that has the pthread_t of its vanished owner")
check("first", HUNG, SAVED, "an RLock that nobody gave back so far is taken over beside other threads")
check("first_beside_c", HUNG, SAVED, "also beside threads that were made without the GIL")
check("handed_on", "later forks wait: False\n", "later forks wait: False\n",
      "forks do not wait again and again for a lock that threads hand on to each other")
waiters = HUNG + "its " + HUNG + "parent: its own wake up\n", SAVED + "its " + SAVED + "parent: its own wake up\n"
check("waiters", *waiters, "a notify wakes the child's own thread, not a vanished one")
tokens = HUNG + "parent: 1 2 2 1 2\n", SAVED + "parent: 1 2 2 1 2\n"
check("tokens", *tokens, "a token that a vanished thread had in a with statement is given back, no other",
      ("and named, with the place, where the child had found none",
       lambda said: len(re.findall(r"took over Python semaphore", said)) == 4 and
       (names(said, "  # the token is had here") or names(said, "  # or here at the fork"))))
for part, says, how in (("imports", (HUNG, SAVED), "past"), ("waiters", waiters, "past"), ("waiters", waiters, "in_c"),
                        ("tokens", tokens, "past")):
    check(part, *says, f"{part}: the same, {'forked' if how == 'past' else 'beside threads made'} by C code without "
          "the GIL", how=[how])
check("replaced", "grown: False\n", "grown: False\n",
      "a program with classes of its own in threading does not grow with its threads")
check("ended", HUNG, SAVED, "beside sub-interpreters that have run, and ended, a lock is taken over")
# 3.12 does either: -9 is a child that hangs.
check("beside", r"child: -\d+\n", r"child: -\d+\n", "beside those that live the interpreter ends the child, or hangs "
      "in it, as bare", ("by name", lambda said: "child: -9" not in said or "the child's wait" in said))
check("inner", f"({HUNG}){{2,3}}", f"({SAVED}){{2,3}}",
      "locks inside the interpreter that a vanished thread had are the child's")
soon = {"FORKSAFE_HANG_MS": "100"}
check("second_wait", "", HUNG, "a wait that a handler ended hides no other that hangs",
      ("in that process and in its child",
       lambda said: names(said, "  # the child waits here") and names(said, "  # the child's child waits here")),
      **soon)
check("interrupt", HUNG + "child: 7\n" + HUNG, HUNG + "child: 7\n" + HUNG,
      "waits that only Ctrl-C could end are as without the library",
      ("a line speaks of a signal handler where the program has asked for one",
       lambda said: hangs_in(said, "child hangs in", "  # nobody has asked for a handler") and
       hangs_in(said, "only a signal handler can end the child's wait in", "  # the program has asked for a handler")),
      **soon)
check("interrupt", "", 2 * "child: -6\n" + HUNG, "mode abort ends the others", FORKSAFE_MODE="abort", **soon)
check("executor", HUNG, HUNG, "a child whose asyncio waits for a thread that only the parent has ends as bare",
      ("and is named", lambda said: re.search(r"the child's wait in epoll|child hangs in epoll", said)), **soon)
cancels = "cancels: %d\nsets another: %d\nends: %d\n"
check("watchdog", 2 * cancels.replace("%d", "-14"), 2 * cancels.replace("%d", "0"),
      "faulthandler's watchdog ends for the child that waits for its end",
      ("and is named",
       lambda said: "child forgot 1 vanished thread in semaphore" in said or "child took over PyMutex" in said))  # 3.15
check("gil", "child: -9\n", "child: 7\n", "the GIL of a vanished thread is given to the child")
check("left", "its " + SAVED + SAVED, "its " + SAVED + SAVED,
      "a child whose parent has states of threads that vanished before, with stacks that new threads have, goes on")
check("places", 3 * HUNG, 3 * SAVED, "three locks are taken over",
      ("their lines name the Python place that took the lock and that wants it",
       lambda said: names(said, "  # taken here") and names(said, "  # the queue's is taken here") and
       names(said, "  # the plain one is taken here") and names(said, "  # wanted here") and
       "wanted in _PySemaphore_Wait" not in said),
      ("and that called for the fork, not where C code forks",
       lambda said: len(re.findall(rf"forked in in_child\(\) in \S*state_victim\.py:{line_of('  # forked here')}\b",
                                   said)) == 3),
      ("and the thread as Python calls it", lambda said: "holding thread" in said and "queue keeper" in said),
      ("and whoever calls the interpreter's own modules, not those",
       lambda said: names(said, "  # the queue's is wanted here") and not re.search(r"(threading|queue)\.py", said)))
