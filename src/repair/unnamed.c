/*
 * Measured. In a child that has threads a mutex that is locked and names no owner proves nothing: between our look at
 * its bytes and our look at the ledgers a living thread can take it, release it and drop its record. A thread that
 * slept in pthread_cond_wait at the fork leaves a record of the mutex: a living thread lost its mutex in one of 26
 * runs.
 */
#include "config.h"

#include "libc/layout.h"
#include "repair/unnamed.h"
#include "track/join.h"
#include "track/slots.h"

/*
 * The stage FSAFE_HELD marks vanished threads' records of the mutexes that were locked and named no owner when this
 * generation got its second thread; `count`: how many at most.
 */
static struct {
    _Atomic uint32_t generation;
    _Atomic uint32_t count;
} surveyed;

bool fsafe_unnamed_is_surveyed(void)
{
    return atomic_load_explicit(&surveyed.generation, memory_order_acquire) == fsafe_lineage_generation();
}

bool fsafe_unnamed_is_none(void)
{
    return fsafe_unnamed_is_surveyed() && atomic_load_explicit(&surveyed.count, memory_order_relaxed) == 0;
}

static bool peek_unnamed(uintptr_t lock)
{
    pthread_mutex_t bytes;
    return fsafe_sys_peek(lock, &bytes, sizeof bytes) &&
           fsafe_layout_mutex_kind(&bytes) != FSAFE_MUTEX_FOREIGN && fsafe_layout_mutex_locked(&bytes) &&
           fsafe_layout_mutex_owner(&bytes) == 0;
}

/* With other threads about the mutex may be a living thread's, which then has a record of it. */
static bool peek_unnamed_in_company(uintptr_t lock)
{
    return peek_unnamed(lock) && !fsafe_takeover_claims(fsafe_self, FSAFE_LOCKS, lock, 0).living_is_at_it;
}

static void is_over_in(struct fsafe_thread *thread, uint32_t record, void *context)
{
    (void)context;
    uintptr_t word, site;
    if (fsafe_ledger_read(fsafe_thread_locks(thread), record, &word, &site))
        atomic_store_explicit(&fsafe_ledger_record(fsafe_thread_locks(thread), record)->lock,
                              (word & ~FSAFE_STAGE_MASK) | FSAFE_WANTED, memory_order_relaxed);
}

/*
 * Marks the records of `lock` (0: of every lock) that vanished threads have, or with `marked_only` those that are
 * marked, as `is_marked` says. Returns how many are marked then.
 */
static uint32_t mark(uintptr_t lock, bool marked_only, bool is_marked(uintptr_t lock))
{
    uint32_t count = 0;
    struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_LOCKS);
    while (fsafe_thread_record(&at)) {
        if (fsafe_ledger_is_of_rwlock(at.record.lock) || (lock != 0 && lock != at.address) ||
            (marked_only && at.record.lock != (at.address | FSAFE_HELD)))
            continue;
        bool marked = is_marked(at.address);
        count += marked;
        atomic_store_explicit(&fsafe_ledger_record(at.record.ledger, at.record.index)->lock,
                              at.address | (marked ? FSAFE_HELD : FSAFE_WANTED), memory_order_relaxed);
    }
    return count;
}

static bool is_over(uintptr_t lock)
{
    (void)lock;
    return false;
}

void fsafe_unnamed_forget(uintptr_t lock)
{
    if (!fsafe_takeover_find_vanished(lock, is_over_in, NULL))
        mark(lock, false, is_over);
}

/* How often, and how far apart, a mutex is looked at before it counts as unnamed, with other threads about. */
enum { LOOKS = 3, APART_US = 100 };

void fsafe_unnamed_survey(bool alone)
{
    uint32_t count = mark(0, false, alone ? peek_unnamed : peek_unnamed_in_company);
    for (unsigned i = 1; !alone && count != 0 && i < LOOKS; i++) {
        fsafe_sys_pause_us(APART_US);
        count = mark(0, true, peek_unnamed_in_company);
    }
    atomic_store_explicit(&surveyed.count, count, memory_order_relaxed);
    atomic_store_explicit(&surveyed.generation, fsafe_lineage_generation(), memory_order_release);
}

void fsafe_unnamed_note(void)
{
    if (fsafe_unnamed_is_surveyed())
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    if (!fsafe_unnamed_is_surveyed())
        fsafe_unnamed_survey(fsafe_takeover_is_alone());
}

void fsafe_unnamed_is_over(uintptr_t lock)
{
    if (!fsafe_unnamed_is_surveyed() || atomic_load_explicit(&surveyed.count, memory_order_relaxed) == 0)
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    fsafe_unnamed_forget(lock);
}
