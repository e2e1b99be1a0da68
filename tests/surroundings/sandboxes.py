#!/usr/bin/env python3
"""Where the kernel refuses what we ask, or kills who asks, and where /proc is missing: the same promises."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "company"))

import company
import harness

# What libforksafe(7) says that we ask of the kernel in a program that is right.
START = {"fstat", "getpid", "gettid", "prctl", "rt_sigprocmask", "mmap", "munmap", "madvise", "membarrier"}
THREADS = {"futex", "clock_nanosleep", "sched_yield", "openat", "read", "close", "newfstatat", "mprotect",
           "process_vm_readv", "getrusage"}
WAITS_FOR_CHILD = {"sigaltstack", "timer_create", "timer_settime", "timer_delete", "rt_sigaction", "clock_gettime",
                   "ppoll", "pselect6", "epoll_pwait", "rt_sigtimedwait", "fcntl", "getsockopt"}

# What those are called on 32 bits.
NAMES_32 = {"fstat64": "fstat", "fstatat64": "newfstatat", "mmap2": "mmap", "clock_gettime64": "clock_gettime"}

# What only a child that would hang asks.
RARE = "unshare,mremap,ppoll,pselect6,signalfd4,rt_sigtimedwait,rt_sigpending,tgkill"


def sandbox(*rules):
    return [company.SANDBOX, *rules, "--"]


def check_refused():
    for error in ("EPERM", "ENOSYS"):
        for calls in ("membarrier", "process_vm_readv", "process_vm_readv,pipe2", "unshare", "mremap", "madvise",
                      "prctl",
                      "tgkill", "ppoll", "rt_sigpending,rt_sigtimedwait", "sched_yield,clock_nanosleep,getrusage",
                      "membarrier,process_vm_readv,unshare,mremap,madvise,prctl,tgkill"):
            # popen of libc's cannot do without a pipe; "many" is the case that reads locks.
            case = "many" if "process_vm_readv" in calls else "plain"
            command = [*sandbox(f"{error}:{calls}"), *company.under()]
            saved = company.run([*command, company.VICTIM, "held", company.SECONDS])
            fine = company.run([*command, company.VICTIM, case])
            company.ok(company.right(saved) and company.right(fine) and fine.err == ""
                       and not company.other_lines(saved),
                       f"{error} for {calls}: the child is saved, a right program is right", saved=saved, right=fine)


def check_storms():
    for rule in ("EPERM:membarrier", "ENOSYS:membarrier", "EPERM:membarrier,process_vm_readv,unshare"):
        stormy = company.run([*sandbox(rule), *company.under(), company.VICTIM, "storm", "100", company.SECONDS])
        company.ok(company.right(stormy), f"{rule}: no child of a storm hangs", library=stormy)


def check_killed():
    plain = company.run([*sandbox(f"kill:{RARE}"), *company.under(), company.VICTIM, "plain"])
    company.ok(company.right(plain), "a right program asks for nothing unusual: nobody is killed", library=plain)
    killed = company.run([*sandbox("kill:membarrier"), *company.under(), company.VICTIM, "plain"])
    company.ok(killed.status != 0, "(the filter does kill)", library=killed)


def check_calls():
    """What is different in the list of system calls is in the manual."""
    title = "the system calls of a right program are those that the manual lists"
    if not company.find("strace") or company.run(["strace", "-o", "/dev/null", "true"]).status != 0:
        harness.skip(title, "strace is not installed, or may not trace here")
        return
    used = []
    for beginning in ([], company.under()):
        with tempfile.NamedTemporaryFile("r") as trace:
            company.run(["strace", "-f", "-o", trace.name, *beginning, company.VICTIM, "plain"])
            used.append(set(re.findall(r"^\d+ +(\w+)\(", trace.read(), re.MULTILINE)))
    used[1] = {NAMES_32.get(call, call) for call in used[1]}
    extra = used[1] - used[0] - START - THREADS - WAITS_FOR_CHILD - {"execve"}
    if not harness.ok(used[0] and not extra, title):
        harness.note(f"not in the list: {sorted(extra)}")


def in_namespace(script, *flags):
    return ["unshare", "--mount", "--propagation", "private", *flags, "sh", "-c", script, "sh"]


def check_place(title, command, can):
    if not can:
        for _ in range(3):
            harness.skip(title, "that takes root and namespaces")
        return
    saved = company.run([*command, company.VICTIM, "held", company.SECONDS])
    company.ok(company.right(saved) and company.takeovers(saved) == 1 and not company.other_lines(saved),
               f"{title}: the child is saved", library=saved)
    stormy = company.run([*command, company.VICTIM, "storm", "30", company.SECONDS])
    company.ok(company.right(stormy), f"{title}: no child of a storm hangs", library=stormy)
    fine = company.run([*command, company.VICTIM, "many"])
    company.ok(company.right(fine) and fine.err == "", f"{title}: a right program is right", library=fine)


def check_places():
    without_proc = in_namespace('mount -t tmpfs none /proc && exec "$@"')
    can = os.getuid() == 0 and company.find("unshare") and company.run([*without_proc, "true"]).status == 0
    check_place("no /proc", [*without_proc, *company.under()], can)
    check_place("no /proc, no unshare, no process_vm_readv",
                [*without_proc, *sandbox("EPERM:unshare,process_vm_readv"), *company.under()], can)
    init = ["unshare", "--pid", "--fork"]
    can_pid = can and company.run([*init, "true"]).status == 0
    check_place("the first process of a PID namespace, with the /proc of another",
                [*init, *company.under()], can_pid)
    init += ["--mount-proc"]
    can_pid = can and company.run([*init, "true"]).status == 0
    check_place("the first process of a PID namespace", [*init, *company.under()], can_pid)
    with tempfile.TemporaryDirectory() as root:
        files = [company.VICTIM, harness.LIBRARY]
        loaded = subprocess.run(["ldd", company.VICTIM], capture_output=True, text=True).stdout
        for path in files + re.findall(r"(/\S+) \(", loaded):
            os.makedirs(root + os.path.dirname(path), exist_ok=True)
            shutil.copy(path, root + path)
        jail = ["chroot", root]
        can_chroot = os.getuid() == 0 and company.run([*jail, company.VICTIM, "many"]).status == 0
        preload = [sys.executable, "-c",
                   "import os, sys; os.environ['LD_PRELOAD'] = sys.argv[1]; os.chroot(sys.argv[2]);"
                   " os.chdir('/'); os.execv(sys.argv[3], sys.argv[3:])", harness.LIBRARY, root]
        check_place("a chroot with neither /proc nor /dev", preload, can_chroot)


def check_limits():
    """Address space: whatever there is too little for, the program runs as it would without us."""
    wrong = None
    starts = ran = 0
    for kilobytes in range(2400, 6000, 36):
        limit = ["sh", "-c", f'ulimit -v {kilobytes}; exec "$@"', "sh"]
        bare = company.run([*limit, "/usr/bin/env", company.VICTIM, "many"])
        if bare.status != 0:
            continue
        ran += 1
        together = company.run([*limit, "/usr/bin/env", f"LD_PRELOAD={harness.LIBRARY}", company.VICTIM, "many"])
        # The loader maps us before the program's own libraries: when there is no room for those, it gives up itself.
        if together.status == 127 and together.out == "" and not re.search("^forksafe", together.err, re.MULTILINE):
            continue
        odd = [line for line in together.err.splitlines() if "cannot be preloaded" not in line and
               "runs unprotected" not in line]
        starts += together.err == ""
        if (together.status, together.out) != (bare.status, bare.out) or odd or together.err.count("\n") > 2:
            wrong = wrong or (kilobytes, together)
    if not harness.ok(ran > 10 and starts > 0 and wrong is None, "too little address space for us: the program runs"):
        harness.note(f"{ran} limits, {starts} of them enough; first wrong: {wrong}")
    files = ["sh", "-c", 'ulimit -n 3; exec "$@"', "sh", "/usr/bin/env", f"LD_PRELOAD={harness.LIBRARY}"]
    # The loader needs a descriptor itself, so all are used up by the program.
    grabbing = ["sh", "-c", 'ulimit -n 10; exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0; exec "$@"', "sh", *files[4:]]
    saved = company.run([*grabbing, company.VICTIM, "held", company.SECONDS])
    company.ok(company.right(saved) and company.takeovers(saved) == 1,
               "no descriptor but one is free: the child is saved",
               library=saved)
    stack = ["sh", "-c", 'ulimit -s 128; exec "$@"', "sh", *company.under()]
    saved = company.run([*stack, company.VICTIM, "held", company.SECONDS])
    company.ok(company.right(saved) and company.takeovers(saved) == 1, "small stacks: the child is saved",
               library=saved)


if company.run([*sandbox("EPERM:unshare"), "true"]).status != 0:
    harness.say("1..0 # SKIP there are no filters for system calls here")
    sys.exit(0)
harness.begin(2 * 12 + 3 + 2 + 1 + 5 * 3 + 3)
check_refused()
check_storms()
check_killed()
check_calls()
check_places()
check_limits()
