/*
 * repair/mutex: the mutexes after a fork: ordinary, robust, with priority inheritance or protection.
 *
 * The bytes of a mutex name its owner, and the kernel says whether that thread exists here. Only in the moment
 * of being taken or released is a mutex locked by nobody; then the ledgers decide.
 */
#pragma once

#include "base/compiler.h"
#include "repair/takeover.h"

#include <pthread.h>

/*
 * Says what to do with a mutex that the caller is about to lock from `site`. FSAFE_FREED: it was a
 * vanished thread's and has been made free. If it is the caller's own from before the fork it is rehomed on the way.
 * Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_mutex_judge(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site,
                                     bool would_wait);

/*
 * Makes a mutex that this thread holds since before it forked its own again: libc compares the owner with the new
 * thread id and finds a stranger. Not in shared memory, where the parent may be reading it. Context: child, any thread.
 */
void fsafe_mutex_rehome(pthread_mutex_t *mutex, const struct fsafe_thread *self);

/*
 * The same for all mutexes on this thread's ledger that the kernel must know the holder of (robust, priority
 * inheritance), which cannot wait until they are asked for. Context: child, alone.
 */
FSAFE_AT_FORK void fsafe_mutex_adopt(struct fsafe_thread *self);

/*
 * A signal handler has forked while this thread waited for a mutex, and may go back there: if the mutex is a vanished
 * thread's it is made free, so that the wait ends. Context: child, alone, adopted.
 */
FSAFE_AT_FORK void fsafe_mutex_adopt_wait(struct fsafe_thread *self);

/* A wait for the mutex has ended: says so if it was such a one. */
void fsafe_mutex_end_wait(pthread_mutex_t *mutex, const struct fsafe_thread *self);

/* The mutex was initialised anew: what was noted about its bytes is over. Context: child, any thread. */
FSAFE_AT_FORK void fsafe_mutex_initialised(pthread_mutex_t *mutex);

/*
 * For fsafe_ledger_push_full: a record of a mutex whose bytes do not name the thread `context`, or of an rwlock that
 * fsafe_rwlock_is_stale says so of.
 */
bool fsafe_mutex_is_stale(uintptr_t lock, void *context);

/*
 * Clears a vanished thread's records of mutexes that are free or somebody else's. Context: child, any thread with
 * signals blocked, no latch held.
 */
void fsafe_mutex_clear_stale(struct fsafe_thread *vanished);
