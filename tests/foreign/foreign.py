#!/usr/bin/env python3
"""Locks that other libraries make by themselves, of a futex or of a mutex and a condition variable: victims that are
built here, where the compiler and the library are, and run bare, where they must hang, and under the library: saved, or
named and, in mode abort, ended. Speaks TAP."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.environ["FORKSAFE_LIB"]
AT_ONCE = 4
RUST = ("mutex", "read", "read-waiting", "write", "write-waiting", "write-read", "once", "cell", "print")


def built_qt(version, folder):
    """Returns the victim, or why there is none."""
    compiler, config = shutil.which("g++"), shutil.which("pkg-config")
    if not compiler or not config:
        return None, "no g++ or no pkg-config"
    asked = subprocess.run([config, "--cflags", "--libs", f"Qt{version}Core"], capture_output=True, text=True)
    if asked.returncode != 0:
        return None, f"no Qt{version}Core"
    victim = os.path.join(folder, f"qt{version}")
    made = subprocess.run([compiler, "-std=c++17", "-fPIC", "-pthread", "-o", victim, os.path.join(HERE, "qt.cc")]
                          + asked.stdout.split(), capture_output=True, text=True)
    return (victim, None) if made.returncode == 0 else (None, f"Qt{version}: " + made.stderr.splitlines()[0])


def built_rust(folder):
    compiler = shutil.which("rustc")
    if not compiler:
        return None, "no rustc"
    victim = os.path.join(folder, "rust")
    made = subprocess.run([compiler, "-O", "-o", victim, os.path.join(HERE, "rust.rs")], capture_output=True, text=True)
    return (victim, None) if made.returncode == 0 else (None, "rustc: " + made.stderr.splitlines()[0])


# Name -> its package of pkg-config; without one, FLAGS.
NAMED = {"qt": "Qt5Core", "glib": "glib-2.0", "absl": "absl_synchronization", "boost": None, "openmp": None,
         "c++": None}
MONITORS = {"nspr": "nspr", "libxml2": "libxml-2.0", "hdf5": "hdf5"}
FUTEXES = {"kj": "kj"}
FLAGS = {"boost": ["-lboost_thread"], "openmp": ["-fopenmp"], "c++": []}


def built_named(name, needs, folder):
    compiler, config = shutil.which("g++"), shutil.which("pkg-config")
    if not compiler or not config:
        return None, "no g++ or no pkg-config"
    if needs is None:
        flags = FLAGS[name]
    else:
        asked = subprocess.run([config, "--cflags", "--libs", needs], capture_output=True, text=True)
        if asked.returncode != 0:
            return None, f"no {needs}"
        flags = asked.stdout.split()
    victim = os.path.join(folder, "named-" + name)
    define = [] if name == "c++" else ["-DWITH_" + name.upper()]
    made = subprocess.run([compiler, "-std=c++20", "-fPIC", "-pthread", *define, "-o", victim,
                           os.path.join(HERE, "named.cc"), *flags], capture_output=True, text=True)
    return (victim, None) if made.returncode == 0 else (None, f"{name}: " + made.stderr.splitlines()[0])


NAMED_ENDS = {"repair": ("Alarm clock", "child hangs in"), "report": ("Alarm clock", "child hangs in"),
              "abort": ("Aborted", "child hangs in")}
SAVED_ENDS = {"repair": ("went on", "child took over (monitor|futex)"),
              "report": ("Alarm clock", "child would hang on (monitor|futex)"),
              "abort": ("Aborted", "child would hang on (monitor|futex)")}


def check_ends(command, expected):
    """Returns what is wrong: bare it must hang, and end as `expected` says in each mode, with one line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FORKSAFE", "LD_"))}
    bare = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    if bare.stdout.strip() != "Alarm clock":
        return f"bare it does not hang: {bare.stdout}"
    environment.update(LD_PRELOAD=LIBRARY, FORKSAFE_HANG_MS="150")
    for mode, (ends, says) in expected.items():
        environment["FORKSAFE_MODE"] = mode
        got = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        lines = re.findall(rf"^forksafe.* {says} ", got.stderr, re.M)
        if got.stdout.strip() != ends or len(lines) != 1:
            return f"{mode}: {got.stdout}{got.stderr}"
    return None


def check_ruby(ruby, kind):
    """Returns what is wrong: Ruby frees its mutexes in a child, and ends one all of whose threads wait, by itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FORKSAFE", "LD_"))}
    command = [ruby, os.path.join(HERE, "locks.rb"), kind]
    bare = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          timeout=100)
    environment.update(LD_PRELOAD=LIBRARY, FORKSAFE_HANG_MS="150", FORKSAFE_MODE="abort")
    got = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    if got.stdout != bare.stdout or bare.stdout not in ("went on\n", "fatal\n") or "forksafe" in got.stderr:
        return f"bare {bare.stdout}, with the library {got.stdout}{got.stderr}"
    return None


def run(victim, kind, library):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FORKSAFE", "LD_"))}
    if library:
        environment["LD_PRELOAD"] = library
    return subprocess.run([victim, kind], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          timeout=100)


def check(victim, kind, says):
    """Returns what is wrong."""
    if run(victim, kind, None).returncode == 0:
        return "bare it does not hang"
    got = run(victim, kind, LIBRARY)
    if got.returncode != 0:
        return f"hangs with the library: {got.stderr}"
    return None if re.search(says, got.stderr) else f"no line like {says}: {got.stderr}"


def tried(name, check):
    """What is wrong at the second try, and what was at the first: said, and counted by scripts/test."""
    first = check()
    return (check(), f"{name}, first try: {first}") if first else (None, "")


def main():
    cases = []  # name, why it cannot be run, a call that returns what is wrong

    def case(name, missing, check, *arguments):
        cases.append((name, missing, (lambda: check(*arguments)) if not missing else lambda: None))

    with tempfile.TemporaryDirectory() as folder:
        rows = [(f"qt{version}", *built_qt(version, folder), ("mutex", "recursive", "limited"),
                 r"took over futex 0x\w+ \(Qt\)")
                for version in (5, 6)]
        rows.append(("rust", *built_rust(folder), RUST, r"took over futex 0x\w+ \(Rust std"))
        for name, victim, missing, kinds, says in rows:
            for kind in kinds:
                case(f"{name} {kind}", missing, check, victim, kind, says)
        saved = MONITORS | FUTEXES
        for name, needs in (NAMED | saved).items():
            victim, missing = built_named(name, needs, folder)
            if missing:
                case(name, missing, None)
                continue
            ends = SAVED_ENDS if name in saved else NAMED_ENDS
            for kind in subprocess.run([victim], capture_output=True, text=True, check=True).stdout.splitlines():
                case(f"{kind} is {'saved' if name in saved else 'named'}", None, check_ends, [victim, kind], ends)
        perl, ruby = shutil.which("perl"), shutil.which("ruby")
        missing = None if perl and subprocess.run([perl, "-Mthreads", "-e1"], capture_output=True).returncode == 0 \
            else "no perl with threads"
        for kind, how, ends in (("lock", "saved", SAVED_ENDS), ("cond_wait", "named", NAMED_ENDS)):
            case(f"Perl's {kind} is {how}", missing, check_ends, [perl, os.path.join(HERE, "locks.pl"), kind], ends)
        for kind in ("mutex", "queue"):
            case(f"Ruby's {kind}", None if ruby else "no ruby", check_ruby, ruby, kind)
        # They sleep until their alarms ring, nearly all of the time.
        print(f"1..{len(cases)}", flush=True)
        failed = False
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(lambda one: tried(one[0], one[2]), cases)
            for number, ((name, missing, _), (wrong, first)) in enumerate(zip(cases, found), 1):
                failed |= wrong is not None
                print(f"{'not ok' if wrong else 'ok'} {number} - {name}" + (f" # SKIP {missing}" if missing else ""),
                      flush=True)
                for line in first.splitlines() + (wrong or "").splitlines():
                    print(f"# {line}")
    return failed


sys.exit(main())
