#!/usr/bin/env python3
"""Programs built with a sanitizer, by gcc (its runtime is a library) and clang (it is in the program).

With AddressSanitizer and UndefinedBehaviorSanitizer we work; with ThreadSanitizer we step aside, in one line.
"""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import company
import harness

ASIDE = "ThreadSanitizer is in this program: it runs unprotected"

# AddressSanitizer in a library wants to be the first of all; it is content when told not to look.
ORDER = "ASAN_OPTIONS=verify_asan_link_order=0"


def build(compiler, sanitizer, directory):
    """The path of the victim, or None where the compiler or its runtime is missing."""
    path = os.path.join(directory, f"{compiler}-{sanitizer}")
    try:
        done = subprocess.run([compiler, "-O1", "-g", "-pthread", "-D_GNU_SOURCE", f"-fsanitize={sanitizer}",
                               company.SOURCE, "-o", path], capture_output=True)
    except FileNotFoundError:
        return None
    return path if done.returncode == 0 else None


def check_works(compiler, sanitizer, directory):
    title = f"{compiler} -fsanitize={sanitizer}"
    victim = build(compiler, sanitizer, directory)
    if victim is None:
        for _ in range(4):
            harness.skip(title, f"{compiler} cannot build that here")
        return
    harness.row(company.try_pair, title, ["env", ORDER], company.under(ORDER), victim)


def try_stepping_aside(compiler, directory):
    aside, off = f"{compiler} -fsanitize=thread: we step aside, and say so", f"{compiler}: switched off we say nothing"
    victim = build(compiler, "thread", directory)
    # Where ThreadSanitizer does not like the machine's address layout that is no matter of ours.
    bare = company.run([victim, "plain"]) if victim is not None else None
    if bare is None or not company.right(bare):
        return dict.fromkeys((aside, off), f"{compiler} cannot build that here, or it does not run"), {}
    together = company.run([*company.under(), victim, "plain"])
    lines = together.err.splitlines()
    alone = company.run([*company.under("FORKSAFE_MODE=off"), victim, "plain"])
    return {
        aside: company.right(together) and together.out == bare.out and lines and
        all(line.endswith(ASIDE) for line in lines),
        off: company.right(alone) and alone.err == "",
    }, {"library": together, "switched off": alone}


def try_order(directory):
    title = "gcc -fsanitize=address: the runtime itself refuses to come behind us"
    victim = build("gcc", "address", directory)
    if victim is None:
        return {title: "gcc cannot build that here"}, {}
    refused = company.run([*company.under(), victim, "plain"])
    return {title: refused.status != 0 and "ASan runtime does not come first" in refused.err}, {"library": refused}


harness.begin(4 * 4 + 2 * 2 + 1)
with tempfile.TemporaryDirectory() as scratch:
    for name in ("gcc", "clang"):
        check_works(name, "address", scratch)
        check_works(name, "undefined", scratch)
        harness.row(try_stepping_aside, name, scratch)
    harness.row(try_order, scratch)
