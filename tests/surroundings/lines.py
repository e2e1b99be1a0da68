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


def fresh(path):
    """A path at which there is nothing yet."""
    if path and os.path.exists(path):
        os.unlink(path)
    return path


def stream(case, path="/dev/null", *settings, begin=()):
    return company.run([*begin, *company.under(*settings), STREAM, case, path])


def try_stream(title, on_stderr, path, in_file, *arguments, **options):
    """The child is saved, with so many lines on the stderr the program was started with and in the file."""
    fresh(path)
    outcome = stream(*arguments, **options)
    text = harness.joined(content(path)) if path else ""
    return {title: outcome.status == 0 and outcome.err.count("\n") == on_stderr == company.takeovers(outcome) and
            text.count("\n") == in_file == len(company.TAKEOVER.findall(text))}, {"library": outcome, "file": text}


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
        harness.row(try_stream, title, on_stderr, path, in_file, case, path, begin=begin)
    harness.row(try_stream, "a full disk behind stderr", 0, None, 0, "same",
                begin=["sh", "-c", 'exec 2>/dev/full; exec "$@"', "sh"])


def try_second_line(log):
    fresh(log)
    first, second = (stream(case, "/dev/null", f"FORKSAFE_LOG={log}") for case in ("same", "append"))
    return {"FORKSAFE_LOG gets both lines, and others may not read them":
            first.status == second.status == 0 and first.err == second.err == "" and
            harness.joined(content(log)).count("child took over") == content(log).count("forksafe[") == 2 and
            stat.S_IMODE(os.stat(log).st_mode) & 0o137 == 0}, {"first": first, "second": second, "log": content(log)}


def try_lost_log(title, path):
    lost = stream("same", "/dev/null", f"FORKSAFE_LOG={path}")
    return {f"FORKSAFE_LOG {title}: that is said once on stderr, and no harm":
            lost.status == 0 and lost.err.count("\n") == 1 and "FORKSAFE_LOG: cannot write to" in lost.err}, {
                "library": lost}


def check_logs(scratch):
    log = os.path.join(scratch, "log")
    harness.row(try_stream, "FORKSAFE_LOG gets the line", 0, log, 1, "same", "/dev/null", f"FORKSAFE_LOG={log}")
    harness.row(try_second_line, log)
    fifo = os.path.join(scratch, "fifo")
    os.mkfifo(fifo)
    for title, path in (("in a missing directory", f"{scratch}/missing/log"), ("a directory", scratch),
                        ("a FIFO that nobody reads", fifo), ("on a full disk", "/dev/full"),
                        ("a name that is too long for the file system", f"{scratch}/{'x' * 300}")):
        harness.row(try_lost_log, title, path)
    harness.row(try_stream, "FORKSAFE_LOG without a directory is where the program was started", 0,
                os.path.join(scratch, "relative"), 1, "chdir", "/dev/null", "FORKSAFE_LOG=relative",
                begin=["env", "-C", scratch])
    limit = os.path.join(scratch, "limited")
    harness.row(try_stream, "FORKSAFE_LOG that may not grow kills nobody", 0, None, 0, "limit", "/dev/null",
                f"FORKSAFE_LOG={limit}")


def try_odd(setting):
    odd = stream("same", "/dev/null", setting)
    complaints = company.other_lines(odd)
    return {f"{setting[:40]!r} is named in one line, the default holds":
            odd.status == 0 and len(complaints) == 1 and len(complaints[0]) < 250 and "\x1b" not in odd.err and
            "the default is used" in complaints[0] and company.takeovers(odd) == 1}, {"library": odd}


def try_complaints(log):
    odd = stream("same", "/dev/null", "FORKSAFE_DRAIN_MS=x", "FORKSAFE_MODE=y", f"FORKSAFE_LOG={fresh(log)}")
    return {"complaints go to the log": odd.err == "" and content(log).count("the default is used") == 2}, {
        "library": odd, "log": content(log)}


def check_settings(scratch):
    for setting in ("FORKSAFE_MODE=nonsense", "FORKSAFE_DRAIN_MS=-1", "FORKSAFE_DRAIN_LOCKS_MS=-1",
                    "FORKSAFE_DRAIN_MS=99999999999999999999",
                    "FORKSAFE_VERBOSE=yes", "FORKSAFE_MODE=" + "x" * 100000, "FORKSAFE_LOG=" + "y" * 100000,
                    "FORKSAFE_MODE=\x1b[31m\nred"):
        harness.row(try_odd, setting)
    harness.row(try_complaints, os.path.join(scratch, "complaints"))


def try_loading():
    loading = [harness.PYTHON3, "-c",
               f"import ctypes, runpy, sys; ctypes.CDLL({harness.LIBRARY!r}); sys.argv[:1] = []; "
               "runpy.run_path(sys.argv[0], run_name='__main__')", company.PYTHON_VICTIM, company.BARE_SECONDS]
    loaded = company.run(loading)
    return {"loaded by dlopen, too late to stand in front: it helps nobody and harms nobody":
            loaded.status == 0 and loaded.err == "" and loaded.out.count("right") == 2}, {"dlopen": loaded}


def check_loading(scratch):
    copy = os.path.join(scratch, "libforksafe.so")
    with open(harness.LIBRARY, "rb") as source, open(copy, "wb") as target:
        target.write(source.read())
    for title, preload in (("named twice", f"{harness.LIBRARY}:{harness.LIBRARY}"),
                           ("empty entries around it", f":{harness.LIBRARY}::"),
                           ("two copies of it", f"{harness.LIBRARY}:{copy}")):
        harness.row(company.try_pair, title, ["env"], company.under(preload=preload))
    harness.row(try_loading)


harness.begin(17 + 9 + 9 + 3 * 4 + 1)
with tempfile.TemporaryDirectory() as directory:
    check_descriptors(directory)
    check_logs(directory)
    check_settings(directory)
    check_loading(directory)
