/*
 * wrap/guard: __cxa_guard_*, the whole protocol: repair/guard.h says why, and has the bits. Takes no lock.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "libc/late.h"
#include "libc/symbol.h"
#include "repair/guard.h"
#include "track/join.h"
#include "wrap/next.h"
#include "wrap/slices.h"
#include "wrap/undeclared.h"

#include <errno.h>
#include <limits.h>

#ifdef FSAFE_GUARDS

/* The word that libstdc++ waits on: the first four bytes, on machines of either byte order. */
static uint32_t first_half(uint64_t word)
{
    return (uint32_t)(word >> (32 - FSAFE_GUARD_OWNER_SHIFT));
}

/* Not the private kind: see repair/guard.h. */
static void wait_while(_Atomic uint64_t *guard, uint64_t word, struct fsafe_thread *self, uintptr_t site)
{
    const long wait[] = {(long)guard, FUTEX_WAIT, (long)first_half(word), 0, 0, 0};
    int saved = errno;
    fsafe_slices_futex(wait, "guard", "static local", self, site);
    errno = saved;
}

static void wake_all(_Atomic uint64_t *guard)
{
    FSAFE_SYS(SYS_futex, guard, FUTEX_WAKE, INT_MAX);
}

/*
 * The initialiser has come back to its own variable. libstdc++ throws recursive_init_error while the process has one
 * thread; compilers assume that __cxa_guard_acquire throws nothing, so that this ends the program. In a process with
 * threads it waits for ever.
 */
static void check_recursion(uint64_t word, const struct fsafe_thread *self)
{
    if (!FSAFE_SINGLE_THREADED() || !fsafe_guard_is_own(word, self))
        return;
    void (*terminate)(void) = (void (*)(void))fsafe_symbol_next("_ZSt9terminatev");
    if (terminate != NULL)
        terminate();
    fsafe_sys_abort();
}

/* Makes the record before the guard is ours, so that a child finds where the initialiser began. */
static void record(struct fsafe_thread *self, uintptr_t lock, uintptr_t site)
{
    if (self != NULL && !fsafe_ledger_push(fsafe_thread_guards(self), lock, site))
        fsafe_ledger_push_full(fsafe_thread_guards(self), lock, site, fsafe_guard_is_stale, self);
}

static void forget(struct fsafe_thread *self, uintptr_t lock)
{
    if (self != NULL)
        fsafe_ledger_drop(fsafe_thread_guards(self), lock);
}

/* Returns 1 when the caller has to run the initialiser, 0 when that is done. */
FSAFE_EXPORT int __cxa_guard_acquire(uint64_t *variable)
{
    _Atomic uint64_t *guard = (_Atomic uint64_t *)variable;
    uintptr_t lock = (uintptr_t)variable, site = FSAFE_CALLER();
    if (atomic_load_explicit(guard, memory_order_acquire) & FSAFE_GUARD_DONE)
        return 0;
    struct fsafe_thread *self = fsafe_thread_join();
    fsafe_fork_notice();
    record(self, lock, site);
    const uint64_t mine = FSAFE_GUARD_RUNNING | (uint64_t)fsafe_guard_owner(self) << FSAFE_GUARD_OWNER_SHIFT;
    uint64_t judged = 0;
    uint32_t judged_in = 0;
    for (;;) {
        uint64_t seen = 0;
        if (atomic_compare_exchange_strong(guard, &seen, mine))
            return 1;
        if (seen & FSAFE_GUARD_DONE) {
            forget(self, lock);
            return 0;
        }
        check_recursion(seen, self);
        /* Once for each owner: a living owner vanishes only if a signal handler of this thread forks. */
        if (fsafe_lineage_is_child() && self != NULL &&
            ((seen & ~FSAFE_GUARD_WAITING) != judged || fsafe_lineage_generation() != judged_in)) {
            judged = seen & ~FSAFE_GUARD_WAITING;
            judged_in = fsafe_lineage_generation();
            if (fsafe_guard_judge(guard, seen, self, site) == FSAFE_TAKEN)
                return 1;
        }
        uint64_t waited_for = seen | FSAFE_GUARD_WAITING;
        if (seen == waited_for || atomic_compare_exchange_strong(guard, &seen, waited_for))
            wait_while(guard, waited_for, self, site);
    }
}

static void finish(uint64_t *variable, uint64_t word)
{
    _Atomic uint64_t *guard = (_Atomic uint64_t *)variable;
    if (atomic_exchange(guard, word) & FSAFE_GUARD_WAITING)
        wake_all(guard);
    forget(fsafe_self, (uintptr_t)variable);
}

FSAFE_EXPORT void __cxa_guard_release(uint64_t *guard)
{
    finish(guard, FSAFE_GUARD_DONE);
}

/* The initialiser threw: threads that wait, or come later, try again. */
FSAFE_EXPORT void __cxa_guard_abort(uint64_t *guard)
{
    finish(guard, 0);
}

#endif
