/*
 * Measured. Each of so many threads of a child of Python's waits for a Lock of its own. How many seconds until the last
 * one gets it, FORKSAFE_HANG_MS included, where each thread looks when its slice ends, and where one looks at a time:
 *
 *                           40            80            120          200     300
 *     all look              1.4 to 2.8    3.8 to 6.6    16 to 66
 *     one at a time         1.4 to 1.5    2.1 to 2.4    2.4 to 2.7   6.8     11.8
 */
#include "config.h"

#include "base/options.h"
#include "base/tasks.h"
#include "libc/layout.h"
#include "repair/asleep.h"
#include "repair/children.h"
#include "repair/takeover.h"
#include "track/slots.h"

#include <string.h>

/* A thread whose slice ended longer ago than this has left the wait by a longjmp. */
#define LATE_NS UINT64_C(1000000000)

/* --- What the kernel says of all threads ---------------------------------------------------------------------- */

/* What one look at all threads of the process found. */
struct look {
    const struct fsafe_thread *self;
    uint64_t now_ns;
    uint64_t mark;      /* equal in two looks: no thread has woken in between */
    uint64_t unblocked; /* the signals that some thread would take */
};

static struct fsafe_thread *find_thread(pid_t tid)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);)
        if (at.thread->tid == tid)
            return at.thread;
    return NULL;
}

/* Whether the thread is in a slice of a wait without a limit, and the futex that it sleeps on is part of that wait. */
static bool is_in_slice(const struct fsafe_thread *thread, uintptr_t word, uint64_t now)
{
    const struct fsafe_sleeping *sleeping = &thread->sleeping;
    uintptr_t object = atomic_load_explicit(&sleeping->object, memory_order_acquire);
    uint64_t until = atomic_load_explicit(&sleeping->until_ns, memory_order_relaxed);
    uint32_t bytes = atomic_load_explicit(&sleeping->bytes, memory_order_relaxed);
    uintptr_t mutex = atomic_load_explicit(&sleeping->mutex, memory_order_relaxed);
    return object != 0 && until + LATE_NS > now &&
           (bytes == 0 || word - object < bytes || (mutex != 0 && word - mutex < sizeof(pthread_mutex_t)));
}

enum { WORDS = 128 }; /* the most that futex_waitv takes */

bool fsafe_asleep_is_private(uintptr_t waiters, unsigned long count)
{
    struct futex_waitv all[WORDS];
    if (count == 0 || count > WORDS || !fsafe_sys_peek(waiters, all, count * sizeof *all))
        return false;
    for (const struct futex_waitv *one = all; one < all + count; one++)
        if ((one->flags & FUTEX_PRIVATE_FLAG) == 0 && fsafe_takeover_is_shared((uintptr_t)one->uaddr))
            return false;
    return true;
}

/* Whether the task waits for a futex without a limit, or in a slice of a wait without a limit. */
static bool is_asleep(const struct fsafe_task *task, const struct fsafe_thread *thread, uint64_t now)
{
    uintptr_t word = task->argument[0], limit = task->argument[3];
    if (task->in_futex) {
        /* Taken for the futex of the thread's wait: a signal handler that sleeps in another one looks the same. */
        uintptr_t object = thread != NULL ? atomic_load(&thread->sleeping.object) : 0;
        bool has_no_end = object != 0 && atomic_load(&thread->sleeping.until_ns) == 0;
        return object != 0 && (has_no_end || is_in_slice(thread, object, now)) && !fsafe_takeover_is_shared(object);
    }
    bool has_no_limit = limit == 0 || (thread != NULL && is_in_slice(thread, word, now));
    if (task->call == SYS_futex_waitv)
        return has_no_limit && fsafe_asleep_is_private(word, task->argument[1]);
    /* pthread_join waits for a futex that is not of the private kind, because the kernel wakes it so. */
    return fsafe_tasks_waits_for_futex(task) && has_no_limit &&
           ((task->argument[1] & FUTEX_PRIVATE_FLAG) != 0 || !fsafe_takeover_is_shared(word));
}

/* Whether the thread is between two slices of a wait for a semaphore that has no token: it is about to sleep again. */
static bool is_between(const struct fsafe_thread *thread, uint64_t now)
{
    sem_t copy;
    return atomic_load_explicit(&thread->sleeping.is_between, memory_order_acquire) &&
           atomic_load(&thread->sleeping.until_ns) + LATE_NS > now &&
           fsafe_sys_peek(atomic_load(&thread->sleeping.object), &copy, sizeof copy) &&
           fsafe_layout_sem_value(&copy) == 0;
}

/* A thread that may be given what it waits for wakes at the end of each slice: there the wait is the same, or not. */
static uint64_t mark(uint64_t mark, const struct fsafe_task *task, const struct fsafe_thread *thread)
{
    struct fsafe_task of_wait = *task;
    if (thread != NULL && atomic_load(&thread->sleeping.object) != 0 && atomic_load(&thread->sleeping.may_be_given))
        of_wait.switches = atomic_load(&thread->sleeping.since_ns);
    return fsafe_tasks_mark(mark, &of_wait);
}

static bool look_at(const struct fsafe_task *task, void *context)
{
    struct look *look = context;
    if (task->ended)
        return true;
    look->unblocked |= ~task->blocked;
    if (task->tid == look->self->tid)
        return true;
    const struct fsafe_thread *thread = find_thread(task->tid);
    look->mark = mark(look->mark, task, thread);
    return is_asleep(task, thread, look->now_ns) || (thread != NULL && is_between(thread, look->now_ns));
}

/*
 * Whether the caller is the only thread of a vfork child, and its parent has one thread, the one that waits for that
 * child. (The child may not see what other threads of the parent do.)
 */
static bool is_alone_in_vfork(void)
{
    return fsafe_sys_getpid() != fsafe_lineage_pid() && fsafe_sys_single_threaded() &&
           fsafe_tasks_waits_in_vfork(fsafe_lineage_pid());
}

/* The generation in which another process got this memory; we do not see that process end. */
static _Atomic uint32_t lent_in;

void fsafe_asleep_lend_memory(void)
{
    atomic_store_explicit(&lent_in, fsafe_lineage_generation(), memory_order_relaxed);
    fsafe_children_strike_self();
}

/* All slept at one moment if no thread has woken between two looks. Without /proc nothing is known of other threads. */
bool fsafe_asleep_all(const struct fsafe_thread *self, uint64_t *unblocked)
{
    if (atomic_load_explicit(&lent_in, memory_order_relaxed) == fsafe_lineage_generation())
        return false;
    struct look first = {.self = self, .now_ns = fsafe_sys_now_ns()}, second = first;
    if (fsafe_takeover_is_alone() || is_alone_in_vfork()) {
        struct fsafe_sigset blocked = {{0}};
        FSAFE_SYS(SYS_rt_sigprocmask, SIG_BLOCK, 0, &blocked, FSAFE_SIGSET_BYTES);
        uint64_t low;
        memcpy(&low, blocked.bits, sizeof low);
        *unblocked = ~low | self->sleeping.held_back;
        return true;
    }
    if (fsafe_sys_getpid() != fsafe_lineage_pid() || !fsafe_tasks_each(0, look_at, &first) ||
        !fsafe_tasks_each(0, look_at, &second))
        return false;
    *unblocked = second.unblocked;
    return second.mark == first.mark;
}

static bool (*_Atomic interrupt_is_default)(void);

void fsafe_asleep_know_interrupt(bool (*is_default)(void))
{
    atomic_store_explicit(&interrupt_is_default, is_default, memory_order_release);
}

/* When the present turn ends at the latest: a signal handler may leave it by a longjmp. 0: there is none. */
static _Atomic uint64_t turn_ends_ns;

uint64_t fsafe_asleep_begin_turn(void)
{
    uint64_t now = fsafe_sys_now_ns(), seen = atomic_load(&turn_ends_ns), turn = now + LATE_NS;
    return seen <= now && atomic_compare_exchange_strong(&turn_ends_ns, &seen, turn) ? turn : 0;
}

bool fsafe_asleep_end_turn(struct fsafe_thread *self, uint64_t turn, bool asleep)
{
    if (asleep)
        atomic_store(&self->sleeping.is_between, false);
    return atomic_compare_exchange_strong(&turn_ends_ns, &turn, 0) && asleep;
}

bool fsafe_asleep_may_be_handled(uint64_t unblocked)
{
    struct fsafe_handled handled = fsafe_tasks_handled();
    uint64_t signals = fsafe_tasks_of_others(handled.restarting | handled.interrupting) & unblocked;
    bool (*is_default)(void) = atomic_load_explicit(&interrupt_is_default, memory_order_acquire);
    if (signals == (uint64_t)1 << (SIGINT - 1) && is_default != NULL)
        return !is_default();
    return signals != 0;
}

/* --- What the threads say of themselves ------------------------------------------------------------------------ */

/*
 * Whether `other` is to write the line, and not `self`. The thread that began to wait later writes it. But a thread
 * that joins another waits because of what the joined thread waits for: the line of the joined thread says more, if its
 * slice ends soon. If that slice does not end soon, the later thread may have written its line by then: no second line
 * follows.
 */
static bool goes_first(const struct fsafe_sleeping *other, const struct fsafe_sleeping *self, uint64_t now)
{
    uint64_t since = atomic_load_explicit(&other->since_ns, memory_order_relaxed);
    uint64_t mine = atomic_load_explicit(&self->since_ns, memory_order_relaxed);
    bool joins = atomic_load_explicit(&other->joins, memory_order_relaxed);
    if (since > mine && atomic_load_explicit(&other->said, memory_order_relaxed))
        return true;
    const struct fsafe_sleeping *better = joins ? self : other;
    if (joins != atomic_load_explicit(&self->joins, memory_order_relaxed) &&
        atomic_load_explicit(&better->until_ns, memory_order_relaxed) < now + fsafe_options_hang_ns())
        return better == other;
    return since > mine || (since == mine && other > self);
}

bool fsafe_asleep_is_left_to_another(const struct fsafe_thread *self)
{
    uint64_t now = fsafe_sys_now_ns();
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);) {
        const struct fsafe_sleeping *sleeping = &at.thread->sleeping;
        if (at.thread == self || atomic_load_explicit(&sleeping->object, memory_order_acquire) == 0 ||
            !goes_first(sleeping, &self->sleeping, now))
            continue;
        if (atomic_load_explicit(&sleeping->until_ns, memory_order_relaxed) + LATE_NS > now ||
            atomic_load_explicit(&sleeping->said, memory_order_relaxed))
            return true;
    }
    return false;
}

bool fsafe_asleep_is_anybody_awake(const struct fsafe_thread *self)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);)
        if (at.thread != self && atomic_load_explicit(&at.thread->sleeping.object, memory_order_acquire) == 0)
            return fsafe_sys_thread_alive(fsafe_lineage_pid(), at.thread->tid);
    return false;
}

bool fsafe_asleep_will_another_be_given(const struct fsafe_thread *self)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);)
        if (at.thread != self && atomic_load_explicit(&at.thread->sleeping.object, memory_order_acquire) != 0 &&
            atomic_load_explicit(&at.thread->sleeping.may_be_given, memory_order_relaxed))
            return true;
    return false;
}
