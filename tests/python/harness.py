"""What the Python tests share: TAP lines, victims with and without the library, and an end for every process.

The tests themselves run without the library; they start victims bare and under it. Settings, all from the environment:

    FORKSAFE_LIB                  the library to test
    PYTHON3                       the interpreter of the victims (/usr/bin/python3)
    FORKSAFE_TEST_FORKS           forks in a storm (100; make soak: 300)
    FORKSAFE_TEST_HANG_SECONDS    a bare child that runs for longer hangs (2)
    FORKSAFE_TEST_SLOWNESS        factor for every limit that only catches failures (1)
"""
import collections
import ctypes
import glob
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLES = os.path.join(HERE, os.pardir, os.pardir, "examples", "python")

PYTHON3 = os.environ.get("PYTHON3") or "/usr/bin/python3"
LIBRARY = os.path.abspath(os.environ.get("FORKSAFE_LIB") or "libforksafe.so")
FORKS = int(os.environ.get("FORKSAFE_TEST_FORKS") or 100)
SETTINGS = {}  # of the library, for the victims under it
HANG_SECONDS = float(os.environ.get("FORKSAFE_TEST_HANG_SECONDS") or 2)
SLOWNESS = float(os.environ.get("FORKSAFE_TEST_SLOWNESS") or 1)

# Bare, a longer wait only makes the test longer. Under the library nothing is expected to hang and a child that
# does hangs for ever, so patience costs nothing there and keeps a busy machine from looking like a hang.
PATIENT_HANG_SECONDS = 10 * HANG_SECONDS

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

Outcome = collections.namedtuple("Outcome", "status out err timed_out")


# --- TAP -----------------------------------------------------------------------------------------------------

_reported = 0


def say(text):
    # Never through a buffer: a test that is killed must have shown how far it came.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def begin(points):
    """Prints the plan; afterwards every process that a victim leaves behind comes to us to be ended."""
    if not os.path.isfile(LIBRARY):
        say(f"Bail out! FORKSAFE_LIB names no library: {LIBRARY}")
        sys.exit(99)
    if not os.access(PYTHON3, os.X_OK):
        say(f"1..0 # SKIP there is no {PYTHON3}")
        sys.exit(0)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    say(f"1..{points}")


def ok(passed, description):
    global _reported
    _reported += 1
    say(f"{'ok' if passed else 'not ok'} {_reported} - {description}")
    return passed


def skip(description, reason):
    global _reported
    _reported += 1
    say(f"ok {_reported} - {description} # SKIP {reason}")


def note(text):
    for line in str(text).rstrip("\n").split("\n"):
        say(f"# {line}")


def note_tail(title, text, lines=15):
    """The end of a victim's output, for whoever looks at a failure."""
    kept = text.rstrip("\n").split("\n")
    note(f"{title}:" + ("" if len(kept) <= lines else f" (last {lines} of {len(kept)} lines)"))
    for line in kept[-lines:]:
        note(f"    {line}")


_spare_seconds = 120.0  # for second tries: a library that lets each child hang must not make a test twice as long


def row(attempt, *arguments, **settings):
    """Tells the points of a row, which attempt(*arguments, **settings) finds out.

    It returns the points, {description: whether it holds, or why it is skipped}, and what explains a failure, {title:
    text or Outcome}. Where a point does not hold the row is tried once more, as on a busy machine chance may have
    decided: that is said, and counted by scripts/test.
    """
    global _spare_seconds
    began = time.monotonic()
    points, shown = attempt(*arguments, **settings)
    took = (time.monotonic() - began) / SLOWNESS
    failed = [description for description, holds in points.items() if not holds]
    if failed and took < _spare_seconds:
        _spare_seconds -= took
        note(f"{os.path.basename(sys.argv[0])}: {failed[0]}, first try: failed")
        show(shown)
        points, shown = attempt(*arguments, **settings)
    for description, holds in points.items():
        if isinstance(holds, str) and holds:
            skip(description, holds)
        else:
            ok(holds, description)
    if not all(points.values()):
        show(shown)


def show(shown):
    for title, what in shown.items():
        if isinstance(what, Outcome):
            note(f"{title}: exit status {what.status}{', timed out' if what.timed_out else ''}")
            note_tail("    output", what.out or "(none)")
            note_tail("    errors", what.err or "(none)", 40)
        else:
            note_tail(title, str(what), 40)


def libpython():
    """The library of the victims' interpreter; None where there is none."""
    version = subprocess.run([PYTHON3, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                             capture_output=True, text=True, check=True).stdout.strip()
    return next(iter(sorted(glob.glob(f"/usr/lib/*/libpython{version}.so.1.0"))), None)


# --- Victims -------------------------------------------------------------------------------------------------


def joined(text):
    """The library's events, each on one line: what is indented below the first line belongs to it."""
    lines = []
    for line in text.splitlines(keepends=True):
        if line.startswith("    ") and lines and lines[-1].startswith("forksafe["):
            lines[-1] = f"{lines[-1][:-1]} {line[4:]}"
        else:
            lines.append(line)
    return "".join(lines)


def victim_environment(preload):
    """Ours without what would change the victim: other preloads, settings of the library, of Python, colours."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("FORKSAFE_", "PYTHON")) and name not in ("LD_PRELOAD", "LD_LIBRARY_PATH", "TERM")}
    # PYTHONUNBUFFERED stays out above all: without buffers print and logging take no lock and never hang.
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    if preload:
        kept.update(SETTINGS, LD_PRELOAD=LIBRARY)
    return kept


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(argv, preload, **files):
    """Starts a victim in a session of its own; it ends when this test does."""
    return subprocess.Popen(argv, env=victim_environment(preload), stdin=subprocess.DEVNULL,
                            start_new_session=True, preexec_fn=_die_with_parent, **files)


def run(argv, preload, seconds, stdout=None):
    """Runs a victim to its end, but no longer than `seconds`, and ends whatever it leaves behind.

    Output goes to files, not pipes: a hung grandchild keeps a pipe open, and we would wait for it.
    """
    with tempfile.TemporaryFile() as own_out, tempfile.TemporaryFile() as err:
        victim = start(argv, preload, stdout=stdout or own_out, stderr=err)
        timed_out = False
        try:
            victim.wait(seconds * SLOWNESS)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            end(victim)
            end_strays()
        own_out.seek(0)
        err.seek(0)
        return Outcome(victim.returncode, own_out.read().decode(errors="replace"),
                       joined(err.read().decode(errors="replace")), timed_out)


def end(process):
    """Ends a process that start() returned, if it still runs."""
    if process.poll() is None:
        process.kill()
    process.wait()


def children_of(pid):
    """The living children of a process, zombies left out."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    # The name before it may hold anything, spaces and brackets too.
                    state, parent = stat.read().rpartition(b")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == pid and state not in (b"Z", b"X"):
                found.append(int(entry))
    return found


def call_of(pid):
    """The number of the system call that a process sleeps in, or "running"; "": the kernel does not say."""
    try:
        with open(f"/proc/{pid}/syscall") as call:
            return call.read().split(None, 1)[0]
    except OSError:
        return ""


def sleeps_in_futex(pid):
    """By the number of this machine's call, or one of the two that 32-bit programs on x86 and arm have."""
    return call_of(pid) in (FUTEX, "240", "422")


FUTEX = {"x86_64": "202", "aarch64": "98", "i686": "240", "armv7l": "240"}.get(os.uname().machine)


def end_strays():
    """Kills and reaps what ended victims left: as subreaper we are its parent now. Returns how many there were."""
    count = 0
    while strays := children_of(os.getpid()):
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        count += len(strays)  # their own children are ours now, so look again
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return count


def wait_until(condition, seconds, pause=0.05):
    """The first true value of condition(), or the last false one when the time is over."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(pause)
