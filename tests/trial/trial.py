#!/usr/bin/env python3
"""From the symptom to the line of source: five services in Python, three builds of one in C++.

Each is taken as its user would: it hangs; started by `forksafe run` it serves, and `forksafe explain` of the log has to
name file and line of the place that took the lock. Bare, with the library nowhere, `forksafe check` of the process that
hangs has to name it as well.
"""
import ctypes.util
import http.server
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "python"))

import harness

FORKSAFE = os.path.abspath(os.environ["FORKSAFE"])
CXX = (os.environ.get("CXX") or "g++").split()


def places(name, *marks):
    """FILE:LINE of the lines that are marked so."""
    with open(os.path.join(HERE, name)) as source:
        return tuple(f"{name}:{number} " for number, line in enumerate(source, 1)
                     for mark in marks if f" {mark}" in line)


def has_one(text, wanted):
    words = text.replace(",", " ").replace(";", " ").replace("\n", " \n")
    return any(place in words for place in wanted)


class Service:
    """One of the eight. `argv` starts it; it has served when `price` (an answer or an output) has come."""

    def __init__(self, name, source, argv, needs=None, web=False, served=b"price 3"):
        self.name, self.source, self.argv, self.needs, self.web, self.served = name, source, argv, needs, web, served

    def is_here(self):
        if self.needs is None:
            return True
        if self.needs.startswith("/"):
            return os.path.exists(self.needs)
        return harness.run([harness.PYTHON3, "-I", "-c", f"import {self.needs}"], False, 60).status == 0


class Run:
    """A service that runs, by itself or by forksafe."""

    def __init__(self, service, folder, launcher):
        self.service = service
        self.output = os.path.join(folder, f"{service.name}.{'saved' if launcher else 'bare'}".replace("/", "."))
        # Servers inherit a socket that is bound already: no other program can take the port in between.
        self.listener = socket.create_server(("127.0.0.1", 0)) if service.web else None
        number = self.listener.fileno() if service.web else 0
        argv = [word.replace("LISTENER", str(number)).replace("FOLDER", folder) for word in service.argv]
        with open(self.output, "wb") as output:
            self.process = harness.start(launcher + argv, False, stdout=output, stderr=output, cwd=HERE,
                                         pass_fds=[number] if service.web else [])
        self.connection = None
        if service.web:
            self.connection = socket.create_connection(self.listener.getsockname())
            self.connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.connection.setblocking(False)
        self.answer = b""

    def has_served(self):
        if self.connection is not None:
            try:
                self.answer += self.connection.recv(4096)
            except BlockingIOError:
                pass
            except ConnectionError:
                return False
            return re.fullmatch(rb"HTTP/1\.\d 200 .*\r\n\r\n3", self.answer, re.DOTALL) is not None
        with open(self.output, "rb") as output:
            return self.service.served in output.read()

    def serves(self, seconds):
        return harness.wait_until(self.has_served, seconds)

    def descendants(self):
        found = [self.process.pid]
        for pid in found:
            found += harness.children_of(pid)
        return found[1:]

    def end(self):
        harness.end(self.process)
        harness.end_strays()
        if self.service.web:
            self.connection.close()
            self.listener.close()

    def wrote(self):
        with open(self.output, errors="replace") as output:
            return output.read()


def ask(*argv, **variables):
    return subprocess.run([FORKSAFE, *argv], env={**os.environ, **variables}, capture_output=True, text=True,
                          errors="replace", timeout=120)


def try_bare(service, folder, culprit):
    """The service hangs, and `check` says why."""
    run = Run(service, folder, [])
    try:
        hanging = harness.wait_until(lambda: [pid for pid in run.descendants() if harness.sleeps_in_futex(pid)], 60)
        time.sleep(0.5 * harness.SLOWNESS)  # one that is only on its way would have gone on
        hangs = hanging and not run.has_served()
        said = [ask("check", str(pid)) for pid in run.descendants() if harness.sleeps_in_futex(pid)]
    finally:
        run.end()
    return {
        f"{service.name}: bare it hangs": hangs,
        f"{service.name}: bare, check shows the culprit at {culprit[0]}":
        any(one.returncode == 0 and has_one(one.stdout, culprit) for one in said),
    }, {"check says": "\n".join(one.stdout + one.stderr for one in said), "it wrote": run.wrote()}


def try_saved(service, folder, culprit):
    log = os.path.join(folder, service.name.replace("/", ".") + ".log")
    run = Run(service, folder, [FORKSAFE, "run", f"--log={log}", "--"])
    try:
        serves = run.serves(60)
    finally:
        run.end()
    explained = ask("explain", log)
    held = [line for line in explained.stdout.splitlines() if line.startswith("    culprit: ")]
    right = len(held) == 1 and has_one(held[0], culprit)
    right &= service.source != "journal.cc" or "<service::journal> (normal)" in explained.stdout
    return {
        f"{service.name}: under the library it serves": serves,
        f"{service.name}: explain says that {culprit[0]}is the culprit": right,
    }, {"explain says": explained.stdout + explained.stderr, "it wrote": run.wrote()}


def build(folder, name, flags, strip):
    """Not in FOLDER/src: what is built in one place and run in another is what users have."""
    program = os.path.join(folder, f"journal-{name}")
    source = os.path.join(HERE, "journal.cc")
    subprocess.run([*CXX, "-std=c++17", "-pthread", *flags, source, "-o", program], check=True)
    if strip:
        debug = program + ".debug"
        subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
        subprocess.run(["strip", program], check=True)
        subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", program], check=True, cwd=folder)
    return program


def names_alone(text, culprit):
    """Whether all culprits that are named are this one, and nothing is lacking."""
    held = [line for line in text.splitlines() if line.startswith("    culprit: ")]
    return held and all(has_one(line, culprit) for line in held) and "with --debug=FILE" not in text


def serve_debuginfo(folder, stripped, log):
    """What explain says when a server has the debugging information."""
    with open(log) as lines:
        build_id = re.search(r"/service, build-id ([0-9a-f]+)", lines.read())[1]
    shelf = os.path.join(folder, "served", "buildid", build_id)
    os.makedirs(shelf)
    os.link(f"{stripped}.debug", os.path.join(shelf, "debuginfo"))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=os.path.join(folder, "served"))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = ask("explain", log, DEBUGINFOD_URLS=f"http://127.0.0.1:{server.server_port}/", no_proxy="127.0.0.1",
                   DEBUGINFOD_CACHE_PATH=os.path.join(folder, "cache")).stdout
        server.shutdown()
    return said


def check_without_lines(folder, stripped, culprit):
    """The program alone, with nothing that leads from it to its debugging information: explain says what it lacks."""
    program, log = os.path.join(folder, "service"), os.path.join(folder, "service.log")
    subprocess.run(["objcopy", "--remove-section=.gnu_debuglink", stripped, program], check=True)
    subprocess.run([FORKSAFE, "run", f"--log={log}", "--", program], capture_output=True, timeout=60 * harness.SLOWNESS)
    explained = ask("explain", log).stdout
    passed = harness.ok("with --debug=FILE" in explained, "C++ without lines: explain says how to get them")
    named = ask("explain", f"--debug={stripped}.debug", log).stdout
    passed &= harness.ok(names_alone(named, culprit), f"C++ without lines: and then that {culprit[0]}is the culprit")
    if ctypes.util.find_library("debuginfod") is None:
        harness.skip("C++ without lines: by debuginfod", "elfutils has no libdebuginfod here")
    else:
        named += serve_debuginfo(folder, stripped, log)
        passed &= harness.ok(names_alone(named, culprit), "C++ without lines: the same by debuginfod")
    if not passed:
        harness.note_tail("explain says", explained + named, 60)


def services(folder):
    python = harness.PYTHON3
    yield Service("gunicorn", "stock.py", [python, "-m", "gunicorn", "--preload", "--bind", "fd://LISTENER",
                                           "--timeout", "600", "--worker-tmp-dir", "FOLDER", "web"],
                  needs="gunicorn.app.wsgiapp", web=True)
    yield Service("celery", "stock.py", [python, "-m", "celery", "-A", "tasks", "worker", "--pool=prefork", "-c", "1",
                                         "--without-gossip", "--without-mingle"],
                  needs="celery")
    yield Service("uwsgi", "stock.py", ["/usr/bin/uwsgi", "--plugin", "python3", "--master", "--enable-threads",
                                        "--http-socket", "fd://LISTENER", "--wsgi", "web"],
                  needs="/usr/lib/uwsgi/plugins/python3_plugin.so", web=True)
    yield Service("multiprocessing", "stock.py", [python, "pool.py"])
    yield Service("ProcessPoolExecutor", "stock.py", [python, "executor.py"])
    for name, flags, strip in (("-O2 -g", ["-O2", "-g"], False), ("-O0", ["-O0", "-g"], False),
                               ("stripped", ["-O2", "-g"], True)):
        program = build(folder, name.replace(" ", ""), flags, strip)
        yield Service(f"C++ {name}", "journal.cc", [program], served=b"served")


def main():
    only = sys.argv[1:]
    harness.begin(8 * 4 + 3)
    with tempfile.TemporaryDirectory() as folder:
        for service in services(folder):
            if only and service.name not in only:
                continue
            if not service.is_here():
                for part in ("bare", "check", "served", "explain"):
                    harness.skip(f"{service.name}: {part}", f"there is no {service.needs}")
                continue
            # A process that hangs shows where the holder is now.
            stands = places(service.source, "(it stands here)")
            harness.row(try_bare, service, folder, stands)
            took = places(service.source, "(the culprit)")
            harness.row(try_saved, service, folder, took)
            if service.name == "C++ stripped":
                check_without_lines(folder, service.argv[0], took)


main()
