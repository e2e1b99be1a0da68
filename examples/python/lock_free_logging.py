#!/usr/bin/env python3
"""Second remedy: log through a handler that has no lock.

Every record is one write() to a file opened for appending; the kernel keeps such lines whole, so neither
threads nor processes need a lock, and there is nothing that a fork could copy in its locked state.
"""
import logging
import os
import sys
import tempfile
import threading

RECORDS = 2000
CHILDREN = 20


class DescriptorHandler(logging.Handler):
    """Writes records to a file descriptor, without a lock and without a buffer."""

    def __init__(self, descriptor):
        super().__init__()
        self.descriptor = descriptor

    def createLock(self):
        self.lock = None

    def handle(self, record):
        # As logging's own, which takes the lock from Python 3.13 on even where that is None.
        if self.filter(record):
            self.emit(record)

    def emit(self, record):
        os.write(self.descriptor, (self.format(record) + "\n").encode())


def log_records(log):
    for number in range(RECORDS):
        log.info("worker %d", number)


def main():
    with tempfile.TemporaryFile() as file:
        descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY | os.O_APPEND)
        log = logging.getLogger("example")
        log.setLevel(logging.INFO)
        log.addHandler(DescriptorHandler(descriptor))
        log.propagate = False

        worker = threading.Thread(target=log_records, args=(log,), name="worker")
        worker.start()
        children = []
        for number in range(CHILDREN):
            pid = os.fork()
            if pid == 0:
                log.info("child %d", number)
                os._exit(0)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        worker.join()

        file.seek(0)
        lines = file.read().decode().splitlines()

    expected = [f"worker {number}" for number in range(RECORDS)] + [f"child {number}" for number in range(CHILDREN)]
    print(f"children that ended with exit code 0: {codes.count(0)} of {CHILDREN}")
    print(f"records of the worker: {sum(line.startswith('worker ') for line in lines)} of {RECORDS}")
    print(f"records of the children: {sum(line.startswith('child ') for line in lines)} of {CHILDREN}")
    complete = sorted(lines) == sorted(expected)
    print("every record is there, once and whole" if complete else "records are missing, doubled or torn")
    return 0 if complete and not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main())
