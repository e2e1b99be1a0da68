/*
 * libc++'s atomic wait, by its very call, in a module that is called as libc++: it sleeps for two seconds, looks at the
 * word, and sleeps again.
 */
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void libcxx_wait(const uint32_t *word, uint32_t value);

void libcxx_wait(const uint32_t *word, uint32_t value)
{
    const struct timespec limit = {.tv_sec = 2};
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &limit, NULL, 0);
}
