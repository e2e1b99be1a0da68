"""One storm: two threads work with something that has a lock, the main thread forks, every child uses the same thing.

    storm_victim.py KIND FORKS IN_FLIGHT HANG_SECONDS STOP_AFTER FILE REPORT

Standard output is FILE, opened for appending. All threads and all children write lines to it, `line()` says how they
look. A child that is still there after HANG_SECONDS hangs: its own alarm kills it. IN_FLIGHT children may run at the
same time; after STOP_AFTER hung ones no more are forked. What happened goes to REPORT as JSON.
"""
import json
import os
import random
import signal
import sys
import threading
import time

ENOUGH_LINES_PER_FORK = 3000  # then a working thread takes it easy: waiting for hung children must not fill the disk
BACKSTOP_SECONDS = 5  # later than its alarm a child is killed by us: it may have hung before it could set one


def line(who, number):
    return f"{who} {number} {'.' * 40} end"


def write_line(text):
    os.write(1, (text + "\n").encode())


# --- What is stormed -----------------------------------------------------------------------------------------


class Storm:
    """work() is one round of a working thread, use() is what a child does. Both write one line.

    work() returns False when there is nothing more to do.
    """

    writers = ("W0", "W1")
    fed = False  # whether the last one lives on what the others do

    def work(self, who, number):
        self.use(line(who, number))
        return True

    def use(self, text):
        raise NotImplementedError

    def stop(self):
        """Lets the last working thread end, when the others have."""

    def lines_written(self, rounds):
        """How many lines each working thread has written, by the number of its rounds."""
        return rounds

    def start_child(self, number):
        """Forks a child; returns something with a poll() that gives the exit code, or None while the child runs."""
        pid = os.fork()
        if pid == 0:
            self.use(line("C", number))
            # The whole way out, not _exit: threads are joined, buffers flushed, exit functions run.
            sys.exit(0)
        return ForkedChild(pid)


class ForkedChild:
    def __init__(self, pid):
        self.pid = pid
        self.code = None

    def poll(self):
        if self.code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code


class PrintStorm(Storm):
    def use(self, text):
        print(text, flush=True)


class LoggingStorm(Storm):
    def __init__(self, path):
        import logging
        self.log = logging.getLogger("storm")
        self.log.addHandler(logging.FileHandler(path))
        self.log.setLevel(logging.INFO)
        self.log.propagate = False

    def use(self, text):
        self.log.info("%s", text)


class BufferedWriterStorm(Storm):
    def __init__(self, path):
        self.file = open(path, "ab")

    def use(self, text):
        self.file.write((text + "\n").encode())
        self.file.flush()


class LockStorm(Storm):
    def __init__(self):
        self.lock = threading.Lock()

    def use(self, text):
        with self.lock:
            write_line(text)


class RLockStorm(Storm):
    def __init__(self):
        self.lock = threading.RLock()

    def use(self, text):
        with self.lock, self.lock:
            write_line(text)


class QueueStorm(Storm):
    """One thread puts, the other gets. The queue is short, so each of them also waits for the other."""

    writers = ("putter", "getter")
    fed = True
    end = object()

    def __init__(self):
        import queue

        class JournalQueue(queue.Queue):
            """Writes down what comes in and what goes out. Both hooks run under the queue's lock."""

            def _put(self, item):
                if item is not QueueStorm.end:
                    self.write_down(item)
                super()._put(item)

            def _get(self):
                item = super()._get()
                if item is not QueueStorm.end and item.startswith("putter"):
                    self.write_down(item.replace("putter", "getter"))
                return item

            def write_down(self, text):
                write_line(text)
                time.sleep(0.0002)  # the disk is slow: without it nearly all forks find the lock free

        self.queue = JournalQueue(maxsize=8)

    def work(self, who, number):
        if who == "putter":
            self.queue.put(line("putter", number))
            return True
        item = self.queue.get()
        if item is self.end:
            return False
        if item != line("putter", number):
            raise AssertionError(f"item {number} of the queue is {item!r}")
        return True

    def stop(self):
        self.queue.put(self.end)

    def lines_written(self, rounds):
        if rounds["putter"] != rounds["getter"]:
            raise AssertionError(f"items were lost: {rounds}")
        return rounds

    def use(self, text):
        # What the threads left is theirs. Emptied, the queue has to work like a new one.
        with self.queue.mutex:
            self.queue.queue.clear()
        self.queue.put(text)
        if self.queue.get() != text:
            raise AssertionError("the queue gave back something else")


class ProcessStorm(LockStorm):
    """multiprocessing.Process whose target prints under a lock."""

    def __init__(self):
        super().__init__()
        import multiprocessing
        self.context = multiprocessing.get_context("fork")

    def use(self, text):
        with self.lock:
            print(text, flush=True)

    def start_child(self, number):
        process = self.context.Process(target=self.use, args=(line("C", number),))
        process.start()
        return StartedProcess(process)


class StartedProcess:
    def __init__(self, process):
        self.process = process
        self.pid = process.pid

    def poll(self):
        return self.process.exitcode


# --- Threads, forks, counting --------------------------------------------------------------------------------


class Workers:
    def __init__(self, storm, forks):
        self.storm = storm
        self.enough = forks * ENOUGH_LINES_PER_FORK
        self.stopping = False
        self.rounds = dict.fromkeys(storm.writers, 0)
        self.threads = [threading.Thread(target=self.run, args=(who,), name=who, daemon=True) for who in storm.writers]
        for thread in self.threads:
            thread.start()

    def run(self, who):
        last = who == self.storm.writers[-1]
        # The last one goes on until the storm tells it to end: it may have to take what the others have given.
        while not self.stopping or (last and self.storm.fed):
            if not self.storm.work(who, self.rounds[who]):
                break
            self.rounds[who] += 1
            if self.rounds[who] > self.enough:
                time.sleep(0.001)

    def stop(self):
        if not self.stopping:
            self.stopping = True
            for thread in self.threads[:-1]:
                thread.join()
            self.storm.stop()
            self.threads[-1].join()
        return self.storm.lines_written(self.rounds)


def arm_alarm(seconds):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default action kills, wherever the child is stuck
    signal.setitimer(signal.ITIMER_REAL, seconds)


def fork_many(storm, workers, forks, in_flight, hang_seconds, stop_after):
    counts = dict(forks=0, hung=0, failed=0, slowest=0.0)
    running = {}
    while True:
        if counts["forks"] < forks and counts["hung"] < stop_after and len(running) < in_flight:
            time.sleep(random.uniform(0, 0.001))  # so that forks meet the threads at every point of their rounds
            child = storm.start_child(counts["forks"])
            running[child] = time.monotonic()
            counts["forks"] += 1
        else:
            if not running:
                return counts
            if counts["forks"] == forks:
                workers.stop()  # all locks are copied; more work would only fill the disk
            time.sleep(0.005)
        for child, since in list(running.items()):
            age = time.monotonic() - since
            code = child.poll()
            if code is None:
                if age > hang_seconds + BACKSTOP_SECONDS:
                    os.kill(child.pid, signal.SIGKILL)
                continue
            del running[child]
            if code in (-signal.SIGALRM, -signal.SIGKILL):
                counts["hung"] += 1
            else:
                counts["slowest"] = max(counts["slowest"], age)
                counts["failed"] += code != 0


# --- Pools have no child that one could wait for -------------------------------------------------------------

POOL_WORKERS = 4
STARTED, DONE = b"s", b"d"


class PoolStorm(ProcessStorm):
    """Workers of a multiprocessing.Pool print under the lock when they start and in each of their tasks."""

    def __init__(self):
        super().__init__()
        self.news, self.tell = os.pipe()
        os.set_blocking(self.news, False)
        self.counts = dict(forks=0, hung=0, failed=0, slowest=0.0)
        self.told_done = 0

    def enter_worker(self):
        self.use(line("C", time.monotonic_ns() << 22 | os.getpid()))  # on a busy machine an id is soon used again
        signal.setitimer(signal.ITIMER_REAL, 0)  # from here on it may wait for its tasks as long as it likes
        os.write(self.tell, DONE)

    def take_news(self):
        try:
            while news := os.read(self.news, 4096):
                self.counts["forks"] += news.count(STARTED)
                self.told_done += news.count(DONE)
        except BlockingIOError:
            pass

    def start_pools(self, count, hang_seconds):
        """A group of pools at once, so that hung workers hang at the same time."""
        began = time.monotonic()
        wanted = self.counts["forks"] + count * POOL_WORKERS
        pools = [self.context.Pool(POOL_WORKERS, initializer=self.enter_worker) for _ in range(count)]
        before = self.counts["hung"]
        while True:
            self.take_news()
            age = time.monotonic() - began
            missing = self.counts["forks"] - self.told_done - before
            if self.counts["forks"] >= wanted and missing == 0:
                self.counts["slowest"] = max(self.counts["slowest"], age)
                break
            if age > hang_seconds:
                break
            time.sleep(0.005)
        self.counts["hung"] = before + missing
        if not missing:
            for pool in pools:
                answers = pool.map_async(pool_task, range(2 * POOL_WORKERS), chunksize=1).get(hang_seconds)
                self.counts["failed"] += answers != [2 * item for item in range(2 * POOL_WORKERS)]
        for pool in pools:
            pool.terminate()
            pool.join()

    def fork_many(self, forks, in_flight, hang_seconds, stop_after):
        while self.counts["forks"] < forks and self.counts["hung"] < stop_after:
            pools_left = -(-(forks - self.counts["forks"]) // POOL_WORKERS)
            self.start_pools(min(pools_left, max(1, in_flight // POOL_WORKERS)), hang_seconds)
        return self.counts


def pool_task(item):
    storm.use(line("T", item))
    return 2 * item


STORMS = {
    "print": lambda path: PrintStorm(),
    "logging": LoggingStorm,
    "lock": lambda path: LockStorm(),
    "rlock": lambda path: RLockStorm(),
    "queue": lambda path: QueueStorm(),
    "buffered-writer": BufferedWriterStorm,
    "process": lambda path: ProcessStorm(),
    "pool": lambda path: PoolStorm(),
}


def main(kind, forks, in_flight, hang_seconds, stop_after, path, report):
    global storm
    hang_seconds = float(hang_seconds)
    forks, in_flight, stop_after = int(forks), int(in_flight), int(stop_after)

    if kind == "pool":
        # Pools wait for their workers and would start dead ones anew, so there the main thread decides who
        # hangs, and kills; the alarm is only for those that are forgotten.
        def enter_child():
            arm_alarm(hang_seconds + BACKSTOP_SECONDS)
            os.write(storm.tell, STARTED)

        os.register_at_fork(after_in_child=enter_child)
    else:
        # The first Python code that a child runs, so that no lock comes before it.
        os.register_at_fork(after_in_child=lambda: arm_alarm(hang_seconds))
    storm = STORMS[kind](path)

    workers = Workers(storm, forks)
    if kind == "pool":
        counts = storm.fork_many(forks, in_flight, hang_seconds, stop_after)
    else:
        counts = fork_many(storm, workers, forks, in_flight, hang_seconds, stop_after)
    written = workers.stop()
    with open(report, "w") as file:
        json.dump(dict(counts, written=written), file)


if __name__ == "__main__":
    main(*sys.argv[1:])
