/*
 * wrap/time64: 32-bit programs that are built with 64-bit times (_TIME_BITS=64) call functions of other names. The
 * library itself uses times of this machine's size, and converts the times that it gets by these functions.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Defines a function with these parameters and a limit, `until`. */
#define FSAFE_TIMED_PLAIN(name, parameters, ...)                                         \
    FSAFE_EXPORT int name(FSAFE_TIMED_UNPACK parameters, const struct timespec *until) \
    {                                                                                    \
        return __VA_ARGS__;                                                              \
    }
#define FSAFE_TIMED_UNPACK(...) __VA_ARGS__

#ifdef HAVE___PTHREAD_MUTEX_TIMEDLOCK64

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#ifdef HAVE_THREADS_H
#include <threads.h>
#endif

#define FSAFE_TIME64

struct fsafe_timespec64 {
    int64_t tv_sec;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    int32_t : 32;
#endif
    int32_t tv_nsec;
#if __BYTE_ORDER__ != __ORDER_BIG_ENDIAN__
    int32_t : 32;
#endif
};

/* libc's functions, which no header declares to code with times of this machine's size. */
int __pthread_mutex_timedlock64(pthread_mutex_t *mutex, const struct fsafe_timespec64 *until);
int __pthread_mutex_clocklock64(pthread_mutex_t *mutex, clockid_t clock, const struct fsafe_timespec64 *until);
int __pthread_rwlock_timedrdlock64(pthread_rwlock_t *rwlock, const struct fsafe_timespec64 *until);
int __pthread_rwlock_timedwrlock64(pthread_rwlock_t *rwlock, const struct fsafe_timespec64 *until);
int __pthread_rwlock_clockrdlock64(pthread_rwlock_t *rwlock, clockid_t clock, const struct fsafe_timespec64 *until);
int __pthread_rwlock_clockwrlock64(pthread_rwlock_t *rwlock, clockid_t clock, const struct fsafe_timespec64 *until);
int __sem_timedwait64(sem_t *semaphore, const struct fsafe_timespec64 *until);
int __sem_clockwait64(sem_t *semaphore, clockid_t clock, const struct fsafe_timespec64 *until);
int __pthread_cond_timedwait64(pthread_cond_t *condvar, pthread_mutex_t *mutex, const struct fsafe_timespec64 *until);
int __pthread_cond_clockwait64(pthread_cond_t *condvar, pthread_mutex_t *mutex, clockid_t clock,
                               const struct fsafe_timespec64 *until);
int __mtx_timedlock64(mtx_t *mutex, const struct fsafe_timespec64 *until);
int __cnd_timedwait64(cnd_t *condvar, mtx_t *mutex, const struct fsafe_timespec64 *until);
int __pthread_timedjoin_np64(pthread_t thread, void **value, const struct fsafe_timespec64 *until);
int __pthread_clockjoin_np64(pthread_t thread, void **value, clockid_t clock, const struct fsafe_timespec64 *until);
int __aio_suspend_time64(const void *list, int count, const struct fsafe_timespec64 *limit);
ssize_t __recvmsg64(int descriptor, struct msghdr *message, int flags);
int __ppoll64(struct pollfd *entries, nfds_t count, const struct fsafe_timespec64 *limit, const sigset_t *mask);
int __select64(int count, fd_set *in, fd_set *out, fd_set *other, void *limit);
int __pselect64(int count, fd_set *in, fd_set *out, fd_set *other, const struct fsafe_timespec64 *limit,
                const sigset_t *mask);
int __nanosleep64(const struct fsafe_timespec64 *span, struct fsafe_timespec64 *left);
int __clock_nanosleep_time64(clockid_t clock, int flags, const struct fsafe_timespec64 *time,
                             struct fsafe_timespec64 *left);
int __epoll_pwait2_time64(int epoll, struct epoll_event *events, int most, const struct fsafe_timespec64 *limit,
                          const sigset_t *mask);
pid_t __wait3_time64(int *status, int options, void *usage);
pid_t __wait4_time64(pid_t pid, int *status, int options, void *usage);

/*
 * Sets *until to the limit in this machine's size, which is `by`, or to NULL if `wide` is NULL. A limit after 2038
 * becomes the latest that there is, while that is more than a year away. Returns false for other limits that do not
 * fit: libc has to make such a call. errno kept.
 */
bool fsafe_time64_narrow(const struct fsafe_timespec64 *wide, struct timespec *by, const struct timespec **until);

/* The same; false also where no time can be read. For a call of which libc lets the kernel read the time. */
bool fsafe_time64_peek(const struct fsafe_timespec64 *wide, struct timespec *by, const struct timespec **until);

/* The same, and a second function `name64`; `arguments`: the parameters' names. */
#define FSAFE_TIMED(name, name64, parameters, arguments, ...)                                       \
    FSAFE_TIMED_PLAIN(name, parameters, __VA_ARGS__)                                                \
    FSAFE_EXPORT int name64(FSAFE_TIMED_UNPACK parameters, const struct fsafe_timespec64 *wide)   \
    {                                                                                               \
        struct timespec by;                                                                         \
        const struct timespec *until;                                                               \
        if (!fsafe_time64_narrow(wide, &by, &until))                                                \
            return FSAFE_NEXT(name64)(FSAFE_TIMED_UNPACK arguments, wide);                          \
        return __VA_ARGS__;                                                                         \
    }

#else

#define FSAFE_TIMED(name, name64, parameters, arguments, ...) FSAFE_TIMED_PLAIN(name, parameters, __VA_ARGS__)

#endif
