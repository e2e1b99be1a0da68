/* track/gate: see gate.h. */
#include "config.h"

#include "base/compiler.h"
#include "base/options.h"
#include "base/pages.h"
#include "base/sys.h"
#include "libc/loader.h"
#include "track/gate.h"
#include "track/thread.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#ifndef SYS_membarrier
#define SYS_membarrier (-1)
#endif
/* <linux/membarrier.h> is younger than the kernels we meet. */
enum { PRIVATE_EXPEDITED = 1 << 3, REGISTER_PRIVATE_EXPEDITED = 1 << 4 };

/* How many of the forks that have closed the gate have frozen it: one, if nobody was stuck. */
static _Atomic uint32_t freezers FSAFE_FORK_STATE;

/* A word that changes when one of these forks is over, and how many threads sleep until it does. */
static _Atomic uint32_t turns FSAFE_FORK_STATE;
static _Atomic uint32_t sleepers FSAFE_FORK_STATE;

/* A turn that somebody waited for in vain: it stops nobody any more. */
static _Atomic uint32_t expired = UINT32_MAX;

/* --- Inside ------------------------------------------------------------------------------------------ */

_Static_assert(FSAFE_REGIONS <= 64, "a region fits into its bits");

/*
 * Drops the calls made from frames that are no more: below the caller's own. (One under way on another stack, which a
 * signal handler or a coroutine of this thread interrupts, may look so. It is not waited for then.)
 */
static void drop_left(struct fsafe_ledger *locks, uintptr_t entering)
{
    for (uint32_t i = fsafe_ledger_depth(locks); i > 0; i--) {
        uintptr_t lock, site;
        if (fsafe_ledger_read(locks, i, &lock, &site) && fsafe_gate_is_region(lock) && FSAFE_REGION_MARK != 0 &&
            lock >> 8 <= entering >> 8)
            fsafe_ledger_drop(locks, lock);
    }
}

static bool is_stale(uintptr_t lock, void *context)
{
    return fsafe_thread_is_stale(context, lock);
}

void fsafe_gate_enter_slowly(uintptr_t record, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    if (self == NULL)
        return;
    struct fsafe_ledger *locks = fsafe_thread_locks(self);
    if (fsafe_ledger_depth(locks) > 0)
        drop_left(locks, record);
    if (!fsafe_ledger_push_gated(locks, record, site))
        fsafe_ledger_push_full(locks, record, site, is_stale, self); /* without memory it goes unrecorded */
}

void fsafe_gate_leave_slowly(uintptr_t record)
{
    /* A callback inside the call may have ended the thread's slot: then there is nothing to remove. */
    if (fsafe_self != NULL)
        fsafe_ledger_drop(fsafe_thread_locks(fsafe_self), record);
}

/* Of the regions asked for, which a thread of an earlier generation was inside of; where it called goes to *site. */
static uint32_t inside_of(struct fsafe_thread *thread, uint32_t asked, uintptr_t *site)
{
    uint32_t generation = fsafe_thread_generation(thread);
    uint32_t regions = 0;
    uintptr_t lock, at;
    if (generation == 0 || generation >= fsafe_lineage_generation())
        return 0;
    for (uint32_t k = fsafe_ledger_depth(fsafe_thread_locks(thread)); k > 0; k--) {
        if (!fsafe_ledger_read(fsafe_thread_locks(thread), k, &lock, &at) || !fsafe_gate_is_region(lock) ||
            (FSAFE_REGION_BIT(fsafe_gate_region(lock)) & asked) == 0)
            continue;
        regions |= FSAFE_REGION_BIT(fsafe_gate_region(lock));
        *site = at;
    }
    return regions;
}

uint32_t fsafe_gate_vanished_inside(void)
{
    /* What threads of earlier generations were in does not change: found once for each generation. */
    static _Atomic uint32_t found_generation;
    static _Atomic uint32_t found;
    uint32_t now = fsafe_lineage_generation();
    if (atomic_load_explicit(&found_generation, memory_order_acquire) != now) {
        uint32_t regions = 0;
        uintptr_t site;
        for (uint32_t i = fsafe_thread_slots(); i-- > 0;)
            regions |= inside_of(fsafe_thread_slot(i), UINT32_MAX, &site);
        atomic_store_explicit(&found, regions, memory_order_relaxed);
        atomic_store_explicit(&found_generation, now, memory_order_release);
    }
    return atomic_load_explicit(&found, memory_order_relaxed);
}

struct fsafe_thread *fsafe_gate_find_vanished(uint32_t regions, uintptr_t *site)
{
    struct fsafe_thread *latest = NULL;
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        uintptr_t at;
        if (inside_of(thread, regions, &at) == 0 ||
            (latest != NULL && fsafe_thread_generation(thread) <= fsafe_thread_generation(latest)))
            continue;
        latest = thread;
        *site = at;
    }
    return latest;
}

/* How many mutexes the thread has a record of and has left, because it waits for a condition. */
static uint32_t count_left(struct fsafe_thread *thread)
{
    uint32_t left = 0;
    uintptr_t lock, site;
    for (uint32_t i = fsafe_ledger_depth(fsafe_thread_waits(thread)); i > 0; i--)
        left += fsafe_ledger_read(fsafe_thread_waits(thread), i, &lock, &site) &&
                (lock & FSAFE_STAGE_MASK) == FSAFE_INSIDE_MUTEX;
    return left;
}

bool fsafe_gate_is_inside(struct fsafe_thread *thread)
{
    return fsafe_ledger_count_fresh(fsafe_thread_locks(thread)) > count_left(thread) ||
           fsafe_ledger_count_fresh(fsafe_thread_spins(thread)) > 0;
}

/* --- The gate ---------------------------------------------------------------------------------------- */

static bool membarrier(int command)
{
    return FSAFE_SYS(SYS_membarrier, command, 0, 0, 0, 0, 0) == 0;
}

/* A page whose protection is changed where membarrier is forbidden. */
static _Atomic uint32_t *shot_page;

void fsafe_gate_start(void)
{
    if (!membarrier(REGISTER_PRIVATE_EXPEDITED))
        shot_page = fsafe_pages_map(1);
}

/* A full barrier in every running thread of the process, as if each had called it. */
static void barrier_everywhere(void)
{
    if (membarrier(PRIVATE_EXPEDITED))
        return;
    /* Taking a right away from a page that was just written interrupts every processor that runs this process. */
    if (shot_page == NULL)
        shot_page = fsafe_pages_map(1);
    if (shot_page != NULL) {
        FSAFE_SYS(SYS_mprotect, shot_page, 1, PROT_READ | PROT_WRITE, 0, 0, 0);
        atomic_fetch_add(shot_page, 1);
        FSAFE_SYS(SYS_mprotect, shot_page, 1, PROT_READ, 0, 0, 0);
    }
}

static bool is_of_this_process(const struct fsafe_thread *thread)
{
    return fsafe_thread_generation(thread) == fsafe_lineage_generation() && !thread->ended;
}

static bool has_others(const struct fsafe_thread *self)
{
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;)
        if (fsafe_thread_slot(i) != self && is_of_this_process(fsafe_thread_slot(i)))
            return true;
    return false;
}

bool fsafe_gate_close(struct fsafe_thread *self)
{
    /* In one piece: a signal handler may fork, and its child goes on here. */
    struct fsafe_sigset old;
    fsafe_sys_block_signals(&old);
    atomic_fetch_add(&fsafe_ledger_closers, 1);
    self->gate_closed = true;
    fsafe_sys_restore_signals(&old);
    bool others = has_others(self);
    if (others)
        barrier_everywhere();
    return others;
}

void fsafe_gate_open(struct fsafe_thread *self)
{
    if (!self->gate_closed)
        return;
    struct fsafe_sigset old;
    fsafe_sys_block_signals(&old);
    atomic_fetch_sub(&fsafe_ledger_closers, 1);
    if (self->gate_frozen)
        atomic_fetch_sub(&freezers, 1);
    self->gate_closed = self->gate_frozen = false;
    atomic_fetch_add(&turns, 1);
    fsafe_sys_restore_signals(&old);
    if (atomic_load(&sleepers) != 0)
        fsafe_sys_futex_wake(&turns, INT32_MAX);
}

void fsafe_gate_reset(struct fsafe_thread *self)
{
    if (atomic_load_explicit(&fsafe_ledger_closers, memory_order_relaxed) != 0)
        atomic_store_explicit(&fsafe_ledger_closers, 0, memory_order_relaxed);
    if (atomic_load_explicit(&freezers, memory_order_relaxed) != 0)
        atomic_store_explicit(&freezers, 0, memory_order_relaxed);
    if (atomic_load_explicit(&sleepers, memory_order_relaxed) != 0)
        atomic_store_explicit(&sleepers, 0, memory_order_relaxed);
    if (self != NULL)
        self->gate_closed = self->gate_frozen = false;
}

uint64_t fsafe_gate_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Sleeps until `turns` is not `turn`, it is `until_ns`, or a signal came. Returns whether there is time left. */
static bool sleep_a_turn(uint32_t turn, uint64_t until_ns)
{
    uint64_t now = fsafe_gate_now_ns();
    if (now >= until_ns)
        return false;
    struct timespec left = {.tv_sec = (time_t)((until_ns - now) / 1000000000),
                            .tv_nsec = (long)((until_ns - now) % 1000000000)};
    atomic_fetch_add(&sleepers, 1); /* more than sleep, in a child whose fork a signal handler made here, is no harm */
    fsafe_sys_futex_wait(&turns, turn, &left);
    atomic_fetch_sub(&sleepers, 1);
    return true;
}

/* Waits until the gate is open or `turns` is not `turn` any more. Returns whether that was before `until_ns`. */
static bool wait_for_turn(uint32_t turn, uint64_t until_ns)
{
    while (atomic_load(&turns) == turn && atomic_load(&fsafe_ledger_closers) != 0) {
        if (atomic_load(&expired) == turn)
            return false;
        if (!sleep_a_turn(turn, until_ns))
            atomic_store(&expired, turn);
    }
    return true;
}

bool fsafe_gate_freeze(struct fsafe_thread *self, uint64_t until_ns)
{
    for (bool time_left = true;;) {
        uint32_t turn = atomic_load(&turns);
        uint32_t none = 0;
        struct fsafe_sigset old;
        fsafe_sys_block_signals(&old);
        bool closed = self->gate_closed;
        if (closed && !self->gate_frozen) {
            /* A fork that outlasts its time is stuck in libc's own: it waits for a thread that is in fflush, perhaps. */
            self->gate_frozen = atomic_compare_exchange_strong(&freezers, &none, 1) ||
                                (!time_left && atomic_fetch_add(&freezers, 1) > 0);
        }
        bool frozen = self->gate_frozen;
        fsafe_sys_restore_signals(&old);
        if (!closed)
            return false;
        if (frozen) {
            /* Whoever passes from now on looks here first. */
            atomic_thread_fence(memory_order_seq_cst);
            return true;
        }
        time_left = sleep_a_turn(turn, until_ns);
    }
}

void fsafe_gate_pass(struct fsafe_ledger *ledger, uint32_t next)
{
    struct fsafe_thread *self = fsafe_self;
    /* One who is inside has to get out, whichever of the ledgers says so. */
    bool stops = self != NULL && !atomic_load_explicit(&self->forking, memory_order_relaxed) &&
                 !fsafe_gate_is_inside(self) && fsafe_loader_owner() != self->owner &&
                 !fsafe_lineage_is_unadopted(); /* who closed it is not in this process */
    uint64_t until_ns = 0;
    uint32_t turn = atomic_load(&turns);
    if (stops && atomic_load(&fsafe_ledger_closers) != 0) {
        until_ns = fsafe_gate_now_ns() + (uint64_t)fsafe_options.drain_ms * 1000000;
        /*
         * One turn is enough, even if the next fork has closed the gate by then: a program that forks without end must
         * not stop its threads without end.
         */
        stops = wait_for_turn(turn, until_ns);
    }
    for (;;) {
        turn = atomic_load(&turns);
        /* Seen inside first, then asked whether it was in time: a fork freezes first and then looks who is inside. */
        atomic_store(&ledger->depth, next);
        atomic_thread_fence(memory_order_seq_cst);
        if (!stops || atomic_load(&freezers) == 0 || atomic_load(&fsafe_ledger_closers) == 0)
            return;
        atomic_store(&ledger->depth, next - 1);
        if (until_ns == 0)
            until_ns = fsafe_gate_now_ns() + (uint64_t)fsafe_options.drain_ms * 1000000;
        stops = wait_for_turn(turn, until_ns);
    }
}
