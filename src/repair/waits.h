/*
 * repair/waits: objects that threads are inside of for a while: condition variables and barriers, after a fork.
 *
 * An object counts a thread that vanished while it waited in it for ever: to destroy the object waits for that thread,
 * wake-ups go to it, and it makes a barrier pass too early. A thread that vanished inside signal or broadcast owns the
 * object's inner lock. So each thread *enters* an object in its FSAFE_WAITS ledger before the real call and *leaves* it
 * afterwards, and a child *settles* an object before it first uses it: if a vanished thread was inside, the object is
 * made as new. Every user settles first, so no living thread is in an object that is not settled yet.
 *
 * Process-shared objects are left alone. A waiter also enters the mutex that it has released: libc still counts the
 * waiter as one of that mutex's users.
 */
#pragma once

#include "libc/fresh.h"
#include "repair/filter.h"
#include "repair/takeover.h"

/* What the caller is about to do with it. */
enum fsafe_use { FSAFE_USE_WAIT, FSAFE_USE_WAKE, FSAFE_USE_DESTROY };

/* A kind of object. */
struct fsafe_waited {
    const char *name; /* in reports */
    const struct fsafe_fresh *fresh;
    /* Whether a vanished thread in there makes this use hang for certain, or perhaps: for reports only. */
    bool (*hangs)(const void *object, enum fsafe_use use);
    bool (*may_hang)(const void *object);
};
extern const struct fsafe_waited fsafe_condvars;
extern const struct fsafe_waited fsafe_barriers;

/* See fsafe_waits_concern. Only the functions here may touch it. */
extern struct fsafe_filter fsafe_waits_filter;

/* Whether a vanished thread may be inside of it; a no is certain. Two loads before the first fork, then three. */
static inline FSAFE_AT_FORK bool fsafe_waits_concern(uintptr_t object)
{
    return FSAFE_UNLIKELY(fsafe_lineage_is_child()) && fsafe_filter_may_have(&fsafe_waits_filter, object);
}

/*
 * fsafe_waits_enter where there may be something to settle, or the ledger is full. Context: any thread, no latch held.
 */
bool fsafe_waits_enter_slowly(const struct fsafe_waited *kind, void *object, enum fsafe_inside inside,
                              struct fsafe_thread *self, uintptr_t site);

/*
 * Notes that the calling thread is about to go into `object`, settling it first. Returns whether there is a record,
 * for leave. Context: any thread, no latch held.
 */
static inline bool fsafe_waits_enter(const struct fsafe_waited *kind, void *object, enum fsafe_inside inside,
                                     struct fsafe_thread *self, uintptr_t site)
{
    if (FSAFE_LIKELY(!fsafe_waits_concern((uintptr_t)object) &&
                     fsafe_ledger_push(fsafe_thread_waits(self), (uintptr_t)object | inside, site)))
        return true;
    return fsafe_waits_enter_slowly(kind, object, inside, self, site);
}

/* See fsafe_waits_leave. Only the functions here may touch it. */
extern _Atomic uint32_t fsafe_waits_untold;

void fsafe_waits_tell(uintptr_t object);

/*
 * The thread is out of the object, which is not touched: it may be gone. If vanished threads were taken out of it for a
 * waiter, the line about that is written now: it was no cure unless the wait ends. Context: the thread that entered.
 */
static inline void fsafe_waits_leave(struct fsafe_thread *self, void *object, enum fsafe_inside inside)
{
    fsafe_ledger_drop(fsafe_thread_waits(self), (uintptr_t)object | inside);
    if (FSAFE_UNLIKELY(atomic_load_explicit(&fsafe_waits_untold, memory_order_relaxed) != 0))
        fsafe_waits_tell((uintptr_t)object);
}

/* Settles it for its destruction. Context: child, any thread, no latch held. */
void fsafe_waits_settle(const struct fsafe_waited *kind, void *object, uintptr_t site);

/*
 * Whether vanished threads were inside of it before it was settled in this process: then the event says who, the latest
 * to be asked about. Context: child, any thread, no latch held.
 */
bool fsafe_waits_recall(uintptr_t object, struct fsafe_event *event);

/* The object was initialised anew: forgets who was inside the old one. Context: any thread, no latch held. */
FSAFE_AT_FORK void fsafe_waits_initialised(void *object);

/* A waiter is about to leave this mutex. Returns whether there is a record, for leave. */
bool fsafe_waits_enter_mutex(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site);

/*
 * The mutex is about to be destroyed: vanished waiters are no users of it. Context: child, any thread, no latch held.
 */
void fsafe_waits_release_mutex(pthread_mutex_t *mutex);

/*
 * The mutex was made free, or anew, and counts only living users: drops the vanished waiters' records.
 * Context: under the takeover latch.
 */
FSAFE_AT_FORK void fsafe_waits_forget_mutex(const pthread_mutex_t *mutex);
