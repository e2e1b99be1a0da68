/*
 * repair/takeover: what is the same for all kinds of locks when a child finds a lock that a vanished thread holds: to
 * look up who held it, to decide by the settings, to tell the user.
 *
 * A kind's judge works in the child, on a lock for which the caller asks at this moment. It judges under the latch, so
 * that one of several threads that ask for an orphaned lock takes it over.
 */
#pragma once

#include "base/compiler.h"

#include "base/latch.h"
#include "report/event.h"
#include "track/thread.h"

#include <time.h>

/* What a wrapper that is about to make the real call has to do. */
enum fsafe_verdict {
    FSAFE_PROCEED,   /* make the real call: the lock is free, or its owner lives, or it must not be taken over */
    FSAFE_FREED,     /* make the real call: the lock was a vanished thread's and is free now */
    FSAFE_TAKEN,     /* nothing: the lock was a vanished thread's and is the caller's now */
    FSAFE_STUCK,     /* make the real call, which waits for a vanished thread's lock. `asking` stays set meanwhile */
    FSAFE_UNDECIDED, /* try the lock, pause, ask again: a living thread may be taking it at this moment */
};

/* Guards judging and taking over within one process. The child's adoption resets it. */
extern FSAFE_HIDDEN struct fsafe_latch fsafe_takeover_latch;

/* What the ledgers say about one lock. */
struct fsafe_claims {
    struct fsafe_thread *vanished; /* the thread that held it at the fork, or else asked for it; NULL: no record */
    uintptr_t since;               /* where that thread took it */
    bool vanished_held;            /* a vanished thread's record says held */
    bool living_is_at_it;          /* another living thread may be taking or releasing it now */
    bool living_was_owner;         /* another living thread has the id `owner`, or had it before it forked */
    bool living_owner_has_it;      /* such a thread has a record of the lock */
    bool vanished_owner_had_it;    /* a vanished thread had the id `owner` and has a record of the lock */
    bool own_at_it;                /* `self` has a record besides the latest, and may be `owner` */
    bool was_waiting;              /* the holder had it back from a wait for a condition: nothing is half done */
    bool died_with_it;             /* a thread of this process ended with it */
};

/* A lock for which the calling thread asks, and the event about that. Each kind appends members of its own. */
struct fsafe_question {
    struct fsafe_thread *self;
    bool would_wait; /* the caller is about to wait; false: to try */
    struct fsafe_event event; /* its address is the lock's */
};

/* Calls the kind's `judge` under the latch, and tells the event. Context: child, any thread, no latch held. */
typedef enum fsafe_verdict fsafe_takeover_judges(struct fsafe_question *question);
enum fsafe_verdict fsafe_takeover_judge(struct fsafe_question *question, fsafe_takeover_judges *judge);

/*
 * Asks all ledgers about `lock`. `owner`: the id that the lock's bytes name; 0: none. Of `self` only own_at_it is
 * asked. Context: child, under the latch.
 */
struct fsafe_claims fsafe_takeover_claims(const struct fsafe_thread *self, enum fsafe_ledger_of of, uintptr_t lock,
                                          int owner);

/*
 * Calls `see` for each vanished thread's record of the mutex `lock`, by the index. False: there are so few records that
 * there is no index; `see` was not called. Context: child, under the latch.
 */
typedef void fsafe_takeover_see(struct fsafe_thread *thread, uint32_t record, void *context);
bool fsafe_takeover_find_vanished(uintptr_t lock, fsafe_takeover_see *see, void *context);

/* Whether this process has one thread. False in a vfork child, which shares its memory with other threads. Slow. */
bool fsafe_takeover_is_alone(void);

/* Whether other processes may share the memory of the lock; also true where that is not known. Slow. */
bool fsafe_takeover_is_shared(uintptr_t lock);

/* The same; quick for the latest locks for which it was true: processes may contend for such a lock all day. */
bool fsafe_takeover_is_known_shared(uintptr_t lock);

/*
 * Decides by the settings, and by where the lock lies, whether the caller may take it over, and completes the event for
 * fsafe_takeover_tell. `would_wait`: the caller is about to wait; false: to try. A try does not get a lock whose holder
 * ended before the fork. A lock that a waiter for a condition had just got back gets no line: the gate stopped the
 * waiter before it did anything. Context: child, under the latch.
 */
bool fsafe_takeover_decide(struct fsafe_event *event, const struct fsafe_claims *claims, bool would_wait);

/*
 * Whether a line says that the caller does not get an orphaned lock: a try gets one only after tries have failed
 * without a pause for FORKSAFE_HANG_MS. Context: as above.
 */
bool fsafe_takeover_is_worth_a_line(bool would_wait);

/*
 * Who may be meant to release a lock that was never released so far: perhaps not the thread that takes it. A signal
 * handler gets FORKSAFE_HANG_MS for that: most processes have handlers, and hardly any handler releases a lock.
 */
enum fsafe_hope { FSAFE_HOPES_FOR_NOBODY, FSAFE_HOPES_FOR_HANDLER, FSAFE_HOPES_FOR_THREAD };

/*
 * `may_be_interrupted`: whether a signal handler could release it; asked if no thread could. Slow. Context: child, any
 * thread, no latch held.
 */
enum fsafe_hope fsafe_takeover_hope(bool (*may_be_interrupted)(void));

/* Why such a lock may not be taken over, for an event; NULL: it may. */
const char *fsafe_takeover_why_not(enum fsafe_hope hope);

/*
 * Whether a wait without a limit for `object` is to be made until `until`, by CLOCK_MONOTONIC, before the lock is taken
 * over; or, in other modes than repair, before a line says that the wait would hang. The time goes on while handlers
 * interrupt the wait and the thread makes it again: the caller writes down when, in fsafe_self->again.left_ns; 0: the
 * wait has ended otherwise. Context: a thread that has joined.
 */
bool fsafe_takeover_gives_time(enum fsafe_hope hope, uintptr_t object, struct timespec *until);

/* Writes the line about an event that is worth one; may end the process in mode abort. Context: no latch held. */
void fsafe_takeover_tell(const struct fsafe_event *event);
