#!/usr/bin/env python3
"""Real daemons: every message that the parent's threads and 1,000 children send arrives, once.

Each of rsyslogd and busybox's syslogd that is installed runs on a /dev/log that only this test sees. Bare, the same
storm must hang children, or it proves nothing. Under the library it is run with the drain, so that children log through
libc, and without, so that they log through the client.
"""
import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

STORM = os.path.abspath(os.environ.get("LOGGER_STORM") or "tests/logger/storm")
CHILDREN = int(os.environ.get("FORKSAFE_TEST_LOGGERS") or 1000)
BARE_STORMS, BARE_CHILDREN = 3, 300

if __name__ == "__main__" and "private" not in sys.argv[1:]:
    done = subprocess.run([STORM, "--private", sys.executable, os.path.abspath(__file__), "private"])
    if done.returncode == 77:
        print("1..0 # SKIP no /dev of our own here")
        sys.exit(0)
    sys.exit(done.returncode)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "python"))
import harness  # noqa: E402


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")


def rsyslogd(folder, log):
    config = os.path.join(folder, "rsyslog.conf")
    with open(config, "w") as file:
        file.write(f'global(workDirectory="{folder}")\n'
                   'module(load="imuxsock" SysSock.Use="on" SysSock.Name="/dev/log")\n'
                   f'action(type="omfile" file="{log}")\n')
    return [find("rsyslogd"), "-n", "-C", "-i", "NONE", "-f", config]


def busybox(folder, log):
    # From 1.37 on it begins a new file, and in the end throws the oldest away, unless it is told not to.
    told = subprocess.run([find("busybox"), "syslogd", "--help"], capture_output=True, text=True)
    keep_all = ["-s", "0"] if "-s SIZE" in told.stdout + told.stderr else []
    return [find("busybox"), "syslogd", "-n", "-O", log, *keep_all]


DAEMONS = {"rsyslogd": rsyslogd, "busybox": busybox}


def read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def ends_with_the_storm(path):
    return "storm over" in read(path)[-1000:]


def run(argv, preload, seconds):
    """Not the harness's, which ends every other child of ours when this one ends: the daemon too."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        victim = harness.start(argv, preload, stdout=out, stderr=err)
        try:
            victim.wait(seconds * harness.SLOWNESS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            harness.end(victim)
        out.seek(0)
        err.seek(0)
        return victim.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace")


def storm(daemon, children, seconds, preload, settings=()):
    """Returns hung children, how many messages were sent, how many lines the library wrote, and what is wrong with the
    messages that arrived."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "messages")
        if os.path.exists("/dev/log"):
            os.unlink("/dev/log")
        server = harness.start(DAEMONS[daemon](folder, log), False, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        try:
            if not harness.wait_until(lambda: os.path.exists("/dev/log"), 20):
                return None, 0, 0, ["the daemon did not start"]
            status, out, err = run(["env", *settings, STORM, str(children), str(seconds)], preload, 200)
            if status != 0:
                return None, 0, 0, [f"the storm ended with {status}", err[-500:]]
            arrived = harness.wait_until(lambda: ends_with_the_storm(log), 60)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                pass
            harness.end(server)
            harness.end_strays()
        problems = [] if arrived else ["the last message did not arrive"]
        seen = collections.Counter(re.findall(r"storm\[\d+\]: from (\w+ number \d+)\.$", read(log), re.M))
        expected = {f"{sender} number {i}" for sender, count in re.findall(r"^sent (\w+) (\d+)$", out, re.M)
                    for i in range(int(count))}
        missing = sorted(expected - seen.keys())
        double = sorted(message for message, count in seen.items() if count > 1)
        if missing:
            problems.append(f"{len(missing)} messages lost, {missing[:5]}")
        if double:
            problems.append(f"{len(double)} messages came more than once, {double[:5]}")
        lines = sum("went round" in line for line in err.splitlines())
        hung = int(re.search(r"^hung (\d+)$", out, re.M).group(1))
        return hung, len(expected), lines, problems


def main():
    harness.begin(5 * len(DAEMONS))
    for daemon in DAEMONS:
        if find(daemon) is None:
            for what in range(5):
                harness.skip(daemon, "not installed")
            continue
        # On a busy machine a storm may miss: on Debian 11 once no child of it hung, at a load of 39.
        hung = next(filter(None, (storm(daemon, BARE_CHILDREN, 1, False)[0] for _ in range(BARE_STORMS))), 0)
        harness.ok(hung, f"{daemon}: bare, {hung} children hang, and the storm ends")
        for name, settings in ("drained", ()), ("not drained", ("FORKSAFE_DRAIN_MS=0",)):
            hung, count, lines, problems = storm(daemon, CHILDREN, 20, True, settings)
            by_client = f", {lines} log through the client" if settings else ""
            harness.ok(hung == 0 and (lines or not settings),
                       f"{daemon}, {name}: {hung} of {CHILDREN} children hang{by_client}")
            harness.ok(count and not problems, f"{daemon}, {name}: of {count} messages each arrives, once")
            for problem in problems:
                harness.note(problem)


if __name__ == "__main__":
    main()
