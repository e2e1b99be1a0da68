/*
 * CPython's own locks, by the sources of 3.9.2, 3.11.2 and 3.13.5 and the headers of 3.14 and 3.15. A vanished thread
 * has one only if it takes it without the GIL or lets the GIL go meanwhile. Who heals it in a child, what shows that:
 *
 *   the GIL                             PyOS_AfterFork_Child; past os.fork python/gil     state.py gil, forks_in_c.py
 *   list of threads, registry of data across interpreters, unicode ids, pending calls; from 3.13 on types, code, audit
 *     hooks, extensions, allocators     PyOS_AfterFork_Child; past os.fork to 3.12 repair/semaphore, later frees_mutex
 *                                                                                         state.py inner
 *   queues of sleepers (from 3.13)      PyOS_AfterFork_Child; past os.fork empty_queues   forks_in_c.py
 *   the import lock                     PyOS_BeforeFork has it; to 3.12 repair/semaphore  state.py imports
 *   modules' locks                      python/imports                                    state.py imports, wakeup
 *   Lock; RLock from 3.14 on            this file; before: repair/semaphore               locks.py, traps.py
 *   buffered files                      repair/semaphore                                  storms.py
 *   hashes and others of C modules      repair/semaphore; from 3.13 on some are PyMutexes: frees_mutex, in a child with
 *                                       threads gives_up, when all sleep                  state.py inner
 *   faulthandler's watchdog             posts: cancel_dump_traceback_later and the interpreter's end wait for it
 *                                                                                         state.py watchdog
 *   tracemalloc's tables                nobody: 0 of 40 children hung on 3.11, 3.13, 3.14, bare as well
 *   channels of sub-interpreters        nobody: no child lives beside such             state.py beside
 */
#include "config.h"

#include "base/sys.h"
#include "python/gil.h"
#include "python/locks.h"
#include "python/objects.h"
#include "python/orphans.h"
#include "python/places.h"
#include "repair/takeover.h"
#include "track/join.h"
#include "track/slots.h"

enum {
    MARKED = FSAFE_PYTHON_LOCKED | FSAFE_PYTHON_ORPHANED,
    WAITED_FOR = FSAFE_PYTHON_LOCKED | FSAFE_PYTHON_PARKED,
};

static struct fsafe_python_lock *lock_of(uintptr_t object)
{
    return (struct fsafe_python_lock *)object;
}

/* Whether the thread has a record that says it holds the lock. */
static bool has(const struct fsafe_thread *thread, uintptr_t object)
{
    struct fsafe_ledger_walk at = fsafe_ledger_walk(&thread->ledgers[FSAFE_PYTHON_LOCKS]);
    while (fsafe_ledger_next(&at))
        if (at.lock == (object | FSAFE_HELD))
            return true;
    return false;
}

/*
 * Whether the vanished thread's record, or that of another one, tells who has the lock: somebody has, and the forking
 * thread has not. A record that only says "wanted" counts where the lock has been through our hands: whoever waits may
 * have got it without a word, and before that it was released.
 */
static bool is_orphan(uintptr_t record, const struct fsafe_python_lock *lock, enum fsafe_python_kind kind,
                      const struct fsafe_thread *self)
{
    uintptr_t object = record & ~FSAFE_STAGE_MASK;
    if (kind == FSAFE_PYTHON_NO_LOCK || (lock->byte & MARKED) != FSAFE_PYTHON_LOCKED)
        return false;
    if (kind == FSAFE_PYTHON_RLOCK)
        return lock->owner != (uintptr_t)pthread_self();
    return (lock->history & FSAFE_PYTHON_EVENT) == 0 &&
           ((record & FSAFE_STAGE_MASK) == FSAFE_HELD || (lock->history & FSAFE_PYTHON_RELEASED) != 0) &&
           (self == NULL || !has(self, object));
}

/*
 * A thread that releases a lock wakes the first in its queue, and a vanished thread would pass nothing on. os.fork
 * empties the queues later; a fork past it does not: then 14 of 40 children with threads hung (3.13,
 * tests/python/forks_in_c). The forking thread is in a queue itself if a signal handler forks: then they stay.
 */
FSAFE_AT_FORK static void empty_queues(const struct fsafe_thread *self)
{
    if (fsafe_python._PyParkingLot_AfterFork == NULL)
        return;
    if (self != NULL)
        for (struct fsafe_ledger_walk at = fsafe_ledger_walk(&self->ledgers[FSAFE_PYTHON_LOCKS]);
             fsafe_ledger_next(&at);)
            if ((at.lock & FSAFE_STAGE_MASK) == FSAFE_WANTED)
                return;
    fsafe_python._PyParkingLot_AfterFork();
}

void fsafe_python_adopt(struct fsafe_thread *self)
{
    if (!fsafe_python_is_started())
        return;
    empty_queues(self);
    struct fsafe_python_lock copy;
    struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_PYTHON_LOCKS);
    while (fsafe_thread_record(&at))
        if (!at.of.thread->ended && at.of.generation == fsafe_lineage_generation() - 1 &&
            is_orphan(at.record.lock, &copy, fsafe_python_lock_at(at.address, &copy), self))
            lock_of(at.address)->byte |= FSAFE_PYTHON_ORPHANED;
}

static bool is_marked(const struct fsafe_python_lock *lock)
{
    return (lock->byte & MARKED) == MARKED;
}

void fsafe_python_clear_stale(struct fsafe_thread *vanished)
{
    struct fsafe_python_lock copy;
    for (struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_python(vanished)); fsafe_ledger_next(&at);)
        if (fsafe_python_lock_at(at.lock & ~FSAFE_STAGE_MASK, &copy) == FSAFE_PYTHON_NO_LOCK || !is_marked(&copy))
            fsafe_ledger_clear(fsafe_thread_python(vanished), at.index, at.lock);
}

/*
 * SIGINT has one in every program: the interpreter's own, which raises KeyboardInterrupt. A thread that has no state
 * yet would need locks of the interpreter's to make one: then the answer is no.
 */
static bool is_default_interrupt(void)
{
    if (!fsafe_python_is_running() || fsafe_python.PyGILState_GetThisThreadState() == NULL)
        return false;
    int state = fsafe_python.PyGILState_Ensure();
    const struct fsafe_python_error error = fsafe_python_keep_error();
    struct fsafe_object *get = fsafe_python_borrow("_signal", "getsignal");
    struct fsafe_object *now = get == NULL ? NULL : fsafe_python.PyObject_CallMethod(get, "__call__", "i", SIGINT);
    bool is_default = now != NULL && now == fsafe_python_borrow("_signal", "default_int_handler");
    fsafe_python_drop(now);
    fsafe_python_restore_error(&error);
    fsafe_python.PyGILState_Release(state);
    return is_default;
}

/* Another one than SIGINT's. faulthandler's handlers release nothing; they end the process. */
static bool has_handler(void)
{
    for (int signal = 1; signal < _NSIG; signal++) {
        if (signal == SIGINT || signal == SIGSEGV || signal == SIGFPE || signal == SIGABRT || signal == SIGBUS ||
            signal == SIGILL)
            continue;
        if (fsafe_python_is_text(fsafe_sys_handler_of(signal)))
            return true;
    }
    return false;
}

bool fsafe_python_may_be_interrupted(void)
{
    return has_handler() || (fsafe_python_is_text(fsafe_sys_handler_of(SIGINT)) && !is_default_interrupt());
}

bool fsafe_python_interrupt_is_default(void)
{
    return fsafe_python_gil_is_free() && fsafe_python_is_text(fsafe_sys_handler_of(SIGINT)) && is_default_interrupt();
}

/* Which thread or handler, beside its taker, may be meant to release a marked lock that is no event. */
static enum fsafe_hope hope_for(const struct fsafe_python_lock *lock, enum fsafe_python_kind kind)
{
    /* Nobody but its owner may release an RLock. */
    return kind == FSAFE_PYTHON_RLOCK || (lock->history & FSAFE_PYTHON_MUTUAL) != 0
               ? FSAFE_HOPES_FOR_NOBODY
               : fsafe_takeover_hope(fsafe_python_may_be_interrupted);
}

/* Takes the mark off a lock that still bears it, and leaves the bit `left`. Returns whether this caller did so. */
static bool unmark(struct fsafe_python_lock *lock, enum fsafe_python_kind kind, uint8_t left)
{
    uint8_t seen = __atomic_load_n(&lock->byte, __ATOMIC_ACQUIRE), freed;
    if (kind == FSAFE_PYTHON_RLOCK && is_marked(lock)) {
        __atomic_store_n(&lock->owner, 0, __ATOMIC_RELAXED);
        lock->level = 0;
    }
    do {
        if ((seen & MARKED) != MARKED)
            return false;
        freed = (uint8_t)((seen & ~MARKED) | left);
    } while (!__atomic_compare_exchange_n(&lock->byte, &seen, freed, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE));
    return true;
}

/* Under the latch. Completes the event that tell prints. */
static bool decide(struct fsafe_event *event, uintptr_t object, bool would_wait)
{
    struct fsafe_claims claims = fsafe_takeover_claims(fsafe_self, FSAFE_PYTHON_LOCKS, object, 0);
    return fsafe_takeover_decide(event, &claims, would_wait);
}

/* The lock is free afterwards, for a caller that would wait; else it is the caller's. */
static bool take_over(uintptr_t object, enum fsafe_python_kind kind, uintptr_t site, const char *why, bool would_wait)
{
    struct fsafe_event event = {
        .lock = kind == FSAFE_PYTHON_RLOCK ? "RLock" : "Lock",
        .kind = "Python",
        .address = object,
        .wanted_at = fsafe_python_site(site),
    };
    struct fsafe_sigset old;
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    bool taken = decide(&event, object, would_wait);
    if (taken && why != NULL) {
        taken = false;
        event.deed = FSAFE_REFUSED;
        event.why = why;
        event.worth_a_line = fsafe_takeover_is_worth_a_line(would_wait);
    }
    if (taken)
        taken = event.worth_a_line = unmark(lock_of(object), kind, would_wait ? 0 : FSAFE_PYTHON_LOCKED);
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    fsafe_takeover_tell(&event);
    return taken;
}

/*
 * A mutex inside the interpreter or one of its modules has the same two bits, and nothing says who took it. Its waiter
 * heeds no signal, so where that is the only thread nobody is there who could release it: it was a vanished thread's.
 * Events wait with other values. Initialisers that run once wait with the same, and one that vanished is run again.
 */
static bool frees_mutex(uintptr_t address, uintptr_t site)
{
    struct fsafe_event event = {.lock = "PyMutex", .kind = "Python", .address = address, .wanted_at = site};
    const struct fsafe_claims nobody = {.vanished = NULL};
    uint8_t seen;
    if (fsafe_python_version() < 0x030d || !fsafe_sys_peek(address, &seen, sizeof seen) || seen != WAITED_FOR ||
        !fsafe_takeover_is_alone())
        return false;
    bool taken = fsafe_takeover_decide(&event, &nobody, true);
    if (taken)
        __atomic_store_n((uint8_t *)address, FSAFE_PYTHON_PARKED, __ATOMIC_SEQ_CST);
    fsafe_takeover_tell(&event);
    return taken;
}

enum fsafe_python_parking fsafe_python_parks_in_lock(sem_t *semaphore, uintptr_t site, bool endless,
                                                     struct timespec *until)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t byte;
    if (self == NULL || !fsafe_python_is_text(site) ||
        !fsafe_sys_peek((uintptr_t)semaphore - sizeof byte, &byte, sizeof byte))
        return FSAFE_PYTHON_SLEEPS;
    uintptr_t object = byte - offsetof(struct fsafe_python_lock, byte);
    struct fsafe_python_lock copy;
    enum fsafe_python_kind kind = FSAFE_PYTHON_NO_LOCK;
    bool own = has(self, object);
    if (own || fsafe_lineage_is_child())
        kind = fsafe_python_lock_at(object, &copy);
    if (own && kind == FSAFE_PYTHON_LOCK)
        fsafe_python_lock_is_event(object, self); /* another thread is to release it: so Condition.wait sleeps */
    if (own || !fsafe_lineage_is_child())
        return FSAFE_PYTHON_SLEEPS;
    if (kind == FSAFE_PYTHON_NO_LOCK)
        return endless && frees_mutex(byte, site) ? FSAFE_PYTHON_LOOKS_AGAIN : FSAFE_PYTHON_SLEEPS;
    if (!is_marked(&copy))
        return FSAFE_PYTHON_SLEEPS;
    const char *why = "it is used as an event";
    if (kind == FSAFE_PYTHON_RLOCK || (copy.history & FSAFE_PYTHON_EVENT) == 0) {
        enum fsafe_hope hope = hope_for(&copy, kind); /* may wait for the GIL: before the latch */
        if (until == NULL && hope == FSAFE_HOPES_FOR_HANDLER)
            hope = FSAFE_HOPES_FOR_NOBODY; /* the handlers had their time */
        else if (until != NULL && fsafe_takeover_gives_time(hope, object, until))
            return FSAFE_PYTHON_SLEEPS_UNTIL;
        why = fsafe_takeover_why_not(hope);
    }
    return take_over(object, kind, site, why, true) ? FSAFE_PYTHON_LOOKS_AGAIN : FSAFE_PYTHON_SLEEPS;
}

bool fsafe_python_has_by_try(struct fsafe_python_lock *lock, enum fsafe_python_kind kind)
{
    return fsafe_lineage_is_child() && is_marked(lock) &&
           (kind == FSAFE_PYTHON_RLOCK || (lock->history & FSAFE_PYTHON_EVENT) == 0) &&
           take_over((uintptr_t)lock, kind, fsafe_python_places_instruction(0),
                     fsafe_takeover_why_not(hope_for(lock, kind)), false);
}

/* --- In a child with threads ------------------------------------------------------------------------------------ */

/*
 * What the caller sleeps for by that semaphore, and might be given once all threads sleep; 0: nothing of that kind. A
 * Lock that a vanished thread took and no other released so far, or a mutex inside: then nobody could release either.
 */
static uintptr_t find_given(uintptr_t semaphore, uintptr_t site, enum fsafe_python_kind *kind)
{
    struct fsafe_python_lock copy;
    uintptr_t byte;
    uint8_t seen;
    if (!fsafe_python_is_started() || fsafe_python.PyMutex_Unlock == NULL || !fsafe_python_is_text(site) ||
        !fsafe_sys_peek(semaphore - sizeof byte, &byte, sizeof byte) || !fsafe_sys_peek(byte, &seen, sizeof seen))
        return 0;
    *kind = fsafe_python_lock_at(byte - offsetof(struct fsafe_python_lock, byte), &copy);
    bool found = *kind == FSAFE_PYTHON_NO_LOCK ? seen == WAITED_FOR
                                               : is_marked(&copy) && (copy.history & FSAFE_PYTHON_EVENT) == 0;
    return found ? byte : 0;
}

bool fsafe_python_may_be_given(uintptr_t semaphore, uintptr_t site)
{
    enum fsafe_python_kind kind;
    return find_given(semaphore, site, &kind) != 0;
}

/* Released as its holder would have done it: the first in the queue is woken, which need not be the caller. */
bool fsafe_python_gives_up(uintptr_t semaphore, uintptr_t site)
{
    enum fsafe_python_kind kind = FSAFE_PYTHON_NO_LOCK;
    uintptr_t byte = find_given(semaphore, site, &kind), object = byte - offsetof(struct fsafe_python_lock, byte);
    bool is_lock = kind != FSAFE_PYTHON_NO_LOCK;
    if (byte == 0 || (!is_lock && has_handler()))
        return false;
    struct fsafe_event event = {
        .lock = is_lock ? "Lock" : "PyMutex",
        .kind = "Python",
        .address = is_lock ? object : byte,
        .wanted_at = is_lock ? fsafe_python_site(site) : site,
    };
    struct fsafe_sigset old;
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    bool given = find_given(semaphore, site, &kind) == byte && decide(&event, object, true);
    if (given)
        fsafe_python.PyMutex_Unlock((void *)byte);
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    fsafe_takeover_tell(&event);
    if (!given && fsafe_self->told_of == event.address)
        fsafe_self->told_of = semaphore; /* it is this wait that a line has named */
    return given;
}

bool fsafe_python_may_be_posted(uintptr_t semaphore, uintptr_t site)
{
    enum { NEAR = 1 << 16 };
    /* A waiter for one of the interpreter's mutexes is in a queue, and its semaphore in the frame of who waits. */
    bool is_in_frame = semaphore - (uintptr_t)__builtin_frame_address(0) < NEAR;
    return fsafe_python_is_started() && !is_in_frame && fsafe_python_state_with_gil() != NULL &&
           (fsafe_python_is_text(site) || fsafe_python_places_instruction(0) == site);
}

bool fsafe_python_posts(uintptr_t semaphore, uintptr_t site)
{
    struct fsafe_event event = {
        .lock = "semaphore",
        .kind = "the interpreter's",
        .in_use = true,
        .count = 1,
        .address = semaphore,
        .wanted_at = site,
    };
    const struct fsafe_claims nobody = {.vanished = NULL};
    bool posts = fsafe_takeover_is_alone() && fsafe_takeover_decide(&event, &nobody, true);
    if (posts)
        event.deed = FSAFE_FORGOT; /* the thread that is gone changes nothing */
    fsafe_takeover_tell(&event);
    return posts;
}
