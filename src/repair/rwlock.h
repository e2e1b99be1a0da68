/*
 * repair/rwlock: the private rwlocks, of all three preferences, after a fork.
 *
 * The bytes of an rwlock name its writer and count its readers without names: only the ledgers, with a record for each
 * hold, show which holds are the forking thread's and which are vanished threads'. While the child is alone all readers
 * that the bytes count beyond the child's own holds are vanished. A survey notes them before the child gets its second
 * thread (fsafe_rwlock_survey): later the same bytes could count a living thread.
 *
 * All vanished threads, holders and waiters, are taken out of a lock at once, before any thread of the child waits in
 * it. Until then only calls that do not wait change the lock.
 */
#pragma once

#include "repair/takeover.h"

#include <pthread.h>

/*
 * Says what to do with an rwlock that the caller, which has a record that it asks for it (`stage`) from `site`, could
 * not have at once. FSAFE_FREED: vanished threads are taken out; living threads may still hold it. Rehomes a lock that
 * the caller has held since before the fork, and returns FSAFE_PROCEED. Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_rwlock_judge(pthread_rwlock_t *rwlock, struct fsafe_thread *self, enum fsafe_stage stage,
                                      uintptr_t site, bool would_wait);

/*
 * This thread has the lock for writing and is about to release it, or has just taken it. Takes the vanished threads
 * that wait out, and writes this thread's new id in: libc treats a caller with another id than the writer's as a
 * reader. Costs one look at the bytes if there is nothing to do. Context: child, any thread, no latch held.
 */
void fsafe_rwlock_settle(pthread_rwlock_t *rwlock, struct fsafe_thread *self);

/*
 * Writes the forking thread's new id into its latest rwlock, if it has that for writing: a signal handler that forked
 * may have interrupted libc's unlock before libc compares the ids. Context: child, at adoption.
 */
void fsafe_rwlock_adopt(struct fsafe_thread *self);

/* Whether this thread has it for writing, perhaps under the id that the thread had before it forked. */
bool fsafe_rwlock_is_written_by(const pthread_rwlock_t *rwlock, const struct fsafe_thread *self);

/* The calling thread is about to release a hold of which another thread has the record: drops it. Slow. */
void fsafe_rwlock_handed_over(pthread_rwlock_t *rwlock, const struct fsafe_thread *self);

/*
 * The child is about to have a second thread: notes what vanished threads left in each recorded rwlock, once in each
 * generation. Context: child, alone.
 */
void fsafe_rwlock_survey(struct fsafe_thread *self);

/* The program has initialised or destroyed it: drops vanished threads' records of it. Context: child, any thread. */
void fsafe_rwlock_initialised(pthread_rwlock_t *rwlock);

/* For fsafe_ledger_push_full: whether the thread `context` certainly does not hold the rwlock as its record says. */
bool fsafe_rwlock_is_stale(uintptr_t lock, void *context);
