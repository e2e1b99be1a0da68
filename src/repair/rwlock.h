/*
 * repair/rwlock: the private rwlocks, of all three preferences, after a fork.
 *
 * The bytes of an rwlock name its writer and count its readers, but name none of them: there only the ledgers, with
 * a record for each hold, tell the forking thread's holds from those of vanished threads. While the
 * child is alone what the bytes count beyond its own holds is of vanished threads. Before it gets its second thread
 * that is written down (fsafe_rwlock_survey): later the same bytes could be a living thread's.
 *
 * A lock is always cleaned of all its vanished threads at once, holders and waiters, before any thread of the child
 * waits in it. So until then only calls that do not wait change it.
 */
#pragma once

#include "repair/takeover.h"

#include <pthread.h>

/*
 * Says what to do with an rwlock that the caller, who has recorded that it asks for it (`stage`) from `site`, could not
 * have at once. FSAFE_FREED: vanished threads are out of it; living threads may still keep the caller waiting.
 * FSAFE_PROCEED as well after the caller's own lock from before the fork was made its own again.
 * Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_rwlock_judge(pthread_rwlock_t *rwlock, struct fsafe_thread *self, enum fsafe_stage stage,
                                      uintptr_t site, bool would_wait);

/*
 * This thread has it for writing and is about to release it, or has just taken it: takes the vanished threads that wait
 * for it out, and writes its own new id in: libc takes a writer of another name for a reader. One look at the bytes
 * where nothing is to be done. Context: child, any thread, no latch held.
 */
void fsafe_rwlock_settle(pthread_rwlock_t *rwlock, struct fsafe_thread *self);

/*
 * The forking thread's latest rwlock, if it has that for writing, is its own under its new id, too: a signal handler
 * that forked may have interrupted libc's unlock before libc compares the ids. Context: child, at adoption.
 */
void fsafe_rwlock_adopt(struct fsafe_thread *self);

/* Whether this thread has it for writing, perhaps under the name it had before it forked. */
bool fsafe_rwlock_is_written_by(const pthread_rwlock_t *rwlock, const struct fsafe_thread *self);

/* Another thread recorded the hold that this one is about to release: drops that record. Looks at all ledgers. */
void fsafe_rwlock_handed_over(pthread_rwlock_t *rwlock, const struct fsafe_thread *self);

/*
 * The child is about to have a second thread: notes what of each recorded rwlock is of vanished threads.
 * Context: child, alone; once in each generation, or it does nothing.
 */
void fsafe_rwlock_survey(struct fsafe_thread *self);

/* Initialised anew or destroyed: what vanished threads recorded of it is over. Context: child, any thread. */
void fsafe_rwlock_initialised(pthread_rwlock_t *rwlock);

/* For fsafe_ledger_push_full: the record of an rwlock that is certainly not held so by the thread `context`. */
bool fsafe_rwlock_is_stale(uintptr_t lock, void *context);
