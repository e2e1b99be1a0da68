/*
 * Measured. Beside two threads that have the lock nine tenths of the time: children that saw half-changed data, in two
 * runs on two quiet processors. At a load of 5 to 8 there were two to five times as many such children. The last column
 * is of that load, with FORKSAFE_DRAIN_LOCKS_MS=40: there the drain took 0.4 to 10 ms on average.
 *
 *                                            of    without this    with it    with it, 40 ms
 *     Rust's Mutex                          100         82          3,  4         0 to  9
 *     Rust's RwLock                         100         98          0,  0         7 to 13
 *     Qt's QMutex                           150        147         13, 18         1 to 16
 *     hung, and was named: a new thread     100        100         10, 15         0 to  5
 *     of the child's takes the Mutex
 */
#include "config.h"

#include "base/latch.h"
#include "base/options.h"
#include "base/tasks.h"
#include "fork/contended.h"
#include "repair/futex.h"
#include "track/join.h"
#include "track/slots.h"

/* A thread that is kept in its wait, and the lock that it waits for. */
static struct entry {
    struct fsafe_thread *sleeper; /* NULL: the entry is free */
    struct fsafe_futex_lock lock; /* no word: the kernel has not confirmed yet that the thread sleeps */
    uint32_t forks;               /* how many forks have the lock, or want it */
    unsigned looks;               /* how often a fork asked in vain what lock this is */
    bool taken;
} entries[32];

enum { ENTRIES = sizeof entries / sizeof *entries };
_Static_assert(ENTRIES <= 32, "one bit each in a thread's contends.entries");

/* Guards the entries. A thread that holds it has blocked its signals. */
static struct fsafe_latch latch = FSAFE_LATCH_FREE;

/* How many forks want locks that they have not got yet. */
static _Atomic uint32_t wanting FSAFE_FORK_STATE;

/* Whether any thread ever made such a wait: where none did, no fork looks for such locks. */
static _Atomic bool any;

/* --- The sleeper ------------------------------------------------------------------------------------------------ */

/* A thread that slept on a lock less than this ago may be back soon. */
enum { LONG_NS = 20000000 };

/* A thread's state: in no such wait; in one, and may leave it; in one, and kept there until a fork has been made. */
enum { AWAKE, ASLEEP, KEPT };

bool fsafe_contended_enter(const long *arguments, uintptr_t site)
{
    if (fsafe_options.mode != FSAFE_MODE_REPAIR || !fsafe_futex_may_be_lock(arguments))
        return false;
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL)
        return false;
    /* A signal handler's wait in the middle of another is not noted. A wait that was left by longjmp is over. */
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    uint32_t asleep = ASLEEP;
    if (atomic_load(&self->contends.state) != AWAKE &&
        (frame < self->contends.frame || !atomic_compare_exchange_strong(&self->contends.state, &asleep, AWAKE)))
        return false;
    if (self->contends.word != (uintptr_t)arguments[0])
        self->contends.lock = 0;
    self->contends.frame = frame;
    self->contends.word = (uintptr_t)arguments[0];
    self->contends.operation = (int)arguments[1];
    self->contends.value = (uint32_t)arguments[2];
    self->contends.site = site;
    /* All bits alone prove no lock, but to a writer that such a thread is a reader: see repair/futex. */
    self->contends.outlasted = self->contends.value == UINT32_MAX;
    if (!atomic_load_explicit(&any, memory_order_relaxed))
        atomic_store(&any, true);
    atomic_store(&self->contends.state, ASLEEP);
    return true;
}

void fsafe_contended_leave(void)
{
    struct fsafe_contends *contends = &fsafe_self->contends;
    uint64_t now = fsafe_sys_now_ns();
    uint32_t often = now - atomic_load_explicit(&contends->left_ns, memory_order_relaxed) < LONG_NS
                         ? atomic_load_explicit(&contends->often, memory_order_relaxed) + 1 : 0;
    atomic_store_explicit(&contends->often, often, memory_order_relaxed);
    atomic_store_explicit(&contends->left_ns, now, memory_order_relaxed);
    uint32_t asleep = ASLEEP;
    while (!atomic_compare_exchange_strong(&fsafe_self->contends.state, &asleep, AWAKE) && asleep == KEPT) {
        fsafe_sys_futex_wait(&fsafe_self->contends.state, KEPT, NULL);
        asleep = ASLEEP;
    }
}

static void let_go(struct fsafe_thread *sleeper)
{
    uint32_t kept = KEPT; /* else the thread was cancelled in its sleep, and the slot may be another's by now */
    if (atomic_compare_exchange_strong(&sleeper->contends.state, &kept, ASLEEP))
        fsafe_sys_futex_wake(&sleeper->contends.state, 1);
}

/*
 * Whether it is known which lock the kept thread waits for. Finds that out if the thread sleeps on its futex, or
 * because it is kept. A thread that was woken and gets no processor looks as if it ran elsewhere.
 */
static bool is_confirmed(struct entry *entry)
{
    enum { LOOKS = 8 };
    struct fsafe_contends *contends = &entry->sleeper->contends;
    struct fsafe_task task;
    if (entry->lock.word == NULL && fsafe_tasks_look(entry->sleeper->tid, &task) && fsafe_sys_is_futex(task.call) &&
        (task.argument[0] == contends->word || task.argument[0] == (uintptr_t)&contends->state)) {
        /* Between two owners a lock may look like none. */
        if (fsafe_futex_find_lock(contends->word, contends->operation, contends->value, contends->site, &entry->lock))
            contends->lock = (uintptr_t)entry->lock.word;
        else if (++entry->looks == LOOKS)
            contends->outlasted = true;
    }
    return entry->lock.word != NULL;
}

/* --- The fork --------------------------------------------------------------------------------------------------- */

static struct entry *find(uintptr_t word)
{
    for (struct entry *entry = entries; entry < entries + ENTRIES; entry++)
        if (entry->sleeper != NULL &&
            (entry->sleeper->contends.word == word || fsafe_futex_is_of_lock(word, &entry->lock)))
            return entry;
    return NULL;
}

/* In this order: a child that is made meanwhile must not take a lock of long ago for one that its fork has. */
static void clear(struct entry *entry)
{
    entry->taken = false;
    entry->lock.word = NULL;
    entry->looks = entry->forks = 0;
    atomic_thread_fence(memory_order_release);
    entry->sleeper = NULL;
}

static struct entry *find_free(void)
{
    for (struct entry *entry = entries; entry < entries + ENTRIES; entry++)
        if (entry->sleeper == NULL)
            return entry;
    return NULL;
}

static bool is_mine(const struct fsafe_thread *self, const struct entry *entry)
{
    return (self->contends.entries >> (entry - entries) & 1) != 0;
}

/* The entry for the lock that the thread sleeps on; NULL: none. */
static struct entry *entry_for(struct fsafe_thread *thread)
{
    struct entry *entry = find(thread->contends.word);
    uint32_t asleep = ASLEEP;
    if (entry != NULL)
        return entry;
    entry = find_free();
    if (entry == NULL || !atomic_compare_exchange_strong(&thread->contends.state, &asleep, KEPT))
        return NULL;
    entry->sleeper = thread;
    return entry;
}

/* Whether the thread may soon sleep on such a lock again: it just did, and a thread has the lock, or soon will. */
static bool may_come_back(const struct fsafe_contends *contends)
{
    enum { OFTEN = 3 };
    uint32_t value;
    return contends->lock != 0 && find(contends->word) == NULL &&
           fsafe_sys_now_ns() - atomic_load_explicit(&contends->left_ns, memory_order_relaxed) < LONG_NS &&
           (atomic_load_explicit(&contends->often, memory_order_relaxed) >= OFTEN ||
            (fsafe_sys_peek(contends->lock, &value, sizeof value) && fsafe_futex_is_taken(value)));
}

/* Notes for this fork the locks that threads sleep on, each once. Returns how many threads may soon sleep on one. */
static unsigned gather(struct fsafe_thread *self)
{
    unsigned coming = 0;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);) {
        struct fsafe_thread *thread = at.thread;
        const struct fsafe_contends *contends = &thread->contends;
        if (thread == self)
            continue;
        /* The thread may wait for such a lock: libc's fork would wait for the thread, and the thread for this fork. */
        if (atomic_load_explicit(&thread->flushing, memory_order_relaxed) != 0)
            return 0;
        if (atomic_load(&contends->state) == AWAKE) {
            coming += may_come_back(contends);
            continue;
        }
        struct entry *entry = contends->outlasted ? NULL : entry_for(thread);
        if (entry != NULL && !is_mine(self, entry)) {
            entry->forks++;
            self->contends.entries |= (uint32_t)1 << (entry - entries);
        }
    }
    return coming;
}

/* Takes the lock for this fork if it can. Returns whether the fork has the lock or has given it up. */
static bool is_out_of_the_way(struct entry *entry)
{
    if (!entry->taken && !entry->sleeper->contends.outlasted && is_confirmed(entry))
        entry->taken = fsafe_futex_try(&entry->lock);
    return entry->taken || entry->sleeper->contends.outlasted;
}

static void want(struct fsafe_thread *self, bool wants)
{
    if (self->contends.wants != wants)
        atomic_fetch_add(&wanting, wants ? 1 : UINT32_MAX);
    self->contends.wants = wants;
}

unsigned fsafe_contended_try(struct fsafe_thread *self)
{
    if (!atomic_load_explicit(&any, memory_order_relaxed))
        return 0;
    fsafe_latch_acquire_open(&latch);
    unsigned missing = gather(self);
    for (struct entry *entry = entries; entry < entries + ENTRIES; entry++)
        missing += is_mine(self, entry) && !is_out_of_the_way(entry);
    want(self, missing > 0);
    fsafe_latch_release_open(&latch);
    return missing;
}

/*
 * The thread that has just released a lock takes it for the fork. The fork itself would have to ask in the moment
 * before the next thread does, which often is the same thread.
 */
void fsafe_contended_hand_over(uintptr_t word)
{
    if (FSAFE_LIKELY(atomic_load_explicit(&wanting, memory_order_relaxed) == 0))
        return;
    FSAFE_HOLD(&latch);
    struct entry *entry = find(word);
    if (entry != NULL && entry->lock.word != NULL && !entry->taken)
        entry->taken = fsafe_futex_try(&entry->lock);
}

void fsafe_contended_give_up(struct fsafe_thread *self)
{
    fsafe_latch_acquire_open(&latch);
    for (struct entry *entry = entries; entry < entries + ENTRIES; entry++)
        if (is_mine(self, entry) && !entry->taken)
            entry->sleeper->contends.outlasted = true;
    fsafe_latch_release_open(&latch);
}

void fsafe_contended_end(struct fsafe_thread *self)
{
    if (self->contends.entries == 0 && !self->contends.wants)
        return;
    fsafe_latch_acquire_open(&latch);
    want(self, false);
    for (struct entry *entry = entries; entry < entries + ENTRIES; entry++) {
        if (!is_mine(self, entry) || --entry->forks != 0)
            continue;
        if (entry->taken)
            fsafe_futex_give(&entry->lock);
        struct fsafe_thread *sleeper = entry->sleeper;
        clear(entry);
        let_go(sleeper);
    }
    self->contends.entries = 0;
    fsafe_latch_release_open(&latch);
}

void fsafe_contended_adopt(struct fsafe_thread *self)
{
    fsafe_latch_reset(&latch);
    if (!atomic_load_explicit(&any, memory_order_relaxed))
        return;
    for (struct entry *entry = entries; entry < entries + ENTRIES; entry++) {
        if (entry->sleeper == NULL)
            continue;
        if (entry->taken)
            fsafe_futex_free(&entry->lock);
        clear(entry);
    }
    atomic_store_explicit(&wanting, 0, memory_order_relaxed);
    if (self == NULL)
        return;
    self->contends.entries = 0;
    self->contends.wants = false;
    /* Where a signal handler forked that interrupted this thread's sleep, another fork may have kept the thread. */
    uint32_t kept = KEPT;
    atomic_compare_exchange_strong(&self->contends.state, &kept, ASLEEP);
}
