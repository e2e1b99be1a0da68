#include "config.h"

#include "repair/filter.h"
#include "track/slots.h"

void fsafe_filter_fill(struct fsafe_filter *filter, enum fsafe_ledger_of of)
{
    uint32_t now = fsafe_lineage_generation();
    uint64_t words[FSAFE_FILTER_WORDS] = {0};
    bool any = false;
    for (struct fsafe_thread_walk of_thread = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&of_thread);) {
        struct fsafe_ledger_walk at = fsafe_ledger_walk(&of_thread.thread->ledgers[of]);
        while (fsafe_ledger_next(&at)) {
            unsigned bit = fsafe_filter_bit(at.lock & ~FSAFE_STAGE_MASK);
            words[bit / 64] |= (uint64_t)1 << bit % 64;
            any = true;
        }
    }
    /* Another thread may be asking. A bit is cleared only when the object that it stands for needs nothing more. */
    for (unsigned i = 0; any && i < FSAFE_FILTER_WORDS; i++)
        atomic_store_explicit(&filter->words[i], words[i], memory_order_release);
    atomic_store_explicit(&filter->any, any, memory_order_release);
    atomic_store_explicit(&filter->generation, now, memory_order_release);
}
