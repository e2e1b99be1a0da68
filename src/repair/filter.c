/* repair/filter: see filter.h. */
#include "config.h"

#include "repair/filter.h"

void fsafe_filter_fill(struct fsafe_filter *filter, enum fsafe_ledger_of of)
{
    uint32_t now = fsafe_lineage_generation();
    uint64_t words[FSAFE_FILTER_WORDS] = {0};
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        uint32_t generation = fsafe_thread_generation(thread);
        if (generation == 0 || generation >= now)
            continue;
        const struct fsafe_ledger *ledger = &thread->ledgers[of];
        for (uint32_t k = fsafe_ledger_depth(ledger); k > 0; k--) {
            uintptr_t lock, site;
            if (!fsafe_ledger_read(ledger, k, &lock, &site))
                continue;
            unsigned bit = fsafe_filter_bit(lock & ~FSAFE_STAGE_MASK);
            words[bit / 64] |= (uint64_t)1 << bit % 64;
        }
    }
    /* Another thread may be asking: a bit goes only after what it stood for was settled. */
    for (unsigned i = 0; i < FSAFE_FILTER_WORDS; i++)
        atomic_store_explicit(&filter->words[i], words[i], memory_order_release);
    atomic_store_explicit(&filter->generation, now, memory_order_release);
}
