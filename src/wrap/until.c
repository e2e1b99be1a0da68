#include "config.h"

#include "base/sys.h"
#include "libc/layout.h"
#include "wrap/looks.h"
#include "wrap/next.h"
#include "wrap/time64.h"
#include "wrap/until.h"

struct timespec fsafe_until_by(clockid_t clock, const struct timespec *until)
{
    struct timespec now;
    fsafe_sys_clock(clock, &now);
    int64_t then = (int64_t)(fsafe_sys_ns(&now) + fsafe_sys_ns(until) - fsafe_sys_now_ns());
    return fsafe_sys_timespec(then > 0 ? (uint64_t)then : 0);
}

int fsafe_until_sem_wait(sem_t *semaphore, const struct timespec *until)
{
    if (until == NULL)
        return FSAFE_NEXT(sem_wait)(semaphore);
#ifdef HAVE_SEM_CLOCKWAIT
    return FSAFE_NEXT(sem_clockwait)(semaphore, CLOCK_MONOTONIC, until);
#else
    const struct timespec by = fsafe_until_by(CLOCK_REALTIME, until);
    return FSAFE_NEXT(sem_timedwait)(semaphore, &by);
#endif
}

int fsafe_until_rwlock_lock(pthread_rwlock_t *rwlock, bool writes, const struct timespec *until)
{
    if (until == NULL)
        return writes ? FSAFE_NEXT(pthread_rwlock_wrlock)(rwlock) : FSAFE_NEXT(pthread_rwlock_rdlock)(rwlock);
#ifdef HAVE_PTHREAD_RWLOCK_CLOCKRDLOCK
    return writes ? FSAFE_NEXT(pthread_rwlock_clockwrlock)(rwlock, CLOCK_MONOTONIC, until)
                  : FSAFE_NEXT(pthread_rwlock_clockrdlock)(rwlock, CLOCK_MONOTONIC, until);
#else
    const struct timespec by = fsafe_until_by(CLOCK_REALTIME, until);
    return writes ? FSAFE_NEXT(pthread_rwlock_timedwrlock)(rwlock, &by)
                  : FSAFE_NEXT(pthread_rwlock_timedrdlock)(rwlock, &by);
#endif
}

int fsafe_until_cond_wait(pthread_cond_t *condvar, pthread_mutex_t *mutex, const struct timespec *until)
{
#ifdef HAVE_PTHREAD_COND_CLOCKWAIT
    if (until != NULL)
        return FSAFE_NEXT(pthread_cond_clockwait)(condvar, mutex, CLOCK_MONOTONIC, until);
#elif defined(FSAFE_LIBC_MUSL)
    if (until != NULL) {
        const struct timespec by = fsafe_until_by(fsafe_layout_cond_clock(condvar), until);
        return FSAFE_NEXT(pthread_cond_timedwait)(condvar, mutex, &by);
    }
#else
    (void)until; /* which clock it waits by is not known */
#endif
    return FSAFE_NEXT(pthread_cond_wait)(condvar, mutex);
}

#ifdef HAVE_PTHREAD_TRYJOIN_NP
int fsafe_until_join(pthread_t thread, void **value, const struct timespec *until)
{
#ifdef HAVE_PTHREAD_CLOCKJOIN_NP
    return FSAFE_NEXT(pthread_clockjoin_np)(thread, value, CLOCK_MONOTONIC, until);
#else
    const struct timespec by = fsafe_until_by(CLOCK_REALTIME, until);
    return FSAFE_NEXT(pthread_timedjoin_np)(thread, value, &by);
#endif
}
#endif

#ifdef FSAFE_TIME64
bool fsafe_time64_narrow(const struct fsafe_timespec64 *wide, struct timespec *by, const struct timespec **until)
{
    enum { YEAR = 365 * 24 * 60 * 60 };
    *until = wide != NULL ? by : NULL;
    if (wide == NULL)
        return true;
    *by = (struct timespec){.tv_sec = (time_t)wide->tv_sec, .tv_nsec = wide->tv_nsec};
    if (FSAFE_LIKELY(by->tv_sec == wide->tv_sec))
        return true;
    by->tv_sec = INT32_MAX;
    struct timespec now;
    bool is_far = fsafe_sys_clock(CLOCK_REALTIME, &now) && now.tv_sec < INT32_MAX - YEAR;
    return is_far && wide->tv_sec > 0;
}

bool fsafe_time64_peek(const struct fsafe_timespec64 *wide, struct timespec *by, const struct timespec **until)
{
    struct fsafe_timespec64 copy;
    return (wide == NULL || fsafe_looks_read(wide, &copy, sizeof copy)) &&
           fsafe_time64_narrow(wide != NULL ? &copy : NULL, by, until);
}
#endif
