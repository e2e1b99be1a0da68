/*
 * What scenarios ask of a C library beyond POSIX, by glibc's names, where that is another one (musl): a clock is
 * another limit by the only clock there is (a condition variable's own), and a kind that it lacks has no row.
 */
#ifndef SCENARIO_LIBC_H
#define SCENARIO_LIBC_H

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Headers from before Linux 5.16, or 6.7: the kernel that runs may be younger. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif
#ifndef FUTEX_WAITV_MAX
enum { FUTEX_32 = 2 };
struct futex_waitv {
    uint64_t val, uaddr;
    uint32_t flags, __reserved;
};
#endif

#ifdef __GLIBC__
#include <gnu/libc-version.h>
enum { LIBC_HAS_ADAPTIVE = 1, LIBC_HAS_PREFERENCES = 1, LIBC_HAS_BARE_FORK = __GLIBC_PREREQ(2, 34) };
/*
 * Destroy and broadcast of what is private wait for those inside; call_once knows of a fork; what mtx_unlock gives the
 * wrong owner, which C11 leaves undefined, as c11_error reads it: musl gives EPERM as it is, the number of thrd_busy.
 */
enum { LIBC_WAITS_INSIDE = 1, LIBC_ONCE_SURVIVES = 1, LIBC_C11_WRONG_OWNER = EPERM };
/*
 * What destroy says of a mutex in use, and a wait with a limit by a clock that it does not know; a child forked by a
 * handler in the middle of a condition variable's wait may go on with that wait; sem_wait that succeeds keeps errno.
 */
enum { LIBC_DESTROY_IN_USE = EBUSY, LIBC_OTHER_CLOCK = EINVAL, LIBC_WAIT_SURVIVES = 1, LIBC_KEEPS_ERRNO = 1 };
#if !__GLIBC_PREREQ(2, 34)
/* The kernel's own: libc has none without handlers. */
static inline pid_t _Fork(void)
{
    return (pid_t)syscall(SYS_fork);
}
#endif
#else
enum { LIBC_HAS_ADAPTIVE = 0, LIBC_HAS_PREFERENCES = 0, LIBC_HAS_BARE_FORK = 1 };
enum { LIBC_WAITS_INSIDE = 0, LIBC_ONCE_SURVIVES = 0, LIBC_C11_WRONG_OWNER = EBUSY };
enum { LIBC_DESTROY_IN_USE = 0, LIBC_OTHER_CLOCK = ETIMEDOUT, LIBC_WAIT_SURVIVES = 0, LIBC_KEEPS_ERRNO = 0 };
static inline const char *gnu_get_libc_version(void)
{
    return "none";
}

enum { PTHREAD_MUTEX_ADAPTIVE_NP = 3 };
#define PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP {{{PTHREAD_MUTEX_RECURSIVE}}}
#define PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP {{{PTHREAD_MUTEX_ERRORCHECK}}}
#define PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP PTHREAD_MUTEX_INITIALIZER

enum {
    PTHREAD_RWLOCK_PREFER_READER_NP,
    PTHREAD_RWLOCK_PREFER_WRITER_NP,
    PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP
};
#define PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP PTHREAD_RWLOCK_INITIALIZER

static inline int pthread_rwlockattr_setkind_np(pthread_rwlockattr_t *attributes, int preference)
{
    (void)attributes, (void)preference;
    return 0;
}

/* The same moment by another clock. */
static inline struct timespec libc_by(clockid_t other, clockid_t clock, const struct timespec *until)
{
    struct timespec now, there;
    clock_gettime(clock, &there);
    clock_gettime(other, &now);
    now.tv_sec += until->tv_sec - there.tv_sec;
    now.tv_nsec += until->tv_nsec - there.tv_nsec;
    if (now.tv_nsec < 0) {
        now.tv_sec--;
        now.tv_nsec += 1000000000;
    }
    if (now.tv_nsec >= 1000000000) {
        now.tv_sec++;
        now.tv_nsec -= 1000000000;
    }
    return now;
}

#define LIBC_CLOCKED(name, timed, type)                                                    \
    static inline int name(type *object, clockid_t clock, const struct timespec *until)    \
    {                                                                                      \
        const struct timespec moment = libc_by(CLOCK_REALTIME, clock, until);              \
        return timed(object, &moment);                                                     \
    }
LIBC_CLOCKED(pthread_mutex_clocklock, pthread_mutex_timedlock, pthread_mutex_t)
LIBC_CLOCKED(pthread_rwlock_clockrdlock, pthread_rwlock_timedrdlock, pthread_rwlock_t)
LIBC_CLOCKED(pthread_rwlock_clockwrlock, pthread_rwlock_timedwrlock, pthread_rwlock_t)
LIBC_CLOCKED(sem_clockwait, sem_timedwait, sem_t)

static inline int pthread_cond_clockwait(pthread_cond_t *condvar, pthread_mutex_t *mutex, clockid_t clock,
                                         const struct timespec *until)
{
    const clockid_t own = condvar->__u.__i[4];
    const struct timespec moment = libc_by(own, clock, until);
    return pthread_cond_timedwait(condvar, mutex, &moment);
}

static inline int pthread_clockjoin_np(pthread_t thread, void **value, clockid_t clock, const struct timespec *until)
{
    const struct timespec moment = libc_by(CLOCK_REALTIME, clock, until);
    return pthread_timedjoin_np(thread, value, &moment);
}
#endif

#endif
