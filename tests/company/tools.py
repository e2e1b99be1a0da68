#!/usr/bin/env python3
"""Under the tools that look at programs: valgrind, gdb, strace; and around programs that are not for us."""
import os
import shutil
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import company
import harness

ASIDE = "Valgrind checks the locks of this program: it runs unprotected"


def try_checker(tool):
    checked = company.run([*company.under(), "valgrind", "-q", f"--tool={tool}", company.VICTIM, "plain"])
    lines = [line for line in checked.err.splitlines() if not line.endswith(ASIDE)]
    return {f"valgrind --tool={tool}: we step aside, in one line":
            company.right(checked) and not lines and ASIDE in checked.err}, {"library": checked}


def check_valgrind():
    command = ["valgrind", "-q"]
    if not company.find("valgrind"):
        for _ in range(6):
            harness.skip("valgrind", "valgrind is not installed")
        return
    harness.row(company.try_pair, "valgrind", command, [*company.under(), *command], storms=5)
    harness.row(try_checker, "helgrind")
    harness.row(try_checker, "drd")


def check_strace():
    if not company.find("strace") or company.run(["strace", "-o", "/dev/null", "true"]).status != 0:
        for _ in range(4):
            harness.skip("strace -f", "strace is not installed, or may not trace here")
        return
    command = ["strace", "-f", "-o", "/dev/null"]
    harness.row(company.try_pair, "strace -f", command, [*command, *company.under()])


def try_gdb(follow, function):
    title = f"gdb, which follows the {follow} of a fork"
    if not company.find("gdb"):
        return {title: "gdb is not installed"}, {}
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
        script.write(f"""set exec-wrapper env LD_PRELOAD={harness.LIBRARY}
set follow-fork-mode {follow}
break {function}
run
delete
continue
""")
        script.flush()
        seen = company.run(["gdb", "-batch", "-nx", "-x", script.name, "--args", company.VICTIM, "held",
                            company.SECONDS])
        if "ptrace: Operation not permitted" in seen.out + seen.err:
            return {title: "gdb may not trace here"}, {}
        return {title: "hit Breakpoint" in seen.out and "child: right" in seen.out and "WRONG" not in seen.out and
                company.takeovers(seen) == 1}, {"gdb": seen}


def try_setuid():
    """A set-user-ID program drops LD_PRELOAD, and with it us: not a word."""
    title = "a set-user-ID program is not for us"
    # Not in /tmp, which may be mounted nosuid.
    with tempfile.TemporaryDirectory(dir=company.BUILT) as directory:
        copy = os.path.join(directory, "cat")
        os.chmod(directory, 0o755)
        shutil.copy(shutil.which("cat"), copy)
        if os.getuid() != 0 or not company.find("setpriv"):
            return {title: "only root can make one and be somebody else"}, {}
        os.chmod(copy, 0o4755)
        other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        # Not by a run of the copy: setpriv still may search directories then that its program may not.
        if company.run([*other, "test", "-r", harness.LIBRARY]).status != 0:
            return {title: "nobody may not read the library"}, {}
        settings = company.under("FORKSAFE_VERBOSE=1", "FORKSAFE_MODE=nonsense")
        plain = company.run([*settings, *other, shutil.which("cat"), "/proc/self/maps"])
        secure = company.run([*settings, *other, copy, "/proc/self/maps"])
        # setpriv itself is ours, and says so; before glibc 2.34 without "started", because it has no threads.
        alone = company.run([*settings, "setpriv", "--version"])
        right = "libforksafe" in plain.out and secure.status == 0 and "libforksafe" not in secure.out
        return {title: right and alone.err.count("\n") > 0 and secure.err.count("\n") == alone.err.count("\n")}, {
            "ordinary": plain, "set-user-ID": secure, "setpriv": alone}


def build_hello(directory, flag):
    """The path of a program that says hello, or None where it cannot be built or does not run."""
    source, program = os.path.join(directory, "hello.c"), os.path.join(directory, "hello")
    with open(source, "w") as text:
        text.write('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    for command in (["gcc", flag, source, "-o", program], [program]):
        try:
            if subprocess.run(command, capture_output=True).returncode != 0:
                return None
        except OSError:
            return None
    return program


def try_static():
    """A program without a loader."""
    title = "a statically linked program runs without us"
    with tempfile.TemporaryDirectory() as directory:
        program = build_hello(directory, "-static")
        if program is None:
            return {title: "no static program can be built here"}, {}
        hello = company.run([*company.under("FORKSAFE_VERBOSE=1"), program])
    return {title: hello.status == 0 and hello.out == "hello\n"}, {"static": hello}


def try_32_bit():
    """The loader of the other machine says so itself, once a program; we cannot."""
    title = "a 32-bit program that is started from ours: the loader's own line and no more"
    with tempfile.TemporaryDirectory() as directory:
        program = build_hello(directory, "-m32") if struct.calcsize("P") == 8 else None
        if program is None:
            return {title: "32-bit programs cannot be built or do not run here, or all are"}, {}
        hello = company.run([*company.under(), "sh", "-c", f"{program}; exit $?"])
        return {title: hello.status == 0 and hello.out == "hello\n" and hello.err.count("\n") == 1
                and "cannot be preloaded" in hello.err}, {"library": hello}


def try_lookup():
    """glibc before 2.34 has it in librt, which this interpreter does not load; the loader finds ours."""
    seek = ("import ctypes; create = getattr(ctypes.CDLL(None), 'timer_create', None); "
            "print(0 if create is None else create(1, None, ctypes.byref(ctypes.c_void_p())))")
    found = company.run([*company.under(), sys.executable, "-c", seek])
    return {"a function in a part of libc that nobody has loaded works when the program finds ours":
            found.status == 0 and found.out == "0\n" and found.err == ""}, {"library": found}


harness.begin(6 + 4 + 2 + 3 + 1)
check_valgrind()
check_strace()
harness.row(try_gdb, "child", "has_two_threads_count")
harness.row(try_gdb, "parent", "ended_with")
for attempt in (try_setuid, try_static, try_32_bit, try_lookup):
    harness.row(attempt)
