#!/usr/bin/env python3
"""Which locks are left alone, in which programs the library acts, who inherits it, when its lines are in colour; and
what `forksafe status` shows."""
import os
import pty
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "python"))

import harness

FORKSAFE = os.path.abspath(os.environ["FORKSAFE"])
LIMIT = 20

# A thread holds the mutex of flush() while the process forks; the child's add() wants it. SIGALRM ends one that hangs.
PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
pthread_mutex_t journal_lock = PTHREAD_MUTEX_INITIALIZER;
static int held[2];
void *flush_journal(void *unused)
{
    pthread_mutex_lock(&journal_lock);
    if (write(held[1], "", 1) == 1)
        pause();
    return unused;
}
void add_to_journal(void)
{
    pthread_mutex_lock(&journal_lock);
    pthread_mutex_unlock(&journal_lock);
}
int main(int count, char **arguments)
{
    pthread_t thread;
    char byte;
    int status;
    if (count > 1)
        return system(arguments[1]);
    if (pipe(held) != 0 || pthread_create(&thread, NULL, flush_journal, NULL) != 0 || read(held[0], &byte, 1) != 1)
        return 9;
    pid_t child = fork();
    if (child == 0) {
        alarm(atoi(getenv("CHILD_SECONDS")));
        add_to_journal();
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 3 : WEXITSTATUS(status);
}
"""
SAVED, HUNG = 0, 3


def run(program, *arguments, hangs=False, **settings):
    environment = harness.victim_environment(True)
    environment.update(settings)
    environment["CHILD_SECONDS"] = "2" if hangs else "60"
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=LIMIT)
    return done.returncode, harness.joined(done.stderr), done.stdout


def run_on_terminal(program, **settings):
    """What it writes to a terminal."""
    master, terminal = pty.openpty()
    environment = harness.victim_environment(True)
    environment.pop("NO_COLOR", None)
    environment.update(settings, CHILD_SECONDS="60")
    subprocess.run([program], env=environment, stderr=terminal, timeout=LIMIT)
    os.close(terminal)
    text = b""
    try:
        while part := os.read(master, 1 << 16):  # the kernel may bring it in parts
            text += part
    except OSError:  # there is no more
        pass
    os.close(master)
    return text.decode(errors="replace")


def check(folder):
    program, link = os.path.join(folder, "journal"), os.path.join(folder, "other")
    with open(program + ".c", "w") as source:
        source.write(PROGRAM)
    compiler = (os.environ.get("CC") or "cc").split()
    subprocess.run([*compiler, "-pthread", "-rdynamic", "-fno-inline", program + ".c", "-o", program], check=True)
    os.symlink(program, link)

    status, said, _ = run(program)
    harness.ok(status == SAVED and "took over mutex" in said, "no policy: the child is saved")
    colored = "\033[1mforksafe["
    harness.ok("\033" not in said, "no colour in a pipe")
    said = run_on_terminal(program, TERM="xterm")
    harness.ok(said.startswith(colored) and said.count("\033") == 4, "colour on a terminal")
    for settings in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}):
        said = run_on_terminal(program, **settings)
        harness.ok("took over" in said and "\033" not in said, f"no colour with {settings}")

    for setting, pattern, expected, why in (
            ("FORKSAFE_EXCLUDE", "journal", HUNG, "FORKSAFE_EXCLUDE names it"),
            ("FORKSAFE_EXCLUDE", "x,journal_l?ck", HUNG, "FORKSAFE_EXCLUDE names it"),
            ("FORKSAFE_EXCLUDE", "flush_*", HUNG, "FORKSAFE_EXCLUDE names it"),
            ("FORKSAFE_EXCLUDE", "*_to_*", HUNG, "FORKSAFE_EXCLUDE names it"),
            ("FORKSAFE_EXCLUDE", "journa,ournal,journal?,libc*", SAVED, None),
            ("FORKSAFE_ONLY", "libother*", HUNG, "FORKSAFE_ONLY does not name it"),
            ("FORKSAFE_ONLY", "a:b:jour*", SAVED, None)):
        status, said, _ = run(program, hangs=expected == HUNG, **{setting: pattern})
        told = f"not taken over because {why}" in said if why else "took over mutex" in said
        if not harness.ok(status == expected and told, f"{setting}={pattern}: {why or 'it is taken over'}"):
            harness.note(f"{status}: {said}")
    status, said, _ = run(program, hangs=True, FORKSAFE_EXCLUDE="journal", FORKSAFE_MODE="abort")
    harness.ok(status == HUNG, "what is excluded does not abort")

    for pattern, expected in (("journal", SAVED), ("jour*,x", SAVED), ("x,y", HUNG), ("other", HUNG)):
        status, said, _ = run(program, hangs=expected == HUNG, FORKSAFE_PROGRAMS=pattern)
        harness.ok(status == expected and (said != "") == (expected == SAVED), f"FORKSAFE_PROGRAMS={pattern}")
    status, _, _ = run(link, FORKSAFE_PROGRAMS="other")
    harness.ok(status == SAVED, "FORKSAFE_PROGRAMS: the name by which it is started")

    show = "printf %s \"$LD_PRELOAD\""
    _, _, shown = run(program, show)
    harness.ok(shown == harness.LIBRARY, "what a program starts inherits the library")
    _, _, shown = run(program, show, FORKSAFE_INHERIT="0")
    harness.ok(shown == "", "FORKSAFE_INHERIT=0: it does not")
    for before, after in (("{}:/lib/a.so", "/lib/a.so"), ("/lib/a.so:{}", "/lib/a.so:"), ("/lib/a.so {} /lib/b.so",
                          "/lib/a.so /lib/b.so")):
        _, _, shown = run(program, show, FORKSAFE_INHERIT="0", LD_PRELOAD=before.format(harness.LIBRARY))
        harness.ok(shown == after, f"... and others stay: {after}")

    environment = harness.victim_environment(True)
    environment["FORKSAFE_MODE"] = "report"
    # Not by sh: before glibc 2.34 it has no threads, and no need of the library.
    stays = "print(flush=True); input()"
    for script, forks in ((stays, "0 forks"), (f"import os; os.fork() or os._exit(0); os.wait(); {stays}", "1 forks")):
        sleeper = subprocess.Popen([harness.PYTHON3, "-c", script], env=environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        sleeper.stdout.readline()
        listed = subprocess.run([FORKSAFE, "status"], capture_output=True, text=True, timeout=60)
        lines = [line.split("\t") for line in listed.stdout.splitlines()]
        mine = [line for line in lines if line[0] == str(sleeper.pid)]
        harness.ok(listed.returncode == 0 and len(mine) == 1, "status lists a process that has the library")
        harness.ok(mine and mine[0][1] == "report" and mine[0][2].startswith(f"{forks}, 0 waited") and
                   mine[0][3].startswith("python"), f"... its mode, totals ({forks}), command")
        sleeper.stdin.close()
        sleeper.wait()
    listed = subprocess.run([FORKSAFE, "status"], capture_output=True, text=True, timeout=60)
    harness.ok(f"{sleeper.pid}\t" not in listed.stdout, "... and not when it is gone")


harness.begin(28)
with tempfile.TemporaryDirectory() as folder:
    check(folder)
