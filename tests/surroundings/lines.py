#!/usr/bin/env python3
"""Where our lines go, and where never: what a program does with descriptor 2, logs that cannot be written, settings."""
import os
import stat
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "company"))

import company
import harness

STREAM = os.path.join(company.BUILT, "surroundings", "stream")


def content(path):
    try:
        with open(path) as text:
            return text.read()
    except FileNotFoundError:
        return ""


def stream(case, path="/dev/null", *settings, begin=()):
    return company.run([*begin, *company.under(*settings), STREAM, case, path])


def check(title, outcome, on_stderr, path=None, in_file=0):
    """The child was saved, with so many lines on the stderr the program was started with and in the file."""
    text = harness.joined(content(path)) if path else ""
    passed = outcome.status == 0 and outcome.err.count("\n") == on_stderr == company.takeovers(outcome) and \
        text.count("\n") == in_file == len(company.TAKEOVER.findall(text))
    company.ok(passed, title, library=outcome)
    if not passed:
        harness.note_tail("file", text)


def check_descriptors(scratch):
    path = os.path.join(scratch, "data")
    without = ["sh", "-c", 'exec 2>&-; exec "$@"', "sh"]
    for case, title, on_stderr, in_file, begin in (
            ("same", "an untouched stderr gets the line", 1, 0, ()),
            ("closed-all", "all other descriptors closed", 1, 0, ()),
            ("append", "closed, and a file of the program's got number 2: nothing goes there", 0, 0, ()),
            ("reused", "started without, and a file got number 2: nothing goes there", 0, 0, without),
            ("same", "started without: no line", 0, 0, without),
            ("pipe", "closed, and a pipe got number 2: nothing goes there", 0, 0, ()),
            ("socket", "closed, and a socket got number 2: nothing goes there", 0, 0, ()),
            ("dup2", "made another by dup2: the line goes there", 0, 1, ()),
            ("dup3", "made another by dup3: the line goes there", 0, 1, ()),
            ("freopen", "made another by freopen: the line goes there", 0, 1, ()),
            ("login-tty", "made another by login_tty: the line goes to that terminal", 0, 0, ()),
            ("vfork", "a vfork child made itself another: the line stays with the parent's", 1, 0, ()),
            ("broken", "a pipe that nobody reads kills nobody", 0, 0, ()),
            ("full", "a full pipe stops nobody", 0, 0, ()),
            ("limit", "a file that may not grow kills nobody", 0, 0, ()),
            ("environment", "an environment that the program cleared", 1, 0, ())):
        if os.path.exists(path):
            os.unlink(path)
        check(title, stream(case, path, begin=begin), on_stderr, path, in_file)
    with open("/dev/full", "w") as full:
        outcome = harness.run(["sh", "-c", 'exec 2>/dev/full; exec "$@"', "sh", *company.under(), STREAM, "same"],
                              False, 60)
        check("a full disk behind stderr", outcome, 0)


def check_logs(scratch):
    log = os.path.join(scratch, "log")
    check("FORKSAFE_LOG gets the line", stream("same", "/dev/null", f"FORKSAFE_LOG={log}"), 0, log, 1)
    check("a second line is appended", stream("append", "/dev/null", f"FORKSAFE_LOG={log}"), 0, None)
    harness.ok(content(log).count("child took over") == 2 and stat.S_IMODE(os.stat(log).st_mode) & 0o137 == 0,
               "both are there, and others may not read them")
    fifo = os.path.join(scratch, "fifo")
    os.mkfifo(fifo)
    for title, path in (("in a missing directory", f"{scratch}/missing/log"), ("a directory", scratch),
                        ("a FIFO that nobody reads", fifo), ("on a full disk", "/dev/full"),
                        ("a name that is too long for the file system", f"{scratch}/{'x' * 300}")):
        lost = stream("same", "/dev/null", f"FORKSAFE_LOG={path}")
        lines = lost.err.splitlines()
        company.ok(lost.status == 0 and len(lines) == 1 and "FORKSAFE_LOG: cannot write to" in lines[0],
                   f"FORKSAFE_LOG {title}: that is said once on stderr, and no harm", library=lost)
    check("FORKSAFE_LOG without a directory is where the program was started",
          stream("chdir", "/dev/null", "FORKSAFE_LOG=relative", begin=["env", "-C", scratch]), 0,
          os.path.join(scratch, "relative"), 1)
    limit = os.path.join(scratch, "limited")
    check("FORKSAFE_LOG that may not grow kills nobody", stream("limit", "/dev/null", f"FORKSAFE_LOG={limit}"), 0)


def check_settings(scratch):
    log = os.path.join(scratch, "complaints")
    for setting in ("FORKSAFE_MODE=nonsense", "FORKSAFE_DRAIN_MS=-1", "FORKSAFE_DRAIN_LOCKS_MS=-1",
                    "FORKSAFE_DRAIN_MS=99999999999999999999",
                    "FORKSAFE_VERBOSE=yes", "FORKSAFE_MODE=" + "x" * 100000, "FORKSAFE_LOG=" + "y" * 100000,
                    "FORKSAFE_MODE=\x1b[31m\nred"):
        odd = stream("same", "/dev/null", setting)
        complaints = company.other_lines(odd)
        company.ok(odd.status == 0 and len(complaints) == 1 and len(complaints[0]) < 250 and "\x1b" not in odd.err and
                   "the default is used" in complaints[0] and company.takeovers(odd) == 1,
                   f"{setting[:40]!r} is named in one line, the default holds", library=odd)
    odd = stream("same", "/dev/null", "FORKSAFE_DRAIN_MS=x", "FORKSAFE_MODE=y", f"FORKSAFE_LOG={log}")
    company.ok(odd.err == "" and content(log).count("the default is used") == 2, "complaints go to the log",
               library=odd)


def check_loading(scratch):
    copy = os.path.join(scratch, "libforksafe.so")
    with open(harness.LIBRARY, "rb") as source, open(copy, "wb") as target:
        target.write(source.read())
    for title, preload in (("named twice", f"{harness.LIBRARY}:{harness.LIBRARY}"),
                           ("empty entries around it", f":{harness.LIBRARY}::"),
                           ("two copies of it", f"{harness.LIBRARY}:{copy}")):
        library = company.under(preload=preload)
        company.check_pair(title, ["env"], library)
    loading = [harness.PYTHON3, "-c",
               f"import ctypes, runpy, sys; ctypes.CDLL({harness.LIBRARY!r}); sys.argv[:1] = []; "
               "runpy.run_path(sys.argv[0], run_name='__main__')", company.PYTHON_VICTIM, company.BARE_SECONDS]
    loaded = company.run(loading)
    company.ok(loaded.status == 0 and loaded.err == "" and loaded.out.count("right") == 2,
               "loaded by dlopen, too late to stand in front: it helps nobody and harms nobody", dlopen=loaded)


harness.begin(17 + 10 + 9 + 3 * 4 + 1)
with tempfile.TemporaryDirectory() as directory:
    check_descriptors(directory)
    check_logs(directory)
    check_settings(directory)
    check_loading(directory)
