#!/usr/bin/env python3
"""Processor time of whole programs, bare and with the library (FORKSAFE_LIB), alternating; what is not installed is
left out. Of a server only the server's own time counts; what drives the server runs bare.
real.py [ROUNDS [FILE.csv [WORD...]]] measures only the rows whose name has one of the WORDs in it."""

import csv
import glob
import os
import pwd
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PYTHON = sys.executable
LOCKS = "import threading; l = threading.{}()\nfor _ in range(400000):\n with l: pass"
QUEUE = ("import queue, threading; q = queue.Queue()\n"
         "t = threading.Thread(target=lambda: [q.get() for _ in range(60000)])\n"
         "t.start()\nfor i in range(60000): q.put(i)\nt.join()")
SQLITE = ("import sqlite3, threading\ndef work():\n c = sqlite3.connect(':memory:'); c.execute('create table t(a)')\n"
          " for i in range(20000): c.execute('insert into t values(?)', (i,))\n"
          "ts = [threading.Thread(target=work) for _ in range(4)]\n[t.start() for t in ts]; [t.join() for t in ts]")
LOGGING = ("import logging, io\nlogging.basicConfig(stream=io.StringIO())\n"
           "for i in range(20000): logging.warning('%d', i)")
EVENT = ("import threading; a, b = threading.Event(), threading.Event()\ndef work():\n"
         " for _ in range(15000): a.wait(); a.clear(); b.set()\nt = threading.Thread(target=work); t.start()\n"
         "for _ in range(15000): a.set(); b.wait(); b.clear()\nt.join()")
SWITCH = ("import sys, threading; sys.setswitchinterval(0.0001)\ndef work():\n for _ in range(6000000): pass\n"
          "ts = [threading.Thread(target=work) for _ in range(2)]\n[t.start() for t in ts]; [t.join() for t in ts]")
NODE = ("const c = require('crypto'), fs = require('fs');\nfor (let i = 0; i < 3000; i++) {\n"
        " c.pbkdf2('a', 'b', 100, 32, 'sha1', () => {}); fs.stat('/', () => {}); }")
MAKEFILE = "all: " + " ".join(f"o{i}" for i in range(200)) + "\no%:\n\t@true $@\n"

PROGRAMS = [
    ("python3, Lock", [PYTHON, "-c", LOCKS.format("Lock")]),
    ("python3, RLock", [PYTHON, "-c", LOCKS.format("RLock")]),
    ("python3, Condition", [PYTHON, "-c", LOCKS.format("Condition")]),
    ("python3, Queue", [PYTHON, "-c", QUEUE]),
    ("python3, Event", [PYTHON, "-c", EVENT]),
    ("python3, two busy threads", [PYTHON, "-c", SWITCH]),
    ("python3, logging", [PYTHON, "-c", LOGGING]),
    ("python3, sqlite3 in 4 threads", [PYTHON, "-c", SQLITE]),
    ("python3 -c pass, 20 times", ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do "
                                   f"{PYTHON} -S -c pass; done"]),
    ("sh starts true, 200 times", ["sh", "-c", "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"]),
    ("make -j2, 200 targets", ["make", "-j2", "-s", "-f", "MAKEFILE"]),
    ("perl, localtime", ["perl", "-e", "localtime($_) for 1..300000"]),
    ("sort, 2 threads", ["sort", "--parallel=2", "-S", "8M", "LINES"]),
    ("xz, 2 threads", ["xz", "-T2", "-2", "-c", "LINES"]),
    ("gcc -O1 of a small file", ["gcc", "-O1", "-x", "c", "-c", "-o", "/dev/null", "SOURCE"]),
    ("git init and commit",
     ["sh", "-c", "d=$(mktemp -d) && cd $d && git init -q && git -c user.name=a -c user.email=a@b "
                             "commit -q --allow-empty -m x && rm -rf $d"]),
    ("node, thread pool", ["node", "-e", NODE]),
    ("java -version", ["java", "-XX:-UsePerfData", "-version"]),
    ("javac of a small file", ["javac", "-J-XX:-UsePerfData", "Small.java"]),
]

# SOCKET TIMES QUESTION: asks over 4 connections at a time and waits for the 4 answers, each of which ends with END.
# The question's last character is not sent: it keeps the shell from dropping the line ends.
ASK = """import socket, sys
cs = [socket.socket(socket.AF_UNIX) for _ in range(4)]
[c.connect(sys.argv[1]) for c in cs]
for _ in range(int(sys.argv[2])):
    [c.sendall(sys.argv[3][:-1].encode()) for c in cs]
    for c in cs:
        answer = b""
        while not answer.endswith(b"END\\r\\n"): answer += c.recv(4096) or sys.exit(1)
"""
ASK = f"{PYTHON} -c {shlex.quote(ASK)} DIR/s"
NGINX = ("daemon off; pid DIR/pid; worker_processes 2; events {} http { access_log DIR/log; "
         "keepalive_requests 1000000; "
         + " ".join(f"{kind}_temp_path DIR/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
         + " server { listen unix:DIR/s; root DIR; } }")
PSQL = "-h DIR -U bench postgres"
ROWS = "create table t(a int primary key, b int); insert into t select seq, seq from seq_1_to_10000"

# name, programs that the row needs besides the server, what makes its files, the server, its socket, what drives it;
# DIR is the directory of the row
SERVERS = [
    ("memcached, set and get", "",
     "",
     "memcached -s DIR/s", "s",
     ASK + r' 20000 "$(printf "set k 0 0 3\r\nabc\r\nget k\r\n_")"'),
    ("redis, SET, GET, BGSAVE", "redis-cli redis-benchmark",
     "",
     "redis-server --port 0 --unixsocket DIR/s --dir DIR --save ''", "s",
     "for i in 1 2 3 4 5; do redis-benchmark -s DIR/s -q -n 20000 -r 10000 -c 8 -t set,get && "
     "redis-cli -s DIR/s bgsave; done; redis-benchmark -s DIR/s -q -n 20000 -c 8 -t get"),
    ("nginx, small file", "",
     f"echo {shlex.quote(NGINX)} >DIR/conf; printf 'END\\r\\n' >DIR/page",
     "nginx -e DIR/errors -c DIR/conf", "s",
     ASK + r' 15000 "$(printf "GET /page HTTP/1.1\r\nHost: a\r\n\r\n_")"'),
    ("PostgreSQL, pgbench -S", "initdb pg_ctl pgbench",
     "initdb -U bench -A trust -N DIR/data && pg_ctl -D DIR/data -l DIR/log -o \"-k DIR -h ''\" -w start && "
     f"pgbench -i -q {PSQL}; pg_ctl -D DIR/data -w stop",
     "postgres -D DIR/data -k DIR -h ''", ".s.PGSQL.5432",
     f"pgbench -n -S -c 4 -t 6000 {PSQL}"),
    ("MariaDB, point selects, 16 threads", "mariadb-install-db mariadb-slap",
     "mariadb-install-db --no-defaults --datadir=DIR/data --auth-root-authentication-method=normal",
     "mariadbd --no-defaults --datadir=DIR/data --socket=DIR/s --pid-file=DIR/pid --skip-networking", "s",
     f"mariadb-slap --no-defaults -S DIR/s -u root -c 16 --number-of-queries=48000 --create-schema=b --create='{ROWS}' "
     "--delimiter=';' --query='select b from t where a = 4711'"),
]

FILES = {"MAKEFILE": MAKEFILE, "SOURCE": "int main(void) { return 0; }\n", "Small.java": "class Small { }\n",
         "LINES": "".join(f"{i * 7919 % 1000003}\n" for i in range(200000))}
# Some servers refuse root.
OTHER = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def drive(process, path, client, preload):
    """Once the server answers at path, has the client do its work."""
    end = time.monotonic() + 60
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                break
        if time.monotonic() > end:
            raise RuntimeError(f"nobody answers at {path}")
        time.sleep(0.05)
    with open(f"/proc/{process.pid}/maps") as maps:
        if preload and os.path.basename(os.path.realpath(preload)) not in maps.read():
            raise RuntimeError(f"{process.args[0]} runs without the library")
    subprocess.run(client, shell=True, check=True, timeout=300, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds(command, preload, path=None, client=None):
    environment = dict(os.environ, **({"LD_PRELOAD": preload} if preload else {}))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               **(dict(OTHER, start_new_session=True) if client else {}))
    if client:
        killer = threading.Timer(400, os.killpg, (process.pid, signal.SIGKILL))
        killer.start()
        try:
            drive(process, path, client, preload)
        finally:
            os.kill(process.pid, signal.SIGTERM)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            killer.cancel()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ends with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def compare(rounds, preload, command, *server):
    bare, ours = [], []
    for number in range(rounds):
        for kind in (0, 1) if number % 2 else (1, 0):
            (ours if kind else bare).append(seconds(command, preload if kind else None, *server))
    return statistics.median(bare), statistics.median(ours), statistics.median(o / b for o, b in zip(ours, bare))


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    words = sys.argv[3:] or [""]
    preload = os.environ["FORKSAFE_LIB"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the running server is ended, too
    postgres = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]
    os.environ["PATH"] = ":".join([os.environ["PATH"], "/usr/sbin", *postgres])
    results = []
    for name, command, *server in [*PROGRAMS, *SERVERS]:
        if not any(word in name for word in words):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            needs = ["git"] if name.startswith("git") else []
            if server:
                needs = command.split()
                made, command, path, client = (text.replace("DIR", scratch) for text in server)
                command, server = shlex.split(command), (os.path.join(scratch, path), client)
            missing = [program for program in (command[0], *needs) if shutil.which(program) is None]
            if missing:
                print(f"{name:34} not installed: {', '.join(missing)}")
                continue
            if server:
                if OTHER:
                    shutil.chown(scratch, OTHER["user"])
                subprocess.run(made, shell=True, check=True, cwd=scratch, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, **OTHER)
            for file, text in FILES.items():
                with open(os.path.join(scratch, file), "w") as stream:
                    stream.write(text)
            command = [os.path.join(scratch, part) if part in FILES else part for part in command]
            bare, ours, ratio = compare(rounds, preload, command, *server)
        print(f"{name:34} {bare * 1000:8.1f} ms {ours * 1000:8.1f} ms   ratio {ratio:.3f}", flush=True)
        results.append((name, f"{bare * 1000:.1f}", f"{ours * 1000:.1f}", f"{ratio:.3f}"))
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", newline="") as file:
            csv.writer(file).writerows([("program", "bare_ms", "with_ms", "ratio"), *results])


if __name__ == "__main__":
    main()
