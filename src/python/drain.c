/* python/drain: see drain.h. All of this runs under the GIL, but for the pauses. */
#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "python/drain.h"
#include "python/imports.h"
#include "python/locks.h"
#include "python/objects.h"
#include "python/tokens.h"
#include "python/waiters.h"
#include "track/join.h"
#include "track/slots.h"

#include <stddef.h>

enum { SHARE = 20, LIMIT_SHARE = 4, SHORT_PAUSE_US = 50, LONG_PAUSE_US = 200, SHORT_PAUSES = 10, PAUSE_COUNTS = 4 };
enum { LEAST_US = 500, MOST_HALVINGS = 16 };

/* The drain for the fork that comes next has given up: it is not begun again, see register_once_more. */
static bool in_vain;

/* Whether a lock on record is there and taken. A sleeping waiter of a Condition has none, see python/locks. */
static bool holds_lock(const struct fsafe_thread *thread)
{
    struct fsafe_ledger_walk at = fsafe_ledger_walk(&thread->ledgers[FSAFE_PYTHON_LOCKS]);
    struct fsafe_python_lock copy;
    while (fsafe_ledger_next(&at))
        if ((at.lock & FSAFE_STAGE_MASK) == FSAFE_HELD &&
            fsafe_python_lock_at(at.lock & ~FSAFE_STAGE_MASK, &copy) != FSAFE_PYTHON_NO_LOCK &&
            (copy.byte & FSAFE_PYTHON_LOCKED) != 0)
            return true;
    return false;
}

static bool is_inside(struct fsafe_thread *thread)
{
    return holds_lock(thread) || fsafe_python_lock_has_tokens(thread);
}

/*
 * How many more drains waited in vain than did not. Threads that hand a lock on to each other leave no moment at which
 * the lock is free, and each of them is seen without it: then no thread is to blame, and the next forks wait less long.
 */
static unsigned handed_on;

/* How long a drain may wait for the thread; 0: the drains have given it up. */
static uint64_t patience_us(const struct fsafe_thread *thread)
{
    uint64_t most_us = (uint64_t)fsafe_options.drain_ms * 1000 / SHARE >> thread->python_outlasted;
    return most_us < LEAST_US ? 0 : most_us;
}

enum look { NOBODY_INSIDE, WORTH_WAITING, IN_VAIN };

/* Whether a thread is inside, and whether it is worth waiting for one of them, after `waited_us`. */
static enum look look(const struct fsafe_thread *self, uint64_t waited_us)
{
    enum look found = NOBODY_INSIDE;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);) {
        if (at.thread == self)
            continue;
        if (is_inside(at.thread)) {
            uint64_t most_us = patience_us(at.thread) >> handed_on;
            if (most_us >= LEAST_US && waited_us < most_us)
                found = WORTH_WAITING;
            else if (found == NOBODY_INSIDE)
                found = IN_VAIN;
        } else if (at.thread->python_outlasted != 0) {
            at.thread->python_outlasted = 0;
        }
    }
    return found;
}

/* Notes which threads the drain gives up. */
static void remember_in_vain(const struct fsafe_thread *self)
{
    bool contended = false;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);) {
        if (at.thread == self || !is_inside(at.thread))
            continue;
        contended |= patience_us(at.thread) != 0;
        if (at.thread->python_outlasted < MOST_HALVINGS)
            at.thread->python_outlasted++;
    }
    if (contended && handed_on < MOST_HALVINGS)
        handed_on++;
}

static void pause_without_gil(unsigned pause_us)
{
    void *state = fsafe_python.PyEval_SaveThread();
    fsafe_sys_pause_us(pause_us);
    fsafe_python.PyEval_RestoreThread(state);
}

static bool are_others_importing(void)
{
    return fsafe_python_imports_are_going_on() && fsafe_python_imports_are_others();
}

/* Waits for a bounded time until no other thread imports. Returns whether that was in vain. */
static bool wait_for_imports(void)
{
    static unsigned outlasted; /* so many forks in a row */
    uint64_t most_ns = (uint64_t)fsafe_options.drain_ms * 1000000 >> outlasted, begun_ns = fsafe_sys_now_ns();
    bool others;
    while ((others = are_others_importing()) &&
           fsafe_sys_now_ns() - begun_ns < (fsafe_python_imports_stay() ? most_ns / SHARE : most_ns))
        pause_without_gil(LONG_PAUSE_US);
    if (others || outlasted != 0) /* a store costs the page that the last child shares */
        outlasted = others ? outlasted + (outlasted < 16) : 0;
    return others;
}

/*
 * Waits until no other thread is inside. On a busy machine a pause takes long because neither this thread nor those
 * that the drain waits for get a processor: so a pause counts for a few times its length at most, up to a limit for all
 * pauses together. Returns as above.
 */
static bool wait_for_locks(const struct fsafe_thread *self)
{
    uint64_t begun_ns = fsafe_sys_now_ns(), waited_us = 0;
    uint64_t limit_ns = (uint64_t)fsafe_options.drain_ms * 1000000 / LIMIT_SHARE >> handed_on;
    enum look found;
    for (unsigned pauses = 0; (found = look(self, waited_us)) == WORTH_WAITING; pauses++) {
        unsigned pause_us = pauses < SHORT_PAUSES ? SHORT_PAUSE_US : LONG_PAUSE_US;
        uint64_t from_ns = fsafe_sys_now_ns();
        if (from_ns - begun_ns > limit_ns)
            break;
        pause_without_gil(pause_us);
        uint64_t took_us = (fsafe_sys_now_ns() - from_ns) / 1000;
        waited_us += took_us < PAUSE_COUNTS * pause_us ? took_us : PAUSE_COUNTS * pause_us;
    }
    if (found != NOBODY_INSIDE)
        remember_in_vain(self);
    else if (handed_on != 0)
        handed_on--;
    return found != NOBODY_INSIDE;
}

static void drain(const struct fsafe_thread *self)
{
    bool imports = wait_for_imports(); /* first: it may take long, and threads take locks meanwhile */
    if (wait_for_locks(self) || imports)
        in_vain = true;
}

static void register_once_more(void);

static struct fsafe_object *before_fork(struct fsafe_object *module, struct fsafe_object *arguments)
{
    (void)module, (void)arguments;
    struct fsafe_thread *self = fsafe_thread_join();
    if (self != NULL && !in_vain && fsafe_python_is_started() && fsafe_python_has_gil())
        drain(self);
    fsafe_python_waiters_find(); /* the program may have loaded threading since */
    fsafe_python_tokens_find();
    register_once_more();
    struct fsafe_object *none = fsafe_python._Py_NoneStruct;
    fsafe_python.Py_IncRef(none);
    return none;
}

/* A row as in a module's table of functions: PyMethodDef, which the C API makes public. */
static struct {
    const char *name;
    struct fsafe_object *(*function)(struct fsafe_object *, struct fsafe_object *);
    int flags;
    const char *about;
} row = {"forksafe_drain", before_fork, 4 /* without arguments */, NULL};

static struct fsafe_object *function; /* before_fork, one object however often it is registered: a fork writes to it */
static bool registered_twice;

/* os.register_at_fork(before=...) */
static bool register_drain(void)
{
    if (function == NULL)
        function = fsafe_python.PyCFunction_NewEx(&row, NULL, NULL);
    struct fsafe_object *ask = fsafe_python_borrow("posix", "register_at_fork");
    struct fsafe_object *positional = fsafe_python.PyTuple_New(0), *named = fsafe_python.PyDict_New();
    struct fsafe_object *result = NULL;
    if (ask != NULL && function != NULL && positional != NULL && named != NULL &&
        fsafe_python.PyDict_SetItemString(named, "before", function) == 0)
        result = fsafe_python.PyObject_Call(ask, positional, named);
    fsafe_python_drop(positional), fsafe_python_drop(named), fsafe_python_drop(result);
    if (result == NULL)
        fsafe_python.PyErr_Clear();
    return result != NULL;
}

/*
 * The function that was registered last is called first: it has to come before logging and others take their own locks
 * for the fork, which the threads that are to get out may want. At the first fork the program's imports are mostly
 * done, so the drain is registered once more then.
 */
static void register_once_more(void)
{
    if (!registered_twice) {
        registered_twice = true;
        register_drain();
    }
}

void fsafe_python_drain_start(void)
{
    function = NULL;
    registered_twice = false;
    if (fsafe_options.drain_ms != 0 && fsafe_options.mode == FSAFE_MODE_REPAIR && !register_drain())
        fsafe_python_off("Python: this CPython takes no function to call before a fork: it is not looked after");
}

void fsafe_python_drain_end(void)
{
    if (in_vain)
        in_vain = false;
}
