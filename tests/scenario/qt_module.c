/*
 * Qt's QMutex, by its algorithm and its very call, in a module that is called as Qt's own: 0 free, 1 locked, 3 locked
 * and somebody may sleep.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int qt_trylock(void *mutex), qt_lock(void *mutex), qt_unlock(void *mutex);
int qt_timedlock(void *mutex), qt_timedlock_until(void *mutex);

int qt_trylock(void *mutex)
{
    uint32_t free_word = 0;
    return __atomic_compare_exchange_n((uint32_t *)mutex, &free_word, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
               ? 0 : EBUSY;
}

/* FUTEX_WAIT is told how long, FUTEX_WAIT_BITSET until when. */
static int lock_within(void *mutex, int operation, const struct timespec *limit)
{
    int result = qt_trylock(mutex);
    while (result == EBUSY && __atomic_exchange_n((uint32_t *)mutex, 3, __ATOMIC_ACQUIRE) != 0)
        if (syscall(SYS_futex, mutex, operation, 3, limit, NULL, FUTEX_BITSET_MATCH_ANY) == -1 && errno == ETIMEDOUT)
            return ETIMEDOUT;
    return 0;
}

int qt_lock(void *mutex)
{
    return lock_within(mutex, FUTEX_WAIT_PRIVATE, NULL);
}

int qt_timedlock(void *mutex)
{
    const struct timespec limit = {.tv_nsec = 400000000};
    return lock_within(mutex, FUTEX_WAIT_PRIVATE, &limit);
}

/* Since Qt 6.8. */
int qt_timedlock_until(void *mutex)
{
    struct timespec limit;
    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec++;
    return lock_within(mutex, FUTEX_WAIT_BITSET_PRIVATE, &limit);
}

int qt_unlock(void *mutex)
{
    if (__atomic_exchange_n((uint32_t *)mutex, 0, __ATOMIC_RELEASE) == 3)
        syscall(SYS_futex, mutex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return 0;
}
