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
START = {"fstat", "getpid", "gettid", "prctl", "rt_sigprocmask", "rt_sigaction", "mmap", "munmap", "madvise",
         "membarrier"}
THREADS = {"futex", "clock_nanosleep", "sched_yield", "openat", "read", "close", "newfstatat", "mprotect",
           "process_vm_readv", "getrusage"}
WAITS_FOR_CHILD = {"sigaltstack", "timer_create", "timer_settime", "timer_delete", "clock_gettime",
                   "ppoll", "pselect6", "epoll_pwait", "rt_sigtimedwait", "fcntl", "getsockopt"}

# What those are called on 32 bits.
NAMES_32 = {"fstat64": "fstat", "fstatat64": "newfstatat", "mmap2": "mmap", "clock_gettime64": "clock_gettime"}

# What only a child that would hang asks.
RARE = "unshare,mremap,ppoll,pselect6,signalfd4,rt_sigtimedwait,rt_sigpending,tgkill"


def sandbox(*rules):
    return [company.SANDBOX, *rules, "--"]


def try_refused(error, calls):
    # popen of libc's cannot do without a pipe; "many" is the case that reads locks.
    case = "many" if "process_vm_readv" in calls else "plain"
    command = [*sandbox(f"{error}:{calls}"), *company.under()]
    saved = company.run([*command, company.VICTIM, "held", company.SECONDS])
    fine = company.run([*command, company.VICTIM, case])
    return {f"{error} for {calls}: the child is saved, a right program is right":
            company.right(saved) and company.right(fine) and fine.err == "" and not company.other_lines(saved)}, {
                "saved": saved, "right": fine}


def check_refused():
    for error in ("EPERM", "ENOSYS"):
        for calls in ("membarrier", "process_vm_readv", "process_vm_readv,pipe2", "unshare", "mremap", "madvise",
                      "prctl",
                      "tgkill", "ppoll", "rt_sigpending,rt_sigtimedwait", "sched_yield,clock_nanosleep,getrusage",
                      "membarrier,process_vm_readv,unshare,mremap,madvise,prctl,tgkill"):
            harness.row(try_refused, error, calls)


def try_storm(rule):
    stormy = company.run([*sandbox(rule), *company.under(), company.VICTIM, "storm", "100", company.SECONDS])
    return {f"{rule}: no child of a storm hangs": company.right(stormy)}, {"library": stormy}


def try_killed():
    plain = company.run([*sandbox(f"kill:{RARE}"), *company.under(), company.VICTIM, "plain"])
    killed = company.run([*sandbox("kill:membarrier"), *company.under(), company.VICTIM, "plain"])
    return {
        "a right program asks for nothing unusual: nobody is killed": company.right(plain),
        "(the filter does kill)": killed.status != 0,
    }, {"library": plain, "killed": killed}


def try_calls():
    """What is different in the list of system calls is in the manual."""
    title = "the system calls of a right program are those that the manual lists"
    if not company.find("strace") or company.run(["strace", "-o", "/dev/null", "true"]).status != 0:
        return {title: "strace is not installed, or may not trace here"}, {}
    used = []
    for beginning in ([], company.under()):
        with tempfile.NamedTemporaryFile("r") as trace:
            company.run(["strace", "-f", "-o", trace.name, *beginning, company.VICTIM, "plain"])
            used.append(set(re.findall(r"^\d+ +(\w+)\(", trace.read(), re.MULTILINE)))
    used[1] = {NAMES_32.get(call, call) for call in used[1]}
    extra = used[1] - used[0] - START - THREADS - WAITS_FOR_CHILD - {"execve"}
    return {title: used[0] and not extra}, {"not in the list": sorted(extra)}


def in_namespace(script, *flags):
    return ["unshare", "--mount", "--propagation", "private", *flags, "sh", "-c", script, "sh"]


def try_place(title, command, can):
    meanings = [f"{title}: {end}" for end in ("the child is saved", "no child of a storm hangs",
                                              "a right program is right")]
    if not can:
        return dict.fromkeys(meanings, "that takes root and namespaces"), {}
    saved, stormy, fine = (company.run([*command, company.VICTIM, *how]) for how in (
        ("held", company.SECONDS), ("storm", "30", company.SECONDS), ("many",)))
    return dict(zip(meanings, (
        company.right(saved) and company.takeovers(saved) == 1 and not company.other_lines(saved),
        company.right(stormy), company.right(fine) and fine.err == ""))), {
            "saved": saved, "storm": stormy, "right": fine}


def check_places():
    without_proc = in_namespace('mount -t tmpfs none /proc && exec "$@"')
    can = os.getuid() == 0 and company.find("unshare") and company.run([*without_proc, "true"]).status == 0
    harness.row(try_place, "no /proc", [*without_proc, *company.under()], can)
    harness.row(try_place, "no /proc, no unshare, no process_vm_readv",
                [*without_proc, *sandbox("EPERM:unshare,process_vm_readv"), *company.under()], can)
    init = ["unshare", "--pid", "--fork"]
    can_pid = can and company.run([*init, "true"]).status == 0
    harness.row(try_place, "the first process of a PID namespace, with the /proc of another",
                [*init, *company.under()], can_pid)
    init += ["--mount-proc"]
    can_pid = can and company.run([*init, "true"]).status == 0
    harness.row(try_place, "the first process of a PID namespace", [*init, *company.under()], can_pid)
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
        harness.row(try_place, "a chroot with neither /proc nor /dev", preload, can_chroot)


def try_address_space():
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
    return {"too little address space for us: the program runs": ran > 10 and starts > 0 and wrong is None}, {
        f"{ran} limits, {starts} of them enough; first wrong": wrong}


def try_limit(meaning, command):
    saved = company.run([*command, company.VICTIM, "held", company.SECONDS])
    return {f"{meaning}: the child is saved": company.right(saved) and company.takeovers(saved) == 1}, {
        "library": saved}


def check_limits():
    harness.row(try_address_space)
    # The loader needs a descriptor itself, so all are used up by the program.
    grabbing = ["sh", "-c", 'ulimit -n 10; exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0; exec "$@"', "sh", *company.under()]
    harness.row(try_limit, "no descriptor but one is free", grabbing)
    harness.row(try_limit, "small stacks", ["sh", "-c", 'ulimit -s 128; exec "$@"', "sh", *company.under()])


if company.run([*sandbox("EPERM:unshare"), "true"]).status != 0:
    harness.say("1..0 # SKIP there are no filters for system calls here")
    sys.exit(0)
harness.begin(2 * 12 + 3 + 2 + 1 + 5 * 3 + 3)
check_refused()
for rule in ("EPERM:membarrier", "ENOSYS:membarrier", "EPERM:membarrier,process_vm_readv,unshare"):
    harness.row(try_storm, rule)
harness.row(try_killed)
harness.row(try_calls)
check_places()
check_limits()
