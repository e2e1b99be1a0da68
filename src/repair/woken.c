#include "config.h"

#include "base/sys.h"
#include "repair/woken.h"
#include "track/join.h"

enum { OBJECTS = 16, BEFORE_NS = 2000000, AFTER_NS = 20000000 };
static _Atomic uint64_t woken_ns[OBJECTS] FSAFE_FORK_STATE;

static _Atomic uint64_t *woken(uintptr_t object)
{
    return &woken_ns[(uint32_t)(object >> 4) * 0x9e3779b1u >> 28];
}
_Static_assert(OBJECTS == 1 << (32 - 28), "a number for each hash");

void fsafe_woken_note(uintptr_t object)
{
    /*
     * A thread in seccomp's strict mode may not read the clock. A waiter that is between two slices does not learn of
     * the signal then; a waiter that sleeps cannot be woken by such a thread in any case.
     */
    if (!fsafe_thread_is_withdrawn())
        atomic_store(woken(object), fsafe_sys_now_ns());
}

bool fsafe_woken_between(struct fsafe_slices *slices, const struct timespec *ended)
{
    struct fsafe_sleeping *sleeping = &slices->self->sleeping;
    uint64_t at = atomic_load(woken(atomic_load_explicit(&sleeping->object, memory_order_relaxed)));
    uint64_t ended_ns = fsafe_sys_ns(ended);
    uint64_t before = slices->looked_ns;
    slices->looked_ns = fsafe_sys_now_ns();
    return at + BEFORE_NS >= ended_ns || (before != 0 && at + BEFORE_NS >= before && at <= before + AFTER_NS);
}
