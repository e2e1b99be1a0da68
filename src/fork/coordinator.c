/*
 * Measured. What a fork costs is page faults. Each page of ours that the parent or the child writes is one. So is the
 * code, ours and libc's, that the child runs; ours lies in one or two stretches that the kernel maps at once. Then come
 * the page that is empty in a child and the page of the slot. How many more faults a fork has than bare
 * (getrusage's ru_minflt; perf record -e page-faults -d names them):
 *
 *                                                               parent    its child
 *     a word of the gate's in each ledger, 100 idle threads       51
 *     one word for all, 100 idle threads                           2
 *     one word for all, one thread                                 3         7
 *     the same, with FSAFE_FORK_STATE and FSAFE_AT_FORK            1         4
 *     one word for all, two threads                                7         8
 *     the same, with FSAFE_FORK_STATE and FSAFE_AT_FORK            2         3
 *
 * doc/speed has the times of forks.
 *
 * Signals are blocked while a thread has the gate closed: a signal handler that _Fork()s while its thread drains leaves
 * a child that goes on with the rest of that fork. With signals unblocked the child opened a gate that adoption had
 * opened, and all its later threads were stopped at their outermost locks for FORKSAFE_DRAIN_MS (3 of 3).
 *
 * The prepare handlers of an allocator (jemalloc's) must come after our drain, as libc's own do. If they came before
 * the drain they would take the allocator's locks. A thread that waits for one of these while it holds a lock of the
 * program's or of libc's could then not get out. Two threads that malloc large blocks under a mutex cost 38 takeovers
 * in 40 forks, and 4 under 4 mutexes 390 in 100; after the drain none. (And about one child in 500 hung in localtime,
 * whose first call mallocs.) An allocator's handlers are known by the library that malloc is of: those of an allocator
 * that is linked statically into the program are like any others.
 */
#include "config.h"

#include "base/compiler.h"
#include "base/options.h"
#include "fork/contended.h"
#include "fork/coordinator.h"
#include "fork/drain.h"
#include "fork/handlers.h"
#include "fork/loading.h"
#include "python/orphans.h"
#include "python/room.h"
#include "repair/loader.h"
#include "repair/mutex.h"
#include "repair/rescue.h"
#include "repair/rwlock.h"
#include "repair/stdio.h"
#include "repair/takeover.h"
#include "report/report.h"
#include "report/tally.h"
#include "standin/logger.h"
#include "standin/names.h"
#include "track/gate.h"
#include "track/join.h"
#include "track/waiting.h"

static _Atomic unsigned long fork_count FSAFE_FORK_STATE;

/* Whether libc holds the lock of its handlers while it runs them. */
static bool is_locked_in_handlers FSAFE_FORK_STATE;

/* A thread that is in a fork may make another: a fork handler of the program's does, or a signal handler. */
static struct fsafe_thread *enter_fork(void)
{
    fsafe_tally_share();
    struct fsafe_thread *self = fsafe_thread_join();
    if (self != NULL) {
        fsafe_thread_forget_left(self, self->forks.frame);
        self->forks.count++;
        fsafe_tally_add(FSAFE_TOTAL_FORKS, 1);
        self->forks.number = atomic_fetch_add_explicit(&fork_count, 1, memory_order_relaxed) + 1;
    }
    return self;
}

static void leave_fork(struct fsafe_thread *self)
{
    if (self->forks.count > 0)
        self->forks.count--;
}

/* A drain that finds no thread inside is quicker than this. */
enum { WORTH_COUNTING_US = 50 };

/*
 * Closes the gate and drains, unless a fork that this one comes in the middle of has done so. closed_by is set before
 * the drain, so that the fork of a signal handler does not drain. It is set again after the drain: the child of such a
 * fork may go on with this one. Then the child's adoption has opened the gate, and the drain has begun anew.
 */
static void close_gate(struct fsafe_thread *self)
{
    if (self->forks.closed_by != 0)
        return;
    self->forks.closed_by = self->forks.count;
    uint64_t before_ns = fsafe_sys_now_ns();
    fsafe_drain_begin(self);
    self->forks.when_ns = fsafe_sys_now_ns();
    uint64_t took_us = (self->forks.when_ns - before_ns) / 1000;
    if (took_us >= WORTH_COUNTING_US) {
        fsafe_tally_add(FSAFE_TOTAL_DRAINED, 1);
        fsafe_tally_raise(FSAFE_TOTAL_DRAIN_US, took_us);
    }
    self->forks.closed_by = self->gated.share != 0 ? self->forks.count : 0;
}

static void end_fork(struct fsafe_thread *self)
{
    bool closed = self->forks.closed_by != 0 && self->forks.closed_by == self->forks.count;
    leave_fork(self);
    if (!closed)
        return;
    self->forks.closed_by = 0;
    fsafe_contended_end(self);
    fsafe_loading_end(self);
    fsafe_gate_open(self, 0);
}

static FSAFE_AT_FORK bool is_prepared(void)
{
    return fsafe_self != NULL && fsafe_self->forks.prepared != 0;
}

static void prepare(void)
{
    if (is_prepared())
        return;
    if (fsafe_self != NULL && fsafe_self->forks.ready) {
        fsafe_self->forks.ready = false;
        return;
    }
    fsafe_handlers_prepare(fsafe_self == NULL ? 0 : fsafe_self->forks.frame);
    fsafe_fork_notice(); /* or the drain would wait for threads that vanished long ago */
    struct fsafe_thread *self = enter_fork();
    fsafe_python_prepare();
    if (self != NULL) {
        fsafe_stdio_prepare(self);
        fsafe_stdio_await_flush(self); /* before the gate is closed */
        close_gate(self);
    }
    fsafe_handlers_prepare_allocator();
}

static void forget_fork(struct fsafe_thread *self)
{
    self->forks.number = 0;
    self->forks.site = 0;
    self->forks.closed_by = 0;
    atomic_store(&self->forking, 0);
}

static void in_parent(void)
{
    if (is_prepared())
        return;
    struct fsafe_thread *self = fsafe_self;
    fsafe_handlers_after(FSAFE_OF_ALLOCATOR, false);
    if (self != NULL) {
        end_fork(self);
        if (self->forks.count == 0)
            forget_fork(self);
        fsafe_stdio_parent(self);
    }
    fsafe_handlers_after(FSAFE_OF_PROGRAM, false);
}

/*
 * The order: the latch first, because a vanished thread may have held it; then the thread and its generation; at last
 * the mark that all is done. A signal handler that asks in the middle adopts again and does not rely on half an
 * adoption.
 */
static FSAFE_AT_FORK void adopt(bool by_libc)
{
    struct fsafe_thread *self = fsafe_self;
    struct fsafe_fork fork = {.number = 0};
    if (self != NULL) {
        fork.number = self->forks.number;
        fork.tid = self->tid;
        fork.at = self->forks.site;
        fork.when_ms = (uint32_t)(self->forks.when_ns / 1000000);
        forget_fork(self);
    }
    atomic_store_explicit(&fork_count, 0, memory_order_relaxed);
    int former = self != NULL ? self->owner : 0;
    fsafe_latch_reset(&fsafe_takeover_latch);
    fsafe_handlers_adopt();
    fsafe_gate_reset(self);
    fsafe_thread_adopt(self, by_libc);
    fsafe_loader_adopt(self, former);
    fsafe_loading_adopt(self, former);
    fsafe_contended_adopt(self);
    if (self != NULL) {
        fsafe_mutex_adopt(self);
        fsafe_rwlock_adopt(self);
        fsafe_stdio_child(self);
    }
    fsafe_logger_adopt();
    fsafe_names_adopt();
    fsafe_lineage_adopted(&fork);
    fsafe_rescue_adopt(self);
    if (self != NULL)
        fsafe_mutex_adopt_wait(self);
    fsafe_python_adopt(self);
    if (fsafe_options.verbose)
        fsafe_report_note_number("this process is a forked child; generation ", fsafe_lineage_generation());
}

static FSAFE_AT_FORK void be_child(bool by_libc)
{
    if (fsafe_lineage_begin_adoption())
        adopt(by_libc);
    if (fsafe_self != NULL)
        leave_fork(fsafe_self);
}

void fsafe_fork_in_child(bool by_libc)
{
    be_child(by_libc);
    fsafe_gate_restore_signals(fsafe_self);
}

static FSAFE_AT_FORK void after_in_child(void)
{
    fsafe_handlers_after(FSAFE_OF_ALLOCATOR, true);
    fsafe_gate_restore_signals(fsafe_self); /* a signal handler of the program's may allocate */
    fsafe_python_child();
    fsafe_handlers_after(FSAFE_OF_PROGRAM, true);
}

static FSAFE_AT_FORK void in_child(void)
{
    be_child(true);
    if (!is_prepared())
        after_in_child();
}

bool fsafe_fork_prepare(void)
{
    struct fsafe_thread *self = fsafe_self;
    if (!is_locked_in_handlers || self == NULL)
        return false;
    prepare();
    self->forks.prepared++;
    return true;
}

FSAFE_AT_FORK void fsafe_fork_finish(pid_t pid)
{
    fsafe_self->forks.prepared--;
    if (pid == 0)
        after_in_child();
    else
        in_parent();
}

int fsafe_fork_make_ready(void)
{
    int state = FSAFE_NOT_READY;
    if (!is_locked_in_handlers || fsafe_self == NULL || is_prepared())
        return state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    prepare();
    fsafe_self->forks.ready = true;
    return state;
}

void fsafe_fork_forget_ready(int state)
{
    if (fsafe_self != NULL && fsafe_self->forks.ready) {
        fsafe_self->forks.ready = false;
        in_parent();
    }
    if (state != FSAFE_NOT_READY)
        pthread_setcancelstate(state, &state);
}

bool fsafe_fork_start(fsafe_register_atfork *register_atfork, bool locked)
{
    is_locked_in_handlers = locked;
    /* Without an object, or libc would unregister them at our end: the program's destructors may fork after that. */
    if (register_atfork(prepare, in_parent, in_child, NULL) != 0)
        return false;
    fsafe_handlers_start();
    return true;
}

uintptr_t fsafe_fork_announce_at(uintptr_t site, uintptr_t frame)
{
    struct fsafe_thread *self = fsafe_thread_join();
    uintptr_t before = 0;
    if (self != NULL) {
        before = self->forks.site;
        self->forks.site = site;
        self->forks.frame = site != 0 ? frame : 0;
    }
    return before;
}

void fsafe_fork_begin_at(struct fsafe_bare_fork *fork, uintptr_t site, uintptr_t frame, bool drains)
{
    fsafe_fork_notice();
    struct fsafe_thread *self = fsafe_thread_join();
    *fork = (struct fsafe_bare_fork){.number = 0};
    if (self == NULL)
        return;
    fork->number = self->forks.number;
    fork->site = self->forks.site;
    self->forks.site = site;
    self->forks.frame = frame;
    enter_fork();
    if (drains)
        close_gate(self);
    else
        self->forks.when_ns = fsafe_sys_now_ns();
}

void fsafe_fork_end(const struct fsafe_bare_fork *fork)
{
    struct fsafe_thread *self = fsafe_self;
    if (self == NULL)
        return;
    end_fork(self);
    self->forks.number = fork->number;
    self->forks.site = fork->site;
}

void fsafe_fork_notice_now(void)
{
    struct fsafe_sigset old;
    fsafe_sys_block_signals(&old);
    if (fsafe_lineage_is_unadopted())
        adopt(false);
    fsafe_sys_restore_signals(&old);
}
