#include "config.h"

#include "track/join.h"
#include "track/region.h"
#include "track/slots.h"
#include "track/waiting.h"

_Static_assert(FSAFE_REGIONS <= 64, "a region fits into its bits");

/*
 * Drops the records of calls whose frames are no more. A call under way on another stack, which a signal handler or a
 * coroutine of this thread has interrupted, stays.
 */
static void drop_left(struct fsafe_ledger *locks, uintptr_t entering)
{
    for (struct fsafe_ledger_walk at = fsafe_ledger_walk(locks); FSAFE_CALL_MARK != 0 && fsafe_ledger_next(&at);)
        if (fsafe_ledger_is_of_call(at.lock) &&
            fsafe_thread_is_left(fsafe_region_frame(at.lock), at.site, fsafe_region_frame(entering)))
            fsafe_ledger_drop(locks, at.lock);
}

void fsafe_region_enter_slowly(uintptr_t record, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    if (self == NULL)
        return;
    struct fsafe_ledger *locks = fsafe_thread_locks(self);
    if (fsafe_ledger_depth(locks) > 0)
        drop_left(locks, record);
    if (!fsafe_gate_push(locks, record, site))
        /* Without memory the call goes unrecorded. */
        fsafe_gate_push_slowly(locks, record, site, fsafe_thread_is_stale, self);
}

void fsafe_region_leave_slowly(uintptr_t record)
{
    /* A callback inside the call may have ended the thread's slot: then there is nothing to remove. */
    if (fsafe_self != NULL)
        fsafe_ledger_drop(fsafe_thread_locks(fsafe_self), record);
}

/* Which of the regions `asked` the thread is or was inside of. *site: where it called. */
static uint32_t inside_of(struct fsafe_thread *thread, uint32_t asked, uintptr_t *site)
{
    uint32_t regions = 0;
    for (struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_locks(thread)); fsafe_ledger_next(&at);) {
        uint32_t region = fsafe_ledger_is_of_call(at.lock) ? FSAFE_REGION_BIT(fsafe_region_of(at.lock)) & asked : 0;
        regions |= region;
        if (region != 0)
            *site = at.site;
    }
    return regions;
}

bool fsafe_region_is_inside(struct fsafe_thread *thread)
{
    uintptr_t site;
    return inside_of(thread, UINT32_MAX, &site) != 0;
}

uint32_t fsafe_region_vanished_inside(void)
{
    /* What vanished threads were in does not change: it is found out once for each generation. */
    static _Atomic uint32_t found_generation;
    static _Atomic uint32_t found;
    uint32_t now = fsafe_lineage_generation();
    if (atomic_load_explicit(&found_generation, memory_order_acquire) != now) {
        uint32_t regions = 0;
        uintptr_t site;
        for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);)
            regions |= inside_of(at.thread, UINT32_MAX, &site);
        atomic_store_explicit(&found, regions, memory_order_relaxed);
        atomic_store_explicit(&found_generation, now, memory_order_release);
    }
    return atomic_load_explicit(&found, memory_order_relaxed);
}

bool fsafe_region_had_inside(pthread_t handle, uint32_t regions)
{
    uintptr_t site;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);)
        if (at.thread->handle == handle && inside_of(at.thread, regions, &site) != 0)
            return true;
    return false;
}

void fsafe_region_name_vanished(uint32_t regions, struct fsafe_event *event)
{
    uint32_t youngest = 0;
    uintptr_t site;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);) {
        if (at.generation <= youngest || inside_of(at.thread, regions, &site) == 0)
            continue;
        youngest = at.generation;
        event->holder = fsafe_thread_as_holder(at.thread, site);
        event->fork = fsafe_lineage_fork_after(youngest);
    }
}
