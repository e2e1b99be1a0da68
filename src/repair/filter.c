#include "config.h"

#include "repair/filter.h"
#include "track/slots.h"

void fsafe_filter_fill(struct fsafe_filter *filter, enum fsafe_ledger_of of)
{
    uint32_t now = fsafe_lineage_generation();
    uint64_t words[FSAFE_FILTER_WORDS] = {0};
    bool any = false;
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, of); fsafe_thread_record(&at);) {
        unsigned bit = fsafe_filter_bit(at.address);
        words[bit / 64] |= (uint64_t)1 << bit % 64;
        any = true;
    }
    /* Another thread may be asking. A bit is cleared only when the object that it stands for needs nothing more. */
    for (unsigned i = 0; any && i < FSAFE_FILTER_WORDS; i++)
        atomic_store_explicit(&filter->words[i], words[i], memory_order_release);
    atomic_store_explicit(&filter->any, any, memory_order_release);
    atomic_store_explicit(&filter->generation, now, memory_order_release);
}

void fsafe_filter_drop(struct fsafe_filter *filter, enum fsafe_ledger_of of, uintptr_t lock)
{
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, of); fsafe_thread_record(&at);)
        if (at.address == lock)
            fsafe_thread_clear(&at);
    fsafe_filter_fill(filter, of);
}
