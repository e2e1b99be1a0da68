"""What the tests of company and of surroundings share: the victim, and what may be on its stderr.

TESTS_BUILT is the directory in which make built the victims; the rest is the Python tests' harness.
"""

# Measured:
# Run beside themselves bare, with a small load, Debian 12's, no difference and no line: uwsgi, php-fpm, nginx,
# apache2 (prefork, event with cgid), lighttpd, haproxy, squid, unicorn, puma (preload, fork_worker), celery, redis-
# server (115 forks under load), postgres, mariadbd, sshd and ssh, smbd, exim4, dovecot, rsyslogd, syslog-ng,
# collectd, named, unbound, slapd, tor (Sandbox 1), memcached, Java (FORK, VFORK, POSIX_SPAWN), nodejs, Erlang, Go
# with cgo, R (mclapply), emacs, vim, tmux, apt, dpkg, git, bubblewrap, socket_wrapper and its family, torsocks,
# fakechroot. Hang bare and go on: celery with a thread that logs, a ProcessPoolExecutor and a Pool beside one,
# gevent.fork beside a thread pool, uwsgi with fork hooks beside one.
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "python"))

import harness

BUILT = os.path.abspath(os.environ.get("TESTS_BUILT") or "tests")
VICTIM = os.path.join(BUILT, "company", "victim")
SANDBOX = os.path.join(BUILT, "surroundings", "sandbox")
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "victim.c")
PYTHON_VICTIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "victim.py")

BARE_SECONDS = f"{max(1, round(harness.HANG_SECONDS))}"
SECONDS = f"{round(60 * harness.SLOWNESS)}"
LIMIT = 120

TAKEOVER = re.compile(r"forksafe\[\d+\.\d+\] child took over ")


def under(*settings, preload=harness.LIBRARY):
    """The beginning of a command that starts the rest under the library."""
    return ["env", f"LD_PRELOAD={preload}", *settings]


def run(command, seconds=LIMIT, stdout=None):
    """Runs a command, which starts the victim under the library or does not."""
    return harness.run(command, False, seconds, stdout)


def right(outcome):
    return outcome.status == 0 and not outcome.timed_out and "WRONG" not in outcome.out


def other_lines(outcome):
    """What is on stderr beyond the lines about takeovers."""
    return [line for line in outcome.err.splitlines() if not TAKEOVER.match(line)]


def takeovers(outcome):
    return len(outcome.err.splitlines()) - len(other_lines(outcome))


def find(*paths):
    """The first of the files or commands that is there, or None."""
    for path in paths:
        if os.path.isabs(path) and os.path.exists(path):
            return path
        if not os.path.isabs(path) and shutil.which(path):
            return shutil.which(path)
    return None


def try_pair(name, bare, library, victim=VICTIM, storms=30, blocks=1, same_err=True):
    """Four points: the two commands, one without and one with us, begin what the victim is put behind.

    A child that hangs in the company alone is saved in ours as well, with one line; a storm hangs nobody, because the
    drain has let the threads out before the fork, and seldom takes a lock over; a program that is right alone is right
    with us, and stderr is what it is alone, but for takeovers. """
    hung = run([*bare, victim, "held", BARE_SECONDS])
    saved = run([*library, victim, "held", SECONDS])
    points = {
        f"{name}: the child hangs bare and is saved, in one line":
        "child: WRONG" in hung.out and right(saved) and takeovers(saved) == 1 and
        (not same_err or other_lines(saved) == hung.err.splitlines()),
    }
    shown = {"bare": hung, "library": saved}
    calm = f"{name}: no child of a storm hangs, few need help"
    if storms:
        stormy = shown["storm"] = run([*library, victim, "storm", f"{storms}", SECONDS, f"{blocks}"])
        points[calm] = right(stormy) and takeovers(stormy) < storms / 2
    else:
        points[calm] = "spin locks inside it are not seen"
    for case in ("plain", "many"):
        alone = shown[f"{case}, bare"] = run([*bare, victim, case])
        together = shown[case] = run([*library, victim, case])
        points[f"{name}: a program that is right ({case}) is the same"] = \
            right(alone) and right(together) and together.out == alone.out and \
            (not same_err or together.err == alone.err)
    return points, shown
