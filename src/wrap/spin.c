/*
 * wrap/spin: pthread_spin_*. A thread makes a record before it asks for the lock, and removes it after the release. It
 * always tries first, in place where the self-test allows that.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "libc/layout.h"
#include "repair/spin.h"
#include "track/gate.h"
#include "track/join.h"
#include "track/waiting.h"
#include "wrap/acquire.h"
#include "wrap/next.h"

#include <errno.h>

static enum fsafe_verdict judge(void *spin, struct fsafe_thread *self, uintptr_t site,
                                const struct fsafe_attempt *attempt)
{
    return fsafe_spin_judge(spin, self, site, attempt->how != FSAFE_HOW_TRY);
}

static int try(void *spin, const struct fsafe_attempt *attempt)
{
    (void)attempt;
    return FSAFE_NEXT(pthread_spin_trylock)(spin);
}

/* In a child: a lock that is not free may be a vanished thread's. */
static FSAFE_COLD int ask_in_child(pthread_spinlock_t *spin, struct fsafe_thread *self, uintptr_t site, bool waits)
{
    static const struct fsafe_acquired kind = {judge, try};
    const struct fsafe_attempt attempt = {.how = waits ? FSAFE_HOW_WAIT : FSAFE_HOW_TRY};
    int result = fsafe_acquire_in_child(&kind, (void *)(uintptr_t)spin, self, site, &attempt);
    return result == FSAFE_ASK_LIBC ? try((void *)(uintptr_t)spin, &attempt) : result;
}

/*
 * Noted as a wait, because a signal handler may leave it by a longjmp. EBUSY: a signal handler has forked, and the lock
 * is perhaps a vanished thread's in this child.
 */
static FSAFE_COLD int wait_for(pthread_spinlock_t *spin, struct fsafe_thread *self, uint32_t generation)
{
    uint32_t wait = fsafe_thread_begin_wait(self, FSAFE_SPINS, (uintptr_t)spin);
    int result = EBUSY;
    do {
        FSAFE_ARCH_RELAX();
        if (!fsafe_layout.spin_in_place || *spin == fsafe_layout.spin_free)
            result = FSAFE_NEXT(pthread_spin_trylock)(spin);
        fsafe_fork_notice();
    } while (result == EBUSY && generation == fsafe_lineage_generation());
    fsafe_thread_end_wait(self, wait);
    return result;
}

/* The record is there, but the lock could not be had in place, or this is a child. */
static FSAFE_COLD int acquire_recorded(pthread_spinlock_t *spin, struct fsafe_thread *self, uintptr_t site, bool waits,
                                       bool has_it)
{
    uintptr_t lock = (uintptr_t)spin;
    int result = has_it ? 0 : FSAFE_NEXT(pthread_spin_trylock)(spin);
    for (bool again = result == EBUSY; again; again = waits && result == EBUSY) {
        fsafe_fork_notice();
        uint32_t generation = fsafe_lineage_generation();
        if (fsafe_lineage_is_child())
            result = ask_in_child(spin, self, site, waits);
        if (result == EBUSY && waits)
            result = wait_for(spin, self, generation);
    }
    if (FSAFE_UNLIKELY(result != 0)) {
        fsafe_ledger_drop(fsafe_thread_spins(self), lock);
        return result;
    }
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()))
        fsafe_spin_settle(spin);
    return 0;
}

static FSAFE_COLD int acquire_slowly(pthread_spinlock_t *spin, uintptr_t site, bool waits)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL ||
        !fsafe_gate_push_slowly(fsafe_thread_spins(self), (uintptr_t)spin, site, fsafe_spin_is_stale, self))
        return waits ? FSAFE_NEXT(pthread_spin_lock)(spin) : FSAFE_NEXT(pthread_spin_trylock)(spin);
    return acquire_recorded(spin, self, site, waits, false);
}

static FSAFE_INLINE int acquire(pthread_spinlock_t *spin, uintptr_t site, bool waits)
{
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_UNLIKELY(self == NULL || !fsafe_gate_push(fsafe_thread_spins(self), (uintptr_t)spin, site)))
        return acquire_slowly(spin, site, waits);
    bool has_it = fsafe_layout.spin_in_place && fsafe_layout_spin_try(spin);
    if (FSAFE_UNLIKELY(!has_it || fsafe_lineage_is_child()))
        return acquire_recorded(spin, self, site, waits, has_it);
    return 0;
}

FSAFE_EXPORT int pthread_spin_lock(pthread_spinlock_t *spin)
{
    return acquire(spin, FSAFE_CALLER(), true);
}

FSAFE_EXPORT int pthread_spin_trylock(pthread_spinlock_t *spin)
{
    return acquire(spin, FSAFE_CALLER(), false);
}

/* Drops all records of it. */
static void forget(pthread_spinlock_t *spin)
{
    if (fsafe_self != NULL)
        fsafe_ledger_drop(fsafe_thread_spins(fsafe_self), (uintptr_t)spin);
    fsafe_fork_notice();
    if (fsafe_lineage_is_child())
        fsafe_spin_settle(spin);
}

static FSAFE_COLD int unlock_slowly(pthread_spinlock_t *spin)
{
    struct fsafe_thread *self = fsafe_self;
    if (self != NULL && fsafe_ledger_find(fsafe_thread_spins(self), (uintptr_t)spin) == 0) {
        fsafe_fork_notice();
        fsafe_spin_handed_over(spin); /* another thread took it and has the record */
    }
    int result = FSAFE_NEXT(pthread_spin_unlock)(spin);
    if (self != NULL)
        fsafe_ledger_drop(fsafe_thread_spins(self), (uintptr_t)spin);
    return result;
}

FSAFE_EXPORT int pthread_spin_unlock(pthread_spinlock_t *spin)
{
    struct fsafe_thread *self = fsafe_self;
    struct fsafe_ledger *spins = self != NULL ? fsafe_thread_spins(self) : NULL;
    uint32_t latest = spins != NULL ? fsafe_ledger_depth(spins) : 0;
    if (FSAFE_UNLIKELY(latest == 0 || fsafe_ledger_word(spins, latest) != (uintptr_t)spin ||
                       !fsafe_layout.spin_in_place))
        return unlock_slowly(spin);
    fsafe_layout_spin_unlock(spin);
    if (FSAFE_UNLIKELY(!fsafe_ledger_pop_at(spins, latest, (uintptr_t)spin)))
        fsafe_ledger_drop(spins, (uintptr_t)spin); /* a fork that waited for it has marked it */
    return 0;
}

FSAFE_EXPORT int pthread_spin_init(pthread_spinlock_t *spin, int process_shared)
{
    int result = FSAFE_NEXT(pthread_spin_init)(spin, process_shared);
    if (result == 0)
        forget(spin);
    return result;
}

FSAFE_EXPORT int pthread_spin_destroy(pthread_spinlock_t *spin)
{
    forget(spin);
    return FSAFE_NEXT(pthread_spin_destroy)(spin);
}
