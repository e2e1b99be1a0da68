/*
 * wrap/yield: sched_yield, by which programs wait for spin locks of their own. In a child with one thread nobody makes
 * such a lock free, and this call alone shows that the child waits. Right programs, too, call sched_yield until
 * something has come: a time, a file, another process. So a loop is named only if what it does between two calls takes
 * less time than to read the clock: such a loop makes no system call, and can learn the time only from time(), in
 * seconds.
 *
 * Measured, where to read the clock takes 20 ns. Between two calls, in which the library reads the clock once, a loop
 * that tries an atomic flag or TBB's spin_mutex takes 20 ns. A loop in TBB's concurrent_hash_map takes 780 and is not
 * named. A call itself takes 490 ns bare; with the library 490 to 510 in a child with threads, 330 in one with a single
 * thread.
 */
#include "config.h"

#include "base/sys.h"
#include "repair/hopeless.h"
#include "track/join.h"
#include "track/slots.h"
#include "wrap/call.h"
#include "wrap/next.h"

#include <sched.h>

/* Of CALLS calls the first LOOKS return at once, so that the loop is measured and not what runs when it yields. */
enum { CALLS = 16, LOOKS = 6 };

/* The loop that the child is in, with its only thread. */
static struct {
    uintptr_t frame, site;
    uint32_t calls;
    uint64_t left_ns; /* when the latest of those calls returned */
    bool is_quick;    /* between two calls at least once little was done */
} loop;

/* How long it takes to read the clock, at best; 0: so long that a quick loop cannot be recognised. */
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

/* Whether this call has to return at once; at the last of these asks whether the loop is hopeless. */
static FSAFE_COLD bool is_look(uintptr_t frame, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL || (fsafe_thread_joined() > 1 && fsafe_thread_has_company(self)))
        return false;
    uint64_t now = fsafe_sys_now_ns();
    if (loop.frame != frame || loop.site != site)
        loop = (__typeof__(loop)){.frame = frame, .site = site};
    unsigned look = loop.calls++ % CALLS;
    if (look >= LOOKS)
        return false;
    /* Since the latest call returned the clock was read once. */
    loop.is_quick = look != 0 && (loop.is_quick || now - loop.left_ns < 2 * clock_ns());
    if (look == LOOKS - 1 && loop.is_quick)
        fsafe_hopeless_asked(&(const struct fsafe_untimed_wait){
            .lock = "loop", .kind = "sched_yield", .object = frame, .site = site, .spins = true});
    loop.left_ns = fsafe_sys_now_ns();
    return true;
}

FSAFE_EXPORT int sched_yield(void)
{
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()) && is_look(FSAFE_FRAME(), FSAFE_CALLER()))
        return 0;
    return FSAFE_NEXT(sched_yield)();
}
