#!/usr/bin/env python3
"""gunicorn --preload with a logging thread in the application: all workers boot and answer, also those started anew.

Bare some workers hang in their first log line, before they could serve anything.
"""
import os
import re
import select
import signal
import socket
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import harness

SITE = os.path.join(harness.HERE, "gunicorn_site")
WORKERS = 12
BARE_TRIES = 3


class Server:
    def __init__(self, folder, preload):
        self.log_path = os.path.join(folder, "library" if preload else "bare")
        # gunicorn inherits a socket that is bound already: no other program can take the port in between.
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = self.listener.getsockname()
        with open(self.log_path, "wb") as log:
            self.master = harness.start(
                [harness.PYTHON3, "-m", "gunicorn", "--preload", "--workers", str(WORKERS), "--timeout", "600",
                 "--bind", f"fd://{self.listener.fileno()}", "--pythonpath", SITE, "--worker-tmp-dir", folder,
                 "--error-logfile", self.log_path + ".gunicorn", "logging_app:application"],
                preload, stdout=log, stderr=log, cwd=folder, pass_fds=[self.listener.fileno()])

    def workers(self):
        return set(harness.children_of(self.master.pid))

    def ask(self, seconds=1):
        """Sends many requests at once; returns the pids of the workers that answered them in time."""
        connections = []
        for _ in range(2 * WORKERS):
            try:
                connection = socket.create_connection(self.address, timeout=seconds)
            except OSError:
                break  # nobody has accepted any for so long that the queue is full
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connections.append(connection)
        deadline = time.monotonic() + seconds
        answers = dict.fromkeys(connections, b"")
        waiting = set(connections)
        while waiting:
            readable = select.select(waiting, [], [], max(0, deadline - time.monotonic()))[0]
            if not readable:
                break
            for connection in readable:
                try:
                    text = connection.recv(4096)
                except ConnectionError:
                    text = b""
                answers[connection] += text
                if not text:
                    waiting.discard(connection)
        for connection in connections:
            connection.close()
        found = [re.fullmatch(rb"HTTP/1\.\d 200 .*\r\n\r\n(\d+)", answer, re.DOTALL) for answer in answers.values()]
        return {int(match[1]) for match in found if match}

    def answering(self, patience, seconds):
        """The pids of all workers that answer. Ends when all do, or when no new one has come for `patience` seconds."""
        began = last_news = time.monotonic()
        seen = set()
        while len(seen) < WORKERS:
            new = self.ask() - seen
            now = time.monotonic()
            if new:
                seen |= new
                last_news = now
            if (self.master.poll() is not None or now > began + seconds * harness.SLOWNESS
                    or now > last_news + patience * harness.SLOWNESS):
                break
            time.sleep(0.05)
        return seen

    def end(self):
        harness.end(self.master)
        harness.end_strays()
        self.listener.close()

    def said(self):
        for title, path in (("said", self.log_path), ("logged by gunicorn", self.log_path + ".gunicorn")):
            try:
                with open(path, errors="replace") as file:
                    text = "".join(line for line in file if "background record" not in line and "request" not in line)
            except FileNotFoundError:
                text = "(nothing)"
            yield title, text


def check_bare(folder):
    rates = []
    for _ in range(BARE_TRIES):
        server = Server(folder, False)
        try:
            # All requests wait in the same queue, so those that boot answer soon; the rest is given up.
            booted = server.answering(harness.HANG_SECONDS + 2, 60)
        finally:
            server.end()
        rates.append(f"{WORKERS - len(booted)}/{WORKERS}")
        if len(booted) < WORKERS:
            harness.ok(True, f"gunicorn --preload: bare {', '.join(rates)} workers never boot")
            return
    # Nothing is wrong with the library then: on this machine the fork just never met the thread in its lock.
    harness.skip("gunicorn --preload: bare", f"all workers booted in {BARE_TRIES} tries")


def try_saved():
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder, True)
        try:
            first = server.answering(20, 60)
            alive = server.workers()
            killed = alive or first
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            harness.wait_until(lambda: not killed & server.workers(), 30)
            second = server.answering(20, 60) - killed
            with open(server.log_path + ".gunicorn", "rb") as log:
                numbers = [int(number) for number in re.findall(rb" background record (\d+)\n", log.read())]
            # Workers may bring a line again that was in the master's buffer (see storms.py); none may be missing.
            missing = set(range(max(numbers, default=0))) - set(numbers)
            return {
                f"gunicorn --preload: under the library {len(first)}/{WORKERS} workers boot and answer":
                len(first) == WORKERS and first == alive,
                f"gunicorn --preload: all killed, under the library {len(second)}/{WORKERS} new ones boot and answer":
                len(second) == WORKERS and second == server.workers() and server.master.poll() is None,
                "gunicorn --preload: under the library the log of the background thread is complete":
                numbers and not missing,
            }, dict(server.said())
        finally:
            server.end()


def have_gunicorn():
    return harness.run([harness.PYTHON3, "-I", "-c", "import gunicorn.app.wsgiapp"], False, 30).status == 0


harness.begin(4)
if have_gunicorn():
    with tempfile.TemporaryDirectory() as folder:
        check_bare(folder)
    harness.row(try_saved)
else:
    for part in ("bare", "boot", "boot again", "log"):
        harness.skip(f"gunicorn --preload: {part}", f"{harness.PYTHON3} has no gunicorn")
