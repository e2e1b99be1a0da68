#include "config.h"

#include "base/compiler.h"
#include "base/latch.h"
#include "base/options.h"
#include "fork/loading.h"
#include "libc/late.h"
#include "libc/layout.h"
#include "libc/loader.h"
#include "track/slots.h"
#include "track/thread.h"

/* Guards the count and each thread's holds_loader. A thread that holds it has blocked its signals. */
static struct fsafe_latch latch FSAFE_FORK_STATE = FSAFE_LATCH_FREE;
static uint32_t forks_that_hold FSAFE_FORK_STATE;

static struct fsafe_thread *find_another(const struct fsafe_thread *self)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); forks_that_hold != 0 && fsafe_thread_next(&at);)
        if (at.thread != self && at.thread->holds_loader)
            return at.thread;
    return NULL;
}

/* One hold is a fork's own; a thread with more holds forks in the middle of loading. */
static bool is_once(void)
{
    return fsafe_layout_mutex_depth(fsafe_loader_loading_lock) == 1;
}

bool fsafe_loading_try(struct fsafe_thread *self)
{
    /* A fork that still waits for other things asks again, but takes one hold only: it gives one back. */
    if (fsafe_loader_loading_lock == NULL || FSAFE_SINGLE_THREADED() || self->holds_loader)
        return true;
    fsafe_latch_acquire_open(&latch);
    bool holds = fsafe_loader_try() || (find_another(self) != NULL && is_once());
    self->holds_loader = holds;
    forks_that_hold += holds;
    fsafe_latch_release_open(&latch);
    return holds;
}

void fsafe_loading_end(struct fsafe_thread *self)
{
    if (!self->holds_loader)
        return;
    fsafe_latch_acquire_open(&latch);
    self->holds_loader = false;
    forks_that_hold--;
    if (fsafe_loader_owner() == self->owner) {
        const struct fsafe_thread *another = is_once() ? find_another(self) : NULL;
        if (another != NULL)
            fsafe_layout_mutex_set_owner(fsafe_loader_loading_lock, another->owner);
        else
            fsafe_loader_release();
    }
    fsafe_latch_release_open(&latch);
}

void fsafe_loading_adopt(struct fsafe_thread *self, int former)
{
    bool held = self != NULL && self->holds_loader;
    fsafe_latch_reset(&latch);
    if (forks_that_hold != 0) /* written only where it changes: the page is the parent's, too */
        forks_that_hold = 0;
    if (held)
        self->holds_loader = false;
    int owner = fsafe_loader_owner();
    if (self == NULL || owner == 0 || !(held || owner == former) || fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    fsafe_layout_mutex_set_owner(fsafe_loader_loading_lock, self->owner);
    if (held)
        fsafe_loader_release();
}
