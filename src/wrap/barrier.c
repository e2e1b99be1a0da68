/* wrap/barrier: pthread_barrier_*. As wrap/condvar; pthread_barrier_wait is no cancellation point. */
#include "config.h"

#include "fork/coordinator.h"
#include "repair/waits.h"
#include "track/join.h"
#include "wrap/next.h"
#include "wrap/slices.h"

FSAFE_EXPORT int pthread_barrier_wait(pthread_barrier_t *barrier)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL)
        return FSAFE_NEXT(pthread_barrier_wait)(barrier);
    fsafe_fork_notice();
    bool noted = fsafe_waits_enter(&fsafe_barriers, barrier, FSAFE_INSIDE_WAIT, self, FSAFE_CALLER());
    int result = fsafe_slices_barrier_wait(barrier, self, FSAFE_CALLER()); /* after it the barrier may be gone */
    if (noted)
        fsafe_waits_leave(self, barrier, FSAFE_INSIDE_WAIT);
    return result;
}

FSAFE_EXPORT int pthread_barrier_init(pthread_barrier_t *barrier, const pthread_barrierattr_t *attributes,
                                      unsigned count)
{
    int result = FSAFE_NEXT(pthread_barrier_init)(barrier, attributes, count);
    fsafe_fork_notice();
    if (result == 0)
        fsafe_waits_initialised(barrier);
    return result;
}

FSAFE_EXPORT int pthread_barrier_destroy(pthread_barrier_t *barrier)
{
    fsafe_fork_notice();
    fsafe_waits_settle(&fsafe_barriers, barrier, FSAFE_CALLER());
    return FSAFE_NEXT(pthread_barrier_destroy)(barrier);
}
