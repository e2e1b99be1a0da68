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


def run(part, preload, hangs=False, how=()):
    seconds = max(1, int(10 * harness.HANG_SECONDS if preload and not hangs else harness.HANG_SECONDS))
    return harness.run([harness.PYTHON3, "-W", "ignore", VICTIM, part, str(seconds), *how], preload,
                       (30 + 40 * seconds) * harness.SLOWNESS)


def line_of(words):
    """`words` is how the line ends."""
    with open(VICTIM) as source:
        return next(number for number, text in enumerate(source, 1) if text.endswith(words + "\n"))


def names(err, words):
    return re.search(rf"state_victim\.py:{line_of(words)}\b", err)


def check(part, bare_says, saved_says, meaning, *how):
    bare, saved = run(part, False, how=how), run(part, True, how=how)
    passed = harness.ok(bare.out == bare_says and saved.out == saved_says, meaning)
    if not passed:
        harness.note_tail("bare", bare.out + bare.err)
        harness.note_tail("library", saved.out + saved.err)
    return saved.err


harness.begin(42)
err = check("imports", "child: -14\n", "child: 0\n", "modules that vanished threads were importing are imported anew")
harness.ok(all(re.search(rf"child runs again Python import \w+ \({name}\)", err)
               for name in ("plain", "outer", "outer.inner", "space.part")), "each is named")
harness.ok(re.search(r"child took over Python import \w+ \(again\)", err)
           and not re.search(r"runs again Python import \w+ \(again\)", err),
           "so is one that a vanished thread was reloading: nothing of it runs again by itself")
err = check("not_wanted", "child: 0\nchild: -14\n", "child: 0\nits child: 0\nchild: 0\n",
            "also by the child of a child that imports none of them")
harness.ok(len(re.findall(r"runs again Python import \w+ \(plain\)", err)) == 1 and
           len(re.findall(r" wanted in import_all\(\) in \S*state_victim\.py", err)) >= 4,
           "a line names the place that imports it, and a child that does not has none")
harness.SETTINGS["FORKSAFE_DRAIN_MS"] = "60000"  # a twentieth of it is for locks, and for such a module
check("under_way", "child: -14\n", "child: 0\n",
      "a fork waits for an import that ends soon: the child has the whole module")
check("under_lock", "child: -14\n", "child: 0\n",
      "a fork waits for a lock that is held for a moment: the child has whole data")
check("serving", "child: 0\n", "child: 0\n",
      "not as long for that of a module in which the forking thread runs: it may never end")
harness.SETTINGS.clear()
err = check("wakeup", "child: -14\n", "child: 0\n",
            "a module that vanished threads were waiting for is imported by two threads at once")
check("own_import", "child: 0\n", "child: 0\n", "an import that forks goes on in the child")
err = check("body", "child: 0 -14\n", "child: 0 0\n",
            "a module in which the forking thread runs is the child's as it is")
harness.ok(re.search(r"child took over Python import \w+ \(body\)", err)
           and "runs again Python import (body" not in err,
           "and is named")
check("ending", "child: -14\n", "child: 0\n", "a lock is taken over in a child of an interpreter that ends")
check("owners", 2 * "child: 5\n", 2 * "child: 0\n",
      "an RLock is no new thread's that has the pthread_t of its vanished owner")
check("first", "child: -14\n", "child: 0\n", "an RLock that nobody gave back so far is taken over beside other threads")
check("first_beside_c", "child: -14\n", "child: 0\n", "also beside threads that were made without the GIL")
check("handed_on", "later forks wait: False\n", "later forks wait: False\n",
      "forks do not wait again and again for a lock that threads hand on to each other")
check("waiters", "child: -14\nits child: -14\nparent: its own wake up\n",
      "child: 0\nits child: 0\nparent: its own wake up\n", "a notify wakes the child's own thread, not a vanished one")
err = check("tokens", "child: -14\nparent: 1 2 2 1 2\n", "child: 0\nparent: 1 2 2 1 2\n",
            "a token that a vanished thread had in a with statement is given back, no other")
if not harness.ok(len(re.findall(r"took over Python semaphore", err)) == 4 and
                  (names(err, "  # the token is had here") or names(err, "  # or here at the fork")),
                  "and named, with the place, where the child had found none"):
    harness.note_tail("lines", err, 40)
sleepers = "child: -14\nits child: -14\nparent: its own wake up\n"
for part, bare_says, *how in (("imports", "child: -14\n", "past"), ("waiters", sleepers, "past"),
                              ("waiters", sleepers, "in_c"), ("tokens", "child: -14\nparent: 1 2 2 1 2\n", "past")):
    check(part, bare_says, bare_says.replace("-14", "0"),
          f"{part}: the same, {'forked' if how == ['past'] else 'beside threads made'} by C code without the GIL", *how)
check("replaced", "grown: False\n", "grown: False\n",
      "a program with classes of its own in threading does not grow with its threads")
check("ended", "child: -14\n", "child: 0\n", "beside sub-interpreters that have run, and ended, a lock is taken over")
bare, saved = run("beside", False), run("beside", True, hangs=True)
hangs = saved.out == "child: -9\n"  # 3.12 does either
if not harness.ok(bare.out.startswith("child: -") and saved.out.startswith("child: -") and
                  (not hangs or "the child's wait" in saved.err),
                  "beside those that live the interpreter ends the child, or hangs in it by name, as bare"):
    harness.note_tail("bare", bare.out + bare.err)
    harness.note_tail("library", saved.out + saved.err)
bare, saved = run("inner", False), run("inner", True)
if not harness.ok(bare.out and set(bare.out.splitlines()) == {"child: -14"}
                  and saved.out == bare.out.replace("-14", "0"),
                  "locks inside the interpreter that a vanished thread had are the child's"):
    harness.note_tail("bare", bare.out + bare.err)
    harness.note_tail("library", saved.out + saved.err)
harness.SETTINGS["FORKSAFE_HANG_MS"] = "100"
saved = run("second_wait", True, hangs=True)
harness.SETTINGS.clear()
if not harness.ok(saved.out == "child: -14\n" and names(saved.err, "  # the child waits here") and
                  names(saved.err, "  # the child's child waits here"),
                  "a wait that a handler ended hides no other that hangs, in that process and in its child"):
    harness.note_tail("library", saved.out + saved.err, 40)
harness.SETTINGS["FORKSAFE_HANG_MS"] = "100"
bare, saved = run("interrupt", False), run("interrupt", True, hangs=True)
harness.ok(bare.out == "child: -14\nchild: 7\nchild: -14\n" == saved.out,
           "waits that only Ctrl-C could end are as without the library")


def says(deed, words):
    return re.search(rf"{deed} semaphore .* wanted in \w+\(\) in \S*state_victim\.py:{line_of(words)}\b", saved.err)


if not harness.ok(says("child hangs in", "  # nobody has asked for a handler") and
                  says("only a signal handler can end the child's wait in", "  # the program has asked for a handler"),
                  "a line speaks of a signal handler where the program has asked for one"):
    harness.note_tail("lines", saved.err, 40)
bare, saved = run("executor", False), run("executor", True, hangs=True)
if not harness.ok(bare.out == saved.out == "child: -14\n" and
                  re.search(r"the child's wait in epoll|child hangs in epoll", saved.err),
                  "a child whose asyncio waits for a thread that only the parent has is named"):
    harness.note_tail("library", saved.out + saved.err, 40)
harness.SETTINGS["FORKSAFE_MODE"] = "abort"
ended = run("interrupt", True, hangs=True)
harness.SETTINGS.clear()
if not harness.ok(ended.out == "child: -6\nchild: -6\nchild: -14\n", "mode abort ends the others"):
    harness.note_tail("library", ended.out + ended.err, 40)
cancels = "cancels: %d\nsets another: %d\nends: %d\n"
err = check("watchdog", 2 * cancels.replace("%d", "-14"), 2 * cancels.replace("%d", "0"),
            "faulthandler's watchdog ends for the child that waits for its end")
harness.ok("child forgot 1 vanished thread in semaphore" in err or "child took over PyMutex" in err,  # from 3.15 on
           "and is named")
err = check("gil", "child: -9\n", "child: 7\n", "the GIL of a vanished thread is given to the child")
check("left", "its child: 0\nchild: 0\n", "its child: 0\nchild: 0\n",
      "a child whose parent has states of threads that vanished before, with stacks that new threads have, goes on")
err = check("places", 3 * "child: -14\n", 3 * "child: 0\n", "three locks are taken over")
if not harness.ok(names(err, "  # taken here") and names(err, "  # the queue's is taken here") and
                  names(err, "  # the plain one is taken here") and names(err, "  # wanted here") and
                  "wanted in _PySemaphore_Wait" not in err,
                  "their lines name the Python place that took the lock and that wants it"):
    harness.note_tail("lines", err, 40)
forked = re.findall(rf"forked in in_child\(\) in \S*state_victim\.py:{line_of('  # forked here')}\b", err)
if not harness.ok(len(forked) == 3, "and that called for the fork, not where C code forks"):
    harness.note_tail("lines", err, 60)
if not harness.ok("holding thread" in err and "queue keeper" in err, "and the thread as Python calls it"):
    harness.note_tail("lines", err, 40)
harness.ok(names(err, "  # the queue's is wanted here") and not re.search(r"(threading|queue)\.py", err),
           "and whoever calls the interpreter's own modules, not those")
