/*
 * track/thread: see thread.h. Nothing here waits for anything: a slot is claimed by one compare-and-swap,
 * slabs are only ever added, so a fork at any moment leaves the child a registry that reads well.
 *
 * Measured. A fork is an instant, though it copies page by page: it withdraws the right to write from every page,
 * flushes the address translations of all processors at the end, and who writes in between either still writes to the
 * page that the child gets or waits for the end. Pairs of counters 64 MiB apart, written in either order and from
 * thread to thread: 0 of 16,000 torn. So a semaphore and the ledgers go together. What did hang (a semaphore taken and
 * posted by a vfork child, 3 of 8 runs of 100 forks; nearly every fork when nobody else takes it) had no record at all:
 * a vfork child whose parent's thread had never locked could not join. It joins for that thread now: 0 of 1,200.
 */
#include "config.h"

#include "base/compiler.h"
#include "base/pages.h"
#include "base/sys.h"
#include "track/thread.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

__thread struct fsafe_thread *fsafe_self __attribute__((tls_model("initial-exec")));

/*
 * Slab 0 is one slot, without a system call: most programs need no other. Slab k has FIRST_SLAB << k slots; 19 slabs
 * are as many threads as a machine can have.
 *
 * The first slot begins the page in which all of FSAFE_FORK_STATE lies: this file comes before all others that have
 * some, in the list of sources.
 */
enum { FIRST_SLAB = 8, SLABS = 19, PAGE_BYTES = 4096 };
static struct {
    struct fsafe_thread slot;
    _Alignas(64) _Atomic uint32_t ended; /* slots kept for threads that ended with locks in their hands */
    _Atomic uint32_t joined;
} first FSAFE_FORK_STATE __attribute__((aligned(PAGE_BYTES)));
static struct fsafe_thread *_Atomic slabs[SLABS];
static _Atomic uint32_t slab_count;
static _Atomic uint32_t hint; /* where the last slot became free */

static struct fsafe_thread_calls calls;
static pthread_key_t leave_key;
static _Atomic bool started;

/* Past its last destructor: it may still take locks, and nobody would remove its slot again. */
static __thread bool left __attribute__((tls_model("initial-exec")));

/* Left before its end: see fsafe_thread_withdraw. */
static __thread bool withdrawn __attribute__((tls_model("initial-exec")));

/*
 * A vanished thread's slot is kept while it has records that a lock bears out, but not for ever: generations may go on
 * and on, and each may leave some.
 */
enum { KEEP_GENERATIONS = 1024 };

/* So is the slot of a thread that ended with locks in its hands: a program may do that all day. */
enum { KEEP_ENDED = 256 };

uint32_t fsafe_thread_joined(void)
{
    return atomic_load(&first.joined);
}

static uint32_t slots_in(uint32_t count)
{
    return count == 0 ? 0 : FIRST_SLAB * ((1u << count) - 2) + 1;
}

uint32_t fsafe_thread_slots(void)
{
    return slots_in(atomic_load_explicit(&slab_count, memory_order_acquire));
}

struct fsafe_thread *fsafe_thread_slot(uint32_t index)
{
    if (index == 0)
        return &first.slot;
    unsigned slab = (unsigned)(31 - __builtin_clz((index - 1) / FIRST_SLAB + 2));
    return &atomic_load_explicit(&slabs[slab], memory_order_acquire)[index - slots_in(slab)];
}

bool fsafe_thread_next(struct fsafe_thread_walk *at)
{
    uint32_t now = fsafe_lineage_generation();
    while (at->index-- > 0) {
        at->thread = fsafe_thread_slot(at->index);
        at->generation = fsafe_thread_generation(at->thread);
        unsigned who = at->generation == 0   ? 0
                       : at->generation < now ? FSAFE_VANISHED
                       : at->thread->ended    ? FSAFE_ENDED
                                              : FSAFE_LIVING;
        if ((who & at->whom) != 0)
            return true;
    }
    return false;
}

bool fsafe_thread_has_company(const struct fsafe_thread *self)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);)
        if (at.thread != self)
            return true;
    return false;
}

/*
 * Adds one to the `count` slabs that the caller found full. Many threads may find so at once, and each slab is as large
 * as all before it: only the first of them adds one.
 */
static bool add_slab(uint32_t count)
{
    if (atomic_load_explicit(&slab_count, memory_order_acquire) != count)
        return true;
    if (count == SLABS)
        return false;
    size_t bytes = ((size_t)FIRST_SLAB << count) * sizeof(struct fsafe_thread);
    struct fsafe_thread *slab = fsafe_pages_map(bytes);
    if (slab == NULL)
        return false;
    struct fsafe_thread *none = NULL;
    if (!atomic_compare_exchange_strong(&slabs[count], &none, slab))
        fsafe_pages_unmap(slab, bytes); /* another thread added this one */
    atomic_compare_exchange_strong(&slab_count, &count, count + 1);
    return true;
}

/*
 * A ticket: the slot, and above it how often the slot has been claimed. So no thread has that of another which left
 * something behind: the slot of that one is kept.
 */
enum { TICKET_SLOT_BITS = 22, TICKET_CLAIMS = (1 << (32 - TICKET_SLOT_BITS)) - 1 };
_Static_assert(FIRST_SLAB * ((1u << SLABS) - 2) + 1 <= 1u << TICKET_SLOT_BITS, "each slot has its number");

static uint32_t ticket_of(uint32_t index, uint32_t claims)
{
    return (claims % TICKET_CLAIMS + 1) << TICKET_SLOT_BITS | index; /* never 0 */
}

struct fsafe_thread *fsafe_thread_of_ticket(uint32_t ticket)
{
    uint32_t index = ticket & ((1u << TICKET_SLOT_BITS) - 1);
    struct fsafe_thread *thread = index < fsafe_thread_slots() ? fsafe_thread_slot(index) : NULL;
    return thread != NULL && fsafe_thread_generation(thread) != 0 && thread->ticket == ticket ? thread : NULL;
}

static bool is_empty(const struct fsafe_thread *thread)
{
    if (fsafe_thread_tokens(thread) != 0 || atomic_load_explicit(&thread->at_token, memory_order_relaxed) != 0)
        return false;
    for (unsigned i = 0; i < FSAFE_LEDGERS; i++)
        if (fsafe_ledger_depth(&thread->ledgers[i]) != 0)
            return false;
    return true;
}

/* Whether nobody needs what the slot, last of generation `of`, says any more. */
static bool is_reusable(const struct fsafe_thread *thread, uint32_t of)
{
    uint32_t now = fsafe_lineage_generation();
    of &= ~FSAFE_JOINING; /* one that vanished while it joined */
    return of == 0 || (of < now && (is_empty(thread) || now - of > KEEP_GENERATIONS));
}

/* The word of a slot whose lower half becomes `generation`. */
static uint64_t with_generation(uint64_t word, uint32_t generation)
{
    return (word & ~(uint64_t)UINT32_MAX) | generation;
}

static struct fsafe_thread *claim(uint32_t index)
{
    struct fsafe_thread *thread = fsafe_thread_slot(index);
    uint64_t of = atomic_load_explicit(&thread->generation, memory_order_acquire);
    if (!is_reusable(thread, (uint32_t)of))
        return NULL;
    uint64_t claimed = with_generation(of + ((uint64_t)1 << 32), fsafe_lineage_generation() | FSAFE_JOINING);
    if (!atomic_compare_exchange_strong(&thread->generation, &of, claimed))
        return NULL;
    thread->ticket = ticket_of(index, (uint32_t)(claimed >> 32));
    return thread;
}

static void set_generation(struct fsafe_thread *thread, uint32_t generation)
{
    uint64_t word = atomic_load_explicit(&thread->generation, memory_order_relaxed);
    atomic_store_explicit(&thread->generation, with_generation(word, generation), memory_order_release);
}

/*
 * Frees slots whose thread ended without running destructors (a raw exit). Returns whether there were any, or it need
 * not look on: another thread has added to the `count` slabs.
 */
static bool sweep(uint32_t count)
{
    bool swept = false;
    for (uint32_t i = slots_in(count); i-- > 0;) {
        if (atomic_load_explicit(&slab_count, memory_order_relaxed) != count)
            return true;
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        uint64_t word = atomic_load_explicit(&thread->generation, memory_order_acquire);
        if ((uint32_t)word != fsafe_lineage_generation() || thread->ended ||
            fsafe_sys_thread_alive(fsafe_lineage_pid(), thread->tid))
            continue;
        swept |= atomic_compare_exchange_strong(&thread->generation, &word, with_generation(word, 0));
    }
    return swept;
}

/*
 * Frees slots of vanished threads whose locks have found new owners since: a family of servers that fork their like
 * would grow from one to the next. Returns how many.
 */
static uint32_t clear_vanished(void)
{
    uint32_t cleared = 0;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);) {
        if (at.thread->ended || is_reusable(at.thread, at.generation))
            continue;
        calls.clear_stale(at.thread);
        /* Nothing is moved, and a slot is empty at once: others may be reading. */
        for (unsigned k = 0; k < FSAFE_LEDGERS; k++) {
            struct fsafe_ledger_walk record = fsafe_ledger_walk(&at.thread->ledgers[k]);
            if (!fsafe_ledger_next(&record))
                atomic_store_explicit(&at.thread->ledgers[k].depth, 0, memory_order_release);
        }
        cleared += is_empty(at.thread);
    }
    return cleared;
}

static struct fsafe_thread *claim_any(void)
{
    for (;;) {
        uint32_t count = atomic_load_explicit(&slab_count, memory_order_acquire);
        uint32_t slots = slots_in(count);
        uint32_t from = atomic_load_explicit(&hint, memory_order_relaxed);
        for (uint32_t i = 0; i < slots; i++) {
            struct fsafe_thread *thread = claim((from + i) % slots);
            if (thread != NULL) {
                atomic_store_explicit(&hint, (from + i + 1) % slots, memory_order_relaxed);
                return thread;
            }
        }
        /* The first slab is one slot: not worth a system call in each program with threads. */
        if (count > 1 && sweep(count))
            continue;
        /* A look at all of them that frees only a few must not become a habit. */
        uint32_t cleared = clear_vanished();
        if (cleared <= slots / 4 && !add_slab(count) && cleared == 0)
            return NULL;
    }
}

static void empty_ledgers(struct fsafe_thread *self)
{
#define BEGIN(of, first) \
    fsafe_ledger_begin(&self->ledgers[of], &(first), sizeof (first).record / sizeof *(first).record)
    BEGIN(FSAFE_LOCKS, self->first_locks);
    BEGIN(FSAFE_SPINS, self->first_spins);
    BEGIN(FSAFE_WAITS, self->first_waits);
    BEGIN(FSAFE_GUARDS_BEGUN, self->first_guards);
    BEGIN(FSAFE_FILES, self->first_files);
    BEGIN(FSAFE_PYTHON_LOCKS, self->first_python);
#undef BEGIN
    _Static_assert(offsetof(struct fsafe_thread, first_locks.record) - offsetof(struct fsafe_thread, first_locks) ==
                       offsetof(struct fsafe_records, record),
                   "a slot's first array is laid out like a grown one");
}

bool fsafe_thread_is_stale(uintptr_t lock, void *self)
{
    return calls.is_stale(lock, self);
}

static void fill_in(struct fsafe_thread *self, int owner, pid_t tid)
{
    empty_ledgers(self);
    size_t from = offsetof(struct fsafe_thread, forking);
    memset((char *)self + from, 0, offsetof(struct fsafe_thread, first_locks) - from);
    self->owner = owner;
    self->sure_owner = owner == tid && !fsafe_lineage_is_child() ? owner : 0;
    self->handle = pthread_self();
    self->has_handle = true;
    self->tid = tid;
    self->pid = fsafe_lineage_pid();
    self->stack = (uintptr_t)__builtin_frame_address(0);
    FSAFE_SYS(SYS_prctl, PR_GET_NAME, self->name, 0, 0, 0, 0);
    atomic_fetch_add(&first.joined, 1);
    /* Last: from here on others believe what the slot says. */
    set_generation(self, fsafe_lineage_generation());
    /* Either we see that the gate is closed, or who closes it sees us. */
    atomic_thread_fence(memory_order_seq_cst);
}

struct fsafe_holder fsafe_thread_as_holder(const struct fsafe_thread *thread, uintptr_t since)
{
    struct fsafe_holder holder = {.tid = thread->tid, .pid = thread->pid, .since = since, .stack = thread->stack};
    memcpy(holder.name, thread->name, sizeof holder.name);
    return holder;
}

/* No handler that locks comes in between: it would join a second slot. */
static void join(int owner, pid_t tid)
{
    struct fsafe_thread *self = fsafe_self == NULL ? claim_any() : NULL;
    if (self == NULL)
        return;
    fill_in(self, owner, tid);
    fsafe_self = self;
    int saved = errno;
    pthread_setspecific(leave_key, self);
    errno = saved;
}

void fsafe_thread_join_first(void)
{
    int owner = calls.probe_owner();
    join(owner, owner == fsafe_lineage_pid() ? owner : fsafe_sys_gettid());
}

struct fsafe_thread *fsafe_thread_join(void)
{
    if (fsafe_self != NULL || left || !atomic_load_explicit(&started, memory_order_acquire))
        return fsafe_self;
    int owner = calls.probe_owner();
    pid_t tid = fsafe_sys_gettid();
    if (fsafe_lineage_is_guest()) {
        /*
         * It joins for the thread whose memory it is in: its own id is gone in a moment. libc knows that thread's. (Not
         * after a raw fork, but a thread that made one has joined.)
         */
        if (owner == 0)
            return NULL;
        tid = owner;
    }
    struct fsafe_sigset old;
    fsafe_sys_block_signals(&old);
    join(owner, tid);
    fsafe_sys_restore_signals(&old);
    return fsafe_self;
}

struct fsafe_thread *fsafe_thread_withdraw(void)
{
    struct fsafe_thread *self = fsafe_self;
    withdrawn = left = true;
    fsafe_self = NULL;
    return self;
}

void fsafe_thread_return(struct fsafe_thread *self)
{
    fsafe_self = self;
    withdrawn = left = false;
}

bool fsafe_thread_is_withdrawn(void)
{
    return withdrawn;
}

/*
 * A destructor that runs with the program's own. Theirs may take locks, in any round, so we leave in the
 * last one only; what still comes after that goes unrecorded.
 */
static void leave(void *slot)
{
    struct fsafe_thread *self = slot;
    if (++self->exit_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(leave_key, self);
        return;
    }
    left = true;
    fsafe_self = NULL;
    FSAFE_ORDER();
    if (calls.leave(self) && atomic_fetch_add(&first.ended, 1) < KEEP_ENDED) {
        /* What it holds is orphaned for the whole process; the record says by whom. */
        self->ended = true;
        return;
    }
    empty_ledgers(self);
    set_generation(self, 0);
}

bool fsafe_thread_start(const struct fsafe_thread_calls *of_rooms)
{
    calls = *of_rooms;
    atomic_store_explicit(&slabs[0], &first.slot, memory_order_release);
    atomic_store_explicit(&slab_count, 1, memory_order_release);
    if (pthread_key_create(&leave_key, leave) != 0)
        return false;
    atomic_store_explicit(&started, true, memory_order_release);
    return true;
}

bool fsafe_thread_forgot_ended(void)
{
    return atomic_load_explicit(&first.ended, memory_order_relaxed) > KEEP_ENDED;
}

static void set_owner(struct fsafe_thread *self, int owner)
{
    if (owner == self->owner)
        return;
    self->former_owners[self->next_former] = self->owner;
    self->next_former = (self->next_former + 1) % FSAFE_FORMER_OWNERS;
    self->owner = owner;
}

void fsafe_thread_ask_owner(struct fsafe_thread *self)
{
    set_owner(self, calls.probe_owner());
}

void fsafe_thread_adopt(struct fsafe_thread *self, bool by_libc)
{
    uint32_t next = fsafe_lineage_generation() + 1;
    if (self != NULL) {
        /* Before the process's own: at no moment does this thread look like a vanished one. */
        set_generation(self, next);
        /* A look at what libc writes touches pages of its own, so it is not made where the answer is known. */
        int tid = fsafe_sys_gettid();
        int owner = by_libc && self->owner == self->tid ? tid : calls.probe_owner();
        set_owner(self, owner);
        self->sure_owner = 0;
        self->sleeping.has_line = false; /* the parent's */
        memset(self->living_owners, 0, sizeof self->living_owners);
        self->tid = tid;
        self->pid = fsafe_sys_getpid();
    } else {
        left = false; /* a destructor of its last round forked: all that the new process has is this thread */
    }
    atomic_store_explicit(&first.ended, 0, memory_order_relaxed);
    atomic_store_explicit(&fsafe_thread_creations, 0, memory_order_relaxed);
    atomic_store_explicit(&first.joined, self != NULL, memory_order_relaxed);
    FSAFE_ORDER();
    atomic_store_explicit(&fsafe_generation, next, memory_order_release);
}
