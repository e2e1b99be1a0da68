/*
 * track/thread: a slot: what is known of one thread that ever took a lock, in memory of our own.
 *
 * Threads *join* at their first lock and *leave* when they end (track/join). After a fork the child still has the slots
 * of all its parent's threads (track/slots); those of the generations before its own are *vanished*: frozen, and the
 * evidence for what they held.
 */
#pragma once

#include "base/sys.h"
#include "track/ledger.h"
#include "track/lineage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum { FSAFE_FORMER_OWNERS = 8, FSAFE_WAITS_NESTED = 6 };
#define FSAFE_JOINING 0x80000000u
#define FSAFE_FORKING_NOW UINT32_MAX /* it has closed the gate: whatever it does */

/* What a ledger is about. A thread has one of each. */
enum fsafe_ledger_of {
    FSAFE_LOCKS,  /* mutexes and rwlocks: their bytes say who has them; what a drain would wait for */
    FSAFE_SPINS,  /* spin locks: only the record says who has one */
    FSAFE_WAITS,  /* condition variables and barriers that the thread is inside of */
    FSAFE_GUARDS_BEGUN, /* C++ static locals whose initialiser it runs, or waits for */
    FSAFE_FILES, /* stdio streams that it locked by flockfile */
    FSAFE_PYTHON_LOCKS, /* python/locks: one byte inside a Python object */
    FSAFE_LEDGERS,
};

/* The stages of a record in FSAFE_WAITS. */
enum fsafe_inside {
    FSAFE_INSIDE_WAIT = 0,  /* asleep in it, mostly */
    FSAFE_INSIDE_CALL = 1,  /* in signal or broadcast */
    FSAFE_INSIDE_MUTEX = 2, /* not the object, but the mutex that a waiter has left, or has back */
    FSAFE_INSIDE_TOLD = 3,  /* of a vanished thread: the user knows (modes report and abort) */
};

/* A wait without a limit: see repair/hopeless.h. Other threads read it; nothing in it is followed. */
struct fsafe_sleeping {
    _Atomic uintptr_t object; /* 0: the thread is in none. Written last */
    _Atomic uintptr_t mutex;  /* a condition variable's, which its waiter has left; 0: none */
    _Atomic uint32_t bytes;   /* how long the object is */
    _Atomic uint64_t since_ns, until_ns; /* its beginning, and the end of its present slice; 0: it has no end */
    _Atomic bool may_be_given; /* it is for a lock that the waiter gets once nobody else can end the wait */
    _Atomic bool joins;       /* it is for the end of a thread */
    _Atomic bool said;        /* the user was told that it cannot end */
    bool has_line;            /* and not only once before, of the same place */
    uint64_t held_back;       /* signals that are blocked only as long as it lasts: see repair/held.h */
    const char *lock, *kind;
    uintptr_t site;
};

/*
 * A wait that is made again and again: after its limit, see fsafe_hopeless_begin_again, or after a signal handler that
 * interrupted a wait without a limit.
 */
struct fsafe_again {
    uintptr_t object; /* 0: the latest such wait is over */
    int64_t value;    /* the futex's, for a wait with a limit; else FSAFE_INTERRUPTED */
    uint32_t generation;
    uint64_t since_ns, left_ns; /* when the first of them began, and the latest ended; 0: it has not ended yet */
    uint64_t until_ns;          /* when the slice would have ended that was interrupted */
    bool has_line, looked_hopeless;
};
enum { FSAFE_INTERRUPTED = -1 };

/* A wait for a futex, perhaps one that is a lock: see fork/contended. What follows the state holds while it says so. */
struct fsafe_contends {
    _Atomic uint32_t state;
    int operation;
    uint32_t value;
    uintptr_t word, site, frame;
    bool outlasted;   /* no fork is to wait for that lock */
    uintptr_t lock;   /* where the lock is that the word is of, when a fork has looked; 0: not known */
    _Atomic uint64_t left_ns; /* when the latest wait was over */
    _Atomic uint32_t often;   /* how many waits in a row there were with little time in between */
    uint32_t entries; /* a fork's, which this thread makes: the locks that it has, or wants */
    bool wants;       /* and whether it has not got all of them yet */
};

/* A wait for a lock that began: see track/waiting. */
struct fsafe_wait {
    uintptr_t record; /* what the ledger says of it: address | stage */
    enum fsafe_ledger_of of;
    uintptr_t frame, returns; /* of the function that waits: its frame, and where it returns to, which lies beside it */
};

/* Of semaphores used as locks: kept by repair/semaphore. */
struct fsafe_tokens {
    uint32_t proven;         /* taken and not given back, of semaphores that were given back before */
    uint32_t first;          /* the same, of those that never were */
    _Atomic uint32_t proven_gone, first_gone; /* of these: others have given them back, or they are no locks */
    _Atomic uintptr_t at;    /* the semaphore that the thread is taking or posting right now; 0: none */
    _Atomic uintptr_t outer; /* that of the call which a signal handler interrupted to make this one; 0: none */
};

/* What a fork that drains has seen of the thread: fork/drain's. */
struct fsafe_drained {
    _Atomic uint64_t begun_us;     /* when the drain began that first looked */
    _Atomic uint64_t processor_us; /* how long the thread had run by then, */
    _Atomic uint64_t seen_us;      /* and by the latest look */
};

/* What the thread has to undo when it opens the gate that it has closed: track/gate's. */
struct fsafe_gated {
    uint32_t share;       /* what of the gate's word is this thread's; 0: nothing */
    bool signals_blocked; /* since it has closed the gate; `signals` is the mask to go back to */
    struct fsafe_sigset signals;
    unsigned long sleeps; /* the thread's when the gate let it pass last, after it had slept there */
};

/*
 * The forks that the thread is in the middle of: fork/coordinator's. A handler, the program's or a signal's, may make
 * another. Filled in by the thread before it forks, read by the child that it becomes.
 */
struct fsafe_forks {
    unsigned long number;  /* the latest one's; 0: there is none */
    uint64_t when_ns;      /* it was made, by CLOCK_MONOTONIC */
    uintptr_t site, frame; /* where it was called from, and the frame of our function that was */
    uint32_t count;        /* how many there are */
    uint32_t prepared;     /* of these, in libc's fork, for which fork/coordinator does what handlers do elsewhere */
    uint32_t closed_by;    /* which of them has to open the gate again; 0: none */
    bool ready;            /* prepared, and libc has not begun to fork: prepare, which libc calls then, is done */
};

struct fsafe_thread {
    /*
     * The lower half: 0: free. Else the generation (see lineage) in which the thread lives or, when that is over,
     * lived; with FSAFE_JOINING while it is being filled in, which makes it greater than any generation. Written by the
     * thread that joins or leaves, and by the child that it becomes. The upper half counts who joined here, so that
     * whoever frees the slot of a thread that was found to have ended frees no later thread's.
     */
    _Atomic uint64_t generation;
    int owner; /* what libc writes as owner into the mutexes this thread takes; see libc/layout.h */
    int sure_owner; /* the same where it cannot change and no lock can be a vanished thread's; 0: not so sure */

    struct fsafe_ledger ledgers[FSAFE_LEDGERS]; /* use the accessors below */
    uint32_t ticket; /* semaphores used as locks bear their owner's */

    /* From here to the first records all is zero in a thread that joins, but for what it fills in. */
    /* What no drain waits for while this thread forks: the records below this one, which it forks with. 0: no fork. */
    _Atomic uint32_t forking;
    struct fsafe_drained drained;
    struct fsafe_tokens tokens;

    /* A lock it asks for and certainly does not have yet: see repair/takeover.h. 0: none. */
    _Atomic uintptr_t asking;
    struct fsafe_sleeping sleeping;
    struct fsafe_again again;
    struct fsafe_contends contends;
    _Atomic uintptr_t flushing; /* the place from which it flushes all streams, see repair/stdio.h; 0: it does not */
    _Atomic uintptr_t flush_frame; /* and the frame from which it does; 0: not known */
    _Atomic uint32_t flushes;   /* how often it has done so; only its thread writes */
    uintptr_t told_of; /* what it is about to wait for, if the user was told that this wait will not end; 0: nothing */
    /* The waits that it is in: a signal handler, which may fork, comes back to the wait, or leaves it by longjmp. */
    struct fsafe_wait waiting[FSAFE_WAITS_NESTED];
    uint32_t waits;

    int former_owners[FSAFE_FORMER_OWNERS]; /* `owner` before the forks it made, in a ring; 0: none */
    uint32_t next_former;                   /* which is the oldest: the next to be forgotten */
    bool took_by_word;    /* ever a mutex whose owner the kernel knows by its lock word */
    int living_owners[4]; /* owners of other threads found alive in this process; see repair/mutex.c */
    pthread_t handle;     /* what its creator calls it, and stdio as owner of a stream */
    bool has_handle;      /* false: a newer thread may be called so */
    pid_t tid;            /* its id, for reports */
    pid_t pid;            /* the process it lives in, for reports */
    uintptr_t stack;      /* an address in its stack, for reports */
    unsigned exit_rounds; /* destructor rounds seen at its end */
    bool ended;           /* it left while it held locks: the slot stays to say so */
    char name[16];        /* its name when it joined, for reports */

    struct fsafe_forks forks;
    struct fsafe_gated gated;
    bool holds_loader;               /* its lock, for a fork: see fork/loading */
    uint8_t python_outlasted; /* how often in a row the drain for Python's locks waited for it in vain */
    struct fsafe_stdio_holds *fork_files; /* see repair/stdio.h; NULL: none */

    /* Where the ledgers begin; most threads never need more. */
    FSAFE_RECORDS(28) first_locks;
    FSAFE_RECORDS(12) first[FSAFE_LEDGERS - 1]; /* of the others, in their order */
};

/* fsafe_thread_locks(thread) and its like: that ledger of the thread's. */
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

/* How many tokens it has, of either kind; none where more are gone than it took: it may be giving one back. */
static inline uint32_t fsafe_thread_tokens(const struct fsafe_thread *thread)
{
    const struct fsafe_tokens *tokens = &thread->tokens;
    int32_t proven = (int32_t)(tokens->proven - tokens->proven_gone);
    int32_t first = (int32_t)(tokens->first - tokens->first_gone);
    return (uint32_t)(proven > 0 ? proven : 0) + (uint32_t)(first > 0 ? first : 0);
}

/* The generation of the slot's thread; 0: free, or nothing in it is worth reading yet. */
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

/* Whether `owner` is what this thread was called before it forked. Context: its thread, or one that may be wrong. */
static inline bool fsafe_thread_was(const struct fsafe_thread *self, int owner)
{
    for (unsigned i = 0; i < FSAFE_FORMER_OWNERS; i++)
        if (self->former_owners[i] == owner)
            return owner != 0;
    return false;
}

/*
 * Whether it is what the thread is called, or was. After a raw SYS_fork libc goes on to write the old id, which no
 * thread has any more. Context: as above.
 */
static inline bool fsafe_thread_is_or_was(const struct fsafe_thread *thread, int owner)
{
    return (owner != 0 && thread->owner == owner) || fsafe_thread_was(thread, owner);
}
