/* wrap/mutex-life: init and destroy of mutexes, and setprioceiling, for which libc locks the mutex. */
#include "config.h"

#include "fork/coordinator.h"
#include "libc/layout.h"
#include "repair/mutex.h"
#include "repair/waits.h"
#include "track/join.h"
#include "wrap/c11.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

/* Usually a thread that initialises or destroys a mutex has no record of any. */
static inline bool has_records(struct fsafe_thread *self)
{
    return self != NULL && fsafe_ledger_depth(fsafe_thread_locks(self)) != 0;
}

/* A child may initialise a mutex again that it holds: then it does not hold the new one. */
static void begin_life(pthread_mutex_t *mutex)
{
    if (fsafe_self == NULL)
        return;
    fsafe_ledger_drop(fsafe_thread_locks(fsafe_self), (uintptr_t)mutex);
    if (fsafe_lineage_is_child()) {
        fsafe_fork_notice();
        fsafe_mutex_initialised(mutex);
    }
}

static FSAFE_APART int init_slowly(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    int result = FSAFE_NEXT(pthread_mutex_init)(mutex, attributes);
    if (result == 0)
        begin_life(mutex);
    return result;
}

FSAFE_EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    if (FSAFE_UNLIKELY(has_records(fsafe_self) || fsafe_lineage_is_child() || fsafe_next.pthread_mutex_init == NULL))
        return init_slowly(mutex, attributes);
    return fsafe_next.pthread_mutex_init(mutex, attributes);
}

#ifdef HAVE_PTHREAD_MUTEX_SETPRIOCEILING
FSAFE_EXPORT int pthread_mutex_setprioceiling(pthread_mutex_t *mutex, int ceiling, int *old)
{
    struct fsafe_thread *self = fsafe_thread_join();
    fsafe_fork_notice();
    if (self != NULL && fsafe_lineage_is_child()) {
        fsafe_mutex_judge(mutex, self, FSAFE_CALLER(), true);
        atomic_store(&self->asking, 0);
    }
    return FSAFE_NEXT(pthread_mutex_setprioceiling)(mutex, ceiling, old);
}
#endif

/* A child may destroy a mutex that a vanished thread holds; libc would return EBUSY, unless it is robust. */
static FSAFE_COLD void settle_before_end(pthread_mutex_t *mutex, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_thread_join();
    fsafe_fork_notice();
    if (self == NULL || !fsafe_lineage_is_child())
        return;
    if (!fsafe_layout_is_robust(fsafe_layout_mutex_kind(mutex)))
        fsafe_mutex_judge(mutex, self, site, false);
    fsafe_waits_release_mutex(mutex);
    atomic_store(&self->asking, 0);
}

static FSAFE_APART int destroy_slowly(pthread_mutex_t *mutex, uintptr_t site)
{
    if (fsafe_lineage_is_child() || fsafe_lineage_is_unadopted())
        settle_before_end(mutex, site);
    int result = FSAFE_NEXT(pthread_mutex_destroy)(mutex);
    if (result == 0 && fsafe_self != NULL)
        fsafe_ledger_drop(fsafe_thread_locks(fsafe_self), (uintptr_t)mutex);
    return result;
}

static inline int destroy(pthread_mutex_t *mutex, uintptr_t site)
{
    if (FSAFE_UNLIKELY(has_records(fsafe_self) || fsafe_lineage_is_child() || fsafe_lineage_may_be_unadopted() ||
                       fsafe_next.pthread_mutex_destroy == NULL))
        return destroy_slowly(mutex, site);
    return fsafe_next.pthread_mutex_destroy(mutex);
}

FSAFE_EXPORT int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    return destroy(mutex, FSAFE_CALLER());
}

#ifdef FSAFE_C11
FSAFE_EXPORT int mtx_init(mtx_t *mutex, int type)
{
    int result = FSAFE_NEXT(mtx_init)(mutex, type);
    if (!fsafe_c11_learn() && result == thrd_success)
        begin_life(fsafe_c11_mutex(mutex));
    return result;
}

FSAFE_EXPORT void mtx_destroy(mtx_t *mutex)
{
    if (fsafe_c11_is_other())
        fsafe_next.mtx_destroy(mutex);
    else
        destroy(fsafe_c11_mutex(mutex), FSAFE_CALLER());
}
#endif

#if HAVE_DECL_GNU_GET_LIBC_VERSION
FSAFE_DEFINE_ALIAS(__pthread_mutex_init, pthread_mutex_init);
FSAFE_DEFINE_ALIAS(__pthread_mutex_destroy, pthread_mutex_destroy);
#endif
