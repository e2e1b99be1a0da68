/* fork/drain: see drain.h. */
#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "base/text.h"
#include "fork/drain.h"
#include "track/gate.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

/*
 * A thread that runs is out in no time; after LOOK_US, and as often, it is worth a look at what the others do. The
 * whole budget is for one that cannot run, because a busy machine does not give it a processor: who has had one for a
 * tenth of the budget and is still inside works there for long. One that sleeps in a system call may take as long as a
 * name server does: when nobody has got out for a twenty-fifth of it that is enough.
 */
enum { LOOK_US = 1000, YIELDS = 20, PAUSE_US = 30, WORKERS_SHARE = 10, SLEEPERS_SHARE = 25 };

static uint64_t now_us(void)
{
    return fsafe_gate_now_ns() / 1000;
}

/* How much processor time a thread of this process has had, by the clock that Linux has for each thread. */
static uint64_t processor_us(pid_t tid)
{
    struct timespec time = {.tv_sec = 0};
    int saved = errno;
    clock_gettime((clockid_t)(~(unsigned)tid << 3 | 6), &time); /* fails when the thread has just ended */
    errno = saved;
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* Whether the thread has been running for long since the drain that began then first looked. */
static bool has_worked_long(struct fsafe_thread *thread, uint64_t begun_us, uint64_t budget_us)
{
    uint64_t now = processor_us(thread->tid);
    if (atomic_load_explicit(&thread->drain_begun_us, memory_order_relaxed) != begun_us) {
        atomic_store_explicit(&thread->drain_processor_us, now, memory_order_relaxed);
        atomic_store_explicit(&thread->drain_begun_us, begun_us, memory_order_relaxed);
        return false;
    }
    return now - atomic_load_explicit(&thread->drain_processor_us, memory_order_relaxed) >= budget_us / WORKERS_SHARE;
}

/*
 * What keeps a thread that is inside. IN_WAIT: another thread or process, which may take for ever and may be us. (One
 * that waits for a process in system or pclose holds no lock of libc's meanwhile. Who starts one, in popen, waits for
 * its exec: that runs.)
 */
enum state { RUNNING, IN_WAIT, IN_CALL };

#ifdef SYS_clone3
#define IS_NEWER_CALL(number) ((number) == SYS_clone3)
#else
#define IS_NEWER_CALL(number) false
#endif

/* Without /proc everybody runs. */
static enum state state_of(pid_t tid)
{
    char path[64], line[32];
    struct fsafe_text text;
    fsafe_text_begin(&text, path, sizeof path - 1);
    fsafe_text_string(&text, "/proc/self/task/");
    fsafe_text_decimal(&text, (unsigned long)tid);
    fsafe_text_string(&text, "/syscall");
    path[text.length] = '\0';
    int fd = fsafe_sys_open(path, O_RDONLY, 0);
    if (fd < 0)
        return RUNNING;
    ssize_t got = fsafe_sys_read(fd, line, sizeof line - 1);
    fsafe_sys_close(fd);
    long number = 0;
    ssize_t digits = 0;
    while (digits < got && line[digits] >= '0' && line[digits] <= '9')
        number = number * 10 + (line[digits++] - '0');
    if (digits == 0)
        return RUNNING; /* the word is "running" */
    if (number == SYS_clone || IS_NEWER_CALL(number))
        return RUNNING;
    return number == SYS_futex || number == SYS_wait4 || number == SYS_waitid ? IN_WAIT : IN_CALL;
}

bool fsafe_drain_sleeps(pid_t tid)
{
    return state_of(tid) != RUNNING;
}

static bool is_other(const struct fsafe_thread *thread, const struct fsafe_thread *self)
{
    return thread != self && fsafe_thread_generation(thread) == fsafe_lineage_generation() && !thread->ended &&
           !atomic_load_explicit(&thread->forking, memory_order_relaxed);
}

/* Gives up on a thread: not before it has let go of what it holds now will a fork wait for it again. */
static void give_up(struct fsafe_thread *thread)
{
    fsafe_ledger_mark_outlasted(fsafe_thread_locks(thread));
    fsafe_ledger_mark_outlasted(fsafe_thread_spins(thread));
}

static unsigned count_inside(const struct fsafe_thread *self)
{
    unsigned inside = 0;
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;)
        inside += is_other(fsafe_thread_slot(i), self) && fsafe_gate_is_inside(fsafe_thread_slot(i));
    return inside;
}

/* The liveliest of those inside: as long as one runs, sleepers may be queueing for it. */
static enum state look_at_all(const struct fsafe_thread *self, uint64_t begun_us, uint64_t budget_us)
{
    bool calling = false;
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        if (!is_other(thread, self) || !fsafe_gate_is_inside(thread))
            continue;
        enum state state = state_of(thread->tid);
        if (state == RUNNING && !has_worked_long(thread, begun_us, budget_us))
            return RUNNING;
        if (state == RUNNING)
            give_up(thread);
        calling |= state == IN_CALL;
    }
    return calling ? IN_CALL : IN_WAIT;
}

static void give_up_on_all(const struct fsafe_thread *self)
{
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        if (is_other(thread, self) && fsafe_gate_is_inside(thread))
            give_up(thread);
    }
}

/* Waits until nobody is inside, or it is no use. Returns whether nobody is. */
static bool wait_until_empty(struct fsafe_thread *self, uint64_t begun_us)
{
    uint64_t budget_us = (uint64_t)fsafe_options.drain_ms * 1000;
    uint64_t next_look = LOOK_US;
    unsigned waiting_looks = 0;
    unsigned inside, fewest = UINT_MAX;
    uint64_t last_left_us = 0; /* when the latest of them got out */
    for (unsigned round = 0; (inside = count_inside(self)) != 0; round++) {
        uint64_t waited = now_us() - begun_us;
        bool enough = waited >= budget_us;
        if (inside < fewest) {
            fewest = inside;
            last_left_us = waited;
            waiting_looks = 0;
        }
        if (waited >= next_look && !enough) {
            /* When all wait, and still do at the next look, it is for somebody outside: perhaps us. */
            enum state state = look_at_all(self, begun_us, budget_us);
            waiting_looks = state == IN_WAIT ? waiting_looks + 1 : 0;
            enough = waiting_looks == 2 || (state == IN_CALL && waited - last_left_us >= budget_us / SLEEPERS_SHARE);
            next_look = waited + LOOK_US;
        }
        if (enough) {
            give_up_on_all(self);
            return false;
        }
        if (round < YIELDS)
            FSAFE_SYS(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
        else
            fsafe_sys_pause_us(PAUSE_US);
    }
    return true;
}

void fsafe_drain_begin(struct fsafe_thread *self)
{
    /* A signal handler that forks while this thread is forking already finds the gate closed. */
    if (fsafe_options.drain_ms == 0 || fsafe_options.mode != FSAFE_MODE_REPAIR || self->gate_closed)
        return;
    uint64_t begun_us = now_us();
    for (;;) {
        atomic_store(&self->forking, true);
        bool others = fsafe_gate_close(self);
        bool is_empty = !others || wait_until_empty(self, begun_us);
        uint64_t until_ns = (begun_us + (uint64_t)fsafe_options.drain_ms * 1000) * 1000;
        if (!fsafe_gate_freeze(self, until_ns))
            continue; /* a handler has forked, which opened the gate: and this may be its child */
        /* Somebody may have passed between the last look and the frost: nobody can any more. */
        if (is_empty && others)
            wait_until_empty(self, begun_us);
        if (self->gate_frozen)
            return;
    }
}
