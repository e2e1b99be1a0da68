/*
 * wrap/mutex: pthread_mutex_* and mtx_*, but for init and destroy (mutex-life.c). The common case (private, ordinary,
 * free) is done in place, so that the record costs no second call; libc does everything else. A thread makes the record
 * before it asks for the mutex and removes it after the release: whenever another thread forks, the child finds it.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "libc/layout.h"
#include "repair/hopeless.h"
#include "repair/mutex.h"
#include "track/gate.h"
#include "track/join.h"
#include "track/waiting.h"
#include "wrap/acquire.h"
#include "wrap/c11.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"
#include "wrap/until.h"

#include <errno.h>
#include <time.h>

static FSAFE_COLD int ask_libc(pthread_mutex_t *mutex, const struct fsafe_attempt *attempt)
{
    switch (attempt->how) {
    case FSAFE_HOW_TRY:
        return FSAFE_NEXT(pthread_mutex_trylock)(mutex);
    case FSAFE_HOW_UNTIL:
        return FSAFE_NEXT(pthread_mutex_timedlock)(mutex, attempt->until);
    case FSAFE_HOW_BY_CLOCK: {
#ifdef HAVE_PTHREAD_MUTEX_CLOCKLOCK
        return FSAFE_NEXT(pthread_mutex_clocklock)(mutex, attempt->clock, attempt->until);
#else
        const struct timespec by = fsafe_until_by(CLOCK_REALTIME, attempt->until);
        return FSAFE_NEXT(pthread_mutex_timedlock)(mutex, &by);
#endif
    }
    default:
        return FSAFE_NEXT(pthread_mutex_lock)(mutex);
    }
}

static enum fsafe_verdict judge(void *mutex, struct fsafe_thread *self, uintptr_t site,
                                const struct fsafe_attempt *attempt)
{
    return fsafe_mutex_judge(mutex, self, site, attempt->how != FSAFE_HOW_TRY);
}

/* Tries, for a call that may wait. */
static inline int try_for(pthread_mutex_t *mutex, struct fsafe_thread *self)
{
    int result = FSAFE_NEXT(pthread_mutex_trylock)(mutex);
    if (FSAFE_UNLIKELY(result == ENOTRECOVERABLE) && self != NULL)
        fsafe_layout_mutex_untry(mutex, fsafe_thread_owner(self));
    return result;
}

static int try(void *mutex, const struct fsafe_attempt *attempt)
{
    (void)attempt;
    return try_for(mutex, fsafe_self);
}

/*
 * Sleeps until the mutex may be free; false: the attempt's time is over. The one place where a thread sleeps for a
 * mutex that is locked in place. The thread is outside meanwhile: no fork waits for it, and it looks at the gate when
 * it wakes.
 */
static bool sleep_on(pthread_mutex_t *mutex, struct fsafe_thread *self, const struct fsafe_attempt *attempt)
{
    fsafe_gate_suspend(self, (uintptr_t)mutex);
    bool time_left = fsafe_layout_sleep_queued(mutex, attempt->clock, attempt->until);
    fsafe_gate_resume(self, (uintptr_t)mutex);
    return time_left;
}

/*
 * As libc would, but for the gate. A waiter that was woken asks once more before it returns ETIMEDOUT. EINTR: a signal
 * handler has forked, and the mutex is perhaps a vanished thread's in this child.
 */
static int wait_in_place(pthread_mutex_t *mutex, struct fsafe_thread *self, const struct fsafe_attempt *attempt)
{
    if (fsafe_layout_spin_for(mutex, fsafe_thread_owner(self)))
        return 0;
    for (bool time_left = true;; time_left = sleep_on(mutex, self, attempt)) {
        /* A woken waiter always tries once more: NO_SECOND_TRY of tests/model. */
        if (fsafe_layout_lock_queued(mutex, fsafe_thread_owner(self)))
            return 0;
        if (!time_left)
            return ETIMEDOUT;
        if (FSAFE_UNLIKELY(attempt->generation != fsafe_lineage_generation()))
            return EINTR;
    }
}

/* libc does the rest: mutexes that are not locked in place, tries, errors. */
static bool waits_in_place(const pthread_mutex_t *mutex, struct fsafe_thread *self, const struct fsafe_attempt *attempt)
{
    return attempt->how != FSAFE_HOW_TRY && fsafe_layout_waits_in_place(mutex, fsafe_thread_owner(self)) &&
           (attempt->until == NULL || (attempt->until->tv_sec >= 0 && fsafe_sys_is_valid(attempt->until)));
}

static int wait_for(pthread_mutex_t *mutex, struct fsafe_thread *self, const struct fsafe_attempt *attempt)
{
    return waits_in_place(mutex, self, attempt) ? wait_in_place(mutex, self, attempt) : ask_libc(mutex, attempt);
}

static bool is_past(const struct timespec *until)
{
#ifdef HAVE_PTHREAD_MUTEX_CLOCKLOCK
    return fsafe_sys_now_ns() >= fsafe_sys_ns(until);
#else /* the slice ended by the real-time clock, which may run a little faster: see fsafe_until_by */
    (void)until;
    return true;
#endif
}

/* A wait without a limit: in a child, see repair/hopeless.h. */
static FSAFE_COLD int wait_in_slices(pthread_mutex_t *mutex, struct fsafe_thread *self, const char *kind,
                                     uintptr_t site, const struct fsafe_attempt *attempt)
{
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "mutex", .kind = kind, .object = (uintptr_t)mutex,
                                            .bytes = sizeof *mutex, .site = site};
    if (fsafe_hopeless_begin(&slices, self, &wait)) {
        const struct fsafe_attempt slice = {
            .how = FSAFE_HOW_BY_CLOCK, .clock = CLOCK_MONOTONIC, .until = &slices.until,
            .generation = attempt->generation};
        int result;
        do
            result = wait_for(mutex, self, &slice);
        while (result == ETIMEDOUT && is_past(&slices.until) && fsafe_hopeless_goes_on(&slices));
        /*
         * A mutex with priority inheritance knows this clock since Linux 5.14. glibc before 2.34 takes the time for one
         * of the real-time clock, which is past: slice after slice would end at once.
         */
        bool is_refused = result == EINVAL && fsafe_layout_mutex_kind(mutex) != FSAFE_MUTEX_PRIO_PROTECT;
        if (result == ETIMEDOUT || is_refused)
            result = wait_for(mutex, self, attempt);
        fsafe_hopeless_end(&slices);
        return result;
    }
    return wait_for(mutex, self, attempt);
}

/* A process-shared mutex is never taken over, but a child may wait for it in vain as for any other. */
static FSAFE_COLD int ask_for_foreign(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site,
                                      const struct fsafe_attempt *attempt)
{
    fsafe_fork_notice();
    if (attempt->how != FSAFE_HOW_WAIT || !fsafe_lineage_is_child())
        return ask_libc(mutex, attempt);
    int result = try(mutex, attempt);
    return result != EBUSY ? result : wait_in_slices(mutex, self, "process-shared", site, attempt);
}

/* The record is made; the mutex was not free, or is not locked in place. */
static FSAFE_COLD int finish(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site,
                             const struct fsafe_attempt *asked)
{
    static const struct fsafe_acquired kind = {judge, try};
    struct fsafe_attempt attempt = *asked;
    int result;
    do {
        fsafe_fork_notice();
        attempt.generation = fsafe_lineage_generation();
        result = fsafe_lineage_is_child() ? fsafe_acquire_in_child(&kind, mutex, self, site, &attempt) : FSAFE_ASK_LIBC;
        if (result != FSAFE_ASK_LIBC)
            break;
        uint32_t wait = fsafe_thread_begin_wait(self, FSAFE_LOCKS, (uintptr_t)mutex);
        result = attempt.how == FSAFE_HOW_WAIT ? wait_in_slices(mutex, self, "private", site, &attempt)
                                               : wait_for(mutex, self, &attempt);
        fsafe_thread_end_wait(self, wait);
        fsafe_mutex_end_wait(mutex, self);
    } while (result == EINTR);
    atomic_store_explicit(&self->asking, 0, memory_order_release);
    if (result == EOWNERDEAD) {
        fsafe_layout_mutex_name_heir(mutex, fsafe_thread_owner(self), self->tid);
        return result; /* the caller holds it, too */
    }
    if (result == 0)
        fsafe_layout_mutex_note(mutex, fsafe_thread_owner(self));
    /* One record stands for all the depth of a recursive mutex. */
    if (result != 0 || fsafe_layout_mutex_depth(mutex) > 1)
        fsafe_ledger_drop(fsafe_thread_locks(self), (uintptr_t)mutex);
    return result;
}

/*
 * The record is made; libc locks mutexes of this kind; the process is no child. Tries, which does to a free mutex what
 * a lock does, errors included. Returns whether the result is the call's: a second call may get another one (glibc's of
 * a mutex with priority ceiling, in a thread that may not have the ceiling, fails once and then succeeds).
 */
static bool try_for_libc(pthread_mutex_t *mutex, struct fsafe_thread *self, int *result)
{
    *result = try_for(mutex, self);
    if (*result == EBUSY)
        return false;
    if (*result != EOWNERDEAD && (*result != 0 || fsafe_layout_mutex_depth(mutex) > 1))
        fsafe_ledger_drop(fsafe_thread_locks(self), (uintptr_t)mutex);
    return true;
}

static FSAFE_APART int acquire_slowly(pthread_mutex_t *mutex, uintptr_t site, const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    bool in_place = fsafe_layout_in_place(mutex);
    enum fsafe_mutex_kind kind = in_place ? FSAFE_MUTEX_NORMAL : fsafe_layout_mutex_kind(mutex);
    if (self == NULL)
        return ask_libc(mutex, attempt);
    if (kind == FSAFE_MUTEX_FOREIGN)
        return ask_for_foreign(mutex, self, site, attempt);
    self->took_by_word |= fsafe_layout_is_by_word(kind);
    int owner = fsafe_thread_owner(self);
    /* In a child the owner that the bytes name may be a vanished thread with the same id as this one. */
    if (in_place && (!fsafe_lineage_is_child() || fsafe_ledger_find(fsafe_thread_locks(self), (uintptr_t)mutex) != 0) &&
        fsafe_layout_relock(mutex, owner, fsafe_layout_type(mutex)))
        return 0;
    if (!fsafe_gate_push(fsafe_thread_locks(self), (uintptr_t)mutex, site) &&
        !fsafe_gate_push_slowly(fsafe_thread_locks(self), (uintptr_t)mutex, site,
                                fsafe_thread_is_stale, self))
        return ask_libc(mutex, attempt);
    if (in_place && fsafe_layout_lock_free(mutex, owner, fsafe_layout_type(mutex)))
        return 0;
    int result;
    if (!in_place && !fsafe_lineage_is_child() && !fsafe_lineage_may_be_unadopted() &&
        try_for_libc(mutex, self, &result))
        return result;
    return finish(mutex, self, site, attempt);
}

/* The other types that are locked in place, as far as they differ from the common one. */
static FSAFE_APART int acquire(pthread_mutex_t *mutex, uintptr_t site, const struct fsafe_attempt *attempt,
                               struct fsafe_thread *self, unsigned type)
{
    int owner = self->sure_owner;
    if (FSAFE_UNLIKELY(owner == 0 || type > FSAFE_MUTEX_ADAPTIVE))
        return acquire_slowly(mutex, site, attempt);
    if (fsafe_layout_relock(mutex, owner, type))
        return 0;
    if (FSAFE_UNLIKELY(!fsafe_gate_push(fsafe_thread_locks(self), (uintptr_t)mutex, site)))
        return acquire_slowly(mutex, site, attempt);
    return FSAFE_LIKELY(fsafe_layout_lock_free(mutex, owner, type)) ? 0 : finish(mutex, self, site, attempt);
}

static FSAFE_INLINE int lock(pthread_mutex_t *mutex, uintptr_t site, const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_UNLIKELY(self == NULL))
        return acquire_slowly(mutex, site, attempt);
    unsigned type = fsafe_layout_type(mutex);
    if (FSAFE_UNLIKELY(type != PTHREAD_MUTEX_NORMAL ||
                       !fsafe_gate_push(fsafe_thread_locks(self), (uintptr_t)mutex, site)))
        return acquire(mutex, site, attempt, self, type);
    return FSAFE_LIKELY(fsafe_layout_lock_free(mutex, self->owner, PTHREAD_MUTEX_NORMAL))
               ? 0 : finish(mutex, self, site, attempt);
}

FSAFE_EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    static const struct fsafe_attempt attempt = {.how = FSAFE_HOW_WAIT};
    return lock(mutex, FSAFE_CALLER(), &attempt);
}

FSAFE_EXPORT int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    static const struct fsafe_attempt attempt = {.how = FSAFE_HOW_TRY};
    return lock(mutex, FSAFE_CALLER(), &attempt);
}

FSAFE_TIMED(pthread_mutex_timedlock, __pthread_mutex_timedlock64, (pthread_mutex_t *mutex), (mutex),
            lock(mutex, FSAFE_CALLER(),
                 &(const struct fsafe_attempt){.how = FSAFE_HOW_UNTIL, .clock = CLOCK_REALTIME, .until = until}))

#ifdef HAVE_PTHREAD_MUTEX_CLOCKLOCK
/* Another clock is an error, also when the mutex is free. */
FSAFE_TIMED(pthread_mutex_clocklock, __pthread_mutex_clocklock64, (pthread_mutex_t *mutex, clockid_t clock),
            (mutex, clock),
            FSAFE_UNLIKELY(clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
                ? FSAFE_NEXT(pthread_mutex_clocklock)(mutex, clock, until)
                : lock(mutex, FSAFE_CALLER(),
                       &(const struct fsafe_attempt){.how = FSAFE_HOW_BY_CLOCK, .clock = clock, .until = until}))
#endif

/* For a mutex that is not unlocked in place. */
static FSAFE_APART int release(pthread_mutex_t *mutex)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    fsafe_layout_mutex_note(mutex, 0);
    if (self == NULL || fsafe_layout_mutex_kind(mutex) == FSAFE_MUTEX_FOREIGN)
        return FSAFE_NEXT(pthread_mutex_unlock)(mutex);
    fsafe_fork_notice();
    if (fsafe_lineage_is_child())
        fsafe_mutex_rehome(mutex, self);
    bool last = fsafe_layout_mutex_depth(mutex) <= 1;
    int result = FSAFE_NEXT(pthread_mutex_unlock)(mutex);
    if (result == 0 && last)
        fsafe_ledger_drop(fsafe_thread_locks(self), (uintptr_t)mutex);
    return result;
}

/* The mutex may be gone, except with FSAFE_UNLOCK_LIBC. */
static FSAFE_APART int finish_unlock(pthread_mutex_t *mutex, struct fsafe_thread *self, enum fsafe_unlocked unlocked)
{
    if (unlocked == FSAFE_UNLOCK_LIBC)
        return release(mutex);
    if (unlocked == FSAFE_UNLOCKED_WAKE)
        fsafe_layout_mutex_wake(mutex);
    fsafe_ledger_drop(fsafe_thread_locks(self), (uintptr_t)mutex);
    return 0;
}

static FSAFE_INLINE int unlock_of_type(pthread_mutex_t *mutex, struct fsafe_thread *self, unsigned type)
{
    enum fsafe_unlocked unlocked = fsafe_layout_unlock(mutex, self->owner, type);
    if (unlocked == FSAFE_UNLOCKED_ONCE ||
        FSAFE_LIKELY(unlocked == FSAFE_UNLOCKED &&
                     fsafe_ledger_pop_latest(fsafe_thread_locks(self), (uintptr_t)mutex)))
        return 0;
    return finish_unlock(mutex, self, unlocked);
}

static FSAFE_INLINE int unlock(pthread_mutex_t *mutex)
{
    struct fsafe_thread *self = fsafe_self;
    unsigned type = fsafe_layout_type(mutex);
    if (FSAFE_UNLIKELY(self == NULL || type > FSAFE_MUTEX_ADAPTIVE))
        return release(mutex);
    return FSAFE_LIKELY(type == PTHREAD_MUTEX_NORMAL) ? unlock_of_type(mutex, self, PTHREAD_MUTEX_NORMAL)
                                                      : unlock_of_type(mutex, self, type);
}

FSAFE_EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    return unlock(mutex);
}

#ifdef FSAFE_C11
/* C11's mutex is the same object under another name; libc's mtx_* do not call pthread_mutex_*. */

FSAFE_EXPORT int mtx_lock(mtx_t *mutex)
{
    static const struct fsafe_attempt attempt = {.how = FSAFE_HOW_WAIT};
    return fsafe_c11_is_other() ? fsafe_next.mtx_lock(mutex)
                                : fsafe_c11_result(lock(fsafe_c11_mutex(mutex), FSAFE_CALLER(), &attempt));
}

FSAFE_EXPORT int mtx_trylock(mtx_t *mutex)
{
    static const struct fsafe_attempt attempt = {.how = FSAFE_HOW_TRY};
    return fsafe_c11_is_other() ? fsafe_next.mtx_trylock(mutex)
                                : fsafe_c11_result(lock(fsafe_c11_mutex(mutex), FSAFE_CALLER(), &attempt));
}

FSAFE_TIMED(mtx_timedlock, __mtx_timedlock64, (mtx_t *mutex), (mutex),
            fsafe_c11_is_other() ? fsafe_next.mtx_timedlock(mutex, until) : fsafe_c11_result(lock(
                fsafe_c11_mutex(mutex), FSAFE_CALLER(),
                &(const struct fsafe_attempt){.how = FSAFE_HOW_UNTIL, .clock = CLOCK_REALTIME, .until = until})))

FSAFE_EXPORT int mtx_unlock(mtx_t *mutex)
{
    if (fsafe_c11_is_other())
        return fsafe_next.mtx_unlock(mutex);
    int result = unlock(fsafe_c11_mutex(mutex));
    return FSAFE_LAYOUT_C11_UNLOCK_MAPS ? fsafe_c11_result(result) : result;
}
#endif

#if HAVE_DECL_GNU_GET_LIBC_VERSION
FSAFE_DEFINE_ALIAS(__pthread_mutex_lock, pthread_mutex_lock);
FSAFE_DEFINE_ALIAS(__pthread_mutex_trylock, pthread_mutex_trylock);
FSAFE_DEFINE_ALIAS(__pthread_mutex_unlock, pthread_mutex_unlock);
#endif
