/* wrap/slices: see slices.h. */
#include "config.h"

#include "base/sys.h"
#include "libc/fresh.h"
#include "libc/layout.h"
#include "python/orphans.h"
#include "repair/asleep.h"
#include "repair/hopeless.h"
#include "repair/monitor.h"
#include "repair/semaphore.h"
#include "repair/takeover.h"
#include "track/gate.h"
#include "wrap/next.h"
#include "wrap/slices.h"

#include <errno.h>

/* --- Semaphores: the one wait that a signal handler ends with EINTR ------------------------------------------ */

#ifdef HAVE_SEM_CLOCKWAIT
/*
 * A slice that goes on after those handlers after which sem_wait goes on. Only a handler can post while the thread is
 * alone, so no waiter need be counted. As sem_wait it acts upon a cancellation at once.
 */
static int sleep_alone(sem_t *semaphore, const struct timespec *until)
{
    while (!fsafe_layout_sem_try(semaphore)) {
        int type;
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
        long answer = fsafe_sys_futex_waitv(fsafe_layout_sem_word(semaphore), 0, until);
        pthread_setcanceltype(type, NULL);
        if (answer != 0 && answer != -EAGAIN) {
            errno = (int)-answer;
            return -1;
        }
    }
    return 0;
}

/* Slow for another object than last time. */
static bool is_known_shared(uintptr_t object)
{
    static _Atomic uintptr_t last;
    if (atomic_load_explicit(&last, memory_order_relaxed) == object)
        return true;
    if (!fsafe_takeover_is_shared(object))
        return false;
    atomic_store_explicit(&last, object, memory_order_relaxed);
    return true;
}

/* A lock that a vanished thread took and that nobody else released by now; signal handlers had a slice's time for it. */
static bool post_instead(uintptr_t object, uintptr_t site)
{
    return fsafe_semaphore_gives_up((sem_t *)object, site) && FSAFE_NEXT(sem_post)((sem_t *)object) == 0;
}

int fsafe_slices_sem_wait(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site)
{
    struct fsafe_slices slices;
    bool shared = fsafe_layout_sem_is_shared(semaphore);
    const struct fsafe_untimed_wait wait = {.lock = "semaphore", .kind = shared ? "process-shared" : "private",
                                    .object = (uintptr_t)semaphore, .bytes = sizeof *semaphore, .site = site,
                                    .give = fsafe_semaphore_is_unproven(semaphore) ? post_instead : NULL};
    /* One that is meant for several processes may yet lie where no other reaches. */
    if (FSAFE_LIKELY(!fsafe_lineage_is_child()) || (shared && is_known_shared((uintptr_t)semaphore)))
        return FSAFE_NEXT(sem_wait)(semaphore);
    pthread_testcancel(); /* the real wait acts upon a cancellation even when there is a token */
    if (fsafe_layout_sem_word(semaphore) != NULL && fsafe_layout_sem_try(semaphore))
        return 0;
    if (!fsafe_hopeless_begin(&slices, self, &wait))
        return FSAFE_NEXT(sem_wait)(semaphore);
    int result, saved = errno;
    bool exactly = !shared && fsafe_layout_sem_word(semaphore) != NULL && fsafe_hopeless_may_restart_exactly(self);
    bool more = true;
    while (more) {
        result = exactly ? sleep_alone(semaphore, &slices.until)
                         : FSAFE_NEXT(sem_clockwait)(semaphore, CLOCK_MONOTONIC, &slices.until);
        if (result == 0)
            break;
        if (exactly && errno == ENOSYS)
            exactly = false;
        else if (errno == ETIMEDOUT)
            more = fsafe_hopeless_goes_on(&slices);
        else if (exactly || errno != EINTR || !fsafe_hopeless_restarts())
            break;
    }
    if (!more)
        result = FSAFE_NEXT(sem_wait)(semaphore);
    if (result == 0)
        errno = saved;
    fsafe_hopeless_end(&slices);
    return result;
}
#else
int fsafe_slices_sem_wait(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site)
{
    (void)self, (void)site;
    return FSAFE_NEXT(sem_wait)(semaphore);
}
#endif

/* --- Locks: each try that fails leaves nothing behind --------------------------------------------------------- */

int fsafe_slices_rwlock_lock(pthread_rwlock_t *rwlock, bool writes, struct fsafe_thread *self, uintptr_t site)
{
#ifdef HAVE_PTHREAD_RWLOCK_CLOCKRDLOCK
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "rwlock", .kind = writes ? "for writing" : "for reading",
                                    .object = (uintptr_t)rwlock, .bytes = sizeof *rwlock, .site = site};
    if (fsafe_hopeless_begin(&slices, self, &wait)) {
        int result;
        do
            result = writes ? FSAFE_NEXT(pthread_rwlock_clockwrlock)(rwlock, CLOCK_MONOTONIC, &slices.until)
                            : FSAFE_NEXT(pthread_rwlock_clockrdlock)(rwlock, CLOCK_MONOTONIC, &slices.until);
        while (result == ETIMEDOUT && fsafe_hopeless_goes_on(&slices));
        if (result == ETIMEDOUT)
            result = writes ? FSAFE_NEXT(pthread_rwlock_wrlock)(rwlock) : FSAFE_NEXT(pthread_rwlock_rdlock)(rwlock);
        fsafe_hopeless_end(&slices);
        return result;
    }
#endif
    (void)self, (void)site;
    return writes ? FSAFE_NEXT(pthread_rwlock_wrlock)(rwlock) : FSAFE_NEXT(pthread_rwlock_rdlock)(rwlock);
}

/* --- Condition variables ------------------------------------------------------------------------------------ */

int fsafe_slices_cond_wait(pthread_cond_t *condvar, pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site)
{
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()) && fsafe_monitor_judge(condvar, mutex, site))
        return 0;
#ifdef HAVE_PTHREAD_COND_CLOCKWAIT
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "condition variable", .kind = "private", .object = (uintptr_t)condvar,
                                    .bytes = sizeof *condvar, .mutex = (uintptr_t)mutex, .site = site};
    if (fsafe_hopeless_begin(&slices, self, &wait)) {
        int result;
        for (bool more = true;;) {
            result = more ? FSAFE_NEXT(pthread_cond_clockwait)(condvar, mutex, CLOCK_MONOTONIC, &slices.until)
                          : FSAFE_NEXT(pthread_cond_wait)(condvar, mutex);
            if (!more || result != ETIMEDOUT)
                break;
            struct timespec ended = slices.until;
            fsafe_gate_resume(self, (uintptr_t)mutex); /* between two slices it has the mutex */
            more = fsafe_hopeless_goes_on(&slices);
            bool was_woken = fsafe_hopeless_was_woken(&slices, &ended);
            fsafe_gate_suspend(self, (uintptr_t)mutex);
            if (was_woken) {
                result = 0;
                break;
            }
        }
        fsafe_hopeless_end(&slices);
        return result;
    }
#endif
    (void)self, (void)site;
    return FSAFE_NEXT(pthread_cond_wait)(condvar, mutex);
}

/* --- What knows no time limit ----------------------------------------------------------------------------------- */

int fsafe_slices_barrier_wait(pthread_barrier_t *barrier, struct fsafe_thread *self, uintptr_t site)
{
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "barrier", .kind = "private", .object = (uintptr_t)barrier,
                                    .bytes = sizeof *barrier, .site = site};
    if (FSAFE_LIKELY(!fsafe_lineage_is_child()) || fsafe_fresh_barrier_completes(barrier) ||
        !fsafe_hopeless_begin(&slices, self, &wait))
        return FSAFE_NEXT(pthread_barrier_wait)(barrier);
    fsafe_hopeless_hold_back(&slices);
    int result = FSAFE_NEXT(pthread_barrier_wait)(barrier);
    fsafe_hopeless_end(&slices);
    return result;
}

/* --- Threads ---------------------------------------------------------------------------------------------------- */

int fsafe_slices_join(pthread_t thread, void **value, struct fsafe_thread *self, uintptr_t site)
{
#ifdef HAVE_PTHREAD_CLOCKJOIN_NP
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "thread", .kind = "to be joined", .object = (uintptr_t)thread, .site = site};
    if (fsafe_hopeless_begin(&slices, self, &wait)) {
        int result;
        do
            result = FSAFE_NEXT(pthread_clockjoin_np)(thread, value, CLOCK_MONOTONIC, &slices.until);
        while (result == ETIMEDOUT && fsafe_hopeless_goes_on(&slices));
        if (result == ETIMEDOUT)
            result = FSAFE_NEXT(pthread_join)(thread, value);
        fsafe_hopeless_end(&slices);
        return result;
    }
#endif
    (void)self, (void)site;
    return FSAFE_NEXT(pthread_join)(thread, value);
}

/* --- Futexes ---------------------------------------------------------------------------------------------------- */

long fsafe_slices_futex(const long *a, const char *lock, const char *kind, struct fsafe_thread *self, uintptr_t site)
{
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = lock, .kind = kind, .object = (uintptr_t)a[0], .bytes = sizeof(uint32_t),
                                    .site = site};
    long result = -1;
    bool more = fsafe_hopeless_begin(&slices, self, &wait);
    bool sliced = more;
    /* The one operation that takes a time by the clock; with all bits it is FUTEX_WAIT. */
    long bits = ((int)a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT ? (long)FUTEX_BITSET_MATCH_ANY : a[5];
    int saved = errno;
    while (more) {
        result = FSAFE_NEXT(syscall)(SYS_futex, a[0], ((int)a[1] & FUTEX_PRIVATE_FLAG) | FUTEX_WAIT_BITSET, a[2],
                                     &slices.until, 0L, bits);
        if (result == 0 || (errno != ETIMEDOUT && (errno != EINTR || !fsafe_hopeless_restarts())))
            break;
        more = errno == EINTR || fsafe_hopeless_goes_on(&slices);
        errno = saved;
    }
    if (!more)
        result = FSAFE_NEXT(syscall)(SYS_futex, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (sliced)
        fsafe_hopeless_end(&slices);
    return result;
}

#ifdef SYS_futex_waitv
long fsafe_slices_futexes(const long *a, struct fsafe_thread *self, uintptr_t site)
{
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {
        .lock = "futex", .kind = "one of several", .object = (uintptr_t)a[0], .site = site};
    long result = -1;
    bool more = fsafe_asleep_is_private((uintptr_t)a[0], (unsigned long)a[1]) &&
                fsafe_hopeless_begin(&slices, self, &wait);
    bool sliced = more;
    int saved = errno;
    while (more) {
        /* With a limit and without one it goes on after the same signal handlers. */
        result = FSAFE_NEXT(syscall)(SYS_futex_waitv, a[0], a[1], a[2], &slices.until, (long)CLOCK_MONOTONIC);
        if (result >= 0 || errno != ETIMEDOUT)
            break;
        more = fsafe_hopeless_goes_on(&slices);
        errno = saved;
    }
    if (!more)
        result = FSAFE_NEXT(syscall)(SYS_futex_waitv, a[0], a[1], a[2], a[3], a[4]);
    if (sliced)
        fsafe_hopeless_end(&slices);
    return result;
}
#endif
