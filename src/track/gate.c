#include "config.h"

#include "base/barrier.h"
#include "base/compiler.h"
#include "base/options.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "libc/loader.h"
#include "track/gate.h"
#include "track/join.h"
#include "track/slots.h"
#include "track/thread.h"

#include <time.h>

/*
 * tests/model/gate.pml is a model of what follows. An option of the model breaks one line of it; the comment at the
 * same line here names the option, such as NO_LOOK.
 *
 * The gate's word. CLOSED: forks that drain keep the gate closed. The last of them takes CLOSED away, and so may a
 * thread that has been stopped for too long. USER: how many forks share that closing, each from its entry to its end.
 * No fork closes the gate anew before all users of an older closing have left, so that CLOSED always belongs to the
 * closing that a user has entered. FIRM: how many forks have committed, or have made a firm closing to begin with.
 */
enum { CLOSED = 1, USER = 2, USERS = 0xfe, FIRM = 0x100 };
_Atomic uint32_t fsafe_gate_word FSAFE_FORK_STATE;

/*
 * SHARERS forks at most share a closing, and enter it before it is SHARE_NS old. A thread that has been stopped for
 * STOPPED_NS opens the gate. After a closing that has stopped a thread the gate stays open for as long as it was
 * closed: the stopped threads have to pass. It stays open for BREATH_NS at most, after a fork for OPEN_NS at most;
 * forks that come meanwhile share the next closing. A thread that is stopped may stay awake for AWAKE_NS.
 *
 * A fork that has committed may wait for a lock, in an allocator's handler or in libc, and perhaps a stopped thread has
 * it: a lock that the fork has waited for in vain, or that no record shows. A stopped thread with records goes on then
 * after STOPPED_NS, any other after UNRECORDED times as long.
 */
enum {
    SHARERS = 16,
    UNRECORDED = 16,
    SHARE_NS = 2000000,
    AWAKE_NS = 1000000,
    STOPPED_NS = 3000000,
    BREATH_NS = 2000000,
    OPEN_NS = 8000000,
};
_Static_assert((uint32_t)SHARERS * USER <= USERS, "the users have room in the word");

/* When the gate was closed last, and when it may be closed again. */
static _Atomic uint64_t closed_ns FSAFE_FORK_STATE;
static _Atomic uint64_t open_until_ns FSAFE_FORK_STATE;

/* No thread revokes a closing before this time. */
static _Atomic uint64_t insists_ns FSAFE_FORK_STATE;

/* A number that changes whenever the gate is opened, and how many threads sleep until it changes. */
static _Atomic uint32_t turns FSAFE_FORK_STATE;
static _Atomic uint32_t sleepers FSAFE_FORK_STATE;

/* The turn in which a thread has waited for as long as it may: for the rest of that turn the gate stops no thread. */
static _Atomic uint32_t expired = UINT32_MAX;

static enum fsafe_where worst_of(const struct fsafe_ledger *ledger, bool calls_count, uint32_t below)
{
    const struct fsafe_records *records = atomic_load_explicit(&ledger->records, memory_order_acquire);
    uint32_t depth = atomic_load_explicit(&ledger->depth, memory_order_acquire);
    enum fsafe_where where = FSAFE_OUTSIDE;
    uint32_t from = below == 0 || calls_count ? 1 : below;
    for (uint32_t i = from; records != NULL && i <= depth && i < records->capacity; i++) {
        uintptr_t word = atomic_load_explicit(&records->record[i].lock, memory_order_relaxed);
        if (fsafe_ledger_is_outlasted(&records->record[i], word) || (i < below && !fsafe_ledger_is_of_call(word)))
            continue;
        /* Reserved and not filled in yet: on the way in. */
        if (word == 0 || fsafe_ledger_is_of_call(word))
            return FSAFE_CALLING;
        where = FSAFE_HOLDING;
    }
    return where;
}

enum fsafe_where fsafe_gate_where(struct fsafe_thread *thread, bool calls_count)
{
    uint32_t below = atomic_load(&thread->forking); /* no fork waits for what the thread forks with */
    enum fsafe_where where = worst_of(fsafe_thread_locks(thread), calls_count, below);
    return where == FSAFE_OUTSIDE && below == 0 ? worst_of(fsafe_thread_spins(thread), false, 0) : where;
}

/* --- The gate ---------------------------------------------------------------------------------------- */

static bool is_closed(void)
{
    return (atomic_load(&fsafe_gate_word) & ~(uint32_t)USERS) != 0;
}

static void wake_sleepers(void)
{
    /* The word was changed before. A thread reads the turn first, then the word, so it sees one change: NO_WAKE. */
    atomic_fetch_add(&turns, 1);
    if (atomic_load(&sleepers) != 0)
        fsafe_sys_futex_wake(&turns, INT32_MAX);
}

/* What the word is after a fork has entered at `now`; 0: the fork may not enter yet. */
static uint32_t entered(uint32_t seen, bool firm, uint64_t now)
{
    if (firm)
        return seen + FIRM;
    if ((seen & CLOSED) != 0)
        return (seen & USERS) < SHARERS * USER && now - atomic_load(&closed_ns) < SHARE_NS ? seen + USER : 0;
    /* Not while a closing that was revoked has users left: REUSED. */
    return seen == 0 && now >= atomic_load(&open_until_ns) ? CLOSED + USER : 0;
}

bool fsafe_gate_close(struct fsafe_thread *self, bool firm)
{
    struct fsafe_sigset old;
    /*
     * The kernel throws away a SIGCHLD that nobody has asked for, unless this thread blocks it: then the kernel wakes
     * another thread for that signal, and an epoll_wait there ends with EINTR.
     */
    bool is_thrown_away = fsafe_sys_handler_of(SIGCHLD) == (uintptr_t)SIG_DFL;
    fsafe_sys_block_but(is_thrown_away ? (uint64_t)1 << (SIGCHLD - 1) : 0, &old);
    uint64_t now = fsafe_sys_now_ns();
    uint32_t seen = atomic_load(&fsafe_gate_word), next;
    do
        next = entered(seen, firm, now);
    while (next != 0 && !atomic_compare_exchange_weak(&fsafe_gate_word, &seen, next));
    if (next == 0) {
        fsafe_sys_restore_signals(&old);
        return false;
    }
    if ((seen & ~(uint32_t)USERS) == 0)
        atomic_store(&closed_ns, now);
    self->gated.signals = old;
    self->gated.signals_blocked = true;
    self->gated.share = firm ? FIRM : USER;
    atomic_store(&self->forking, FSAFE_FORKING_NOW);
    if (fsafe_thread_has_company(self))
        fsafe_barrier_everywhere(); /* from here on a thread is seen inside, or sees the gate closed: NO_BARRIER */
    return true;
}

bool fsafe_gate_is_ours(const struct fsafe_thread *self)
{
    return self->gated.share >= FIRM || (atomic_load(&fsafe_gate_word) & CLOSED) != 0;
}

void fsafe_gate_insist(uint64_t until_ns)
{
    atomic_store(&insists_ns, until_ns);
}

bool fsafe_gate_commit(struct fsafe_thread *self)
{
    uint32_t seen = atomic_load(&fsafe_gate_word);
    /* Only while the closing that this fork entered stands: NO_COMMIT. */
    while (self->gated.share < FIRM && (seen & CLOSED) != 0)
        if (atomic_compare_exchange_weak(&fsafe_gate_word, &seen, seen + FIRM))
            self->gated.share += FIRM;
    return self->gated.share >= FIRM;
}

/*
 * Takes CLOSED away, whichever fork set it. While a fork that has committed keeps all threads out in any case CLOSED
 * stays: or the forks that share the closing would have to begin anew.
 */
static void open_for_all(void)
{
    uint32_t seen = atomic_load(&fsafe_gate_word);
    while ((seen & CLOSED) != 0 && seen < FIRM) {
        if (atomic_compare_exchange_weak(&fsafe_gate_word, &seen, seen & ~(uint32_t)CLOSED)) {
            wake_sleepers();
            return;
        }
    }
}

void fsafe_gate_restore_signals(struct fsafe_thread *self)
{
    if (self == NULL || !self->gated.signals_blocked)
        return;
    struct fsafe_sigset old = self->gated.signals;
    self->gated.signals_blocked = false;
    fsafe_sys_restore_signals(&old);
}

void fsafe_gate_open(struct fsafe_thread *self, uint32_t forking)
{
    if (self->gated.share == 0)
        return;
    /* First: a fork that finds the gate open has to see that this thread may be inside something. */
    atomic_store(&self->forking, forking);
    uint32_t seen = atomic_load(&fsafe_gate_word), next;
    do {
        next = seen - self->gated.share;
        if ((next & USERS) == 0)
            next &= ~(uint32_t)CLOSED;
        if (next == 0 && atomic_load(&sleepers) != 0) {
            uint64_t now = fsafe_sys_now_ns(), for_ns = now - atomic_load(&closed_ns);
            uint64_t most_ns = self->gated.share >= FIRM ? OPEN_NS : BREATH_NS;
            atomic_store(&open_until_ns, now + (for_ns < most_ns ? for_ns : most_ns));
        }
    } while (!atomic_compare_exchange_weak(&fsafe_gate_word, &seen, next));
    self->gated.share = 0;
    if ((next & ~(uint32_t)USERS) == 0) /* else the sleepers would go to sleep again */
        wake_sleepers();
    fsafe_gate_restore_signals(self);
}

void fsafe_gate_reset(struct fsafe_thread *self)
{
    /* Written only where it changes: the page is the parent's, too. */
    if (atomic_load_explicit(&fsafe_gate_word, memory_order_relaxed) != 0)
        atomic_store_explicit(&fsafe_gate_word, 0, memory_order_relaxed);
    if (atomic_load_explicit(&open_until_ns, memory_order_relaxed) != 0)
        atomic_store_explicit(&open_until_ns, 0, memory_order_relaxed);
    if (atomic_load_explicit(&sleepers, memory_order_relaxed) != 0)
        atomic_store_explicit(&sleepers, 0, memory_order_relaxed);
    if (self != NULL)
        self->gated.share = 0;
}

/* Sleeps until `turns` is not `turn`, until `until_ns`, or until a signal comes. False: until_ns was over before. */
static bool sleep_a_turn(uint32_t turn, uint64_t until_ns)
{
    uint64_t now = fsafe_sys_now_ns();
    if (now >= until_ns)
        return false;
    const struct timespec left = fsafe_sys_timespec(until_ns - now);
    atomic_fetch_add(&sleepers, 1); /* too high later, in a child whose fork a signal handler made here: no harm */
    fsafe_sys_futex_wait(&turns, turn, &left);
    atomic_fetch_sub(&sleepers, 1);
    return true;
}

bool fsafe_gate_await_turn(uint64_t until_ns)
{
    enum { NAP_NS = 1000000 };
    uint32_t turn = atomic_load(&turns);
    uint64_t now = fsafe_sys_now_ns(), may_ns = atomic_load(&open_until_ns);
    if (now >= until_ns)
        return false;
    if (is_closed())
        sleep_a_turn(turn, now + NAP_NS < until_ns ? now + NAP_NS : until_ns);
    else
        fsafe_sys_pause_us(may_ns > now && may_ns - now < OPEN_NS ? (unsigned)((may_ns - now) / 1000) + 1 : 20);
    return true;
}

/*
 * Gives the processor away again and again, and does not sleep, until `until_ns`. This is for a thread that has worked
 * without a pause. If such a thread slept here, Linux would run it before the fork and the child, once the fork has
 * woken it, because its share of a processor is still due to it. (A thread that has slept of its own accord sleeps here
 * as well, and is to go first when it is woken.) No thread stays awake while several forks share a closing: the gate is
 * closed for so much of the time then that the forks and their children need the processor. Returns whether to look at
 * the gate again.
 */
static bool stay_awake(uint32_t turn, uint64_t until_ns)
{
    while ((atomic_load(&fsafe_gate_word) & USERS) == USER && fsafe_sys_now_ns() < until_ns) {
        FSAFE_SYS(SYS_sched_yield);
        if (atomic_load(&turns) != turn)
            return true;
    }
    return !is_closed(); /* also in a child whose fork a signal handler made here: no thread wakes that child */
}

/* Until when a stopped thread stays awake, leaves the gate closed, and waits; all zero until it is stopped. */
struct stay {
    uint64_t awake_ns, enough_ns, until_ns;
    unsigned long_stops; /* how often it has been stopped for STOPPED_NS */
    uint32_t own;        /* how many of its records are of what it asks for */
};

/* Whether a fork that has committed sleeps in a futex. */
static bool is_a_fork_waiting(void)
{
    bool waits = false;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); !waits && fsafe_thread_next(&at);)
        waits = at.thread->gated.share >= FIRM && fsafe_sys_is_futex(fsafe_tasks_call(at.thread->tid));
    return waits;
}

static bool may_be_waited_for(const struct stay *stay)
{
    return (fsafe_ledger_depth(fsafe_thread_locks(fsafe_self)) > stay->own || stay->long_stops >= UNRECORDED) &&
           is_a_fork_waiting();
}

/* Waits until the gate is open. Returns false when no time is left: then the thread goes on. */
static bool wait_until_open(struct stay *stay)
{
    if (stay->until_ns == 0) {
        uint64_t now = fsafe_sys_now_ns();
        bool has_paused = fsafe_sys_sleeps() != fsafe_self->gated.sleeps;
        stay->awake_ns = has_paused ? 0 : now + AWAKE_NS;
        stay->enough_ns = now + STOPPED_NS;
        stay->until_ns = now + (uint64_t)fsafe_options.drain_ms * 1000000;
    }
    for (;;) {
        uint32_t turn = atomic_load(&turns);
        if (!is_closed())
            return true;
        if (atomic_load(&expired) == turn)
            return false;
        if (stay_awake(turn, stay->awake_ns))
            continue;
        uint64_t insists_ns_now = atomic_load(&insists_ns);
        uint64_t enough_ns = stay->enough_ns > insists_ns_now ? stay->enough_ns : insists_ns_now;
        bool has_time = sleep_a_turn(turn, enough_ns < stay->until_ns ? enough_ns : stay->until_ns);
        fsafe_self->gated.sleeps = fsafe_sys_sleeps();
        if (has_time)
            continue;
        if (fsafe_sys_now_ns() >= stay->until_ns) {
            atomic_store(&expired, turn);
            return false;
        }
        open_for_all();
        stay->enough_ns += STOPPED_NS; /* a fork that has committed is over in a moment, or waits */
        stay->long_stops++;
        if (may_be_waited_for(stay))
            return false;
    }
}

/*
 * Not a thread that has to get out: it is inside, whichever ledger says so, or owns the loader's lock. Not in a child
 * that is not adopted yet, either: there no thread would open the gate.
 */
static bool may_be_stopped(struct fsafe_thread *self)
{
    return self != NULL && self->gated.share == 0 && fsafe_gate_where(self, false) == FSAFE_OUTSIDE &&
           fsafe_loader_owner() != self->owner && !fsafe_lineage_is_unadopted();
}

/* Reserves record `next`, the one above the latest, when the thread may go inside. */
static void pass(struct fsafe_ledger *ledger, uint32_t next)
{
    bool stops = may_be_stopped(fsafe_self);
    struct stay stay = {0};
    for (;;) {
        /* The mark of a fork that saw the thread reserve this record in vain would hide the thread now. */
        atomic_store_explicit(&fsafe_ledger_record(ledger, next)->lock, 0, memory_order_relaxed);
        /* First the record, then a look at the gate: a fork closes the gate first and then looks who is inside. */
        atomic_store(&ledger->depth, next);
        atomic_thread_fence(memory_order_seq_cst);
        if (!stops || !is_closed())
            return;
        atomic_store(&ledger->depth, next - 1);
        stops = wait_until_open(&stay);
    }
}

bool fsafe_gate_push_slowly(struct fsafe_ledger *ledger, uintptr_t lock, uintptr_t site,
                            fsafe_ledger_is_stale *is_stale, void *context)
{
    uint32_t next = fsafe_ledger_depth(ledger) + 1;
    if (next > ledger->room) /* a thread with so many records is inside */
        return fsafe_ledger_push_full(ledger, lock, site, is_stale, context);
    pass(ledger, next);
    fsafe_ledger_fill(ledger, next, lock, site);
    return true;
}

/*
 * Sets the mark of the latest record of `lock`, or takes the mark away. Looks for the record each time: a signal
 * handler may have made room, which moves records.
 */
static void mark(struct fsafe_thread *self, uintptr_t lock, bool waits)
{
    struct fsafe_ledger *locks = fsafe_thread_locks(self);
    uint32_t depth = fsafe_ledger_depth(locks);
    uint32_t index = FSAFE_LIKELY(fsafe_ledger_word(locks, depth) == lock) ? depth : fsafe_ledger_find(locks, lock);
    if (index != 0)
        fsafe_ledger_mark(fsafe_ledger_record(locks, index), lock, waits);
}

void fsafe_gate_suspend(struct fsafe_thread *self, uintptr_t lock)
{
    mark(self, lock, true);
}

void fsafe_gate_resume(struct fsafe_thread *self, uintptr_t lock)
{
    bool stops = true;
    struct stay stay = {.own = 1};
    for (;;) {
        /* Asked while the record has its mark: without the mark that record would say that the thread is inside. */
        stops = stops && (atomic_load_explicit(&fsafe_gate_word, memory_order_relaxed) == 0 || may_be_stopped(self));
        mark(self, lock, false); /* first this, then a fence, then a look at the gate: NO_LOOK */
        atomic_thread_fence(memory_order_seq_cst);
        if (!stops || !is_closed())
            return;
        mark(self, lock, true);
        stops = wait_until_open(&stay);
    }
}
