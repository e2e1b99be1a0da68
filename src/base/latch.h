/*
 * base/latch: our own lock, for slow paths, because pthread's locks are what we interpose. A holder blocks all signals:
 * a handler that needs a latch which its own thread holds would wait for ever. In a forked child the room that owns a
 * latch makes it free: see fsafe_latch_reset.
 */
#pragma once

#include "base/sys.h"

#include <stdatomic.h>

struct fsafe_latch {
    _Atomic uint32_t word; /* 0 free, 1 held, 2 held and a thread may sleep */
};

#define FSAFE_LATCH_FREE {0}

/* Takes the latch and blocks signals; `old` gets the mask of before, for release. */
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

FSAFE_AT_FORK struct fsafe_hold fsafe_latch_begin_hold(struct fsafe_latch *latch);
FSAFE_AT_FORK void fsafe_latch_end_hold(const struct fsafe_hold *hold);

/*
 * The same without blocking signals, for a holder that may sleep and that a signal has to be able to interrupt. Such a
 * latch is only for what no signal handler may call.
 */
FSAFE_AT_FORK void fsafe_latch_acquire_open(struct fsafe_latch *latch);
FSAFE_AT_FORK void fsafe_latch_release_open(struct fsafe_latch *latch);

/* Whether a thread holds the latch. Context: any thread; sure only in a child, alone. */
static inline bool fsafe_latch_is_held(struct fsafe_latch *latch)
{
    return atomic_load_explicit(&latch->word, memory_order_relaxed) != 0;
}

/*
 * Makes the latch free, whoever held it. A free latch is not written to: its page may still be shared with the parent.
 * Context: child, alone.
 */
static inline void fsafe_latch_reset(struct fsafe_latch *latch)
{
    if (atomic_load_explicit(&latch->word, memory_order_relaxed) != 0)
        atomic_store_explicit(&latch->word, 0, memory_order_relaxed);
}
