/* fork/coordinator: see coordinator.h. */
#include "config.h"

#include "base/options.h"
#include "fork/coordinator.h"
#include "fork/drain.h"
#include "repair/loader.h"
#include "repair/logger.h"
#include "repair/mutex.h"
#include "repair/names.h"
#include "repair/stdio.h"
#include "repair/takeover.h"
#include "report/report.h"
#include "track/gate.h"

#include <pthread.h>

static _Atomic unsigned long fork_count;

static struct fsafe_thread *number_fork(void)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self != NULL) {
        self->fork_number = atomic_fetch_add_explicit(&fork_count, 1, memory_order_relaxed) + 1;
    }
    return self;
}

static void prepare(void)
{
    struct fsafe_thread *self = number_fork();
    if (self == NULL)
        return;
    fsafe_stdio_prepare(self);
    fsafe_drain_begin(self);
}

static void forget_fork(struct fsafe_thread *self)
{
    self->fork_number = 0;
    self->fork_site = 0;
    atomic_store(&self->forking, false);
}

void fsafe_fork_in_parent(void)
{
    struct fsafe_thread *self = fsafe_self;
    if (self == NULL)
        return;
    /* First: a fork that finds the gate not frozen any more has to see that this thread may be inside something. */
    forget_fork(self);
    fsafe_gate_open(self);
    fsafe_stdio_parent(self);
}

/*
 * The order: the latch first, because a vanished thread may have held it; then the thread and its generation;
 * last the mark that all is done, so that a signal handler that asks in the middle adopts again rather than
 * believes in half an adoption.
 */
static void adopt(void)
{
    struct fsafe_thread *self = fsafe_self;
    struct fsafe_fork fork = {.number = 0};
    if (self != NULL) {
        fork.number = self->fork_number;
        fork.tid = self->tid;
        fork.at = self->fork_site;
        forget_fork(self);
    }
    int former = self != NULL ? self->owner : 0;
    fsafe_latch_reset(&fsafe_takeover_latch);
    fsafe_gate_reset(self);
    fsafe_thread_adopt(self);
    fsafe_loader_adopt(self, former);
    if (self != NULL) {
        fsafe_mutex_adopt(self);
        fsafe_stdio_child(self);
    }
    fsafe_logger_adopt();
    fsafe_names_adopt();
    fsafe_lineage_adopted(&fork);
    if (fsafe_options.verbose)
        fsafe_report_note_number("child of a fork adopted; generation ", fsafe_lineage_generation());
}

void fsafe_fork_in_child(void)
{
    if (fsafe_lineage_begin_adoption())
        adopt();
}

bool fsafe_fork_start(void)
{
    return pthread_atfork(prepare, fsafe_fork_in_parent, fsafe_fork_in_child) == 0;
}

void fsafe_fork_announce(uintptr_t site)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self != NULL)
        self->fork_site = site;
}

void fsafe_fork_begin(uintptr_t site)
{
    fsafe_fork_announce(site);
    number_fork();
}

void fsafe_fork_notice(void)
{
    if (FSAFE_UNLIKELY(fsafe_lineage_is_unadopted())) {
        struct fsafe_sigset old;
        fsafe_sys_block_signals(&old);
        if (fsafe_lineage_is_unadopted())
            adopt();
        fsafe_sys_restore_signals(&old);
    }
}
