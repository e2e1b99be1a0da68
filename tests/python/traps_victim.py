"""One trap, by name; without a name: their names. Prints "right", or what is wrong.

In each, a thread of the parent has some lock for ever, so that every child has orphaned ones. A child may wait for
something that somebody gives later: it has to wait until then.
"""
import contextlib
import gc
import os
import random
import select
import signal
import sys
import threading
import time
import warnings

warnings.simplefilter("ignore")
SOON, LATER, LONG = 0.15, 0.4, 30
traps = {}


def trap(function):
    traps[function.__name__] = function
    return function


def thread(function, *arguments):
    started = threading.Thread(target=function, args=arguments, daemon=True)
    started.start()
    return started


def held_by_thread(*locks):
    """A thread takes them and keeps them."""
    holds = threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            holds.set()
            threading.Event().wait()

    thread(hold)
    holds.wait()
    return locks


def orphan():
    lock = threading.Lock()
    with lock:
        pass
    return held_by_thread(lock)[0]


def child(body):
    """What body returns in a forked child; "silent" after LONG."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = repr(body())
        except BaseException as error:
            result = repr(error)
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    ready = select.select([reading], [], [], LONG)[0]
    result = os.read(reading, 4096).decode() if ready else "silent"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    return result


def on_alarm(function, seconds):
    signal.signal(signal.SIGALRM, lambda *_: function())
    signal.setitimer(signal.ITIMER_REAL, seconds)


def waits_until(give, take, seconds=LATER):
    """Whether take() returns, and not before give() was called in another thread."""
    given = []

    def later():
        time.sleep(seconds)
        given.append(True)
        give()

    thread(later)
    take()
    return bool(given)


def error_of(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except Exception as error:
        return type(error).__name__


def check(got, wanted):
    return "right" if got == wanted else f"{got!r}, {wanted!r} is right"


@trap
def an_orphan_is_had_once_at_most():
    lock = orphan()
    return check(child(lambda: (sum(lock.acquire(False) for _ in range(3)) <= 1, lock.locked())), "(True, True)")


@trap
def a_child_may_release_an_orphan():
    lock = orphan()

    def body():
        lock.release()
        return lock.acquire(False), lock.acquire(False), lock.release(), error_of(lock.release)

    return check(child(body), "(True, False, None, 'RuntimeError')")


@trap
def what_the_child_took_it_waits_for():
    orphan()
    lock = threading.Lock()

    def body():
        with lock:
            pass
        lock.acquire()
        return waits_until(lock.release, lock.acquire)

    return check(child(body), "True")


@trap
def a_released_orphan_taken_by_a_thread_of_the_child():
    lock = orphan()

    def body():
        lock.release()
        taken = threading.Event()

        def take():
            with lock:
                taken.set()
                time.sleep(LATER)
                done.append(True)

        done = []
        thread(take)
        taken.wait()
        with lock:
            return bool(done)

    return check(child(body), "True")


@trap
def a_token_between_two_threads():
    token = threading.Lock()
    other = thread(lambda: [token.acquire(timeout=LONG) for _ in range(3)])
    for _ in range(3):
        time.sleep(0.02)
        with contextlib.suppress(RuntimeError):
            token.release()
    other.join(1)
    token.acquire(False)
    orphan()
    return check(child(lambda: waits_until(token.release, token.acquire)), "True")


@trap
def a_sign_of_a_vanished_thread_given_by_a_handler():
    sign = threading.Lock()
    thread(sign.acquire).join()
    orphan()

    def body():
        came = []
        on_alarm(lambda: (came.append(True), sign.release()), LATER)
        sign.acquire()
        return bool(came)

    return check(child(body), "True")


def sign_of_a_waiting_thread():
    """A Lock that another thread has, which waits for ever."""
    sign, taken = threading.Lock(), threading.Event()
    thread(lambda: (sign.acquire(), taken.set(), threading.Event().wait()))
    taken.wait()
    return sign


@trap
def a_sign_of_a_waiting_thread_given_by_a_thread_of_the_child():
    sign = sign_of_a_waiting_thread()
    return check(child(lambda: waits_until(sign.release, sign.acquire)), "True")


@trap
def a_sign_of_a_waiting_thread_given_by_a_handler():
    sign = sign_of_a_waiting_thread()

    def body():
        came = []
        on_alarm(lambda: (came.append(True), sign.release()), LATER)
        sign.acquire()
        return bool(came)

    return check(child(body), "True")


@trap
def a_sign_given_by_a_handler_to_a_wait_with_a_limit():
    sign = sign_of_a_waiting_thread()

    def body():
        came = []
        on_alarm(lambda: (came.append(True), sign.release()), LATER)
        return sign.acquire(timeout=LONG), came

    return check(child(body), "(True, [True])")


@trap
def the_forkers_gate_opened_by_a_thread_of_the_child():
    gate, results = threading.Lock(), []
    gate.acquire()
    other = thread(lambda: results.append(child(lambda: waits_until(gate.release, gate.acquire))))
    other.join(LONG)
    return check(results, ["True"])


@trap
def the_forkers_lock_in_a_with():
    orphan()
    lock = threading.Lock()
    with lock:
        pass

    def body():
        return waits_until(lock.release, lock.acquire)

    with lock:
        return check(child(body), "True")


@trap
def the_forkers_lock_wanted_by_others():
    orphan()
    lock = threading.Lock()
    with lock:
        pass
    lock.acquire()
    for _ in range(3):
        thread(lock.acquire)
    time.sleep(SOON)
    return check(child(lambda: waits_until(lock.release, lock.acquire)), "True")


@trap
def a_lock_from_before_the_first_thread():
    lock = threading.Lock()
    lock.acquire()
    orphan()
    thread(lock.acquire)
    time.sleep(SOON)
    return check(child(lambda: waits_until(lock.release, lock.acquire)), "True")


@trap
def new_locks_where_orphans_were():
    locks = [threading.Lock() for _ in range(200)]
    for lock in locks:
        with lock:
            pass
    held_by_thread(*locks)
    del lock

    def body():
        locks.clear()
        gc.collect()
        new = [threading.Lock() for _ in range(200)]
        for lock in new:
            with lock:
                pass
            lock.acquire()
        return waits_until(new[57].release, new[57].acquire), sum(lock.acquire(False) for lock in new)

    return check(child(body), "(True, 0)")


@trap
def an_orphan_in_a_grandchild():
    lock = orphan()

    def body():
        return child(lambda: (lock.release(), lock.acquire(False), lock.acquire(False)))

    return check(child(body), repr("(None, True, False)"))


@trap
def what_a_child_holds_its_child_holds():
    orphan()
    lock = threading.Lock()
    with lock:
        pass

    def body():
        with lock:
            return child(lambda: waits_until(lock.release, lock.acquire))

    return check(child(body), repr("True"))


@trap
def recursion_of_the_forker():
    orphan()
    lock = threading.RLock()
    lock.acquire()
    lock.acquire()

    def body():
        tried = []
        thread(lambda: tried.append(lock.acquire(timeout=SOON))).join()
        return tried, lock.acquire(), [error_of(lock.release) for _ in range(4)]

    return check(child(body), "([False], True, [None, None, None, 'RuntimeError'])")


@trap
def a_condition_keeps_its_lock():
    orphan()
    condition = threading.Condition()

    def body():
        with condition:
            quiet = condition.wait(SOON)
            tried = []
            thread(lambda: tried.append(condition.acquire(timeout=SOON))).join()
        return quiet, tried, condition.acquire(False)

    return check(child(body), "(False, [False], True)")


@trap
def hooks_that_take_and_give_back():
    lock = threading.Lock()
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    orphan()
    results = [child(lambda: (lock.acquire(False), lock.acquire(False))) for _ in range(3)]
    return check((results, lock.acquire(False)), (["(True, False)"] * 3, True))


@trap
def two_threads_fork_with_locks_of_their_own():
    orphan()
    results = []

    def fork_with_lock():
        lock = threading.Lock()
        for _ in range(5):
            with lock:
                results.append(child(lambda: (lock.acquire(False), lock.release(), lock.acquire(False))))

    threads = [thread(fork_with_lock) for _ in range(2)]
    for each in threads:
        each.join(LONG)
    return check(results, ["(False, None, True)"] * 10)


@trap
def every_form_of_the_methods():
    orphan()
    lock, answers = threading.Lock(), []
    for arguments, named in (((), {}), ((False,), {}), ((), {"blocking": False}), ((True, 0.01), {}),
                             ((), {"timeout": 0.01}), ((False, 1), {}), ((), {"timeout": -5}), (("x", "y"), {}),
                             ((), {"wrong": 1}), ((1, 2, 3), {})):
        answers.append(error_of(lock.acquire, *arguments, **named))
    answers += [lock.release(), error_of(lock.release), error_of(lock.release, 1), lock.__enter__(), lock.locked()]
    answers += [lock.__exit__(None, None, None), lock.locked(), lock.acquire_lock(), lock.release_lock()]
    return check(answers, [True, False, False, False, False, "ValueError", "ValueError", "TypeError", "TypeError",
                           "TypeError", None, "RuntimeError", "TypeError", True, True, None, False, True, None])


@trap
def errors_leave_a_with():
    orphan()
    lock, recursive = threading.Lock(), threading.RLock()
    for _ in range(100):
        with contextlib.suppress(ZeroDivisionError):
            with lock, recursive, recursive:
                1 / 0
    return check((lock.locked(), error_of(recursive.release), lock.acquire(False)), (False, "RuntimeError", True))


@trap
def locks_that_are_dropped_while_taken():
    orphan()

    def size():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    before = None
    for round in range(60000):
        threading.Lock().acquire()
        if round == 5000:
            before = size()
    return check(size() - before < 1000, True)


@trap
def many_locks_in_any_order():
    orphan()
    locks = [threading.Lock() for _ in range(1000)]
    random.seed(5)
    for _ in range(5):
        for lock in locks:
            lock.acquire()
        random.shuffle(locks)
        for lock in locks:
            lock.release()
    with contextlib.ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)
        got = child(lambda: sum(lock.acquire(False) for lock in locks))
    return check((got, sum(lock.acquire(False) for lock in locks)), ("0", 1000))


@trap
def a_handler_releases_while_another_waits():
    lock, done = threading.Lock(), []
    lock.acquire()
    on_alarm(lambda: (done.append(True), lock.release()), LATER)
    waiter = thread(lambda: (lock.acquire(), done.append(len(done))))
    waiter.join(LONG)
    return check(done, [True, 1])


@trap
def an_event_that_nobody_sets_is_waited_for():
    orphan()
    event = threading.Event()

    def body():
        on_alarm(lambda: (_ for _ in ()).throw(TimeoutError()), LATER)
        return error_of(event.wait)

    return check(child(body), "'TimeoutError'")


if len(sys.argv) == 1:
    print(*traps)
else:
    print(traps[sys.argv[1]](), flush=True)
    os._exit(0)
