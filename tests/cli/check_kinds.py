#!/usr/bin/env python3
"""`forksafe check` of children that hang, with no library in them, and of their parents: the lock's kind, and the
function of who has it; and of processes that wait for other things, or for no fork's sake."""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "python"))

import harness

FORKSAFE = os.path.abspath(os.environ["FORKSAFE"])

PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static const char *kind;
static int held[2], never[2];
static void take(int first)
{
    if (strcmp(kind, "mutex") == 0)
        pthread_mutex_lock(&mutex);
    else if (strcmp(kind, "recursive") == 0)
        pthread_mutex_lock(&recursive);
    else if (strcmp(kind, "rwlock written") == 0 || !first)
        strcmp(kind, "semaphore") == 0 ? sem_wait(&semaphore) : pthread_rwlock_wrlock(&rwlock);
    else
        strcmp(kind, "semaphore") == 0 ? sem_wait(&semaphore) : pthread_rwlock_rdlock(&rwlock);
}
void *hold_for_long(void *unused)
{
    char byte;
    take(1);
    if (write(held[1], "", 1) == 1 && read(never[0], &byte, 1) == 1)
        return NULL;
    return unused;
}
void want_it(void)
{
    take(0);
}
int main(int count, char **arguments)
{
    pthread_t thread;
    char byte;
    kind = arguments[count - 1];
    if (strcmp(kind, "exit") == 0)
        return 7;
    sem_init(&semaphore, 0, 1);
    if (pipe(held) != 0 || pipe(never) != 0 || pthread_create(&thread, NULL, hold_for_long, NULL) != 0 ||
        read(held[0], &byte, 1) != 1)
        return 9;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        want_it();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return 0;
}
"""
PYTHON = """
import ctypes, os, signal, sys, threading
lock = getattr(threading, sys.argv[1])()
held = threading.Event()

def hold_for_long():
    with lock:
        held.set()
        threading.Event().wait()

def want_it():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    with lock:
        os._exit(0)

threading.Thread(target=hold_for_long).start()
held.wait()
if os.fork() == 0:
    want_it()
os.wait()
"""
PYTHON_EVENT = """
import ctypes, os, signal, threading
event = threading.Event()
threading.Thread(target=threading.Event().wait, daemon=True).start()
if os.fork() == 0:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    print("ready", flush=True)
    event.wait()
os.wait()
"""
NOTIFIED = ("yes", r"Python's Condition .*\n    this process has one thread: nobody here can notify it\nhangs")
KINDS = {"mutex": r"waits for mutex 0x[0-9a-f]+ \(normal\)",
         "recursive": r"waits for mutex 0x[0-9a-f]+ \(recursive\)",
         "rwlock written": r"waits for rwlock 0x[0-9a-f]+ \(\d+ readers, written\)",
         "rwlock read": r"waits for rwlock 0x[0-9a-f]+ \(1 readers\)",
         "semaphore": r"waits for semaphore 0x[0-9a-f]+"}
PYTHON_KINDS = {"Lock": r"waits for semaphore 0x[0-9a-f]+: Python's Lock",
                "RLock": r"waits for semaphore 0x[0-9a-f]+: Python's RLock"}


# The first process that unshare makes there does not take SIGALRM, but dies with it.
APART = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]


def check(victim, kind, lock, at, apart=False):
    """`at`: a pattern of what follows a function's name, up to the first digit of its line in Python."""
    try:
        if apart:
            harness.wait_until(lambda: harness.children_of(victim.pid), 30)
        first = harness.children_of(victim.pid)[0] if apart else victim.pid
        harness.wait_until(lambda: any(harness.sleeps_in_futex(pid) for pid in harness.children_of(first)), 30)
        child = harness.children_of(first)[0]
        said = subprocess.run([FORKSAFE, "check", str(child)], capture_output=True, text=True, timeout=120)
        passed = harness.ok(re.search(lock, said.stdout) is not None, f"{kind}: the lock")
        waits, _, holder = said.stdout.partition("held")
        passed &= harness.ok(re.search("want_it" + at, waits) is not None, f"{kind}: the child's function")
        passed &= harness.ok(re.search("hold_for_long" + at, holder) is not None, f"{kind}: the holder's function")
        because = said.returncode == 0 and said.stdout.endswith("hangs because of a fork: yes\n")
        passed &= harness.ok(because, f"{kind}: the cause")
        parents = subprocess.run([FORKSAFE, "check", str(first)], capture_output=True, text=True, timeout=120)
        same = parents.returncode == 0 and parents.stdout.endswith(f"fork: yes (process {child})\n")
        passed &= harness.ok(same and re.search(lock, parents.stdout) is not None, f"{kind}: asked about the parent")
        if not passed:
            harness.note(said.stdout + said.stderr + parents.stdout + parents.stderr)
    finally:
        harness.end(victim)
        harness.end_strays()


# Each child waits for what no lock stands for, or has no vanished thread to wait for.
OTHER_PROGRAM = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile int flag;
static int pipes[2], held_by[2];
void *idle(void *unused)
{
    for (;;)
        pause();
    return unused;
}
static pthread_mutex_t of_thread = PTHREAD_MUTEX_INITIALIZER;
void *hold_for_long(void *bell)
{
    pthread_mutex_lock(&of_thread);
    write(*(int *)bell, "", 1);
    return idle(NULL);
}
void handle(int signal)
{
}
void want_it(const char *kind)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    struct timespec late = {.tv_sec = time(NULL) + 1000};
    char byte;
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&mutex);
    if (strcmp(kind, "mutex of a thread of its own") == 0) {
        pthread_t thread;
        int bell[2];
        if (pipe(bell) != 0 || pthread_create(&thread, NULL, hold_for_long, &bell[1]) != 0 ||
            read(bell[0], &byte, 1) != 1)
            _exit(9);
    }
    write(1, "ready\n", 6);
    if (strcmp(kind, "condition") == 0 || strcmp(kind, "condition without a fork") == 0)
        pthread_cond_wait(&condition, &mutex);
    else if (strcmp(kind, "condition with a limit") == 0)
        pthread_cond_timedwait(&condition, &mutex, &late);
    else if (strncmp(kind, "semaphore", 9) == 0)
        sem_wait(&semaphore);
    else if (strcmp(kind, "mutex of a thread of its own") == 0)
        pthread_mutex_lock(&of_thread);
    else if (strcmp(kind, "epoll of its own pipe") == 0) {
        struct epoll_event event = {.events = EPOLLIN};
        int epoll = epoll_create1(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event);
        if (epoll_wait(epoll, &event, 1, -1) < 0) /* the stop that reads a stack would interrupt it */
            _exit(9);
    } else if (strncmp(kind, "epoll", 5) == 0) { /* as asyncio waits for a thread of an executor */
        struct epoll_event event = {.events = EPOLLIN};
        int epoll = epoll_create1(0);
        if (strstr(kind, "parent's") == NULL)
            socketpair(AF_UNIX, SOCK_STREAM, 0, pipes);
        if (strstr(kind, "handler") != NULL)
            signal(SIGUSR1, handle);
        epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event);
        if (epoll_wait(epoll, &event, 1, -1) < 0)
            _exit(9);
    } else if (strncmp(kind, "pipe", 4) == 0)
        read(pipes[0], &byte, 1);
    else
        while (!flag)
            sleep(1000);
}
int main(int count, char **arguments)
{
    pthread_t thread;
    char byte;
    const char *kind = arguments[count - 1];
    if (strcmp(kind, "semaphore without a fork") == 0)
        want_it(kind);
    if (strcmp(kind, "condition without a fork") == 0 && pthread_create(&thread, NULL, idle, NULL) == 0)
        want_it(kind);
    if (pipe(pipes) != 0 || pipe(held_by) != 0)
        return 9;
    if (strcmp(kind, "epoll of sockets of its parent's") == 0)
        socketpair(AF_UNIX, SOCK_STREAM, 0, pipes);
    if (strcmp(kind, "flag without threads") != 0 && pthread_create(&thread, NULL, idle, NULL) != 0)
        return 9;
    pid_t other = strcmp(kind, "pipe of another's") == 0 ? fork() : -1;
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(held_by[1]);
        return (int)read(held_by[0], &byte, 1);
    }
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        want_it(kind);
        _exit(0);
    }
    if (strcmp(kind, "pipe of the parent's") != 0)
        close(pipes[1]);
    waitpid(child, NULL, 0);
    return 0;
}
"""
# What the last line says, and a pattern of what comes before it.
OTHERS = {"flag": ("cannot tell", "waits for no lock, is in:"), "flag without threads": ("no", "waits for no lock\n"),
          "condition": ("yes", "nobody here can signal it\n"), "condition with a limit": ("cannot tell", "has a limit"),
          "pipe of its own": ("yes", r"pipe:\[\d+\]; writers: this process\n.*nobody can write"),
          "epoll of its own pipe": ("yes", r"is in system call \w+\n *waits for data in pipe:.*nobody can write"),
          "epoll of its own sockets": ("yes", r"system call epoll_p?wait\n *waits for data that.*nobody can write"),
          "epoll of its own sockets, with a handler": ("cannot tell", "nobody can write, unless a signal handler does"),
          "epoll of sockets of its parent's": ("cannot tell", r"is in system call epoll_p?wait\nhangs"),
          "pipe of the parent's": ("cannot tell", r"writers: this process, \d+\n"),
          "pipe of another's": ("no", r"writers: this process, \d+\n"),
          "mutex of a thread of its own": ("no", r"held by thread \d+ .* of the same process:\n *\S.*hold_for_long"),
          "semaphore without a fork": ("no", "executed a program since"),
          "condition without a fork": ("no", r"signal on the condition variable .*executed a program since")}

ASKED = 1 + sum(verdict == "yes" for verdict, _ in OTHERS.values())


def check_other(program, kind, verdict, before, apart=()):
    victim = harness.start([*apart, program, kind], False, stdout=subprocess.PIPE)
    try:
        victim.stdout.readline()
        first = harness.children_of(victim.pid)[0] if apart else victim.pid
        child = first if kind.endswith("without a fork") else harness.children_of(first)[-1]
        harness.wait_until(lambda: harness.call_of(child) not in ("running", "1", "64"), 30)
        said = subprocess.run([FORKSAFE, "check", str(child)], capture_output=True, text=True, timeout=120)
        last = f"hangs because of a fork: {verdict}\n"
        passed = harness.ok(said.stdout.endswith(last) and re.search(before, said.stdout, re.DOTALL) is not None and
                            said.returncode == ["yes", "no", "cannot tell"].index(verdict),
                            f"{kind}{', in a namespace' if apart else ''}: {verdict}")
        if not passed:
            harness.note(said.stdout + said.stderr)
        harness.ok(harness.call_of(child) != "", f"{kind}: goes on")
        if verdict == "yes":
            said = subprocess.run([FORKSAFE, "check", str(first)], capture_output=True, text=True, timeout=120)
            harness.ok(said.stdout.endswith(f"fork: yes (process {child})\n"), f"{kind}: asked about the parent")
    finally:
        harness.end(victim)
        harness.end_strays()


def build(folder, name, *flags, source="victim.c"):
    compiler = (os.environ.get("CC") or "cc").split()
    command = [*compiler, "-g", "-O1", "-pthread", *flags, source, "-o", name]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def has_small(folder):
    """Whether 32-bit programs can be built and run here, among others."""
    small = os.path.join(folder, "small")
    try:
        return (struct.calcsize("P") == 8 and harness.FUTEX is not None and build(folder, "small", "-m32") and
                subprocess.run([small, "exit"]).returncode == 7)
    except OSError:
        return False


with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "victim.c"), "w") as source:
        source.write(PROGRAM)
    small = has_small(folder)
    with open(os.path.join(folder, "other.c"), "w") as source:
        source.write(OTHER_PROGRAM)
    apart = harness.FUTEX is not None and shutil.which("unshare") is not None and subprocess.run(
        [*APART, "true"], capture_output=True).returncode == 0
    harness.begin((12 if apart else 1) + 2 * (len(OTHERS) + 1) + ASKED + 5 * (len(KINDS) + len(PYTHON_KINDS)) +
                  (5 * len(KINDS) if small else 1))
    if not build(folder, "victim") or not build(folder, "other", source="other.c"):
        raise SystemExit("the victim could not be built")
    with open(os.path.join(folder, "victim.py"), "w") as source:
        source.write(PYTHON)
    for kind, lock in (KINDS | PYTHON_KINDS).items():
        if harness.FUTEX is None:
            for part in ("lock", "child", "holder", "cause", "parent"):
                harness.skip(f"{kind}: {part}", "the number of futex(2) is not known here")
        elif kind in KINDS:
            check(harness.start([os.path.join(folder, "victim"), kind], False), kind, lock, " at ")
        else:
            python = [harness.PYTHON3, "-W", "ignore", os.path.join(folder, "victim.py"), kind]
            check(harness.start(python, False), kind, lock, r"\(\) at \S+:[1-9]")
    for kind, lock in KINDS.items() if small else ():
        check(harness.start([os.path.join(folder, "small"), kind], False), f"32 bits, {kind}", lock, " at ")
    if not small:
        harness.skip("32-bit processes", "such programs cannot be built or do not run here, or all are")
    event = os.path.join(folder, "event.py")
    with open(event, "w") as source:
        source.write(f"#!{harness.PYTHON3} -Wignore{PYTHON_EVENT}")
    os.chmod(event, 0o755)
    for kind, (verdict, before) in (OTHERS | {"Event": NOTIFIED}).items():
        if harness.FUTEX is None:
            for part in ("verdict", "goes on", "parent")[:3 if verdict == "yes" else 2]:
                harness.skip(f"{kind}: {part}", "the number of futex(2) is not known here")
        else:
            check_other(event if kind == "Event" else os.path.join(folder, "other"), kind, verdict, before)
    if apart:
        own = "mutex of a thread of its own"
        check_other(os.path.join(folder, "other"), own, *OTHERS[own], APART)
        check(harness.start([*APART, os.path.join(folder, "victim"), "mutex"], False), "mutex, in a namespace",
              KINDS["mutex"], " at ", True)
        python = [*APART, harness.PYTHON3, "-W", "ignore", os.path.join(folder, "victim.py"), "RLock"]
        check(harness.start(python, False), "RLock, in a namespace", PYTHON_KINDS["RLock"], r"\(\) at \S+:[1-9]",
              True)
    else:
        harness.skip("processes in a namespace", "no namespace can be made here")
