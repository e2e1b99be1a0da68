/*
 * repair/waits: objects inside which threads are for a while: condition variables and barriers, after a fork.
 *
 * An object counts for ever a thread that vanished inside it: its destruction waits for that thread, wake-ups go to
 * that thread, and a barrier lets the others go too early. A thread that vanished inside signal or broadcast owns the
 * object's inner lock. So each thread *enters* an object in its FSAFE_WAITS ledger before the real call and *leaves* it
 * afterwards, and a child *settles* an object before it first uses it: if a vanished thread was inside, the object is
 * made as new. Each thread settles first, so no living thread is in an object that is not settled.
 *
 * Process-shared objects are left alone. A waiter also enters the mutex that it releases, because libc counts the
 * waiter as one of that mutex's users.
 */
#pragma once

#include "libc/fresh.h"
#include "repair/filter.h"
#include "repair/takeover.h"

/* What the caller is about to do with the object. */
enum fsafe_use { FSAFE_USE_WAIT, FSAFE_USE_WAKE, FSAFE_USE_DESTROY };

/* A kind of object. */
struct fsafe_waited {
    const char *name; /* in reports */
    const struct fsafe_fresh *fresh;
};
extern const struct fsafe_waited fsafe_condvars;
extern const struct fsafe_waited fsafe_barriers;

/* See fsafe_waits_concern. Only the functions here may touch it. */
extern struct fsafe_filter fsafe_waits_filter;

/* Whether a vanished thread may be inside; if false, none is. Two loads before the first fork, three after it. */
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
 * Settles `object`, and notes that the calling thread is about to be inside. Returns whether there is a record for
 * leave. Context: any thread, no latch held.
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
 * The thread has left the object, which may be gone. If vanished threads were taken out of the object the line about
 * that is perhaps written now, because it helps a waiter only if the wait ends. Context: the thread that entered.
 */
static inline void fsafe_waits_leave(struct fsafe_thread *self, void *object, enum fsafe_inside inside)
{
    fsafe_ledger_drop(fsafe_thread_waits(self), (uintptr_t)object | inside);
    if (inside == FSAFE_INSIDE_WAIT &&
        FSAFE_UNLIKELY(atomic_load_explicit(&fsafe_waits_untold, memory_order_relaxed) != 0))
        fsafe_waits_tell((uintptr_t)object);
}

/* Settles the object before its destruction. Context: child, any thread, no latch held. */
void fsafe_waits_settle(const struct fsafe_waited *kind, void *object, uintptr_t site);

/*
 * Whether vanished threads were inside the object before it was settled in this process: fills their holder and fork
 * in. Context: child, any thread, no latch held.
 */
bool fsafe_waits_recall(uintptr_t object, struct fsafe_event *event);

/* The program has initialised the object: drops vanished threads' records of it. Context: any thread, no latch held. */
FSAFE_AT_FORK void fsafe_waits_initialised(void *object);

/* A waiter is about to release this mutex. Returns whether there is a record for leave. */
bool fsafe_waits_enter_mutex(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site);

/*
 * The mutex is about to be destroyed: vanished waiters are no users of it. Context: child, any thread, no latch held.
 */
void fsafe_waits_release_mutex(pthread_mutex_t *mutex);

/*
 * The mutex is free, or initialised, and counts only living users: drops the vanished waiters' records. Context: under
 * the takeover latch.
 */
FSAFE_AT_FORK void fsafe_waits_forget_mutex(const pthread_mutex_t *mutex);
