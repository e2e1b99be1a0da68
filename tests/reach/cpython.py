#!/usr/bin/env python3
"""CPython's own tests of what this library touches: each method ends as without the library.

    cpython.py [TEST ...]           by hand, or make check-real

Needs Python's test package (Debian: libpython3.X-testsuite). A method that ends differently is run alone, up to three
times, before it counts: many of these tests measure time. Settings as in tests/python/harness.py. """
import os
import sys
import tempfile
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "python"))

import harness

TESTS = ["test_threading", "test_thread", "test_fork1", "test_logging", "test_queue", "test_import",
         "test_threadsignals",
         "test_concurrent_futures", "test_multiprocessing_fork"]
AGAIN = 3


def run(test, preload, only=None):
    """How each method ended, by name: "ok", "skipped", "failed"."""
    with tempfile.TemporaryDirectory() as folder:
        results = os.path.join(folder, "results")
        patterns = [word for name in only or () for word in ("-m", name)]
        outcome = harness.run([harness.PYTHON3, "-m", "test", "--junit-xml", results, "--tempdir", folder, *patterns,
                               test],
                              preload, 1800)  # test_concurrent_futures takes 500 s on a busy machine, bare as well
        if not os.path.exists(results):
            return {"(all)": f"no results: {(outcome.out + outcome.err)[-300:]}"}
        ends = {}
        for case in xml.etree.ElementTree.parse(results).iter("testcase"):
            words = {child.tag for child in case}
            ends[case.get("name")] = "failed" if words & {"failure",
                                                          "error"} else "skipped" if "skipped" in words else "ok"
        return ends


def check(test):
    bare, saved = run(test, False), run(test, True)
    differ = [name for name in sorted({*bare, *saved}) if bare.get(name) != saved.get(name)]
    for _ in range(AGAIN if len(differ) < 20 else 0):
        if not differ:
            break
        some_bare, some_saved = run(test, False, differ), run(test, True, differ)
        differ = [name for name in differ if some_bare.get(name) != some_saved.get(name)]
    fine = sum(end == "ok" for end in bare.values())
    if not harness.ok(not differ and fine > 0,
                      f"{test}: {fine} of {len(bare)} methods pass, and with the library the same"):
        for name in differ[:20]:
            harness.note(f"{name}: bare {bare.get(name)}, with the library {saved.get(name)}")


tests = sys.argv[1:] or TESTS
harness.begin(len(tests))
for test in tests:
    if harness.run([harness.PYTHON3, "-c", f"import test.{test}"], False, 30).status != 0:
        harness.skip(test, f"{harness.PYTHON3} comes without its tests")
    else:
        check(test)
