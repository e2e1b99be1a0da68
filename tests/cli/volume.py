#!/usr/bin/env python3
"""Many children that each come upon the same three orphaned locks: how much the library writes.

FORKSAFE_TEST_CHILDREN children: 1,000 unless set. Of so many it was 65 lines, 3.6 KB; of 10,000 it was 71 lines,
4.1 KB, in 33 s on a busy machine (3.3 ms a child).
"""
import os
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "python"))

import harness

CHILDREN = int(os.environ.get("FORKSAFE_TEST_CHILDREN") or 1000)
LINES_MOST = 100

PROGRAM = r"""
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static int held[2];
static void take(void)
{
    pthread_mutex_lock(&mutex);
    pthread_rwlock_wrlock(&rwlock);
    sem_wait(&semaphore);
}
static void *hold(void *unused)
{
    take();
    if (write(held[1], "", 1) == 1)
        pause();
    return unused;
}
int main(int count, char **arguments)
{
    pthread_t thread;
    char byte;
    int status;
    sem_init(&semaphore, 0, 1);
    if (pipe(held) != 0 || pthread_create(&thread, NULL, hold, NULL) != 0 || read(held[0], &byte, 1) != 1)
        return 9;
    for (int i = count > 1 ? atoi(arguments[1]) : 1; i > 0; i--) {
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            take();
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || status != 0)
            return 1;
    }
    return 0;
}
"""

harness.begin(4)
with tempfile.TemporaryDirectory() as folder:
    program, log = os.path.join(folder, "victim"), os.path.join(folder, "log")
    with open(program + ".c", "w") as source:
        source.write(PROGRAM)
    compiler = (os.environ.get("CC") or "cc").split()
    subprocess.run([*compiler, "-g", "-O1", "-pthread", program + ".c", "-o", program], check=True)
    environment = harness.victim_environment(True)
    environment.update(FORKSAFE_LOG=log, FORKSAFE_SUMMARY="1")
    began = time.monotonic()
    done = subprocess.run([program, str(CHILDREN)], env=environment, timeout=1200 * harness.SLOWNESS)
    took = time.monotonic() - began
    harness.ok(done.returncode == 0, f"{CHILDREN} children take three orphaned locks each")
    with open(log) as file:
        text = file.read()
    lines = text.count("\n")
    harness.note(f"{lines} lines, {len(text)} bytes, {took:.1f} s, {1000 * took / CHILDREN:.2f} ms a child")
    harness.ok(0 < lines < LINES_MOST, f"fewer than {LINES_MOST} lines")
    harness.ok(f"{3 * CHILDREN} taken-over" in text, "the summary has them all")
    often = 10 ** (len(str(CHILDREN)) - 1)
    harness.ok(text.count(f", so far {often} times") == 3, f"each lock is told of the {often}th time")
