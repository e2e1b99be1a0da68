/*
 * A preloaded library that makes up times as libfaketime does: every clock stands still, at a time before the machine
 * began, and a lock of pthread's is taken to read it; the limit of a wait is taken for one by that clock.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STANDS_AT = -100000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    pthread_mutex_lock(&lock);
    *now = (struct timespec){.tv_sec = STANDS_AT};
    pthread_mutex_unlock(&lock);
    return 0;
}

int pthread_cond_timedwait(pthread_cond_t *condvar, pthread_mutex_t *mutex, const struct timespec *until)
{
    int (*clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    void *next = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec by;
    memcpy(&clockwait, &next, sizeof next);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &by);
    by.tv_sec += until->tv_sec - STANDS_AT;
    return clockwait(condvar, mutex, CLOCK_MONOTONIC, &by);
}
