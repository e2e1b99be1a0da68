/*
 * wrap/semaphore: sem_*. A semaphore that is used as a lock is recorded; an event passes through after one look
 * at its note. After a real wait or post the semaphore is never touched again: it may be gone.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "repair/semaphore.h"
#include "wrap/next.h"
#include "wrap/slices.h"

#include <errno.h>
#include <time.h>

enum how { WAIT, TRYWAIT, TIMEDWAIT, CLOCKWAIT };

struct attempt {
    enum how how;
    clockid_t clock;
    const struct timespec *until; /* NULL: no limit */
};

static int ask_libc(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site, const struct attempt *attempt)
{
    switch (attempt->how) {
    case TRYWAIT:
        return FSAFE_NEXT(sem_trywait)(semaphore);
    case TIMEDWAIT:
        return FSAFE_NEXT(sem_timedwait)(semaphore, attempt->until);
#ifdef HAVE_SEM_CLOCKWAIT
    case CLOCKWAIT:
        return FSAFE_NEXT(sem_clockwait)(semaphore, attempt->clock, attempt->until);
#endif
    default:
        return fsafe_slices_sem_wait(semaphore, self, site);
    }
}

/* Whether the thread's latest record is `word`, and if so where. */
static inline struct fsafe_record *latest(const struct fsafe_ledger *tokens, uintptr_t word)
{
    struct fsafe_record *record = fsafe_ledger_record(tokens, fsafe_ledger_depth(tokens));
    return FSAFE_LIKELY(atomic_load_explicit(&record->lock, memory_order_relaxed) == word) ? record : NULL;
}

static FSAFE_COLD void mark_held_inner(struct fsafe_ledger *tokens, uintptr_t lock, uintptr_t site)
{
    uint32_t index = fsafe_ledger_find(tokens, lock);
    if (index != 0)
        atomic_store_explicit(&fsafe_ledger_record(tokens, index)->lock, lock | FSAFE_HELD, memory_order_release);
    else /* a signal handler needed room and dropped it */
        fsafe_ledger_push(tokens, lock | FSAFE_HELD, site);
}

static inline void mark_held(struct fsafe_thread *self, uintptr_t lock, uintptr_t site)
{
    struct fsafe_record *record = latest(fsafe_thread_tokens(self), lock | FSAFE_WANTED);
    if (FSAFE_LIKELY(record != NULL))
        atomic_store_explicit(&record->lock, lock | FSAFE_HELD, memory_order_release);
    else
        mark_held_inner(fsafe_thread_tokens(self), lock, site);
}

/*
 * In a child, before the real call. Returns whether the caller has a token now. While a living thread is just
 * taking or posting it, it is tried until that is over.
 */
static bool granted_in_child(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site,
                             const struct attempt *attempt)
{
    for (struct fsafe_patience patience = {0};;) {
        enum fsafe_verdict verdict = fsafe_semaphore_judge(semaphore, self, site, attempt->how != TRYWAIT);
        if (verdict != FSAFE_UNDECIDED)
            return verdict == FSAFE_TAKEN;
        atomic_store(&self->asking, 0);
        if (fsafe_layout_sem_try(semaphore))
            return true;
        if (attempt->how == TRYWAIT)
            return false;
        atomic_store_explicit(&self->asking, (uintptr_t)semaphore, memory_order_release);
        bool more = fsafe_takeover_be_patient(&patience, attempt->clock, attempt->until);
        atomic_store(&self->asking, 0);
        pthread_testcancel();
        if (!more)
            return false; /* libc words the timeout */
    }
}

static bool is_held(struct fsafe_thread *self, uint32_t index, uintptr_t lock)
{
    return atomic_load_explicit(&fsafe_ledger_record(fsafe_thread_tokens(self), index)->lock,
                                memory_order_relaxed) == (lock | FSAFE_HELD);
}

/* Whether this thread already has the token that it asks for (its latest record is the asking). */
static bool has_it_already(struct fsafe_thread *self, uintptr_t lock)
{
    for (uint32_t i = fsafe_ledger_depth(fsafe_thread_tokens(self)); i > 0; i--)
        if (is_held(self, i, lock))
            return true;
    return false;
}

/* There was no token; the record says wanted. */
static FSAFE_COLD int finish(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site,
                             const struct attempt *attempt)
{
    uintptr_t lock = (uintptr_t)semaphore;
    fsafe_fork_notice();
    if (has_it_already(self, lock)) {
        fsafe_ledger_drop(fsafe_thread_tokens(self), lock | FSAFE_WANTED);
        if (attempt->how != TRYWAIT) {
            /* Only another thread's post can end this wait: CPython's Condition parks its waiters so. */
            fsafe_semaphore_is_event(semaphore);
            fsafe_ledger_drop(fsafe_thread_tokens(self), lock | FSAFE_HELD);
        }
        return ask_libc(semaphore, self, site, attempt);
    }
    if (fsafe_lineage_is_child() && granted_in_child(semaphore, self, site, attempt)) {
        mark_held(self, lock, site);
        return 0;
    }
    /*
     * A wait that is cancelled, or left by siglongjmp, leaves its record as wanted: no proof of anything, and dropped
     * when the thread ends, forks, or the ledger fills. (A cleanup handler here would outlive its frame under siglongjmp.)
     */
    uint32_t wait = fsafe_thread_begin_wait(self, FSAFE_TOKENS, lock | FSAFE_WANTED);
    int result = ask_libc(semaphore, self, site, attempt);
    fsafe_thread_end_wait(self, wait);
    atomic_store(&self->asking, 0);
    if (result == 0)
        mark_held(self, lock, site);
    else
        fsafe_ledger_drop(fsafe_thread_tokens(self), lock | FSAFE_WANTED);
    return result;
}

static inline int take(sem_t *semaphore, uintptr_t site, const struct attempt *attempt)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t lock = (uintptr_t)semaphore;
    if (FSAFE_UNLIKELY(self == NULL))
        self = fsafe_thread_join();
    if (self == NULL || !fsafe_semaphore_is_lock(semaphore))
        return ask_libc(semaphore, self, site, attempt);
    if (attempt->how != TRYWAIT)
        pthread_testcancel(); /* the real wait acts upon a cancellation even when there is a token */
    if (!fsafe_ledger_push(fsafe_thread_tokens(self), lock | FSAFE_WANTED, site) &&
        !fsafe_ledger_push_full(fsafe_thread_tokens(self), lock | FSAFE_WANTED, site, fsafe_semaphore_is_stale, self))
        return ask_libc(semaphore, self, site, attempt);
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()) && fsafe_layout_sem_value(semaphore) != 0) {
        fsafe_fork_notice();
        fsafe_semaphore_settle(semaphore, self);
    }
    if (FSAFE_LIKELY(fsafe_layout.sem_in_place && fsafe_layout_sem_try(semaphore))) {
        mark_held(self, lock, site);
        return 0;
    }
    return finish(semaphore, self, site, attempt);
}

FSAFE_EXPORT int sem_wait(sem_t *semaphore)
{
    static const struct attempt attempt = {.how = WAIT};
    return take(semaphore, FSAFE_CALLER(), &attempt);
}

FSAFE_EXPORT int sem_trywait(sem_t *semaphore)
{
    static const struct attempt attempt = {.how = TRYWAIT};
    return take(semaphore, FSAFE_CALLER(), &attempt);
}

/* libc refuses an impossible time even when there is a token. */
static bool is_valid(const struct timespec *until)
{
    return until->tv_nsec >= 0 && until->tv_nsec < 1000000000;
}

FSAFE_EXPORT int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
    if (!is_valid(until))
        return FSAFE_NEXT(sem_timedwait)(semaphore, until);
    return take(semaphore, FSAFE_CALLER(),
                &(const struct attempt){.how = TIMEDWAIT, .clock = CLOCK_REALTIME, .until = until});
}

#ifdef HAVE_SEM_CLOCKWAIT
FSAFE_EXPORT int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
{
    if (!is_valid(until) || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC))
        return FSAFE_NEXT(sem_clockwait)(semaphore, clock, until);
    return take(semaphore, FSAFE_CALLER(),
                &(const struct attempt){.how = CLOCKWAIT, .clock = clock, .until = until});
}
#endif

static FSAFE_COLD struct fsafe_record *held_inner(struct fsafe_thread *self, uintptr_t lock)
{
    uint32_t index = fsafe_ledger_find(fsafe_thread_tokens(self), lock);
    return index != 0 && is_held(self, index, lock) ? fsafe_ledger_record(fsafe_thread_tokens(self), index) : NULL;
}

/*
 * Not this thread's to release. A child may do it for a thread that vanished (CPython does, for the lock that stands
 * for a thread's life); everybody else announces an event.
 */
static FSAFE_COLD int post_of_another(sem_t *semaphore, const struct fsafe_thread *self)
{
    fsafe_fork_notice();
    if (!fsafe_lineage_is_child() || !fsafe_semaphore_settle(semaphore, self))
        fsafe_semaphore_handed_over(semaphore);
    return FSAFE_NEXT(sem_post)(semaphore);
}

FSAFE_EXPORT int sem_post(sem_t *semaphore)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t lock = (uintptr_t)semaphore;
    if (FSAFE_UNLIKELY(self == NULL))
        self = fsafe_thread_join();
    if (self == NULL || !fsafe_semaphore_is_lock(semaphore))
        return FSAFE_NEXT(sem_post)(semaphore);
    struct fsafe_record *record = latest(fsafe_thread_tokens(self), lock | FSAFE_HELD);
    if (FSAFE_UNLIKELY(record == NULL) && (record = held_inner(self, lock)) == NULL)
        return post_of_another(semaphore, self);
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child())) {
        fsafe_fork_notice();
        fsafe_semaphore_settle(semaphore, self);
    }
    atomic_store_explicit(&record->lock, lock | FSAFE_LEAVING, memory_order_release);
    int result = FSAFE_LIKELY(fsafe_layout_sem_post(semaphore)) ? 0 : FSAFE_NEXT(sem_post)(semaphore);
    fsafe_ledger_drop(fsafe_thread_tokens(self), lock | FSAFE_LEAVING);
    return result;
}

FSAFE_EXPORT int sem_init(sem_t *semaphore, int process_shared, unsigned value)
{
    int result = FSAFE_NEXT(sem_init)(semaphore, process_shared, value);
    if (result == 0 && fsafe_thread_join() != NULL) {
        fsafe_semaphore_born(semaphore, process_shared, value);
        fsafe_ledger_drop(fsafe_thread_tokens(fsafe_self), (uintptr_t)semaphore);
    }
    return result;
}

FSAFE_EXPORT int sem_destroy(sem_t *semaphore)
{
    if (fsafe_self != NULL && fsafe_semaphore_is_lock(semaphore)) {
        fsafe_semaphore_dies(semaphore);
        fsafe_ledger_drop(fsafe_thread_tokens(fsafe_self), (uintptr_t)semaphore | FSAFE_HELD);
    }
    return FSAFE_NEXT(sem_destroy)(semaphore);
}
