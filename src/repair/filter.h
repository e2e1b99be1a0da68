/*
 * repair/filter: of which addresses vanished threads may have records, so that a child need not search all ledgers for
 * each lock of its own. A Bloom filter for one kind of ledger, filled at the first question of a generation. Vanished
 * threads make no new records, so an address that is not in the filter stays out of it.
 */
#pragma once

#include "track/thread.h"

enum { FSAFE_FILTER_WORDS = 32 };

struct fsafe_filter {
    _Atomic uint32_t generation; /* for which it was filled */
    _Atomic bool any;            /* some bit is set: where none is, a child need not read the page of the words */
    _Atomic uint64_t *words;
};

/* Fills it from the ledgers. Context: under the takeover latch. */
FSAFE_AT_FORK void fsafe_filter_fill(struct fsafe_filter *filter, enum fsafe_ledger_of of);

/* Clears vanished threads' records of the lock, and fills the filter anew. Context: under the takeover latch. */
void fsafe_filter_drop(struct fsafe_filter *filter, enum fsafe_ledger_of of, uintptr_t lock);

static inline unsigned fsafe_filter_bit(uintptr_t lock)
{
    return (unsigned)((uint32_t)(lock >> 3) * 0x9e3779b1u >> 21);
}
_Static_assert(FSAFE_FILTER_WORDS * 64 == 1 << (32 - 21), "a bit for each hash");

/* Whether a vanished thread may have a record of the lock; if false, none has. */
static inline FSAFE_AT_FORK bool fsafe_filter_may_have(const struct fsafe_filter *filter, uintptr_t lock)
{
    if (atomic_load_explicit(&filter->generation, memory_order_acquire) != fsafe_lineage_generation())
        return true;
    if (!atomic_load_explicit(&filter->any, memory_order_acquire))
        return false;
    unsigned bit = fsafe_filter_bit(lock);
    return (atomic_load_explicit(&filter->words[bit / 64], memory_order_acquire) >> bit % 64 & 1) != 0;
}

/* The same; fills the filter first if need be. Context: under the takeover latch. */
static inline FSAFE_AT_FORK bool fsafe_filter_ask(struct fsafe_filter *filter, enum fsafe_ledger_of of, uintptr_t lock)
{
    if (atomic_load_explicit(&filter->generation, memory_order_relaxed) != fsafe_lineage_generation())
        fsafe_filter_fill(filter, of);
    return fsafe_filter_may_have(filter, lock);
}
