/*
 * wrap/spin: pthread_spin_*. The record is made before the lock is asked for and removed after it is released; the lock
 * itself is libc's affair, and it is always tried first.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "repair/spin.h"
#include "wrap/next.h"

#include <errno.h>

static uintptr_t address_of(pthread_spinlock_t *spin)
{
    return (uintptr_t)spin;
}

/* In a child: a lock that is not free may be a dead thread's. EBUSY: it is not, or not to be taken. */
static FSAFE_COLD int ask_in_child(pthread_spinlock_t *spin, struct fsafe_thread *self, uintptr_t site, bool waits)
{
    for (struct fsafe_patience patience = {0};;) {
        enum fsafe_verdict verdict = fsafe_spin_judge(spin, self, site, waits);
        if (verdict == FSAFE_TAKEN)
            return 0;
        int result = FSAFE_NEXT(pthread_spin_trylock)(spin);
        if (verdict != FSAFE_UNDECIDED || result != EBUSY || !waits)
            return result;
        atomic_store_explicit(&self->asking, address_of(spin), memory_order_release);
        fsafe_takeover_be_patient(&patience, CLOCK_MONOTONIC, NULL);
        atomic_store(&self->asking, 0);
    }
}

/* A signal handler may leave it by longjmp. */
static FSAFE_COLD int wait_for(pthread_spinlock_t *spin, struct fsafe_thread *self)
{
    uint32_t wait = fsafe_thread_begin_wait(self, FSAFE_SPINS, address_of(spin));
    int result = FSAFE_NEXT(pthread_spin_lock)(spin);
    fsafe_thread_end_wait(self, wait);
    return result;
}

static inline int acquire(pthread_spinlock_t *spin, uintptr_t site, bool waits)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t lock = address_of(spin);
    if (FSAFE_UNLIKELY(self == NULL))
        self = fsafe_thread_join();
    if (FSAFE_UNLIKELY(self == NULL) ||
        (FSAFE_UNLIKELY(!fsafe_ledger_push_gated(fsafe_thread_spins(self), lock, site)) &&
         !fsafe_ledger_push_full(fsafe_thread_spins(self), lock, site, fsafe_spin_is_stale, self)))
        return waits ? FSAFE_NEXT(pthread_spin_lock)(spin) : FSAFE_NEXT(pthread_spin_trylock)(spin);
    int result = FSAFE_NEXT(pthread_spin_trylock)(spin);
    if (FSAFE_UNLIKELY(result == EBUSY)) {
        fsafe_fork_notice();
        if (fsafe_lineage_is_child())
            result = ask_in_child(spin, self, site, waits);
        if (result == EBUSY && waits)
            result = wait_for(spin, self);
    }
    if (FSAFE_UNLIKELY(result != 0)) {
        fsafe_ledger_drop(fsafe_thread_spins(self), lock);
        return result;
    }
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()))
        fsafe_spin_settle(spin);
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

/* What anybody recorded of it is over. */
static void forget(pthread_spinlock_t *spin)
{
    if (fsafe_self != NULL)
        fsafe_ledger_drop(fsafe_thread_spins(fsafe_self), address_of(spin));
    fsafe_fork_notice();
    if (fsafe_lineage_is_child())
        fsafe_spin_settle(spin);
}

FSAFE_EXPORT int pthread_spin_unlock(pthread_spinlock_t *spin)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t lock = address_of(spin);
    if (FSAFE_UNLIKELY(self == NULL))
        return FSAFE_NEXT(pthread_spin_unlock)(spin);
    struct fsafe_ledger *spins = fsafe_thread_spins(self);
    bool is_latest = fsafe_ledger_word(spins, fsafe_ledger_depth(spins)) == lock;
    if (FSAFE_UNLIKELY(!is_latest && fsafe_ledger_find(spins, lock) == 0)) { /* another thread's: it has it no more */
        fsafe_fork_notice();
        fsafe_spin_handed_over(spin);
    }
    int result = FSAFE_NEXT(pthread_spin_unlock)(spin);
    fsafe_ledger_drop(spins, lock);
    return result;
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
