/*
 * wrap/condvar: pthread_cond_* and cnd_*. libc does the work; while a thread is inside of a condition variable it has a
 * record of that (repair/waits.h). After the real call the condition variable may be gone, and after a cancellation the
 * mutex, too.
 *
 * Measured. A signal on a condition variable without waiters takes 1.2 ns in glibc, a record and a second call 3.4 ns
 * more: so it is done in place where the self-test allows that.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "libc/late.h"
#include "libc/layout.h"
#include "python/gil.h"
#include "python/interpreter.h"
#include "repair/mutex.h"
#include "repair/waits.h"
#include "repair/woken.h"
#include "track/gate.h"
#include "track/join.h"
#include "wrap/acquire.h"
#include "wrap/c11.h"
#include "wrap/next.h"
#include "wrap/slices.h"

#include <time.h>

static int ask_libc(pthread_cond_t *condvar, pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site,
                    const struct fsafe_attempt *attempt)
{
    switch (attempt->how) {
    case FSAFE_HOW_UNTIL:
        return FSAFE_NEXT(pthread_cond_timedwait)(condvar, mutex, attempt->until);
#ifdef HAVE_PTHREAD_COND_CLOCKWAIT
    case FSAFE_HOW_BY_CLOCK:
        return FSAFE_NEXT(pthread_cond_clockwait)(condvar, mutex, attempt->clock, attempt->until);
#endif
    default:
        return fsafe_slices_cond_wait(condvar, mutex, self, site);
    }
}

static FSAFE_COLD int wait_in(pthread_cond_t *condvar, pthread_mutex_t *mutex, uintptr_t site,
                              const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL)
        return ask_libc(condvar, mutex, self, site, attempt);
    fsafe_fork_notice();
    if (fsafe_lineage_is_child() && FSAFE_UNLIKELY(fsafe_python_is_text(site)) &&
        fsafe_python_gil_ends_wait(condvar, mutex, attempt->how != FSAFE_HOW_WAIT, site))
        return 0;
    /* libc is about to release the mutex and looks at its owner. */
    if (fsafe_lineage_is_child())
        fsafe_mutex_rehome(mutex, self);
    /* The record in FSAFE_LOCKS stays, for when libc takes the mutex again without our wrapper. */
    bool in_mutex = fsafe_waits_enter_mutex(mutex, self, site);
    bool in_condvar = fsafe_waits_enter(&fsafe_condvars, condvar, FSAFE_INSIDE_WAIT, self, site);
    /*
     * No cleanup handler here: it would outlive its frame if the program leaves by siglongjmp. So a cancelled wait
     * keeps its records until the thread ends: a child may make an object as new in which no thread waited, which does
     * no harm.
     */
    fsafe_gate_suspend(self, (uintptr_t)mutex);
    fsafe_layout_mutex_note(mutex, 0);
    /* The one place where a thread sleeps for a condition. */
    int result = ask_libc(condvar, mutex, self, site, attempt);
    fsafe_layout_mutex_note(mutex, fsafe_thread_owner(self));
    if (in_condvar)
        fsafe_waits_leave(self, condvar, FSAFE_INSIDE_WAIT);
    fsafe_gate_resume(self, (uintptr_t)mutex); /* the thread has the mutex again */
    if (in_mutex)
        fsafe_waits_leave(self, mutex, FSAFE_INSIDE_MUTEX);
    return result;
}

FSAFE_EXPORT int pthread_cond_wait(pthread_cond_t *condvar, pthread_mutex_t *mutex)
{
    return wait_in(condvar, mutex, FSAFE_CALLER(), &(const struct fsafe_attempt){.how = FSAFE_HOW_WAIT});
}

FSAFE_TIMED(pthread_cond_timedwait, __pthread_cond_timedwait64, (pthread_cond_t *condvar, pthread_mutex_t *mutex),
            (condvar, mutex),
            wait_in(condvar, mutex, FSAFE_CALLER(),
                    &(const struct fsafe_attempt){.how = FSAFE_HOW_UNTIL, .until = until}))

#ifdef HAVE_PTHREAD_COND_CLOCKWAIT
FSAFE_TIMED(pthread_cond_clockwait, __pthread_cond_clockwait64,
            (pthread_cond_t *condvar, pthread_mutex_t *mutex, clockid_t clock), (condvar, mutex, clock),
            wait_in(condvar, mutex, FSAFE_CALLER(),
                    &(const struct fsafe_attempt){.how = FSAFE_HOW_BY_CLOCK, .clock = clock, .until = until}))
#endif

enum whom { ONE, ALL };

static inline int ask_libc_to_wake(pthread_cond_t *condvar, enum whom whom)
{
    return whom == ONE ? FSAFE_NEXT(pthread_cond_signal)(condvar) : FSAFE_NEXT(pthread_cond_broadcast)(condvar);
}

/* For when a thread may wait. No cancellation point. */
static FSAFE_APART int wake_somebody(pthread_cond_t *condvar, uintptr_t site, enum whom whom)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL)
        return ask_libc_to_wake(condvar, whom);
    fsafe_fork_notice();
    bool noted = fsafe_waits_enter(&fsafe_condvars, condvar, FSAFE_INSIDE_CALL, self, site);
    int result = ask_libc_to_wake(condvar, whom);
    if (FSAFE_LIKELY(noted))
        fsafe_waits_leave(self, condvar, FSAFE_INSIDE_CALL);
    return result;
}

static FSAFE_AT_FORK FSAFE_APART int wake_in_child(pthread_cond_t *condvar, uintptr_t site, enum whom whom)
{
    fsafe_woken_note((uintptr_t)condvar);
    return fsafe_layout_cond_is_idle(condvar) ? 0 : wake_somebody(condvar, site, whom);
}

/* libc/fresh learns what an idle condition variable looks like before the second thread. Before that nobody waits. */
static FSAFE_APART int wake_perhaps(pthread_cond_t *condvar, uintptr_t site, enum whom whom)
{
    return FSAFE_SINGLE_THREADED() ? ask_libc_to_wake(condvar, whom) : wake_somebody(condvar, site, whom);
}

/* Where no thread waits neither a record is needed nor, in a child, settling. */
static inline int wake(pthread_cond_t *condvar, uintptr_t site, enum whom whom)
{
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()))
        return wake_in_child(condvar, site, whom);
    return FSAFE_LIKELY(fsafe_layout_cond_is_idle(condvar)) ? 0 : wake_perhaps(condvar, site, whom);
}

FSAFE_EXPORT FSAFE_AT_FORK int pthread_cond_signal(pthread_cond_t *condvar)
{
    return wake(condvar, FSAFE_CALLER(), ONE);
}

FSAFE_EXPORT int pthread_cond_broadcast(pthread_cond_t *condvar)
{
    return wake(condvar, FSAFE_CALLER(), ALL);
}

FSAFE_EXPORT FSAFE_AT_FORK int pthread_cond_init(pthread_cond_t *condvar, const pthread_condattr_t *attributes)
{
    if (FSAFE_UNLIKELY(attributes != NULL))
        fsafe_python_meet(condvar, FSAFE_CALLER());
    int result = FSAFE_NEXT(pthread_cond_init)(condvar, attributes);
    fsafe_fork_notice();
    if (result == 0)
        fsafe_waits_initialised(condvar);
    return result;
}

static FSAFE_COLD int destroy(pthread_cond_t *condvar, uintptr_t site)
{
    fsafe_fork_notice();
    fsafe_waits_settle(&fsafe_condvars, condvar, site);
    return FSAFE_NEXT(pthread_cond_destroy)(condvar);
}

FSAFE_EXPORT int pthread_cond_destroy(pthread_cond_t *condvar)
{
    return destroy(condvar, FSAFE_CALLER());
}

#ifdef FSAFE_C11
/* C11's condition variable is the same object under another name; libc's cnd_* do not call pthread_cond_*. */

FSAFE_EXPORT int cnd_wait(cnd_t *condvar, mtx_t *mutex)
{
    if (fsafe_c11_is_other())
        return fsafe_next.cnd_wait(condvar, mutex);
    return fsafe_c11_result(wait_in(fsafe_c11_condvar(condvar), fsafe_c11_mutex(mutex), FSAFE_CALLER(),
                                    &(const struct fsafe_attempt){.how = FSAFE_HOW_WAIT}));
}

FSAFE_TIMED(cnd_timedwait, __cnd_timedwait64, (cnd_t *condvar, mtx_t *mutex), (condvar, mutex),
            fsafe_c11_is_other()
                ? fsafe_next.cnd_timedwait(condvar, mutex, until)
                : fsafe_c11_result(wait_in(fsafe_c11_condvar(condvar), fsafe_c11_mutex(mutex), FSAFE_CALLER(),
                                           &(const struct fsafe_attempt){.how = FSAFE_HOW_UNTIL, .until = until})))

FSAFE_EXPORT int cnd_signal(cnd_t *condvar)
{
    return fsafe_c11_is_other() ? fsafe_next.cnd_signal(condvar)
                                : fsafe_c11_result(wake(fsafe_c11_condvar(condvar), FSAFE_CALLER(), ONE));
}

FSAFE_EXPORT int cnd_broadcast(cnd_t *condvar)
{
    return fsafe_c11_is_other() ? fsafe_next.cnd_broadcast(condvar)
                                : fsafe_c11_result(wake(fsafe_c11_condvar(condvar), FSAFE_CALLER(), ALL));
}

FSAFE_EXPORT int cnd_init(cnd_t *condvar)
{
    return fsafe_c11_learn() ? fsafe_next.cnd_init(condvar)
                             : fsafe_c11_result(pthread_cond_init(fsafe_c11_condvar(condvar), NULL));
}

FSAFE_EXPORT void cnd_destroy(cnd_t *condvar)
{
    if (fsafe_c11_is_other())
        fsafe_next.cnd_destroy(condvar);
    else
        destroy(fsafe_c11_condvar(condvar), FSAFE_CALLER());
}
#endif
