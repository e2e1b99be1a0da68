/*
 * base/latch: our own lock for slow paths. pthread locks are what we interpose, so we never use one.
 * A holder blocks all signals: a handler that needs the latch its own thread holds would wait for ever.
 * In a forked child the room that owns a latch makes it free: see reset.
 */
#pragma once

#include "base/sys.h"

#include <stdatomic.h>

struct fsafe_latch {
    _Atomic uint32_t word; /* 0 free, 1 held, 2 held and somebody sleeps */
};

#define FSAFE_LATCH_FREE {0}

/* Takes the latch and blocks signals; `old` keeps the mask for release. */
FSAFE_AT_FORK void fsafe_latch_acquire(struct fsafe_latch *latch, struct fsafe_sigset *old);

/* Releases it and restores the mask. Context: the thread that acquired it. */
FSAFE_AT_FORK void fsafe_latch_release(struct fsafe_latch *latch, const struct fsafe_sigset *old);

/* Takes the latch, blocks signals, and undoes both at the end of the block. */
#define FSAFE_HOLD(latch) \
    struct fsafe_hold hold __attribute__((cleanup(fsafe_latch_end_hold), unused)) = fsafe_latch_begin_hold(latch)

struct fsafe_hold {
    struct fsafe_latch *latch;
    struct fsafe_sigset old;
};

static inline struct fsafe_hold fsafe_latch_begin_hold(struct fsafe_latch *latch)
{
    struct fsafe_hold hold = {.latch = latch};
    fsafe_latch_acquire(latch, &hold.old);
    return hold;
}

static inline void fsafe_latch_end_hold(const struct fsafe_hold *hold)
{
    fsafe_latch_release(hold->latch, &hold->old);
}

/*
 * The same without blocking signals, for a holder that may sleep: a signal must be able to interrupt it. A handler that
 * wants what its own thread holds waits for ever, so no call that a handler may make may need such a latch.
 */
FSAFE_AT_FORK void fsafe_latch_acquire_open(struct fsafe_latch *latch);
FSAFE_AT_FORK void fsafe_latch_release_open(struct fsafe_latch *latch);

/* Whether somebody holds it. Context: any thread; sure only in a child, alone. */
static inline bool fsafe_latch_is_held(struct fsafe_latch *latch)
{
    return atomic_load_explicit(&latch->word, memory_order_relaxed) != 0;
}

/* Makes it free whatever it was; a free one is not written to, because its page may still be the parent's, too.
 * Context: child, alone. */
static inline void fsafe_latch_reset(struct fsafe_latch *latch)
{
    if (atomic_load_explicit(&latch->word, memory_order_relaxed) != 0)
        atomic_store_explicit(&latch->word, 0, memory_order_relaxed);
}
