/*
 * wrap/yield: sched_yield, by which programs wait for spin locks of their own (TBB, OpenBLAS, libcurl). In a child with
 * one thread nobody makes such a lock free, and nothing but this call shows the wait. Right programs, too, call
 * sched_yield until something has come: a time, a file, another process. So only a loop is named that does less between
 * two calls than it takes to read the clock: that is no system call, and no look at the time but by its seconds.
 *
 * Measured. A loop that tries an atomic flag, TBB's spin_mutex: 6 to 12 ns; one that reads the clock 26 and more.
 */
#include "config.h"

#include "base/sys.h"
#include "repair/hopeless.h"
#include "wrap/call.h"
#include "wrap/next.h"

#include <sched.h>

/* Of so many calls the first ones return at once: beside busy processes a loop that gives way takes longer each time. */
enum { CALLS = 64, LOOKS = 8 };

/* How long it takes to read the clock, at best; 0: too long for what is to be told apart. */
static uint64_t clock_ns(void)
{
    enum { TRIES = 64, NO_CALL = 100 }; /* more than that is a system call */
    static _Atomic uint64_t known;
    uint64_t least = atomic_load_explicit(&known, memory_order_relaxed);
    if (least == 0) {
        least = NO_CALL;
        for (unsigned i = 0; i < TRIES; i++) {
            uint64_t begun = fsafe_sys_now_ns(), span = fsafe_sys_now_ns() - begun;
            least = span < least ? span : least;
        }
        atomic_store_explicit(&known, least, memory_order_relaxed);
    }
    return least < NO_CALL ? least : 0;
}

/* Whether this call is to return at once; asks whether the loop is hopeless. */
static FSAFE_COLD bool is_look(uintptr_t frame, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL || fsafe_thread_has_company(self))
        return false;
    struct fsafe_yields *yields = &self->yields;
    if (yields->frame != frame || yields->site != site)
        *yields = (struct fsafe_yields){.frame = frame, .site = site};
    unsigned look = yields->count++ % CALLS;
    if (look >= LOOKS)
        return false;
    uint64_t limit = 2 * clock_ns(); /* one of these was spent on the look itself */
    uint64_t now = fsafe_sys_now_ns(), span = now - yields->left_ns;
    if (look == 0)
        yields->is_quick = false;
    else
        yields->is_quick |= span < limit;
    if (look == LOOKS - 1 && yields->is_quick)
        fsafe_hopeless_asked(&(const struct fsafe_untimed_wait){
            .lock = "loop", .kind = "sched_yield", .object = frame, .site = site, .spins = true});
    yields->left_ns = now;
    return true;
}

FSAFE_EXPORT int sched_yield(void)
{
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()) && is_look(FSAFE_FRAME(), FSAFE_CALLER()))
        return 0;
    return FSAFE_NEXT(sched_yield)();
}
