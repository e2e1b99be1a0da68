/*
 * repair/takeover: what all kinds of locks have in common when a child finds one that a vanished thread holds:
 * looking up who held it, deciding by the settings, telling the user.
 *
 * A repairer works in the child, on a lock the caller is asking for at this moment. It judges under the
 * latch, so that of several threads that ask for one orphan a single one takes it over.
 */
#pragma once

#include "base/compiler.h"

#include "base/latch.h"
#include "report/event.h"
#include "track/thread.h"

#include <time.h>

/* What a repairer says to the wrapper that is about to make the real call. */
enum fsafe_verdict {
    FSAFE_PROCEED,   /* make the real call: the lock is free, or its holder lives, or it is not ours to take */
    FSAFE_FREED,     /* make the real call: the lock was a vanished thread's and is free now */
    FSAFE_TAKEN,     /* the lock was a vanished thread's and is the caller's now */
    /* It is a vanished thread's and may not be taken. The caller goes on to wait, and `asking` goes on to say that it
     * has not got the lock, so that others need not ask again. */
    FSAFE_STUCK,
    FSAFE_UNDECIDED, /* a living thread may be taking it this very moment: try it, pause, ask again */
};

/* Guards judging and taking over within one process. The child's adoption resets it. */
extern FSAFE_HIDDEN struct fsafe_latch fsafe_takeover_latch;

/* What the ledgers say about one lock. */
struct fsafe_claims {
    struct fsafe_thread *vanished; /* who held it at fork, or else was at it; NULL: nobody is recorded */
    uintptr_t since;               /* where that thread took it */
    bool vanished_held;            /* one of those records says held */
    bool living_is_at_it;          /* one may be taking or releasing it now */
    bool living_was_owner;         /* one is called `owner`, or was before it forked */
    bool living_owner_has_it;      /* and has a record of the lock */
    bool vanished_owner_had_it;    /* one of the vanished was called `owner` and has a record of the lock */
    bool own_at_it;                /* `self` has a record besides the latest, which is this call's */
    bool was_waiting;              /* its holder had it back from a wait for a condition: nothing is half done */
    bool died_with_it;             /* one of this process ended and never released it */
};

/* A lock that the calling thread asks for, and what is to be said of that. Each kind appends what it needs to know. */
struct fsafe_question {
    struct fsafe_thread *self;
    bool would_wait; /* the caller is about to wait, and not just to try */
    struct fsafe_event event; /* its address is the lock's */
};

/* Calls the kind's `judge` under the latch and tells what came of it. Context: child, any thread, no latch held. */
typedef enum fsafe_verdict fsafe_takeover_judges(struct fsafe_question *question);
enum fsafe_verdict fsafe_takeover_judge(struct fsafe_question *question, fsafe_takeover_judges *judge);

/*
 * Asks all ledgers about `lock`. `owner` is whom the lock's bytes name, 0 if nobody. `self` is left out but for
 * own_at_it. Context: child, under the latch.
 */
struct fsafe_claims fsafe_takeover_claims(const struct fsafe_thread *self, enum fsafe_ledger_of of, uintptr_t lock,
                                          int owner);

/*
 * Shows each vanished thread's record of the mutex `lock`, in no more time for many records than for few. False: there
 * are so few that nothing was made to find them by, and none was shown. Context: child, under the latch.
 */
typedef void fsafe_takeover_see(struct fsafe_thread *thread, uint32_t record, void *context);
bool fsafe_takeover_find_vanished(uintptr_t lock, fsafe_takeover_see *see, void *context);

/*
 * Whether the calling thread is all there is. A vfork child is one thread, too, and shares the memory of others. Slow.
 */
bool fsafe_takeover_is_alone(void);

/* Whether the lock lies in memory that other processes may share, or of which nothing is known. Slow. */
bool fsafe_takeover_is_shared(uintptr_t lock);

/*
 * Decides by FORKSAFE_MODE and by where the lock lies whether it may be taken, and completes the event that tell
 * prints. `would_wait`: the caller is about to wait. A mere try for which nothing is done is worth a line only after
 * many have failed without a pause, for FORKSAFE_HANG_MS; a try does not get what a thread held that had ended before
 * the fork. Not worth a line is a lock that a waiter had just got back: the gate stopped the waiter there, with its
 * work to come. Context: child, under the latch.
 */
bool fsafe_takeover_decide(struct fsafe_event *event, const struct fsafe_claims *claims, bool would_wait);

/*
 * Who but its taker may be meant to release a lock of which nothing shows so far that its taker is the one. A signal
 * handler is given FORKSAFE_HANG_MS for it: most processes have some, and hardly one of them releases a lock.
 */
enum fsafe_hope { FSAFE_HOPES_FOR_NOBODY, FSAFE_HOPES_FOR_HANDLER, FSAFE_HOPES_FOR_THREAD };

/*
 * `may_be_interrupted`: asked whether a signal handler could do so, if no thread could. Slow. Context: child, any
 * thread, no latch held.
 */
enum fsafe_hope fsafe_takeover_hope(bool (*may_be_interrupted)(void));

/* Why such a lock may not be taken over, for an event; NULL: it may. */
const char *fsafe_takeover_why_not(enum fsafe_hope hope);

/*
 * Whether a wait without a limit is to be made until `until`, by CLOCK_MONOTONIC, before the lock is taken over, or in
 * other modes than repair a line says that the wait would hang.
 */
bool fsafe_takeover_gives_time(enum fsafe_hope hope, struct timespec *until);

/* Prints the event, if decide found it worth a line; in mode abort ends the process. Not under the latch. */
void fsafe_takeover_tell(const struct fsafe_event *event);
