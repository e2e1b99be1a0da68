/* repair/takeover: see takeover.h. */
#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "repair/children.h"
#include "repair/takeover.h"
#include "report/report.h"

#include <string.h>

struct fsafe_latch fsafe_takeover_latch = FSAFE_LATCH_FREE;

/* One thread's latest record of the lock; false when it has none. An rwlock that lay there is another lock. */
static bool find_record(const struct fsafe_ledger *ledger, enum fsafe_ledger_of of, uintptr_t lock,
                        enum fsafe_stage *stage, uintptr_t *site)
{
    uintptr_t at;
    for (uint32_t i = atomic_load_explicit(&ledger->depth, memory_order_acquire); i > 0; i--) {
        if (fsafe_ledger_read(ledger, i, &at, site) && (at & ~FSAFE_STAGE_MASK) == lock &&
            (of != FSAFE_LOCKS || !fsafe_ledger_is_of_rwlock(at))) {
            *stage = (enum fsafe_stage)(at & FSAFE_STAGE_MASK);
            return true;
        }
    }
    return false;
}

/* Whether the thread has more than one record of it. */
static bool is_at_it_twice(const struct fsafe_ledger *ledger, enum fsafe_ledger_of of, uintptr_t lock)
{
    unsigned records = 0;
    uintptr_t at, site;
    for (uint32_t i = fsafe_ledger_depth(ledger); i > 0 && records < 2; i--)
        records += fsafe_ledger_read(ledger, i, &at, &site) && (at & ~FSAFE_STAGE_MASK) == lock &&
                   (of != FSAFE_LOCKS || !fsafe_ledger_is_of_rwlock(at));
    return records > 1;
}

/* Whether a vanished thread was in a wait for a condition, with this mutex. */
static bool was_waiting_with(struct fsafe_thread *thread, uintptr_t lock)
{
    const struct fsafe_ledger *waits = fsafe_thread_waits(thread);
    uintptr_t at, site;
    for (uint32_t i = fsafe_ledger_depth(waits); i > 0; i--)
        if (fsafe_ledger_read(waits, i, &at, &site) && at == (lock | FSAFE_INSIDE_MUTEX))
            return true;
    return false;
}

struct fsafe_claims fsafe_takeover_claims(const struct fsafe_thread *self, enum fsafe_ledger_of of, uintptr_t lock,
                                          int owner)
{
    struct fsafe_claims claims;
    memset(&claims, 0, sizeof claims);
    uint32_t now = fsafe_lineage_generation();
    uint32_t best_generation = 0;
    bool best_holds = false;
    claims.own_at_it = self != NULL && is_at_it_twice(&self->ledgers[of], of, lock);
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        uint32_t generation = fsafe_thread_generation(thread);
        enum fsafe_stage stage;
        uintptr_t site;
        if (generation == 0 || thread == self)
            continue;
        bool named = fsafe_thread_is_or_was(thread, owner);
        claims.living_was_owner |= generation == now && named;
        if (!find_record(&thread->ledgers[of], of, lock, &stage, &site))
            continue;
        if (thread->ended && generation == now) {
            claims.died_with_it = true;
            continue;
        }
        if (generation == now) {
            claims.living_owner_has_it |= named;
            claims.living_is_at_it |= atomic_load_explicit(&thread->asking, memory_order_acquire) != lock;
            continue;
        }
        claims.vanished_held |= stage == FSAFE_HELD;
        claims.vanished_owner_had_it |= named;
        /* If the lock names nobody it may have been any of them. */
        if (of == FSAFE_LOCKS && (named || owner == 0))
            claims.was_waiting = was_waiting_with(thread, lock) && (claims.was_waiting || named || claims.vanished == NULL);
        /* A younger generation knows better, and within one the holder knows better than who waited. */
        bool holds = stage == FSAFE_HELD || named;
        if (claims.vanished == NULL || generation > best_generation ||
            (generation == best_generation && holds && !best_holds)) {
            claims.vanished = thread;
            claims.since = site;
            best_generation = generation;
            best_holds = holds;
        }
    }
    return claims;
}

bool fsafe_takeover_is_alone(void)
{
    return fsafe_sys_getpid() == fsafe_lineage_pid() && fsafe_sys_single_threaded();
}

bool fsafe_takeover_is_shared(uintptr_t lock)
{
    int shared = fsafe_maps_is_shared(lock);
    return shared >= 0 ? shared != 0 : fsafe_maps_probe_shared(lock);
}

bool fsafe_takeover_be_patient(struct fsafe_patience *patience, clockid_t clock, const struct timespec *until)
{
    struct timespec now;
    if (until != NULL && clock_gettime(clock, &now) == 0 &&
        (now.tv_sec > until->tv_sec || (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec)))
        return false;
    patience->pause_us = patience->pause_us == 0 ? 10 : patience->pause_us < 500 ? patience->pause_us * 2 : 1000;
    fsafe_sys_pause_us(patience->pause_us);
    return true;
}

bool fsafe_takeover_decide(struct fsafe_event *event, const struct fsafe_claims *claims, bool would_wait)
{
    if (claims->vanished != NULL) {
        event->holder = fsafe_thread_as_holder(claims->vanished, claims->since);
        event->fork = fsafe_lineage_fork_after(fsafe_thread_generation(claims->vanished));
    } else {
        event->fork = fsafe_lineage_fork_after(fsafe_lineage_generation() - 1);
    }
    event->worth_a_line = would_wait;
    if (fsafe_takeover_is_shared(event->address)) {
        event->deed = FSAFE_REFUSED;
        event->why = "it lies in memory shared with other processes";
        return false;
    }
    if (fsafe_options.mode != FSAFE_MODE_REPAIR) {
        event->deed = FSAFE_WOULD_HANG;
        return false;
    }
    event->deed = FSAFE_TOOK_OVER;
    event->worth_a_line = !claims->was_waiting || fsafe_options.verbose;
    return true;
}

const char *fsafe_takeover_reason_to_wait(bool (*may_be_interrupted)(void))
{
    if (!fsafe_takeover_is_alone())
        return "another thread of the child may be meant to release it";
    return may_be_interrupted != NULL && may_be_interrupted() ? "a signal handler may be meant to release it" : NULL;
}

void fsafe_takeover_tell(const struct fsafe_event *event)
{
    if (!event->worth_a_line)
        return;
    if (event->deed == FSAFE_REFUSED) {
        /* A lock in shared memory may be contended all day: once is enough. */
        static _Atomic uintptr_t refused;
        if (atomic_exchange_explicit(&refused, event->address, memory_order_relaxed) == event->address)
            return;
    }
    fsafe_report_event(event);
    if (event->deed == FSAFE_WOULD_HANG)
        fsafe_children_said(true);
    if (event->deed == FSAFE_WOULD_HANG && fsafe_self != NULL)
        fsafe_self->told_of = event->address;
    if (event->deed == FSAFE_WOULD_HANG && fsafe_options.mode == FSAFE_MODE_ABORT)
        fsafe_sys_abort();
}
