#include "config.h"

#include "wrap/acquire.h"

#include <errno.h>

static bool is_over(const struct fsafe_attempt *attempt)
{
    struct timespec now;
    return attempt->until != NULL && fsafe_sys_clock(attempt->clock, &now) &&
           (now.tv_sec > attempt->until->tv_sec ||
            (now.tv_sec == attempt->until->tv_sec && now.tv_nsec >= attempt->until->tv_nsec));
}

int fsafe_acquire_in_child(const struct fsafe_acquired *kind, void *lock, struct fsafe_thread *self, uintptr_t site,
                           const struct fsafe_attempt *attempt)
{
    enum { FIRST_US = 10, LONGEST_US = 1000 };
    enum fsafe_verdict verdict;
    for (unsigned pause_us = FIRST_US; (verdict = kind->judge(lock, self, site, attempt)) == FSAFE_UNDECIDED;
         pause_us = pause_us < LONGEST_US / 2 ? 2 * pause_us : LONGEST_US) {
        if (attempt->how == FSAFE_HOW_TRY)
            break;
        int result = kind->try(lock, attempt);
        if (result != EBUSY)
            return result;
        if (is_over(attempt))
            break; /* libc returns the error */
        /* Says to other threads that this one certainly has not got the lock during the pause. */
        atomic_store_explicit(&self->asking, (uintptr_t)lock, memory_order_release);
        fsafe_sys_pause_us(pause_us);
        atomic_store(&self->asking, 0);
    }
    return verdict == FSAFE_TAKEN ? 0 : FSAFE_ASK_LIBC;
}
