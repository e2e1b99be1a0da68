/*
 * Measured. A fork is an instant, though it copies page by page: it withdraws the right to write from every page, and
 * flushes the address translations of all processors at the end. A thread that writes in between either still writes to
 * the page that the child gets or waits for the end. Pairs of counters 64 MiB apart, written in either order and from
 * thread to thread: 0 of 16,000 torn. So a semaphore and the ledgers go together. A child did hang for a semaphore that
 * a vfork child had taken (3 of 8 runs of 100 forks; nearly every fork when no other thread took it). It had no record:
 * a vfork child whose parent's thread had never locked could not join. It joins for that thread now: 0 of 1,200.
 */
#include "config.h"

#include "base/compiler.h"
#include "base/sys.h"
#include "track/handle.h"
#include "track/join.h"
#include "track/slots.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

__thread struct fsafe_thread *fsafe_self __attribute__((tls_model("initial-exec")));

static struct fsafe_thread_calls calls;
static pthread_key_t leave_key;
static _Atomic bool started;

/* The thread is past its last destructor: it may still take locks, but nothing would free a slot again. */
static __thread bool left __attribute__((tls_model("initial-exec")));

/*
 * A sandbox may trap a system call that join makes, though all signals are blocked. The sandbox's handler may take a
 * lock, for which the thread must not join again: that lock goes unrecorded. (Firefox traps prctl.)
 */
static __thread bool joining __attribute__((tls_model("initial-exec")));

/* The thread counts as one that has left, before its end: see fsafe_thread_withdraw. */
static __thread bool withdrawn __attribute__((tls_model("initial-exec")));

/* So many slots of threads that ended with locks in their hands are kept: a program may end such threads all day. */
enum { KEEP_ENDED = 256 };

/* How many threads of this generation have joined, and how many slots are kept for threads that ended with locks. */
static _Atomic uint32_t joined FSAFE_FORK_STATE, kept_ended FSAFE_FORK_STATE;

uint32_t fsafe_thread_joined(void)
{
    return atomic_load(&joined);
}

static void empty_ledgers(struct fsafe_thread *self)
{
#define BEGIN(of, first) \
    fsafe_ledger_begin(&self->ledgers[of], &(first), sizeof (first).record / sizeof *(first).record)
    BEGIN(FSAFE_LOCKS, self->first_locks);
    for (unsigned of = FSAFE_LOCKS + 1; of < FSAFE_LEDGERS; of++)
        BEGIN(of, self->first[of - 1]);
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
    FSAFE_SYS(SYS_prctl, PR_GET_NAME, self->name);
    atomic_fetch_add(&joined, 1);
    /* Last: from here on other threads believe what the slot says. */
    fsafe_slots_set_generation(self, fsafe_lineage_generation());
    /* Either this thread sees that the gate is closed, or the thread that closes the gate sees this slot. */
    atomic_thread_fence(memory_order_seq_cst);
}

struct fsafe_holder fsafe_thread_as_holder(const struct fsafe_thread *thread, uintptr_t since)
{
    struct fsafe_holder holder = {.tid = thread->tid, .pid = thread->pid, .since = since, .stack = thread->stack};
    /* A pthread_t is the address of the thread's control block, which lies above its stack (not the first thread's). */
    if ((uintptr_t)thread->handle > thread->stack)
        holder.stack_end = (uintptr_t)thread->handle;
    memcpy(holder.name, thread->name, sizeof holder.name);
    return holder;
}

/* No signal handler may run meanwhile: one that locks would claim a second slot. */
static void join(int owner, pid_t tid)
{
    struct fsafe_thread *self = fsafe_self == NULL ? fsafe_slots_claim() : NULL;
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
    if (fsafe_self != NULL || left || joining || !atomic_load_explicit(&started, memory_order_acquire))
        return fsafe_self;
    int owner = calls.probe_owner();
    pid_t tid = fsafe_sys_gettid();
    if (fsafe_lineage_is_guest()) {
        /*
         * The vfork child joins for the thread as which it runs: the child's own id is gone in a moment. libc knows
         * that thread's id. (Not after a raw fork, but a thread that made one has joined.)
         */
        if (owner == 0)
            return NULL;
        tid = owner;
    }
    struct fsafe_sigset old;
    fsafe_sys_block_signals(&old);
    joining = true;
    join(owner, tid);
    joining = false;
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
 * A destructor that runs with the program's own. The program's may take locks, in any round. So the thread leaves in
 * the last round only; locks that it takes after that go unrecorded.
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
    if (calls.leave(self) && atomic_fetch_add(&kept_ended, 1) < KEEP_ENDED) {
        /* What the thread holds is orphaned for the whole process; this slot says by which thread. */
        self->ended = true;
        return;
    }
    empty_ledgers(self);
    fsafe_slots_set_generation(self, 0);
}

bool fsafe_thread_start(const struct fsafe_thread_calls *of_rooms)
{
    calls = *of_rooms;
    fsafe_slots_start(calls.clear_stale);
    if (pthread_key_create(&leave_key, leave) != 0)
        return false;
    atomic_store_explicit(&started, true, memory_order_release);
    return true;
}

bool fsafe_thread_forgot_ended(void)
{
    return atomic_load_explicit(&kept_ended, memory_order_relaxed) > KEEP_ENDED;
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
        /* Before the generation of the process: at no moment does this thread look like a vanished one. */
        fsafe_slots_set_generation(self, next);
        /* A look at what libc writes touches more pages, so none is made where the answer is known. */
        int tid = fsafe_sys_gettid();
        int owner = by_libc && self->owner == self->tid ? tid : calls.probe_owner();
        set_owner(self, owner);
        self->sure_owner = 0;
        self->sleeping.has_line = false; /* that line was the parent's */
        memset(self->living_owners, 0, sizeof self->living_owners);
        self->tid = tid;
        self->pid = fsafe_sys_getpid();
    } else {
        left = false; /* a destructor of the last round may have forked: this thread is all that the child has */
    }
    atomic_store_explicit(&kept_ended, 0, memory_order_relaxed);
    atomic_store_explicit(&fsafe_handle_creations, 0, memory_order_relaxed);
    atomic_store_explicit(&joined, self != NULL, memory_order_relaxed);
    FSAFE_ORDER();
    atomic_store_explicit(&fsafe_generation, next, memory_order_release);
}
