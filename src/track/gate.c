/* track/gate: see gate.h. */
#include "config.h"

#include "base/options.h"
#include "base/pages.h"
#include "base/sys.h"
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

/* How many forks keep the gate closed, and a word that changes when one of them is over. */
static _Atomic uint32_t closers;
static _Atomic uint32_t turns;

/* A turn that somebody waited for in vain: it stops nobody any more. */
static _Atomic uint32_t expired = UINT32_MAX;

/* How many of them have frozen it. */
static _Atomic uint32_t freezers;

/* --- Inside ------------------------------------------------------------------------------------------ */

/* The stage bits stay clear. */
static uintptr_t record_of(enum fsafe_region region)
{
    return (uintptr_t)region << 3;
}

static bool is_stale(uintptr_t lock, void *context)
{
    return fsafe_thread_is_stale(context, lock);
}

struct fsafe_visit fsafe_gate_enter(enum fsafe_region region, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    struct fsafe_visit visit = {.thread = self, .record = record_of(region)};
    if (self != NULL && !fsafe_ledger_push(fsafe_thread_locks(self), visit.record, site) &&
        !fsafe_ledger_push_full(fsafe_thread_locks(self), visit.record, site, is_stale, self))
        visit.thread = NULL;
    return visit;
}

void fsafe_gate_leave(const struct fsafe_visit *visit)
{
    /* A callback inside the call may have forked, or ended the thread's slot: then there is nothing to remove. */
    if (visit->thread != NULL && visit->thread == fsafe_self)
        fsafe_ledger_drop(fsafe_thread_locks(visit->thread), visit->record);
}

bool fsafe_gate_vanished_inside(enum fsafe_region region)
{
    /* What threads of earlier generations were in does not change: found once for each generation. */
    static _Atomic uint32_t found_generation;
    static _Atomic uint32_t found;
    uint32_t now = fsafe_lineage_generation();
    if (atomic_load_explicit(&found_generation, memory_order_acquire) != now) {
        uint32_t regions = 0;
        for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
            struct fsafe_thread *thread = fsafe_thread_slot(i);
            uint32_t generation = fsafe_thread_generation(thread);
            if (generation == 0 || generation >= now)
                continue;
            uintptr_t lock, site;
            for (uint32_t k = fsafe_ledger_depth(fsafe_thread_locks(thread)); k > 0; k--)
                if (fsafe_ledger_read(fsafe_thread_locks(thread), k, &lock, &site) && fsafe_gate_is_region(lock))
                    regions |= 1u << (lock >> 3);
        }
        atomic_store_explicit(&found, regions, memory_order_relaxed);
        atomic_store_explicit(&found_generation, now, memory_order_release);
    }
    return (atomic_load_explicit(&found, memory_order_relaxed) >> region & 1) != 0;
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

static void gate_thread(struct fsafe_thread *thread, bool closed)
{
    fsafe_ledger_gate(fsafe_thread_locks(thread), closed);
    fsafe_ledger_gate(fsafe_thread_spins(thread), closed);
}

static bool is_of_this_process(const struct fsafe_thread *thread)
{
    return fsafe_thread_generation(thread) == fsafe_lineage_generation() && !thread->ended;
}

bool fsafe_gate_close(struct fsafe_thread *self)
{
    bool others = false;
    atomic_fetch_add(&closers, 1);
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        if (thread == self || !is_of_this_process(thread))
            continue;
        gate_thread(thread, true);
        others = true;
    }
    if (others)
        barrier_everywhere();
    return others;
}

void fsafe_gate_freeze(void)
{
    atomic_fetch_add(&freezers, 1);
    atomic_thread_fence(memory_order_seq_cst);
}

/*
 * Takes one off, and returns whether it was the last. There may be none: a signal handler that forks while its thread
 * closes the gate has it reset in the child, which goes on with the rest of that fork.
 */
static bool take_off(_Atomic uint32_t *number)
{
    uint32_t before = atomic_load(number);
    while (before != 0 && !atomic_compare_exchange_weak(number, &before, before - 1))
        continue;
    return before <= 1;
}

void fsafe_gate_thaw(void)
{
    take_off(&freezers);
    atomic_fetch_add(&turns, 1);
    fsafe_sys_futex_wake(&turns, INT32_MAX);
}

void fsafe_gate_open(void)
{
    if (take_off(&closers)) {
        for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
            struct fsafe_thread *thread = fsafe_thread_slot(i);
            if (is_of_this_process(thread))
                gate_thread(thread, false);
        }
        /* Somebody closed it meanwhile, before or after we opened a ledger: what is open too much is stopped again. */
        if (atomic_load(&closers) != 0)
            for (uint32_t i = fsafe_thread_slots(); i-- > 0;)
                if (is_of_this_process(fsafe_thread_slot(i)))
                    gate_thread(fsafe_thread_slot(i), true);
    }
    /* Only now: who is woken finds it open, or closed by another. */
    fsafe_gate_thaw();
}

void fsafe_gate_reset(struct fsafe_thread *self)
{
    if (atomic_load_explicit(&closers, memory_order_relaxed) != 0)
        atomic_store_explicit(&closers, 0, memory_order_relaxed);
    if (atomic_load_explicit(&freezers, memory_order_relaxed) != 0)
        atomic_store_explicit(&freezers, 0, memory_order_relaxed);
    if (self != NULL)
        gate_thread(self, false);
}

void fsafe_gate_join(struct fsafe_thread *self)
{
    if (atomic_load(&closers) != 0)
        gate_thread(self, true);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Sleeps until `turns` is not `turn` any more. Returns whether that was before `until_ns`. */
static bool wait_for_turn(uint32_t turn, uint64_t until_ns)
{
    while (atomic_load(&turns) == turn && atomic_load(&closers) != 0) {
        uint64_t now = now_ns();
        if (now >= until_ns)
            atomic_store(&expired, turn);
        if (atomic_load(&expired) == turn)
            return false;
        struct timespec left = {.tv_sec = (time_t)((until_ns - now) / 1000000000),
                                .tv_nsec = (long)((until_ns - now) % 1000000000)};
        fsafe_sys_futex_wait(&turns, turn, &left);
    }
    return true;
}

void fsafe_gate_pass(struct fsafe_ledger *ledger)
{
    struct fsafe_thread *self = fsafe_self;
    bool stops = self != NULL && !atomic_load_explicit(&self->forking, memory_order_relaxed);
    uint64_t until_ns = 0;
    uint32_t turn = atomic_load(&turns);
    if (stops && atomic_load(&closers) != 0) {
        until_ns = now_ns() + (uint64_t)fsafe_options.drain_ms * 1000000;
        /*
         * One turn is enough, even if the next fork has closed the gate by then: a program that forks without end must
         * not stop its threads without end.
         */
        stops = wait_for_turn(turn, until_ns);
    }
    for (;;) {
        turn = atomic_load(&turns);
        /* Seen inside first, then asked whether it was in time: a fork freezes first and then looks who is inside. */
        atomic_store(&ledger->depth, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if (!stops || atomic_load(&freezers) == 0 || atomic_load(&closers) == 0)
            return;
        atomic_store(&ledger->depth, 0);
        if (until_ns == 0)
            until_ns = now_ns() + (uint64_t)fsafe_options.drain_ms * 1000000;
        stops = wait_for_turn(turn, until_ns);
    }
}
