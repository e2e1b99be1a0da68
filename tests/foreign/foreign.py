#!/usr/bin/env python3
"""Locks that other libraries make by themselves, of a futex or of a mutex and a condition variable: victims that are built
here, where the compiler and the library are, and run bare, where they must hang, and under the library: saved, or named
and, in mode abort, ended. Speaks TAP."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.environ["FORKSAFE_LIB"]
RUST = ("mutex", "read", "read-waiting", "write", "write-read", "once", "cell", "print")


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
NAMED = {"qt": "Qt5Core", "glib": "glib-2.0", "absl": "absl_synchronization", "nspr": "nspr", "libxml2": "libxml-2.0",
         "boost": None, "openmp": None, "c++": None}
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


def check_named(victim, kind):
    """Returns what is wrong."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FORKSAFE", "LD_"))}
    bare = subprocess.run([victim, kind], env=environment, capture_output=True, text=True, timeout=100)
    if bare.stdout.strip() != "Alarm clock":
        return f"bare it does not hang: {bare.stdout}"
    environment.update(LD_PRELOAD=LIBRARY, FORKSAFE_HANG_MS="150")
    for mode, ends in (("repair", "Alarm clock"), ("report", "Alarm clock"), ("abort", "Aborted")):
        environment["FORKSAFE_MODE"] = mode
        got = subprocess.run([victim, kind], env=environment, capture_output=True, text=True, timeout=100)
        lines = re.findall(r"^forksafe.* child hangs in ", got.stderr, re.M)
        if got.stdout.strip() != ends or len(lines) != 1:
            return f"{mode}: {got.stdout}{got.stderr}"
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


def main():
    count, failed = 0, False

    def tell(name, missing, wrong):
        nonlocal count, failed
        count += 1
        failed |= wrong is not None
        print(f"{'not ok' if wrong else 'ok'} {count} - {name}" + (f" # SKIP {missing}" if missing else ""), flush=True)
        for line in (wrong or "").splitlines():
            print(f"# {line}")

    with tempfile.TemporaryDirectory() as folder:
        rows = [(f"qt{version}", *built_qt(version, folder), ("mutex", "recursive"), r"took over futex 0x\w+ \(Qt\)")
                for version in (5, 6)]
        rows.append(("rust", *built_rust(folder), RUST, r"took over futex 0x\w+ \(Rust std"))
        for name, victim, missing, kinds, says in rows:
            for kind in kinds:
                tell(f"{name} {kind}", missing, None if missing else check(victim, kind, says))
        for name, needs in NAMED.items():
            victim, missing = built_named(name, needs, folder)
            if missing:
                tell(name, missing, None)
                continue
            for kind in subprocess.run([victim], capture_output=True, text=True, check=True).stdout.splitlines():
                tell(f"{kind} is named", None, check_named(victim, kind))
    print(f"1..{count}")
    return failed


sys.exit(main())
