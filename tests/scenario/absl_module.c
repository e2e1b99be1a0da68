/*
 * Abseil's spin lock, by its algorithm and its very call, in a module that is called as Abseil's own: bit 0 locked,
 * bit 1 a lock of this sort, bit 3 somebody sleeps.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

int absl_trylock(void *lock), absl_lock(void *lock), absl_unlock(void *lock);

enum { HELD = 1, OF_THIS_SORT = 2, SLEEPER = 8 };

int absl_trylock(void *lock)
{
    uint32_t seen = __atomic_fetch_or((uint32_t *)lock, HELD | OF_THIS_SORT, __ATOMIC_ACQUIRE);
    return (seen & HELD) == 0 ? 0 : EBUSY;
}

int absl_lock(void *lock)
{
    while (absl_trylock(lock) != 0) {
        uint32_t seen = HELD | OF_THIS_SORT;
        __atomic_compare_exchange_n((uint32_t *)lock, &seen, seen | SLEEPER, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        syscall(SYS_futex, lock, FUTEX_WAIT_PRIVATE, HELD | OF_THIS_SORT | SLEEPER, NULL);
    }
    return 0;
}

int absl_unlock(void *lock)
{
    if ((__atomic_exchange_n((uint32_t *)lock, OF_THIS_SORT, __ATOMIC_RELEASE) & SLEEPER) != 0)
        syscall(SYS_futex, lock, FUTEX_WAKE_PRIVATE, INT32_MAX);
    return 0;
}
