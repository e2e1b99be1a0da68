/* wrap/thread: a process gets another thread. */
#include "config.h"

#include "fork/coordinator.h"
#include "repair/mutex.h"
#include "repair/rwlock.h"
#include "repair/spin.h"
#include "wrap/next.h"

/* Nothing may be ambiguous once the child has company: see fsafe_mutex_survey. */
static void before_another(void)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL)
        return;
    fsafe_fork_notice();
    if (!fsafe_lineage_is_child())
        return;
    fsafe_mutex_survey();
    fsafe_rwlock_survey(self);
    fsafe_spin_survey();
}

FSAFE_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *),
                                void *argument)
{
    before_another();
    return FSAFE_NEXT(pthread_create)(thread, attributes, routine, argument);
}

#ifdef HAVE_THREADS_H
FSAFE_EXPORT int thrd_create(thrd_t *thread, thrd_start_t routine, void *argument)
{
    before_another();
    return FSAFE_NEXT(thrd_create)(thread, routine, argument);
}
#endif
