/*
 * A spin lock of tcmalloc's, by its algorithm and its very call, in a module that is called as tcmalloc's own: 0 free,
 * 1 locked, 2 locked and somebody may sleep, who looks again after a while.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int tcmalloc_trylock(void *lock), tcmalloc_lock(void *lock), tcmalloc_unlock(void *lock);

int tcmalloc_trylock(void *lock)
{
    uint32_t free_word = 0;
    return __atomic_compare_exchange_n((uint32_t *)lock, &free_word, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
               ? 0 : EBUSY;
}

int tcmalloc_lock(void *lock)
{
    const struct timespec a_while = {.tv_nsec = 2000000};
    if (tcmalloc_trylock(lock) != 0)
        while (__atomic_exchange_n((uint32_t *)lock, 2, __ATOMIC_ACQUIRE) != 0)
            syscall(SYS_futex, lock, FUTEX_WAIT_PRIVATE, 2, &a_while, NULL, 0);
    return 0;
}

int tcmalloc_unlock(void *lock)
{
    if (__atomic_exchange_n((uint32_t *)lock, 0, __ATOMIC_RELEASE) == 2)
        syscall(SYS_futex, lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return 0;
}
