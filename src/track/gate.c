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

/*
 * tests/model/gate.pml is a model of what follows. Where a line here stands for one that the model can leave out, its
 * comment names the option that does: NO_LOOK.
 *
 * The gate's word, fsafe_ledger_closers. CLOSED: closed by those who drain, and revocable: by a thread that has been
 * stopped for too long, or at the end of a slice. USER: how many share that closing, from their entry to the end of
 * their forks; nobody closes it anew before all of an older closing have gone, so that CLOSED is always of the closing
 * that a user has entered. FIRM: how many forks have committed, or closed it for good to begin with.
 */
enum { CLOSED = 1, USER = 2, USERS = 0xfe, FIRM = 0x100 };

/*
 * A closing may be entered by so many, while it is so young. Who has been stopped for STOPPED_NS opens it. After a
 * closing that stopped somebody it stays open for as long, but for no longer than OPEN_NS: the stopped have to pass.
 */
enum { SHARERS = 16, SHARE_NS = 2000000, STOPPED_NS = 3000000, OPEN_NS = 2000000 };

/* When the gate was closed last, and when it may be again. */
static _Atomic uint64_t closed_ns FSAFE_FORK_STATE;
static _Atomic uint64_t open_until_ns FSAFE_FORK_STATE;

/* Nobody revokes a closing before this. */
static _Atomic uint64_t insists_ns FSAFE_FORK_STATE;

/* A word that changes whenever the gate is opened or a closing ends, and how many threads sleep until then. */
static _Atomic uint32_t turns FSAFE_FORK_STATE;
static _Atomic uint32_t sleepers FSAFE_FORK_STATE;

/* A turn that somebody waited for in vain: it stops nobody any more. */
static _Atomic uint32_t expired = UINT32_MAX;

/* --- Inside ------------------------------------------------------------------------------------------ */

_Static_assert((uint32_t)SHARERS * USER <= USERS, "the users have room in the word");
_Static_assert(FSAFE_REGIONS <= 64, "a region fits into its bits");

/* Drops the calls made from frames that are no more. One under way on another stack, which a signal handler or a
 * coroutine of this thread interrupts, stays. */
static void drop_left(struct fsafe_ledger *locks, uintptr_t entering)
{
    for (uint32_t i = fsafe_ledger_depth(locks); i > 0; i--) {
        uintptr_t lock, site;
        if (fsafe_ledger_read(locks, i, &lock, &site) && fsafe_gate_is_region(lock) && FSAFE_REGION_MARK != 0 &&
            fsafe_thread_is_left(fsafe_gate_frame(lock), site, fsafe_gate_frame(entering)))
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

/* Where nothing can be marked: how many mutexes the thread has a record of and has left, waiting for a condition. */
static uint32_t count_left(struct fsafe_thread *thread)
{
    uint32_t left = 0;
    uintptr_t lock, site;
    for (uint32_t i = fsafe_ledger_depth(fsafe_thread_waits(thread)); i > 0; i--)
        left += fsafe_ledger_read(fsafe_thread_waits(thread), i, &lock, &site) &&
                (lock & FSAFE_STAGE_MASK) == FSAFE_INSIDE_MUTEX;
    return left;
}

enum fsafe_where fsafe_gate_where(struct fsafe_thread *thread, bool calls_count)
{
    const struct fsafe_ledger *locks = fsafe_thread_locks(thread);
    const struct fsafe_records *records = atomic_load_explicit(&locks->records, memory_order_acquire);
    uint32_t depth = atomic_load_explicit(&locks->depth, memory_order_acquire);
    uint32_t below = atomic_load(&thread->forking); /* what it forks with is nobody's business */
    uint32_t left = FSAFE_OUTLASTED == 0 ? count_left(thread) : 0;
    enum fsafe_where where = FSAFE_OUTSIDE;
    for (uint32_t i = below == 0 || calls_count ? 1 : below; records != NULL && i <= depth && i < records->capacity; i++) {
        uintptr_t word = atomic_load_explicit(&records->record[i].lock, memory_order_relaxed);
        if ((word & FSAFE_OUTLASTED) != 0 || (i < below && !fsafe_gate_is_region(word)))
            continue;
        /* Reserved and not filled in yet: on the way in. */
        if (word == 0 || fsafe_gate_is_region(word))
            return FSAFE_CALLING;
        if (left > 0)
            left--;
        else
            where = FSAFE_HOLDING;
    }
    if (where == FSAFE_OUTSIDE && below == 0 && fsafe_ledger_count_fresh(fsafe_thread_spins(thread)) > 0)
        where = FSAFE_HOLDING;
    return where;
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

uint64_t fsafe_gate_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool is_closed(void)
{
    return (atomic_load(&fsafe_ledger_closers) & ~(uint32_t)USERS) != 0;
}

static void wake_sleepers(void)
{
    /* After the word was changed; who reads the turn before he reads the word does not miss it: NO_WAKE. */
    atomic_fetch_add(&turns, 1);
    if (atomic_load(&sleepers) != 0)
        fsafe_sys_futex_wake(&turns, INT32_MAX);
}

/* What becomes of the word when somebody enters, at `now`; 0: not yet. */
static uint32_t entered(uint32_t seen, bool firm, uint64_t now)
{
    if (firm)
        return seen + FIRM;
    if ((seen & CLOSED) != 0)
        return (seen & USERS) < SHARERS * USER && now - atomic_load(&closed_ns) < SHARE_NS ? seen + USER : 0;
    /* Not while users of a closing that was revoked are left: REUSED. */
    return seen == 0 && now >= atomic_load(&open_until_ns) ? CLOSED + USER : 0;
}

bool fsafe_gate_close(struct fsafe_thread *self, bool firm)
{
    struct fsafe_sigset old;
    fsafe_sys_block_signals(&old);
    uint64_t now = fsafe_gate_now_ns();
    uint32_t seen = atomic_load(&fsafe_ledger_closers), next;
    do
        next = entered(seen, firm, now);
    while (next != 0 && !atomic_compare_exchange_weak(&fsafe_ledger_closers, &seen, next));
    if (next == 0) {
        fsafe_sys_restore_signals(&old);
        return false;
    }
    if ((seen & ~(uint32_t)USERS) == 0)
        atomic_store(&closed_ns, now);
    self->fork_signals = old;
    self->signals_blocked = self->has_turn = true;
    self->gate_firm = firm;
    self->gate_user = !firm;
    atomic_store(&self->forking, FSAFE_FORKING_NOW);
    if (has_others(self))
        barrier_everywhere(); /* from here on a thread is seen inside, or sees the gate: NO_BARRIER */
    return true;
}

bool fsafe_gate_is_ours(const struct fsafe_thread *self)
{
    return self->gate_firm || (atomic_load(&fsafe_ledger_closers) & CLOSED) != 0;
}

void fsafe_gate_insist(uint64_t until_ns)
{
    atomic_store(&insists_ns, until_ns);
}

bool fsafe_gate_commit(struct fsafe_thread *self)
{
    uint32_t seen = atomic_load(&fsafe_ledger_closers);
    /* Only while it is the same closing: NO_COMMIT. */
    while (!self->gate_firm && (seen & CLOSED) != 0)
        self->gate_firm = atomic_compare_exchange_weak(&fsafe_ledger_closers, &seen, seen + FIRM);
    return self->gate_firm;
}

/* Takes CLOSED away, whoever set it. */
static void open_for_all(void)
{
    if ((atomic_fetch_and(&fsafe_ledger_closers, ~(uint32_t)CLOSED) & CLOSED) != 0)
        wake_sleepers();
}

void fsafe_gate_restore_signals(struct fsafe_thread *self)
{
    if (self == NULL || !self->signals_blocked)
        return;
    struct fsafe_sigset old = self->fork_signals;
    self->signals_blocked = false;
    fsafe_sys_restore_signals(&old);
}

void fsafe_gate_open(struct fsafe_thread *self, uint32_t forking)
{
    if (!self->has_turn)
        return;
    /* First: a fork that finds the gate closed no more has to see that this thread may be inside something. */
    atomic_store(&self->forking, forking);
    uint32_t seen = atomic_load(&fsafe_ledger_closers), next;
    do {
        next = seen - (self->gate_firm ? FIRM : 0) - (self->gate_user ? USER : 0);
        if ((next & USERS) == 0)
            next &= ~(uint32_t)CLOSED;
        if (next == 0 && atomic_load(&sleepers) != 0) {
            uint64_t now = fsafe_gate_now_ns(), for_ns = now - atomic_load(&closed_ns);
            atomic_store(&open_until_ns, now + (for_ns < OPEN_NS ? for_ns : OPEN_NS));
        }
    } while (!atomic_compare_exchange_weak(&fsafe_ledger_closers, &seen, next));
    self->has_turn = self->gate_firm = self->gate_user = false;
    if ((next & ~(uint32_t)USERS) == 0) /* else they would go to sleep again */
        wake_sleepers();
    fsafe_gate_restore_signals(self);
}

void fsafe_gate_reset(struct fsafe_thread *self)
{
    /* Written only where it changes: the page is the parent's, too. */
    if (atomic_load_explicit(&fsafe_ledger_closers, memory_order_relaxed) != 0)
        atomic_store_explicit(&fsafe_ledger_closers, 0, memory_order_relaxed);
    if (atomic_load_explicit(&open_until_ns, memory_order_relaxed) != 0)
        atomic_store_explicit(&open_until_ns, 0, memory_order_relaxed);
    if (atomic_load_explicit(&sleepers, memory_order_relaxed) != 0)
        atomic_store_explicit(&sleepers, 0, memory_order_relaxed);
    if (self != NULL)
        self->has_turn = self->gate_firm = self->gate_user = false;
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

bool fsafe_gate_await_turn(uint64_t until_ns)
{
    enum { NAP_NS = 1000000 };
    uint32_t turn = atomic_load(&turns);
    uint64_t now = fsafe_gate_now_ns(), may_ns = atomic_load(&open_until_ns);
    if (now >= until_ns)
        return false;
    if (is_closed())
        sleep_a_turn(turn, now + NAP_NS < until_ns ? now + NAP_NS : until_ns);
    else
        fsafe_sys_pause_us(may_ns > now && may_ns - now < OPEN_NS ? (unsigned)((may_ns - now) / 1000) + 1 : 20);
    return true;
}

/* How long a thread has been stopped: all zero until it is. */
struct stay {
    uint64_t enough_ns, until_ns;
};

/* Waits until the gate is open. Returns false when there is no time left: then the thread goes on. */
static bool wait_until_open(struct stay *stay)
{
    if (stay->until_ns == 0) {
        uint64_t now = fsafe_gate_now_ns();
        stay->enough_ns = now + STOPPED_NS;
        stay->until_ns = now + (uint64_t)fsafe_options.drain_ms * 1000000;
    }
    for (;;) {
        uint32_t turn = atomic_load(&turns);
        if (!is_closed())
            return true;
        if (atomic_load(&expired) == turn)
            return false;
        uint64_t insists_ns_now = atomic_load(&insists_ns);
        uint64_t enough_ns = stay->enough_ns > insists_ns_now ? stay->enough_ns : insists_ns_now;
        if (sleep_a_turn(turn, enough_ns < stay->until_ns ? enough_ns : stay->until_ns))
            continue;
        if (fsafe_gate_now_ns() >= stay->until_ns) {
            atomic_store(&expired, turn);
            return false;
        }
        open_for_all();
        /* What is still closed then has committed, and is over in a moment, or is stuck in libc's own fork. */
        if (is_closed() && !sleep_a_turn(atomic_load(&turns), stay->until_ns))
            return false;
    }
}

/* One who is inside has to get out, whichever of the ledgers says so; and who closed it may not be in this process. */
static bool may_be_stopped(struct fsafe_thread *self)
{
    return self != NULL && !self->has_turn && fsafe_gate_where(self, false) == FSAFE_OUTSIDE &&
           fsafe_loader_owner() != self->owner && !fsafe_lineage_is_unadopted();
}

void fsafe_gate_pass(struct fsafe_ledger *ledger, uint32_t next)
{
    bool stops = may_be_stopped(fsafe_self);
    struct stay stay = {0};
    for (;;) {
        /* Seen inside first, then the gate: a fork closes it first and then looks who is inside. */
        atomic_store(&ledger->depth, next);
        atomic_thread_fence(memory_order_seq_cst);
        if (!stops || !is_closed())
            return;
        atomic_store(&ledger->depth, next - 1);
        stops = wait_until_open(&stay);
    }
}

/* Sets the mark of the latest record of `lock`, or takes it away. Found anew each time: a signal handler may have made
 * room; and by compare-and-swap: another thread may be emptying the record. */
static void mark(struct fsafe_thread *self, uintptr_t lock, bool waits)
{
    struct fsafe_ledger *locks = fsafe_thread_locks(self);
    uint32_t depth = fsafe_ledger_depth(locks);
    uint32_t index = FSAFE_LIKELY(fsafe_ledger_word(locks, depth) == lock) ? depth : fsafe_ledger_find(locks, lock);
    if (index == 0)
        return;
    _Atomic uintptr_t *word = &fsafe_ledger_record(locks, index)->lock;
    uintptr_t seen = atomic_load_explicit(word, memory_order_relaxed);
    while ((seen & ~FSAFE_OUTLASTED) == lock &&
           !atomic_compare_exchange_weak(word, &seen, waits ? lock | FSAFE_OUTLASTED : lock))
        ;
}

void fsafe_gate_suspend(struct fsafe_thread *self, uintptr_t lock)
{
    mark(self, lock, true);
}

void fsafe_gate_resume(struct fsafe_thread *self, uintptr_t lock)
{
    bool stops = true;
    struct stay stay = {0};
    for (;;) {
        /* Before it is unmarked: its own record would say that it is inside. */
        stops = stops && (atomic_load_explicit(&fsafe_ledger_closers, memory_order_relaxed) == 0 || may_be_stopped(self));
        mark(self, lock, false); /* Unmarked first, then the gate: the compare-and-swap is a barrier. NO_LOOK */
        atomic_thread_fence(memory_order_seq_cst);
        if (!stops || !is_closed())
            return;
        mark(self, lock, true);
        stops = wait_until_open(&stay);
    }
}
