#!/usr/bin/env python3
"""uwsgi and celery with a thread in the process that forks: all workers answer, also those that take a vanished one's
place.

Bare uwsgi's new workers wait for the GIL that the thread had, and celery's for the log's lock.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import harness

SITE = os.path.join(harness.HERE, "servers_site")
WORKERS, REQUESTS, TASKS = 4, 12, 24


def ask(path, seconds):
    """One request; the pid that answered, or None."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        answer = b""
        try:
            connection.connect(path)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while text := connection.recv(4096):
                answer += text
        except OSError:
            return None
    match = re.fullmatch(rb"HTTP/1\.\d 200 .*\r\n\r\n(\d+)", answer, re.DOTALL)
    return int(match[1]) if match else None


def uwsgi(folder, preload, patience):
    """How many requests are answered after all workers were killed; None: it did not even start. What it said."""
    path, said = os.path.join(folder, "socket"), os.path.join(folder, "said")
    with open(said, "wb") as log:
        master = harness.start(
            ["uwsgi", "--plugin", "python3", "--master", "--processes", str(WORKERS), "--enable-threads", "--need-app",
             "--http-socket", path, "--pythonpath", SITE, "--module", "uwsgi_app", "--die-on-term"],
            preload, stdout=log, stderr=log, cwd=folder)
    try:
        began = harness.wait_until(lambda: os.path.exists(path) and ask(path, 5), 30)
        first = set(harness.children_of(master.pid))
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        again = harness.wait_until(lambda: len(set(harness.children_of(master.pid)) - first) >= WORKERS, 30)
        answers = [ask(path, patience * harness.SLOWNESS) for _ in range(REQUESTS)] if began and again else None
    finally:
        harness.end(master)
        harness.end_strays()
    with open(said, errors="replace") as file:
        return None if answers is None else sum(pid is not None and pid not in first for pid in answers), file.read()


CLIENT = """
import celery_app, sys
answers = [celery_app.answer.delay(number) for number in range(int(sys.argv[1]))]
got = []
for number, answer in enumerate(answers):
    try:
        got.append(answer.get(timeout=float(sys.argv[2]))[0] == number)
    except Exception:
        break
print(sum(got))
"""


def celery(folder, preload, patience):
    """How many tasks are done, each in a process of its own. What it said."""
    for name in ("broker", "results"):
        os.mkdir(os.path.join(folder, name))
    said = os.path.join(folder, "said")
    settings = [f"FOLDER={folder}", f"PYTHONPATH={SITE}", "PYTHONDONTWRITEBYTECODE=1"]
    with open(said, "wb") as log:
        worker = harness.start(
            ["env", *settings, "WORKER=1", harness.PYTHON3, "-m", "celery", "-A", "celery_app", "worker", "--pool",
             "prefork",
             "--concurrency", str(WORKERS), "--max-tasks-per-child", "1", "--without-gossip", "--without-mingle"],
            preload, stdout=log, stderr=log, cwd=folder)
    try:
        client = harness.subprocess.run(
            ["env", *settings, harness.PYTHON3, "-c", CLIENT, str(TASKS), str(patience * harness.SLOWNESS)],
            env=harness.victim_environment(False), capture_output=True, text=True, timeout=120 * harness.SLOWNESS)
    except subprocess.TimeoutExpired:
        client = None
    finally:
        harness.end(worker)
        harness.end_strays()
    with open(said, errors="replace") as file:
        return int(client.stdout) if client and client.stdout.strip().isdigit() else None, file.read()


def have(argv):
    return shutil.which(argv[0]) and harness.run(argv, False, 30).status == 0


def try_server(title, serve, wanted, preload):
    with tempfile.TemporaryDirectory() as folder:
        got, said = serve(folder, preload, 30 if preload else harness.HANG_SECONDS)
    if preload:
        return {f"{title}: under the library {got} of {wanted} answers": got == wanted}, {"said": said}
    if got == wanted:
        return {f"{title}: bare": "all answer: the fork never met the thread in its lock"}, {}
    return {f"{title}: bare {got} of {wanted} answers": True}, {}


SERVERS = [
    ("uwsgi: all workers killed", uwsgi, REQUESTS, ["uwsgi", "--plugin", "python3", "--version"]),
    ("celery: a process for each task", celery, TASKS, [harness.PYTHON3, "-I", "-c", "import celery.bin.worker"]),
]
harness.begin(2 * len(SERVERS))
for title, serve, wanted, probe in SERVERS:
    for preload in (False, True):
        if have(probe):
            harness.row(try_server, title, serve, wanted, preload)
        else:
            harness.skip(f"{title}: {'under the library' if preload else 'bare'}",
                         f"{probe[0]} is not here, or not for this Python")
