#!/usr/bin/env python3
"""Every command that the pages, README and the verbs' --help show is run as it is written.

In a folder that has what they name; where a page has a name of its own (PID, /tmp, a server) the table below says what
stands for it here. A server has to be up and running, all else to end with a status that says that it was understood.
What forksafe-fix(7) tells a user to write in Python is written into a program whose child hangs without it.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, os.pardir, os.pardir)
sys.path.insert(0, os.path.join(HERE, os.pardir, "python"))

import harness

FORKSAFE = os.path.abspath(os.environ["FORKSAFE"])
NOT_UNDERSTOOD = {125, 126, 127}
READY = {"gunicorn": "Booting worker", "celery": "celery@", "uwsgi": "spawned uWSGI worker 1",
         "puma": "- Worker 1 (PID"}


CURED = """
import multiprocessing, os, sys, threading, time

lock = threading.Lock()
held = threading.Event()


def hold():
    with lock:
        held.set()
        time.sleep(float(sys.argv[1]))


def want():
    with lock:
        pass


def renew():
    global lock
    lock = threading.Lock()


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    CURE
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    child = multiprocessing.Process(target=want)
    child.start()
    child.join(float(sys.argv[2]))
    if child.exitcode is None:
        child.kill()
    os._exit(child.exitcode != 0)
"""


def cures():
    """(what, code): what forksafe-fix(7) tells a user to write in Python."""
    with open(os.path.join(TOP, "man", "forksafe-fix.7")) as page:
        text = page.read()
    method = re.search(r"^\.Dl (multiprocessing\.set_start_method\(.*\))$", text, re.MULTILINE)[1]
    yield "another start method", method.replace(")", ", force=True)")
    yield "a lock made anew", re.search(r"^\.Li (os\.register_at_fork\(after_in_child.*\))", text, re.MULTILINE)[1]
    waits = re.search(r"^(os\.register_at_fork\(before.*?\n.*\))$", text, re.MULTILINE)
    yield "a fork that waits for the lock", waits[1]


def check_cure(what, code, folder):
    """Bare, without the library: the cure is the program's own."""
    program = os.path.join(folder, "cured.py")

    def is_right(code, holds, waits):
        with open(program, "w") as file:
            file.write(CURED.replace("CURE", code))
        return harness.run([harness.PYTHON3, "-W", "ignore", program, str(holds), str(waits)], False, 120).status == 0

    holds = 2 if "before=" in code else 600
    harness.ok(not is_right("pass", 600, harness.HANG_SECONDS) and is_right(code, holds, 60 * harness.SLOWNESS),
               f"forksafe-fix.7: {what}: the child hangs without it, and not with it")


def commands():
    """(where, command): lines that begin with forksafe, settings in front or not."""
    line = re.compile(r"^(?:\.Dl |    \$ |  )?((?:[A-Z_]+=\S+ )*forksafe (?!\[).*?)\s*$")
    recipe = re.compile(r"^    (?=\S| {20})[\w. ]{20}  (forksafe )")
    for name in ("man/forksafe.1", "man/forksafe-fix.7", "man/libforksafe.7", "README"):
        with open(os.path.join(TOP, name)) as page:
            lines = [recipe.sub(r"    $ \1", text) for text in page]
            shown = [text for text in lines if text.startswith((".Dl ", "    $ ", "forksafe "))]
        yield from ((name, match[1]) for match in map(line.match, shown) if match)
    for verb in ([], ["explain"], ["check"], ["status"]):
        text = subprocess.run([FORKSAFE, *verb, "--help"], capture_output=True, text=True, check=True).stdout
        examples = text.partition("Example")[2].splitlines()
        yield from ((" ".join(["forksafe", *verb, "--help"]), match[1]) for match in map(line.match, examples) if match)


def adapted(command, folder, sleeper):
    for shown, here in (("/tmp/", f"{folder}/"), ("PID", str(sleeper)), ("30701", str(sleeper)),
                        ("$(pidof -s gunicorn)", str(sleeper)), ("/usr/bin/server", "/bin/true"),
                        ("--http-socket :8080", "--http-socket 127.0.0.1:0 --plugin python3"),
                        ("gunicorn --preload", "gunicorn --bind 127.0.0.1:0 --preload"), ("grep gunicorn", "cat"),
                        ("puma -w", "puma --bind tcp://127.0.0.1:0 -w"),
                        ("examples/", f"{os.path.abspath(TOP)}/examples/")):
        command = command.replace(shown, here)
    return command


def prepare(folder):
    example = os.path.join(TOP, "examples", "python", "rlock_held_by_thread.py")
    shutil.copy(example, os.path.join(folder, "program.py"))
    files = {"app.py": "def application(environ, start_response):\n    start_response('200 OK', [])\n"
                       "    return [b'']\n\n\napp = application\n",
             "tasks.py": "import celery\n\napp = celery.Celery('tasks', broker='memory://')\n",
             "config.ru": "run ->(environment) { [200, {}, []] }\n",
             "Makefile": "check:\n\ttrue\n",
             "celery": f"#!/bin/sh\nexec {harness.PYTHON3} -m celery \"$@\"\n",
             "command": "#!/bin/sh\n", "journal": "#!/bin/sh\n", "forksafe.1": ""}
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
        os.chmod(os.path.join(folder, name), 0o755)
    shutil.copy("/bin/true", os.path.join(folder, "app"))


def server_of(command):
    return next((name for name in READY if f" {name} " in command), None)


def has(server, path):
    if server == "celery":  # its module, which prepare() gives the name
        return subprocess.run([harness.PYTHON3, "-I", "-c", "import celery"], capture_output=True).returncode == 0
    return shutil.which(server, path=path) is not None


def check(where, command, folder, sleeper):
    description = f"{where}: {command}"
    environment = harness.victim_environment(False)
    environment["PATH"] = f"{os.path.dirname(FORKSAFE)}:{folder}:{environment['PATH']}"
    environment["PYTHONUNBUFFERED"] = "1"  # Celery 5.0 leaves its banner in a buffer
    server = server_of(command)
    if server and not has(server, environment["PATH"]):
        harness.skip(description, f"there is no {server}")
        return
    output = os.path.join(folder, "output")
    with open(output, "wb") as file:
        shell = subprocess.Popen(["/bin/sh", "-c", adapted(command, folder, sleeper)], env=environment, cwd=folder,
                                 stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)

    def said():
        with open(output, errors="replace") as file:
            return file.read()

    if server:
        passed = harness.wait_until(lambda: READY[server] in said() or shell.poll() is not None, 60)
        passed = passed and shell.poll() is None
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    else:
        passed = shell.wait(60 * harness.SLOWNESS) not in NOT_UNDERSTOOD
    if not harness.ok(passed, description):
        harness.note_tail("it wrote", said())


shown = [(where, command) for command, where in dict((command, where) for where, command in commands()).items()]
pages = ("forksafe.1", "forksafe-fix.7", "libforksafe.7")
harness.begin(len(shown) + 2 * len(pages) + 3)
for page in pages:
    groff = ["groff", "-mandoc", "-Tutf8", "-rLL=78n", "-wbreak", os.path.join(TOP, "man", page)]
    if shutil.which("groff") is None:
        harness.skip(f"{page}: fits a terminal of 80 columns", "there is no groff")
    else:
        harness.ok(not subprocess.run(groff, capture_output=True).stderr, f"{page}: fits a terminal of 80 columns")
    if shutil.which("mandoc") is None:
        harness.skip(f"{page}: mandoc -T lint", "there is no mandoc")
        continue
    lint = subprocess.run(["mandoc", "-T", "lint", os.path.join(TOP, "man", page)], capture_output=True, text=True)
    # Which manuals of others there are depends on the machine.
    said = [line for line in lint.stdout.splitlines() if "referenced manual not found" not in line]
    if not harness.ok(lint.returncode <= 2 and not said, f"{page}: mandoc -T lint has nothing to say"):
        harness.note("\n".join(said) + lint.stderr)
with tempfile.TemporaryDirectory() as folder:
    prepare(folder)
    for what, code in cures():
        check_cure(what, code, folder)
    for where, command in shown:
        sleeper = harness.start(["/bin/sleep", "600"], False)
        check(where, command, folder, sleeper.pid)
        harness.end(sleeper)
