/*
 * track/thread: the registry: one slot for each thread that ever took a lock, in memory of our own.
 *
 * Threads *join* at their first lock and *leave* when they end. After a fork the child's registry still has
 * the slots of all its parent's threads; those of the generations before its own are *vanished*: frozen, and
 * the evidence for what they held. Slots never move and are never unmapped.
 */
#ifndef FSAFE_TRACK_THREAD_H
#define FSAFE_TRACK_THREAD_H

#include "track/ledger.h"
#include "track/lineage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

/* What a ledger is about. A thread has one of each. */
enum fsafe_ledger_of {
    FSAFE_LOCKS,  /* mutexes and rwlocks: their bytes say who has them; what a drain would wait for */
    FSAFE_TOKENS, /* semaphores used as locks; nothing waits for them */
    FSAFE_SPINS,  /* spin locks: only the record says who has one */
    FSAFE_WAITS,  /* condition variables and barriers that the thread is inside of */
    FSAFE_GUARDS_BEGUN, /* C++ static locals whose initialiser it runs, or waits for */
    FSAFE_FILES, /* stdio streams that it locked by flockfile */
    FSAFE_LEDGERS,
};

struct fsafe_thread {
    /*
     * 0: free. Else the generation (see below) in which the thread lives or, when that is over, lived.
     * Written by the thread that joins or leaves, and by the child that it becomes.
     */
    _Atomic uint32_t generation;
    int owner; /* what libc writes as owner into the mutexes this thread takes; see libc/layout.h */

    struct fsafe_ledger ledgers[FSAFE_LEDGERS]; /* use the accessors below */

    /* A lock it asks for and certainly does not have yet: see repair/takeover.h. 0: none. */
    _Atomic uintptr_t asking;

    int former_owners[8]; /* `owner` before the forks that this thread made, latest first; 0: none */
    pid_t tid;            /* its id, for reports */
    pid_t pid;            /* the process it lives in, for reports */
    uintptr_t handle;     /* its pthread_self(): what stdio writes as owner into a stream */
    unsigned exit_rounds; /* destructor rounds seen at its end */
    bool ended;           /* it left while it held locks: the slot stays to say so */
    char name[16];        /* its name when it joined, for reports */

    /* The fork under way: filled in by the thread itself before it forks, read by the child it becomes. */
    unsigned long fork_number;
    uintptr_t fork_site;
    struct fsafe_stdio_holds *fork_files; /* see repair/stdio.h; NULL: none */

    /* Where the ledgers begin; most threads never need more. */
    FSAFE_RECORDS(20) first_locks;
    FSAFE_RECORDS(16) first_tokens;
    FSAFE_RECORDS(4) first_spins;
    FSAFE_RECORDS(4) first_waits;
    FSAFE_RECORDS(4) first_guards;
    FSAFE_RECORDS(4) first_files;
};

static inline struct fsafe_ledger *fsafe_thread_locks(struct fsafe_thread *thread)
{
    return &thread->ledgers[FSAFE_LOCKS];
}

static inline struct fsafe_ledger *fsafe_thread_tokens(struct fsafe_thread *thread)
{
    return &thread->ledgers[FSAFE_TOKENS];
}

static inline struct fsafe_ledger *fsafe_thread_spins(struct fsafe_thread *thread)
{
    return &thread->ledgers[FSAFE_SPINS];
}

static inline struct fsafe_ledger *fsafe_thread_waits(struct fsafe_thread *thread)
{
    return &thread->ledgers[FSAFE_WAITS];
}

static inline struct fsafe_ledger *fsafe_thread_guards(struct fsafe_thread *thread)
{
    return &thread->ledgers[FSAFE_GUARDS_BEGUN];
}

static inline struct fsafe_ledger *fsafe_thread_files(struct fsafe_thread *thread)
{
    return &thread->ledgers[FSAFE_FILES];
}

/* This thread's slot, or NULL before it joins, after it left, and where we are switched off. */
extern __thread struct fsafe_thread *fsafe_self __attribute__((tls_model("initial-exec")));

/* What the registry has to ask of rooms that know locks. */
struct fsafe_thread_calls {
    /* What libc writes as owner when the calling thread takes a mutex. */
    int (*probe_owner)(void);
    /* The thread ends: forget what it does not hold, return whether it dies holding mutexes. */
    bool (*leave)(struct fsafe_thread *self);
};

/* Makes the registry ready. False without memory or keys: nobody can join then. Context: start-up. */
bool fsafe_thread_start(const struct fsafe_thread_calls *calls);

/*
 * Returns this thread's slot, joining it first if need be; NULL when we are switched off, when there is no
 * memory, and for a thread that is past its last destructor. errno kept. Context: any thread, slow path.
 */
struct fsafe_thread *fsafe_thread_join(void);

/* Moves the forking thread, if it ever joined, into the next generation, which begins. Context: child, alone. */
void fsafe_thread_adopt(struct fsafe_thread *self);

/* How many slots may be in use: indices below it can be asked for. Context: any thread. */
uint32_t fsafe_thread_slots(void);

/* The slot at `index`; may be free. Context: any thread. */
struct fsafe_thread *fsafe_thread_slot(uint32_t index);

/* The generation of the slot's thread; 0: free. Context: any thread. */
static inline uint32_t fsafe_thread_generation(const struct fsafe_thread *thread)
{
    return atomic_load_explicit(&thread->generation, memory_order_acquire);
}

/* Whether `owner` is what this thread was called before it forked. Context: its thread. */
static inline bool fsafe_thread_was(const struct fsafe_thread *self, int owner)
{
    for (unsigned i = 0; i < sizeof self->former_owners / sizeof *self->former_owners; i++)
        if (self->former_owners[i] == owner)
            return owner != 0;
    return false;
}

#endif
