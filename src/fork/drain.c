/*
 * Measured. A fork closes the gate in rounds. A closing can be revoked until no thread is inside. Then one
 * compare-and-swap makes the closing firm; it fails if a thread that was stopped for long has opened the gate
 * meanwhile. No thread passes between that and the clone. Several forks share one closing.
 *
 * tests/bench/stops, two quiet processors, medians of seven alternating rounds: forkers beside threads that lock, both
 * without pause. "Kept shut": a gate that is not opened before a fork; there the forkers have the processors for
 * themselves.
 *
 *     forkers  threads    forks a second: bare  kept shut  rounds    locks, of bare's: kept shut  rounds
 *        4        8                        155        200     117                           0.49    0.79
 *        1        2                        210        236     241                           0.84    0.78
 *        1        8                         78         46      44                           0.97    0.94
 *
 * doc/speed has forks beside threads that queue for one lock, and how long a thread that is not involved is stopped.
 * With a gate that was closed once and for all a fork beside 50 such threads took 580 ms, 613 at most.
 *
 * The drain's budget, in a storm of mktime on two processors with some fifty running processes: a thread that was
 * preempted inside may need so long until it gets a processor again. So a fork waits 1,000 ms for a thread that gets no
 * processor, and until a thread that gets one has run for 100 ms. It waits 40 ms for a thread that sleeps in a system
 * call, and four looks for one that sleeps in a futex or waits for a process.
 *
 *     budget, ms            20          100        300     1,000
 *     children that hang    38 of 90    7 of 500   0       0 of 500
 */
#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "fork/contended.h"
#include "fork/drain.h"
#include "fork/loading.h"
#include "libc/loader.h"
#include "report/tally.h"
#include "track/gate.h"
#include "track/slots.h"

#include <limits.h>
#include <time.h>

/*
 * A thread that runs is soon outside. Only after LOOK_US, and then each LOOK_US, does the fork ask what the threads
 * inside do.
 *
 * While a thread is inside a call of libc's, whose lock no child can take over, the fork waits for the whole of
 * FORKSAFE_DRAIN_MS. That is meant for a thread which a busy machine gives no processor: a thread that has run for a
 * tenth of that time and is still inside works there for long. A thread that sleeps in a system call may take as long
 * as a name server does: the fork goes on when no thread has got out for a twenty-fifth of that time.
 *
 * If the threads inside have locks of the program's alone, which a child can take over, the fork waits for
 * FORKSAFE_DRAIN_LOCKS_MS. If all these threads sleep it waits for a tenth of that, and two looks. While one of them
 * would run but has had no processor since the last look it waits for six times as long.
 *
 * A fork that gives up locks which only their sleepers show lets all threads go on once more, and then waits for no
 * such lock. A thread that is stopped at the gate may have other locks that nothing shows, and also the lock that this
 * fork has waited for: Qt 5 calls tzset() with one. Beside two threads that save settings 107 of 150 children
 * found that lock taken without this rule, 9 with it, 1 bare.
 *
 * The gate is closed for SLICE_US at a time, then all threads may go on for BREATH_US. If a thread inside would run and
 * gets no processor, the machine is so busy that SLICE_US says nothing: then the gate is closed for STARVED_SLICE_US.
 */
enum {
    LOOK_US = 1000,
    YIELDS = 2, /* each gives a whole time slice away: with 20 of them a closing took 35 ms */
    PAUSE_US = 30,
    WORKERS_SHARE = 10,
    SLEEPERS_SHARE = 25,
    ASLEEP_SHARE = 10,
    STARVED_TIMES = 6,
    SLICE_US = 2000,
    STARVED_SLICE_US = 10000,
    BREATH_US = 200,
    LAST_BREATH_US = 1000, /* after the fork has given up: threads may call libc more than once with such a lock */
    BEARS = 2, /* how often a fork that could go on lets a stopped thread open the gate */
};

static uint64_t now_us(void)
{
    return fsafe_sys_now_ns() / 1000;
}

/* How much processor time a thread of this process has had, by the clock that Linux has for each thread. */
static uint64_t processor_us(pid_t tid)
{
    struct timespec time;
    fsafe_sys_clock((clockid_t)(~(unsigned)tid << 3 | 6), &time); /* no such clock when the thread has just ended */
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* Whether the thread has run for its share of the budget since the drain of `begun_us` first asked this of it. */
static bool has_worked_long(struct fsafe_thread *thread, uint64_t begun_us, uint64_t budget_us)
{
    uint64_t now = processor_us(thread->tid);
    if (atomic_load_explicit(&thread->drained.begun_us, memory_order_relaxed) != begun_us) {
        atomic_store_explicit(&thread->drained.processor_us, now, memory_order_relaxed);
        atomic_store_explicit(&thread->drained.begun_us, begun_us, memory_order_relaxed);
        return false;
    }
    return now - atomic_load_explicit(&thread->drained.processor_us, memory_order_relaxed) >= budget_us / WORKERS_SHARE;
}

/*
 * What keeps a thread inside. IN_WAIT: another thread or process, which may take for ever; the other thread may be the
 * forking one. (A thread that waits for a process in system or pclose holds no lock of libc's meanwhile. A thread that
 * starts a process in popen waits for the exec of that process: it counts as running.)
 */
enum state { RUNNING, IN_WAIT, IN_CALL };

#ifdef SYS_clone3
#define IS_NEWER_CALL(number) ((number) == SYS_clone3)
#else
#define IS_NEWER_CALL(number) false
#endif

/* Without /proc every thread counts as running. */
static enum state state_of(pid_t tid)
{
    long number = fsafe_tasks_call(tid);
    if (number == -1 || number == SYS_clone || IS_NEWER_CALL(number))
        return RUNNING;
    return fsafe_sys_is_futex(number) || number == SYS_wait4 || number == SYS_waitid ? IN_WAIT : IN_CALL;
}

/* Gives up on a thread: no fork waits for it again until it has released what it holds now. */
static void give_up(struct fsafe_thread *thread)
{
    fsafe_ledger_mark_outlasted(fsafe_thread_locks(thread));
    fsafe_ledger_mark_outlasted(fsafe_thread_spins(thread));
}

/* One fork's drain. Points in time, but for begun_us, count from begun_us. */
struct drain {
    struct fsafe_thread *self;
    uint64_t begun_us, budget_us, locks_us;
    uint64_t next_look;
    uint64_t last_left_us;    /* when a thread last got out */
    uint64_t holders_us;      /* since when no thread inside is in a call of libc's; UINT64_MAX: one is */
    uint64_t starved_until_us; /* until then a thread inside counts as one that gets no processor */
    unsigned fewest, most;
    unsigned waiting_looks, asleep_looks;
    bool is_in_call; /* the forking thread is inside a call of libc's, in which a signal handler forks */
    bool asks_loader; /* the fork has waited long enough for the threads inside, but another one is in the loader */
    bool is_loading;  /* a thread is in the loader, which no record says; known only when the fork has asked */
    unsigned contended; /* while no thread is inside: what fsafe_contended_try returned */
    bool has_let_go;    /* the fork has given up such locks, and all threads could go on once since then */
    uint64_t loader_seen_us; /* the processor time of the thread in the loader at the latest look */
};

/* The next other thread that is in `where` or worse. */
static bool next_inside(const struct drain *drain, enum fsafe_where where, struct fsafe_thread_walk *at)
{
    while (fsafe_thread_next(at))
        if (at->thread != drain->self && fsafe_gate_where(at->thread, !drain->is_in_call) >= where)
            return true;
    return false;
}

/* How many threads are inside, and the worst of what they are in. */
static unsigned count_inside(const struct drain *drain, enum fsafe_where *worst)
{
    unsigned inside = 0;
    *worst = FSAFE_OUTSIDE;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);) {
        enum fsafe_where where =
            at.thread != drain->self ? fsafe_gate_where(at.thread, !drain->is_in_call) : FSAFE_OUTSIDE;
        inside += where != FSAFE_OUTSIDE;
        *worst = where > *worst ? where : *worst;
    }
    return inside;
}

/*
 * How many threads the fork has to wait for. Once no thread is inside, or it has waited long enough for those that are,
 * the fork takes the loader's lock, and then the locks that only their sleepers show. For a lock that it does not get
 * it waits as for a thread inside.
 */
static unsigned count_in_the_way(struct drain *drain, enum fsafe_where *worst)
{
    unsigned inside = count_inside(drain, worst);
    drain->is_loading = (inside == 0 || drain->asks_loader) && !fsafe_loading_try(drain->self);
    /* A fork that has let go asks no more: asking takes long enough for many threads to come to the gate. */
    bool asks = inside == 0 && !drain->is_loading && !drain->has_let_go;
    drain->contended = asks ? fsafe_contended_try(drain->self) : 0;
    if (drain->is_loading)
        *worst = FSAFE_CALLING;
    else if (drain->contended > 0)
        *worst = FSAFE_HOLDING;
    return inside + drain->is_loading + drain->contended;
}

/*
 * What the liveliest of the threads that are in `where` or worse does: as long as one runs, those that sleep may wait
 * for that one. *starved: one of them would run and has had no processor since the last look.
 */
static enum state look_at_all(struct drain *drain, enum fsafe_where where, bool *starved)
{
    bool calling = false, running = false;
    *starved = false;
    pid_t loader = drain->is_loading ? fsafe_loader_owner() : 0;
    if (loader != 0) {
        uint64_t now = processor_us(loader);
        running = state_of(loader) == RUNNING;
        calling = !running; /* also a thread that waits: for a slow disk, or for what its constructors started */
        *starved = running && now - drain->loader_seen_us < LOOK_US / 4;
        drain->loader_seen_us = now;
    }
    /* Any thread may be the owner of a lock that only its sleepers show. */
    enum fsafe_where least = drain->contended > 0 ? FSAFE_OUTSIDE : where;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); next_inside(drain, least, &at);) {
        enum state state = state_of(at.thread->tid);
        if (state == RUNNING) {
            uint64_t now = processor_us(at.thread->tid);
            *starved |= now - atomic_exchange(&at.thread->drained.seen_us, now) < LOOK_US / 4;
            if (!has_worked_long(at.thread, drain->begun_us, drain->budget_us))
                running = true;
            else
                give_up(at.thread);
        }
        calling |= state == IN_CALL;
    }
    return running ? RUNNING : calling ? IN_CALL : IN_WAIT;
}

static void note_starved(struct drain *drain, bool starved, uint64_t waited)
{
    if (starved)
        drain->starved_until_us = waited + (uint64_t)LOOK_US * 2;
}

/* Whether the fork has waited long enough for threads that have locks of the program's only. */
static bool is_enough_of_holders(struct drain *drain, uint64_t waited)
{
    bool starved;
    bool asleep = look_at_all(drain, FSAFE_HOLDING, &starved) != RUNNING && drain->contended == 0;
    drain->asleep_looks = asleep ? drain->asleep_looks + 1 : 0;
    note_starved(drain, starved, waited);
    uint64_t since = waited - drain->holders_us;
    return drain->asleep_looks >= 2 ||
           (since >= drain->locks_us &&
            (since >= drain->locks_us * STARVED_TIMES || waited >= drain->starved_until_us));
}

/* The same for threads inside calls of libc's. */
static bool is_enough_of_callers(struct drain *drain, uint64_t waited)
{
    /* If all of them wait, and still do at the next looks, they wait for a thread outside: perhaps for this fork. */
    bool starved;
    enum state state = look_at_all(drain, FSAFE_CALLING, &starved);
    note_starved(drain, starved, waited);
    drain->waiting_looks = state == IN_WAIT ? drain->waiting_looks + 1 : 0;
    return drain->waiting_looks >= 4 ||
           (state == IN_CALL && waited - drain->last_left_us >= drain->budget_us / SLEEPERS_SHARE);
}

static bool is_enough(struct drain *drain, enum fsafe_where worst, uint64_t waited)
{
    if (waited >= drain->budget_us)
        return true;
    if (worst == FSAFE_CALLING)
        drain->holders_us = UINT64_MAX;
    else if (drain->holders_us == UINT64_MAX)
        drain->holders_us = waited;
    if (waited < drain->next_look)
        return false;
    drain->next_look = waited + (worst == FSAFE_CALLING ? LOOK_US : drain->locks_us / ASLEEP_SHARE);
    return worst == FSAFE_CALLING ? is_enough_of_callers(drain, waited) : is_enough_of_holders(drain, waited);
}

static void give_up_on_all(const struct drain *drain)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); next_inside(drain, FSAFE_HOLDING, &at);)
        give_up(at.thread);
}

/* True: no thread is inside any more, or waiting is of no use. False: the gate has to be opened first. */
static bool wait_until_empty(struct drain *drain)
{
    uint64_t begin = now_us() - drain->begun_us, slice_end = begin + SLICE_US, last_end = begin + STARVED_SLICE_US;
    enum fsafe_where worst;
    unsigned inside;
    for (unsigned round = 0; (inside = count_in_the_way(drain, &worst)) != 0; round++) {
        uint64_t waited = now_us() - drain->begun_us;
        drain->most = inside > drain->most ? inside : drain->most;
        if (inside < drain->fewest) {
            drain->fewest = inside;
            drain->last_left_us = waited;
            drain->waiting_looks = 0;
        }
        if (is_enough(drain, worst, waited)) {
            /*
             * A thread with a lock of the program's may be in the loader, too: ALSA loads modules so. The short wait
             * for such locks is not meant for the loader.
             */
            if (!drain->asks_loader && waited < drain->budget_us && !fsafe_loading_try(drain->self)) {
                drain->asks_loader = true;
                drain->last_left_us = waited;
                drain->waiting_looks = 0;
                continue;
            }
            give_up_on_all(drain);
            fsafe_contended_give_up(drain->self);
            if (drain->contended > 0) {
                drain->has_let_go = true;
                drain->holders_us = UINT64_MAX;
                return false;
            }
            fsafe_loading_try(drain->self);
            return true;
        }
        if (waited >= slice_end && waited < drain->starved_until_us && slice_end < last_end) {
            /* The threads inside need a processor; the threads that the open gate lets pass would take it. */
            slice_end = last_end;
            fsafe_gate_insist((drain->begun_us + last_end) * 1000);
        }
        if (waited >= slice_end || !fsafe_gate_is_ours(drain->self))
            return false;
        if (round < YIELDS)
            FSAFE_SYS(SYS_sched_yield);
        else
            fsafe_sys_pause_us(PAUSE_US);
    }
    return true;
}

void fsafe_drain_begin(struct fsafe_thread *self)
{
    if (fsafe_options.drain_ms == 0 || fsafe_options.mode != FSAFE_MODE_REPAIR || self->gated.share != 0)
        return;
    struct drain drain = {
        .self = self,
        .begun_us = now_us(),
        .budget_us = (uint64_t)fsafe_options.drain_ms * 1000,
        .locks_us = (uint64_t)fsafe_options.drain_locks_ms * 1000,
        .holders_us = UINT64_MAX,
        .fewest = UINT_MAX,
        .is_in_call = fsafe_gate_where(self, true) == FSAFE_CALLING,
    };
    uint64_t until_ns = (drain.begun_us + drain.budget_us) * 1000;
    drain.next_look = drain.locks_us / ASLEEP_SHARE;
    bool late = false;
    for (unsigned overruled = 0;;) {
        /* In each round: a signal handler may have forked meanwhile, and this may be the child. */
        atomic_store(&self->forking, fsafe_ledger_depth(fsafe_thread_locks(self)) + 1);
        if (!fsafe_gate_close(self, late || overruled >= BEARS)) {
            late = !fsafe_gate_await_turn(until_ns);
            continue;
        }
        bool had_let_go = drain.has_let_go, ready = wait_until_empty(&drain);
        if (ready && fsafe_gate_commit(self)) {
            if (drain.most != 0)
                fsafe_tally_add(FSAFE_TOTAL_DRAINED_THREADS, drain.most);
            return;
        }
        overruled += ready;
        fsafe_contended_end(self);
        fsafe_loading_end(self);
        fsafe_gate_open(self, fsafe_ledger_depth(fsafe_thread_locks(self)) + 1);
        fsafe_sys_pause_us(drain.has_let_go != had_let_go ? LAST_BREATH_US : BREATH_US);
    }
}
