/* fork/loading: see loading.h. */
#include "config.h"

#include "base/options.h"
#include "fork/drain.h"
#include "fork/loading.h"
#include "libc/layout.h"
#include "libc/loader.h"
#include "track/gate.h"

/*
 * A thread that sleeps in there, a constructor or a slow disk, is given SLEEPERS_SHARE of the budget; one that runs, or
 * is not put on a processor, the whole.
 */
enum { PAUSE_US = 30, LOOK_US = 1000, SLEEPERS_SHARE = 25 };

static bool take(void)
{
    uint64_t budget_ns = (uint64_t)fsafe_options.drain_ms * 1000000;
    uint64_t begun_ns = fsafe_gate_now_ns(), waited_ns = 0, asleep_ns = 0;
    for (uint64_t looked_ns = 0; !fsafe_loader_try(); waited_ns = fsafe_gate_now_ns() - begun_ns) {
        int owner = fsafe_loader_owner();
        if (waited_ns >= budget_ns)
            return false;
        if (waited_ns - looked_ns >= LOOK_US * 1000) {
            asleep_ns = owner != 0 && fsafe_drain_sleeps(owner) ? asleep_ns + waited_ns - looked_ns : 0;
            looked_ns = waited_ns;
        }
        if (asleep_ns >= budget_ns / SLEEPERS_SHARE)
            return false;
        fsafe_sys_pause_us(PAUSE_US);
    }
    return true;
}

void fsafe_loading_prepare(struct fsafe_thread *self)
{
    if (self->loading_held_by != 0 || fsafe_loader_loading_lock == NULL || fsafe_options.drain_ms == 0 ||
        fsafe_options.mode != FSAFE_MODE_REPAIR || FSAFE_SINGLE_THREADED())
        return;
    /* Said before and after: the child of a signal handler's fork in between goes on here, with the lock set right. */
    self->loading_held_by = self->forks;
    self->loading_held_by = take() ? self->forks : 0;
}

void fsafe_loading_end(struct fsafe_thread *self)
{
    if (self->loading_held_by == 0 || self->loading_held_by != self->forks)
        return;
    self->loading_held_by = 0;
    fsafe_loader_release();
}

void fsafe_loading_adopt(struct fsafe_thread *self, int former)
{
    bool was_held = self->loading_held_by != 0;
    if (was_held)
        self->loading_held_by = 0;
    if (fsafe_loader_owner() == 0 || fsafe_loader_owner() != former || fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    fsafe_layout_mutex_set_owner(fsafe_loader_loading_lock, self->owner);
    if (was_held)
        fsafe_loader_release();
}
