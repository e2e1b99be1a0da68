/*
 * track/gate: who is inside which of libc's own critical sections, and the gate that keeps everybody else outside for
 * the moment of a fork.
 *
 * A thread is *inside* while its ledger of locks has a record: a mutex, an rwlock, or one of the libc calls named
 * here, whose locks have no symbol. Closing the gate stops a thread at its next outermost entry; one that is inside
 * goes on and gets out. Entering costs no fence and no shared write: the gate works through the room of each thread's
 * ledger and a barrier that the closer makes in all threads at once.
 *
 * Who waits for a lock, or for a condition, is not inside: see suspend. So a fork lasts as long as the locks that are
 * held at the moment, not as long as the queues for them.
 */
#ifndef FSAFE_TRACK_GATE_H
#define FSAFE_TRACK_GATE_H

#include "base/compiler.h"
#include "track/thread.h"

#include <stdbool.h>
#include <stdint.h>

/* libc's own locks, by the calls that take them. A call that takes several belongs to the one held longest. */
enum fsafe_region {
    FSAFE_REGION_SYSLOG = 1,
    FSAFE_REGION_TIME_ZONE,
    FSAFE_REGION_ENVIRONMENT,
    FSAFE_REGION_RANDOM,
    FSAFE_REGION_LOCALE,  /* who changes it, or where messages come from */
    FSAFE_REGION_GETTEXT, /* who reads a message */
    FSAFE_REGION_LOADER,
    FSAFE_REGION_ICONV,
    FSAFE_REGION_NSS,      /* one entry, by name or number */
    FSAFE_REGION_NSS_LIST, /* all entries, one after the other */
    FSAFE_REGION_UTMP,
    /* From here on a thread that stays inside for long mostly sleeps without the lock, or has that of another object. */
    FSAFE_REGION_VAGUE,
    FSAFE_REGION_EXIT = FSAFE_REGION_VAGUE,
    FSAFE_REGION_RESOLVER,
    FSAFE_REGION_NAMED_SEMAPHORE,
    FSAFE_REGION_POPEN,
    FSAFE_REGION_TIMER,
    FSAFE_REGION_DIRECTORY,
    FSAFE_REGION_REGEX,
    FSAFE_REGION_PASSING, /* the lock is taken now and then only: nobody is warned of it */
    FSAFE_REGIONS,
};

/* A set of regions. */
#define FSAFE_REGION_BIT(region) (UINT32_C(1) << (region))


/*
 * A call's record in the ledger of locks, where locks have addresses: a mark, the region, and above it the frame that
 * the call was made from. So a call that was left by longjmp can be told from one that is under way: a later call is
 * made from a frame above it.
 */
#if UINTPTR_MAX > UINT32_MAX
#define FSAFE_REGION_MARK ((uintptr_t)1 << 62)
#define FSAFE_REGION_FRAME(frame) ((frame) >> 4 << 8)
#else
#define FSAFE_REGION_MARK ((uintptr_t)0)
#define FSAFE_REGION_FRAME(frame) ((void)(frame), (uintptr_t)0)
#endif

static inline bool fsafe_gate_is_region(uintptr_t lock)
{
    return FSAFE_REGION_MARK != 0 ? (lock & FSAFE_REGION_MARK) != 0 : lock < 4096;
}

/* The region of such a record. */
static inline enum fsafe_region fsafe_gate_region(uintptr_t lock)
{
    return (enum fsafe_region)(lock >> 2 & 63);
}

static inline uintptr_t fsafe_gate_record(enum fsafe_region region, uintptr_t frame)
{
    return FSAFE_REGION_MARK | FSAFE_REGION_FRAME(frame) | (uintptr_t)region << 2; /* the stage bits stay clear */
}

/* What is left of the frame, to the width of a stack's alignment. */
static inline uintptr_t fsafe_gate_frame(uintptr_t lock)
{
    return (lock & (FSAFE_REGION_MARK - 1)) >> 8 << 4;
}

/* Every case but the common one, in which the thread is in no other call and the gate is open. */
void fsafe_gate_enter_slowly(uintptr_t record, uintptr_t site);
void fsafe_gate_leave_slowly(uintptr_t record);

/*
 * Around the real call, both in one function, or on its behalf: its frame is what they agree on. `site`: the place that called. Leave
 * removes what enter recorded. Context: any thread.
 */
/* Enters if the thread is in nothing and the gate is open; false: nothing is done. */
static inline bool fsafe_gate_enter_first(uintptr_t record, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_self;
    return FSAFE_LIKELY(self != NULL && fsafe_ledger_depth(fsafe_thread_locks(self)) == 0 &&
                        fsafe_ledger_push_at(fsafe_thread_locks(self), 1, record, site, true));
}

/* The same for a thread that may hold locks. */
static inline bool fsafe_gate_enter_soon(uintptr_t record, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_UNLIKELY(self == NULL))
        return false;
    struct fsafe_ledger *locks = fsafe_thread_locks(self);
    uint32_t depth = fsafe_ledger_depth(locks);
    for (uint32_t i = depth; FSAFE_UNLIKELY(i > 0); i--)
        if (fsafe_gate_is_region(fsafe_ledger_word(locks, i)))
            return false;
    return FSAFE_LIKELY(fsafe_ledger_push_at(locks, depth + 1, record, site, true));
}

static inline void fsafe_gate_enter_at(enum fsafe_region region, uintptr_t frame, uintptr_t site)
{
    uintptr_t record = fsafe_gate_record(region, frame);
    if (!fsafe_gate_enter_soon(record, site))
        fsafe_gate_enter_slowly(record, site);
}

static inline void fsafe_gate_leave_at(enum fsafe_region region, uintptr_t frame)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t record = fsafe_gate_record(region, frame);
    if (FSAFE_UNLIKELY(self == NULL || !fsafe_ledger_pop_latest(fsafe_thread_locks(self), record)))
        fsafe_gate_leave_slowly(record);
}

static inline __attribute__((always_inline)) void fsafe_gate_enter(enum fsafe_region region, uintptr_t site)
{
    fsafe_gate_enter_at(region, (uintptr_t)__builtin_frame_address(0), site);
}

static inline __attribute__((always_inline)) void fsafe_gate_leave(enum fsafe_region region)
{
    fsafe_gate_leave_at(region, (uintptr_t)__builtin_frame_address(0));
}

/* Which regions threads that vanished at a fork down the line were inside of then. Context: child. */
uint32_t fsafe_gate_vanished_inside(void);

/* The latest to vanish of those inside one of `regions`, and where it had called; NULL: none. Context: child. */
struct fsafe_thread *fsafe_gate_find_vanished(uint32_t regions, uintptr_t *site);

/* Makes barriers possible. Context: start-up. */
void fsafe_gate_start(void);

/*
 * Closes the gate, or joins those who have just closed it, with all signals blocked from then on. Every other thread is
 * either seen inside or stopped then. False: another fork has it closed for too long
 * already, or those it stopped have to pass first; await_turn, then ask again. The closing is revocable, so that nobody
 * is stopped for long, but not for `firm`: that is for who has been overruled, or has waited in vain.
 * Context: `self`, forking, which has not closed it.
 */
bool fsafe_gate_close(struct fsafe_thread *self, bool firm);

/* Sleeps until it is worth asking again. Returns false at until_ns. Context: as above. */
bool fsafe_gate_await_turn(uint64_t until_ns);

/* Whether it is closed still, since `self` closed it. Context: `self`, which has. */
bool fsafe_gate_is_ours(const struct fsafe_thread *self);

/* Whom the gate stops must not open it before then: somebody inside gets no processor. Context: as above. */
void fsafe_gate_insist(uint64_t until_ns);

/*
 * From a commit on nobody can open it; it is the last step before the fork. True: nobody has passed since `self` closed
 * it, so what it saw of the others is so. Context: as above.
 */
bool fsafe_gate_commit(struct fsafe_thread *self);

/*
 * Ends what close began, if it did, and wakes those who were stopped; signals come again. `forking` is what the thread
 * is from now on: see struct fsafe_thread. Context: `self`.
 */
void fsafe_gate_open(struct fsafe_thread *self, uint32_t forking);

/* In the child of such a fork: signals come again. Context: child, adopted. */
FSAFE_AT_FORK void fsafe_gate_restore_signals(struct fsafe_thread *self);

/* It is open, and `self`, the only thread, is not stopped by what others did before. Context: child, alone. */
FSAFE_AT_FORK void fsafe_gate_reset(struct fsafe_thread *self);

/*
 * Lets the calling thread inside: waits until the gate is open, but for no longer than FORKSAFE_DRAIN_MS, and not at all
 * in a thread that is inside already or has closed it. On return record `next` of `ledger`, the one above its latest, is
 * reserved, so that a fork from now on sees it. Context: the ledger's thread.
 */
void fsafe_gate_pass(struct fsafe_ledger *ledger, uint32_t next);

/*
 * A lock that the thread waits for is none it holds: while its record is marked no fork waits for it. suspend marks the
 * latest record of `lock`; resume takes the mark away, as soon as the gate is open. Between resume and the next suspend
 * the thread is inside. A waiter that was woken and stops in resume goes on to ask for the lock in any case.
 * Context: the thread.
 */
void fsafe_gate_suspend(struct fsafe_thread *self, uintptr_t lock);
void fsafe_gate_resume(struct fsafe_thread *self, uintptr_t lock);

/* The clock that until_ns is read from. */
uint64_t fsafe_gate_now_ns(void);

/* The worst of what a thread is inside of and a fork may wait for. */
enum fsafe_where {
    FSAFE_OUTSIDE,
    FSAFE_HOLDING, /* locks, which a child can take over */
    FSAFE_CALLING, /* a call of libc's, whose locks it cannot; or on the way into something */
};

/*
 * What the thread forks with, if it does, does not count; but for calls, if `calls_count`: a fork that is in none itself
 * can wait for them. Context: a forking thread, gate closed; or the thread itself.
 */
enum fsafe_where fsafe_gate_where(struct fsafe_thread *thread, bool calls_count);

#endif
