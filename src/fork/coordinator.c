/* fork/coordinator: see coordinator.h. */
#include "config.h"

#include "base/options.h"
#include "fork/coordinator.h"
#include "fork/drain.h"
#include "fork/handlers.h"
#include "repair/logger.h"
#include "repair/mutex.h"
#include "repair/names.h"
#include "repair/stdio.h"
#include "repair/takeover.h"
#include "report/report.h"
#include "track/gate.h"

static _Atomic unsigned long fork_count;

/* A thread that is in a fork may make another: one of the program's handlers does, or a signal's. */
static struct fsafe_thread *enter_fork(void)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self != NULL) {
        self->forks++;
        self->fork_number = atomic_fetch_add_explicit(&fork_count, 1, memory_order_relaxed) + 1;
    }
    return self;
}

static void leave_fork(struct fsafe_thread *self)
{
    if (self->forks > 0)
        self->forks--;
}

static void prepare(void)
{
    fsafe_handlers_prepare();
    struct fsafe_thread *self = enter_fork();
    if (self == NULL)
        return;
    fsafe_stdio_prepare(self);
    if (self->gate_closed_by != 0)
        return;
    /*
     * Before, so that the fork of a signal handler lets it be. And after: where that fork's child goes on with this
     * one, the child's adoption has opened the gate, and part of it may be closed again by now.
     */
    self->gate_closed_by = self->forks;
    self->gate_closed_by = fsafe_drain_begin(self) ? self->forks : 0;
}

static void forget_fork(struct fsafe_thread *self)
{
    self->fork_number = 0;
    self->fork_site = 0;
    self->gate_closed_by = 0;
    atomic_store(&self->forking, false);
}

void fsafe_fork_in_parent(void)
{
    struct fsafe_thread *self = fsafe_self;
    if (self == NULL)
        return;
    bool closed = self->gate_closed_by != 0 && self->gate_closed_by == self->forks;
    leave_fork(self);
    if (closed || self->forks == 0)
        forget_fork(self);
    if (closed)
        fsafe_gate_open();
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
    fsafe_latch_reset(&fsafe_takeover_latch);
    fsafe_handlers_adopt();
    fsafe_gate_reset(self);
    fsafe_thread_adopt(self);
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
    if (fsafe_self != NULL)
        leave_fork(fsafe_self);
}

static void in_parent(void)
{
    fsafe_fork_in_parent();
    fsafe_handlers_parent();
}

static void in_child(void)
{
    fsafe_fork_in_child();
    fsafe_handlers_child();
}

bool fsafe_fork_start(fsafe_register_atfork *register_atfork)
{
    /* Without an object, or our end would unregister them: the program's destructors may fork after that. */
    if (register_atfork(prepare, in_parent, in_child, NULL) != 0)
        return false;
    fsafe_handlers_start();
    return true;
}

uintptr_t fsafe_fork_announce(uintptr_t site)
{
    struct fsafe_thread *self = fsafe_thread_join();
    uintptr_t before = 0;
    if (self != NULL) {
        before = self->fork_site;
        self->fork_site = site;
    }
    return before;
}

void fsafe_fork_begin(uintptr_t site)
{
    fsafe_fork_announce(site);
    enter_fork();
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
