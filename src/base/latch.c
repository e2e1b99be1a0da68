/* base/latch: see latch.h. The classic three-state futex mutex. */
#include "config.h"

#include "base/latch.h"

void fsafe_latch_acquire_open(struct fsafe_latch *latch)
{
    uint32_t seen = 0;
    if (atomic_compare_exchange_strong_explicit(&latch->word, &seen, 1, memory_order_acquire, memory_order_relaxed))
        return;
    while (atomic_exchange_explicit(&latch->word, 2, memory_order_acquire) != 0)
        fsafe_sys_futex_wait(&latch->word, 2, NULL);
}

void fsafe_latch_release_open(struct fsafe_latch *latch)
{
    if (atomic_exchange_explicit(&latch->word, 0, memory_order_release) == 2)
        fsafe_sys_futex_wake(&latch->word, 1);
}

void fsafe_latch_acquire(struct fsafe_latch *latch, struct fsafe_sigset *old)
{
    fsafe_sys_block_signals(old);
    fsafe_latch_acquire_open(latch);
}

void fsafe_latch_release(struct fsafe_latch *latch, const struct fsafe_sigset *old)
{
    fsafe_latch_release_open(latch);
    fsafe_sys_restore_signals(old);
}

struct fsafe_hold fsafe_latch_begin_hold(struct fsafe_latch *latch)
{
    struct fsafe_hold hold = {.latch = latch};
    fsafe_latch_acquire(latch, &hold.old);
    return hold;
}

void fsafe_latch_end_hold(const struct fsafe_hold *hold)
{
    fsafe_latch_release(hold->latch, &hold->old);
}
