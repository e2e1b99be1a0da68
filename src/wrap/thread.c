/*
 * wrap/thread: the calls that create, join and detach threads.
 *
 * Measured. libc's pthread_join of a vanished thread returns, but queues a stack that fork() has queued already: from
 * 40 MB on (the third stack of 8 MB) glibc unmaps the stack of the next thread to be joined, and the join reads it:
 * SIGSEGV. A thread that the child creates may get a vanished thread's pthread_t.
 *
 * Of a thread that never took a lock no slot says whether it has vanished. If there is no memory where its handle
 * points it certainly has: there glibc's own join crashes.
 */
#include "config.h"

#include "base/options.h"
#include "fork/coordinator.h"
#include "libc/layout.h"
#include "python/room.h"
#include "repair/rwlock.h"
#include "repair/spin.h"
#include "repair/unnamed.h"
#include "track/handle.h"
#include "track/join.h"
#include "wrap/c11.h"
#include "wrap/next.h"
#include "wrap/slices.h"
#include "wrap/start.h"

/* Before a child has a second thread, notes what would be ambiguous later: see fsafe_unnamed_note. */
static void before_another(void)
{
    fsafe_start_second_thread();
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL)
        return;
    fsafe_fork_notice();
    if (!fsafe_lineage_is_child())
        return;
    fsafe_unnamed_note();
    fsafe_rwlock_survey(self);
    fsafe_spin_survey();
}

FSAFE_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *),
                                void *argument)
{
    before_another();
    fsafe_python_before_thread();
    uint32_t begun_in = fsafe_handle_begin_creation();
    int result = FSAFE_NEXT(pthread_create)(thread, attributes, routine, argument);
    fsafe_handle_end_creation(begun_in, result == 0 ? thread : NULL);
    return result;
}

/* See the head of this file. */
static bool has_vanished(pthread_t thread)
{
    fsafe_fork_notice();
    return FSAFE_UNLIKELY(fsafe_lineage_is_child()) && fsafe_options.mode == FSAFE_MODE_REPAIR &&
           (fsafe_handle_has_vanished(thread) || !fsafe_layout_thread_may_be(thread));
}

FSAFE_EXPORT int pthread_join(pthread_t thread, void **value)
{
    return has_vanished(thread) ? fsafe_slices_joined(value)
                                : fsafe_slices_join(thread, value, fsafe_thread_join(), FSAFE_CALLER());
}

FSAFE_EXPORT int pthread_detach(pthread_t thread)
{
    return has_vanished(thread) ? 0 : FSAFE_NEXT(pthread_detach)(thread);
}

#ifdef HAVE_PTHREAD_TRYJOIN_NP
/* For a join with a limit: whether the thread has vanished, and the join is over with *result. */
static bool is_joined(pthread_t thread, void **value, uintptr_t site, int *result)
{
    if (!has_vanished(thread))
        return fsafe_slices_join_now(thread, value, site, result);
    *result = fsafe_slices_joined(value);
    return true;
}

#define JOIN(name, parameters, arguments)                                                                       \
    FSAFE_EXPORT int name parameters                                                                            \
    {                                                                                                           \
        int result;                                                                                             \
        return is_joined(thread, value, FSAFE_CALLER(), &result) ? result : FSAFE_NEXT(name) arguments;         \
    }

JOIN(pthread_tryjoin_np, (pthread_t thread, void **value), (thread, value))
JOIN(pthread_timedjoin_np, (pthread_t thread, void **value, const struct timespec *until), (thread, value, until))
#ifdef HAVE_PTHREAD_CLOCKJOIN_NP
JOIN(pthread_clockjoin_np, (pthread_t thread, void **value, clockid_t clock, const struct timespec *until),
     (thread, value, clock, until))
#endif
#ifdef FSAFE_TIME64
JOIN(__pthread_timedjoin_np64, (pthread_t thread, void **value, const struct fsafe_timespec64 *until),
     (thread, value, until))
JOIN(__pthread_clockjoin_np64, (pthread_t thread, void **value, clockid_t clock, const struct fsafe_timespec64 *until),
     (thread, value, clock, until))
#endif
#endif

#ifdef FSAFE_C11
FSAFE_EXPORT int thrd_join(thrd_t thread, int *value)
{
    if (fsafe_c11_is_other())
        return fsafe_next.thrd_join(thread, value);
    void *result = NULL;
    if (!has_vanished(thread)) {
        if (!fsafe_lineage_is_child())
            return FSAFE_NEXT(thrd_join)(thread, value);
        int error = fsafe_slices_join(thread, &result, fsafe_thread_join(), FSAFE_CALLER());
        if (error != 0)
            return thrd_error;
    }
    if (value != NULL)
        *value = (int)(uintptr_t)result;
    return thrd_success;
}

FSAFE_EXPORT int thrd_detach(thrd_t thread)
{
    return !fsafe_c11_is_other() && has_vanished(thread) ? thrd_success : FSAFE_NEXT(thrd_detach)(thread);
}

FSAFE_EXPORT int thrd_create(thrd_t *thread, thrd_start_t routine, void *argument)
{
    if (fsafe_c11_learn()) /* it calls pthread_create */
        return fsafe_next.thrd_create(thread, routine, argument);
    before_another();
    uint32_t begun_in = fsafe_handle_begin_creation();
    int result = FSAFE_NEXT(thrd_create)(thread, routine, argument);
    fsafe_handle_end_creation(begun_in, result == thrd_success ? thread : NULL);
    return result;
}
#endif
