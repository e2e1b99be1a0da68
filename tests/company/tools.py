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


def check_valgrind():
    command = ["valgrind", "-q"]
    title = "valgrind"
    if not company.find("valgrind"):
        for _ in range(6):
            harness.skip(title, "valgrind is not installed")
        return
    company.check_pair(title, command, [*company.under(), *command], storms=5)
    for tool in ("helgrind", "drd"):
        checked = company.run([*company.under(), "valgrind", "-q", f"--tool={tool}", company.VICTIM, "plain"])
        lines = [line for line in checked.err.splitlines() if not line.endswith(ASIDE)]
        company.ok(company.right(checked) and not lines and ASIDE in checked.err,
                   f"valgrind --tool={tool}: we step aside, in one line", library=checked)


def check_strace():
    if not company.find("strace") or company.run(["strace", "-o", "/dev/null", "true"]).status != 0:
        for _ in range(4):
            harness.skip("strace -f", "strace is not installed, or may not trace here")
        return
    command = ["strace", "-f", "-o", "/dev/null"]
    company.check_pair("strace -f", command, [*command, *company.under()])


def check_gdb(follow, function):
    title = f"gdb, which follows the {follow} of a fork"
    if not company.find("gdb"):
        harness.skip(title, "gdb is not installed")
        return
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
            harness.skip(title, "gdb may not trace here")
            return
        company.ok("hit Breakpoint" in seen.out and "child: right" in seen.out and "WRONG" not in seen.out and
                   company.takeovers(seen) == 1, title, gdb=seen)


def check_setuid():
    """A set-user-ID program drops LD_PRELOAD, and with it us: not a word."""
    title = "a set-user-ID program is not for us"
    # Not in /tmp, which may be mounted nosuid.
    with tempfile.TemporaryDirectory(dir=company.BUILT) as directory:
        copy = os.path.join(directory, "cat")
        os.chmod(directory, 0o755)
        shutil.copy(shutil.which("cat"), copy)
        if os.getuid() != 0 or not company.find("setpriv"):
            harness.skip(title, "only root can make one and be somebody else")
            return
        os.chmod(copy, 0o4755)
        other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        # Not by a run of the copy: setpriv still may search directories then that its program may not.
        if company.run([*other, "test", "-r", harness.LIBRARY]).status != 0:
            harness.skip(title, "nobody may not read the library")
            return
        settings = company.under("FORKSAFE_VERBOSE=1", "FORKSAFE_MODE=nonsense")
        plain = company.run([*settings, *other, shutil.which("cat"), "/proc/self/maps"])
        secure = company.run([*settings, *other, copy, "/proc/self/maps"])
        # setpriv itself is ours, and says so; before glibc 2.34 without "started", because it has no threads.
        alone = company.run([*settings, "setpriv", "--version"])
        company.ok("libforksafe" in plain.out and secure.status == 0 and "libforksafe" not in secure.out and
                   alone.err.count("\n") > 0 and secure.err.count("\n") == alone.err.count("\n"), title,
                   ordinary=plain, set_user_id=secure, setpriv=alone)


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


def check_static():
    """A program without a loader."""
    title = "a statically linked program runs without us"
    with tempfile.TemporaryDirectory() as directory:
        program = build_hello(directory, "-static")
        if program is None:
            harness.skip(title, "no static program can be built here")
            return
        hello = company.run([*company.under("FORKSAFE_VERBOSE=1"), program])
    company.ok(hello.status == 0 and hello.out == "hello\n", title, static=hello)


def check_32_bit():
    """The loader of the other machine says so itself, once a program; we cannot."""
    title = "a 32-bit program that is started from ours: the loader's own line and no more"
    with tempfile.TemporaryDirectory() as directory:
        program = build_hello(directory, "-m32") if struct.calcsize("P") == 8 else None
        if program is None:
            harness.skip(title, "32-bit programs cannot be built or do not run here, or all are")
            return
        hello = company.run([*company.under(), "sh", "-c", f"{program}; exit $?"])
        lines = hello.err.splitlines()
        company.ok(hello.status == 0 and hello.out == "hello\n" and len(lines) == 1
                   and "cannot be preloaded" in lines[0],
                   title, library=hello)


def check_lookup():
    """glibc before 2.34 has it in librt, which this interpreter does not load; the loader finds ours."""
    seek = ("import ctypes; create = getattr(ctypes.CDLL(None), 'timer_create', None); "
            "print(0 if create is None else create(1, None, ctypes.byref(ctypes.c_void_p())))")
    found = company.run([*company.under(), sys.executable, "-c", seek])
    company.ok(found.status == 0 and found.out == "0\n" and found.err == "",
               "a function in a part of libc that nobody has loaded works when the program finds ours", library=found)


harness.begin(6 + 4 + 2 + 3 + 1)
check_valgrind()
check_strace()
check_gdb("child", "has_two_threads_count")
check_gdb("parent", "ended_with")
check_setuid()
check_static()
check_32_bit()
check_lookup()
