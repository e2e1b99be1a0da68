/*
 * track/thread: a slot: what is known of one thread, in memory of our own.
 *
 * A thread *joins* at the first call of ours that needs its slot, and *leaves* when it ends (track/join). After a fork
 * the child still has the slots of all threads of its parent (track/slots). The threads of the generations before its
 * own have *vanished*: their slots stay as they were, as evidence for what these threads held.
 */
#pragma once

#include "base/sys.h"
#include "track/ledger.h"
#include "track/lineage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum { FSAFE_FORMER_OWNERS = 8, FSAFE_WAITS_NESTED = 6 };
#define FSAFE_JOINING 0x80000000u    /* in `generation`: the slot is being filled in */
#define FSAFE_FORKING_NOW UINT32_MAX /* `forking` of a thread that has closed the gate: it forks with all its records */

/* What a ledger is about. A thread has one of each. */
enum fsafe_ledger_of {
    FSAFE_LOCKS,  /* mutexes and rwlocks, whose bytes say who has them; calls of libc's: see track/region */
    FSAFE_SPINS,  /* spin locks: only the record says who has one */
    FSAFE_WAITS,  /* condition variables and barriers that the thread is inside of */
    FSAFE_GUARDS_BEGUN, /* C++ static locals whose initialiser the thread runs, or waits for */
    FSAFE_FILES, /* stdio streams that the thread locked by flockfile */
    FSAFE_PYTHON_LOCKS, /* CPython's locks, one byte inside an object each: see python/locks */
    FSAFE_LEDGERS,
};

/* The stages of a record in FSAFE_WAITS. */
enum fsafe_inside {
    FSAFE_INSIDE_WAIT = 0,  /* the thread waits in it */
    FSAFE_INSIDE_CALL = 1,  /* the thread is in signal or broadcast */
    FSAFE_INSIDE_MUTEX = 2, /* a record not of the object but of the mutex that a waiter has released, or has back */
    FSAFE_INSIDE_TOLD = 3,  /* of a vanished thread: a line has named the thread (modes report and abort) */
};

/* A wait without a limit: see repair/hopeless.h. Other threads read it; they follow no address in it. */
struct fsafe_sleeping {
    _Atomic uintptr_t object; /* 0: the thread is in no such wait. Written last */
    _Atomic uintptr_t mutex;  /* that the waiter for a condition variable has released; 0: none */
    _Atomic uint32_t bytes;   /* how long the object is */
    _Atomic uint64_t since_ns, until_ns; /* when the wait began; when its present slice ends, 0: never */
    _Atomic bool may_be_given; /* the waiter is given the lock once no other thread can end the wait */
    _Atomic bool is_between;   /* two slices of a wait for a semaphore: it sleeps again, or is given the lock */
    _Atomic bool joins;       /* the wait is for the end of a thread */
    _Atomic bool said;        /* the user was told that the wait cannot end */
    bool has_line;            /* by a line about this wait, not by an earlier one about the same place */
    uint64_t held_back;       /* signals that are blocked only as long as the wait lasts: see repair/held.h */
    const char *lock, *kind;
    uintptr_t site;
};

/*
 * A wait that is made again and again. Its library makes it again after a limit, see fsafe_hopeless_begin_again; a
 * thread does after a signal handler has interrupted a wait without a limit.
 */
struct fsafe_again {
    uintptr_t object; /* 0: the latest such wait is over */
    int64_t value;    /* the futex's, for a wait with a limit; else FSAFE_INTERRUPTED */
    uint32_t generation;
    uint64_t since_ns, left_ns; /* when the first of them began; when the latest ended, 0: not yet */
    uint64_t until_ns;          /* when the slice would have ended that a handler interrupted */
    bool has_line, looked_hopeless;
};
enum { FSAFE_INTERRUPTED = -1 };

/*
 * A wait for a futex that may be a lock: see fork/contended. `operation` to `lock` are about the present wait or, while
 * `state` says that the thread is in none, about the latest.
 */
struct fsafe_contends {
    _Atomic uint32_t state;
    int operation;
    uint32_t value;
    uintptr_t word, site, frame;
    bool outlasted;   /* no fork waits for that lock */
    uintptr_t lock;   /* where the lock lies that `word` is part of, once a fork has found out; 0: not known */
    _Atomic uint64_t left_ns; /* when the latest wait was over */
    _Atomic uint32_t often;   /* how many waits in a row ended soon after the one before */
    uint32_t entries; /* the locks that a fork of this thread has, or wants */
    bool wants;       /* whether that fork waits for locks that it has not got yet */
};

/* A wait for a lock: see track/waiting. */
struct fsafe_wait {
    uintptr_t record; /* the lock's, in the ledger: address | stage */
    enum fsafe_ledger_of of;
    uintptr_t frame, returns; /* the frame of the function that waits, and where it returns to: beside the frame */
};

/* Tokens of semaphores used as locks: repair/semaphore counts them. */
struct fsafe_tokens {
    uint32_t proven;         /* taken and not given back, of semaphores that got a token back before */
    uint32_t first;          /* the same, of semaphores that never did */
    _Atomic uint32_t proven_gone, first_gone; /* of these: other threads gave them back, or the semaphore is no lock */
    _Atomic uintptr_t at;    /* the semaphore that the thread is taking or posting right now; 0: none */
    _Atomic uintptr_t outer; /* the same of a call that a signal handler has interrupted by one of its own; 0: none */
};

/* What forks that drain have seen of the thread: fork/drain's. */
struct fsafe_drained {
    _Atomic uint64_t begun_us;     /* when the drain began whose looks these are */
    _Atomic uint64_t processor_us; /* how long the thread had run at the first look of that drain, */
    _Atomic uint64_t seen_us;      /* and at the latest look of any */
};

/* What the thread has to undo when it opens the gate that it has closed: track/gate's. */
struct fsafe_gated {
    uint32_t share;       /* what the thread has added to the gate's word; 0: nothing */
    bool signals_blocked; /* since the thread has closed the gate; `signals` is the mask to go back to */
    struct fsafe_sigset signals;
    unsigned long sleeps; /* how often the thread had slept, by the end of its latest sleep at the gate */
};

/*
 * The forks that the thread is in the middle of: fork/coordinator's. A fork handler of the program's or a signal
 * handler may make another. The thread fills this in before it forks; the child that it becomes reads it.
 */
struct fsafe_forks {
    unsigned long number;  /* the latest one's; 0: there is none */
    uint64_t when_ns;      /* when it was made, by CLOCK_MONOTONIC */
    uintptr_t site, frame; /* where it was called from, and the frame of our function that was */
    uint32_t count;        /* how many forks there are */
    uint32_t prepared;     /* how many of them are between fsafe_fork_prepare and fsafe_fork_finish */
    uint32_t closed_by;    /* which of them has to open the gate again; 0: none */
    bool ready;            /* the prepare handler has nothing to do when libc calls it: fsafe_fork_make_ready did all */
};

struct fsafe_thread {
    /*
     * The lower half: 0: the slot is free. Else the generation (see lineage) in which the thread lives or, when that is
     * over, lived; with FSAFE_JOINING while the thread fills the slot in, which makes it greater than any generation.
     * Written by the thread that joins or leaves, by the child that the thread becomes, and by another thread that
     * finds that this one has ended. The upper half counts the threads that joined here, so that such a thread frees no
     * later thread's slot.
     */
    _Atomic uint64_t generation;
    int owner; /* what libc writes as owner into the mutexes this thread takes; see libc/layout.h */
    int sure_owner; /* `owner` where it cannot change and no lock can be a vanished thread's; 0: elsewhere */

    struct fsafe_ledger ledgers[FSAFE_LEDGERS]; /* use the accessors below */
    uint32_t ticket; /* written into a semaphore used as a lock, to say who has its token */

    /* A thread that joins sets all from here to the first records to zero, before it fills some of it in. */
    /* While the thread forks: the first record that it does not fork with; no drain waits for those below. Else 0. */
    _Atomic uint32_t forking;
    struct fsafe_drained drained;
    struct fsafe_tokens tokens;

    /* A lock that the thread asks for and certainly does not have yet: see repair/takeover.h. 0: none. */
    _Atomic uintptr_t asking;
    struct fsafe_sleeping sleeping;
    struct fsafe_again again;
    struct fsafe_contends contends;
    _Atomic uintptr_t flushing; /* from where the thread flushes all streams, see repair/stdio.h; 0: it does not */
    _Atomic uintptr_t flush_frame; /* and the frame of the function that does; 0: not known */
    _Atomic uint32_t flushes;   /* how often the thread has done so; only this thread writes it */
    uintptr_t told_of; /* what the thread is about to wait for, if the user was told that the wait cannot end; else 0 */
    /* The waits that the thread is in. A signal handler that interrupts one may fork, return, or leave by longjmp. */
    struct fsafe_wait waiting[FSAFE_WAITS_NESTED];
    uint32_t waits;

    int former_owners[FSAFE_FORMER_OWNERS]; /* `owner` before the forks that the thread made, in a ring; 0: none */
    uint32_t next_former;                   /* the oldest of them, which is forgotten next */
    bool took_by_word;    /* a mutex, ever, whose owner the kernel knows by its lock word */
    int living_owners[4]; /* owners of other threads found alive in this process; see repair/mutex.c */
    pthread_t handle;     /* what its creator calls it, and stdio writes as owner of a stream */
    bool has_handle;      /* false: a newer thread may have `handle` */
    pid_t tid;            /* its id */
    pid_t pid;            /* the process it lives in, for reports */
    uintptr_t stack;      /* an address in its stack, for reports */
    unsigned exit_rounds; /* destructor rounds seen at its end */
    bool ended;           /* the thread ended with locks or tokens: the slot stays to say so */
    char name[16];        /* its name when it joined, for reports */

    struct fsafe_forks forks;
    struct fsafe_gated gated;
    bool holds_loader;               /* the loader's lock, for a fork: see fork/loading */
    uint8_t python_outlasted; /* how often in a row the drain for Python's locks waited for it in vain */
    struct fsafe_stdio_holds *fork_files; /* see repair/stdio.h; NULL: none */

    /* Where the ledgers begin; most threads never need more. */
    FSAFE_RECORDS(28) first_locks;
    FSAFE_RECORDS(12) first[FSAFE_LEDGERS - 1]; /* of the other ledgers, in their order */
};

/* fsafe_thread_locks(thread) and its like return that ledger of the thread. */
#define FSAFE_LEDGER(name, of)                                                                \
    static inline struct fsafe_ledger *fsafe_thread_##name(struct fsafe_thread *thread)      \
    {                                                                                         \
        return &thread->ledgers[of];                                                          \
    }
FSAFE_LEDGER(locks, FSAFE_LOCKS)
FSAFE_LEDGER(spins, FSAFE_SPINS)
FSAFE_LEDGER(waits, FSAFE_WAITS)
FSAFE_LEDGER(guards, FSAFE_GUARDS_BEGUN)
FSAFE_LEDGER(files, FSAFE_FILES)
FSAFE_LEDGER(python, FSAFE_PYTHON_LOCKS)
#undef FSAFE_LEDGER

/* How many tokens the thread has, of both kinds. Of one kind more may be gone than it took, while it gives one back. */
static inline uint32_t fsafe_thread_tokens(const struct fsafe_thread *thread)
{
    const struct fsafe_tokens *tokens = &thread->tokens;
    int32_t proven = (int32_t)(tokens->proven - tokens->proven_gone);
    int32_t first = (int32_t)(tokens->first - tokens->first_gone);
    return (uint32_t)(proven > 0 ? proven : 0) + (uint32_t)(first > 0 ? first : 0);
}

/* The generation of the slot's thread; 0: the slot is free, or is not filled in yet. */
static inline uint32_t fsafe_thread_generation(const struct fsafe_thread *thread)
{
    uint32_t generation = (uint32_t)atomic_load_explicit(&thread->generation, memory_order_acquire);
    return (generation & FSAFE_JOINING) != 0 ? 0 : generation;
}

/* Whether the slot's thread vanished at a fork between the process it lived in and this one. */
static inline bool fsafe_thread_is_vanished(const struct fsafe_thread *thread)
{
    uint32_t generation = fsafe_thread_generation(thread);
    return generation != 0 && generation < fsafe_lineage_generation();
}

/* Whether libc called this thread `owner` before one of its forks. Context: `self`; another thread may be misled. */
static inline bool fsafe_thread_was(const struct fsafe_thread *self, int owner)
{
    for (unsigned i = 0; i < FSAFE_FORMER_OWNERS; i++)
        if (self->former_owners[i] == owner)
            return owner != 0;
    return false;
}

/*
 * Whether libc calls the thread `owner`, or did. After a raw SYS_fork libc goes on to write the old id, which no thread
 * has any more. Context: as above.
 */
static inline bool fsafe_thread_is_or_was(const struct fsafe_thread *thread, int owner)
{
    return (owner != 0 && thread->owner == owner) || fsafe_thread_was(thread, owner);
}
