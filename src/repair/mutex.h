/*
 * repair/mutex: the mutexes after a fork: ordinary, robust, with priority inheritance or protection.
 *
 * The bytes of a mutex name its owner, and the kernel says whether this process has that thread. Only for a moment,
 * while it is taken or released, is a mutex locked and names no owner: then the ledgers decide.
 */
#pragma once

#include "base/compiler.h"
#include "repair/takeover.h"

#include <pthread.h>

/*
 * Says what to do with a mutex that the caller is about to lock from `site`. FSAFE_FREED: it was a vanished thread's
 * and is free now. Rehomes a mutex that the caller has held since before the fork, and returns FSAFE_PROCEED.
 * Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_mutex_judge(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site,
                                     bool would_wait);

/*
 * Writes this thread's new id into a mutex that it has held since before it forked: libc compares the owner with that
 * id. Not in shared memory, where the parent may read the owner. Context: child, any thread.
 */
void fsafe_mutex_rehome(pthread_mutex_t *mutex, const struct fsafe_thread *self);

/*
 * The same for all mutexes on this thread's ledger of which the kernel must know the owner (robust, priority
 * inheritance), before the child asks for them. Context: child, alone.
 */
FSAFE_AT_FORK void fsafe_mutex_adopt(struct fsafe_thread *self);

/*
 * A signal handler has forked while this thread waited for a mutex, and may go back there: that wait ends. In libc's
 * own wait a vanished thread's mutex is made free for that; wrap/mutex's asks again. Context: child, alone, adopted.
 */
FSAFE_AT_FORK void fsafe_mutex_adopt_wait(struct fsafe_thread *self);

/* A wait for the mutex has ended: writes the line if adoption made that mutex free. */
void fsafe_mutex_end_wait(pthread_mutex_t *mutex, const struct fsafe_thread *self);

/* The program has initialised the mutex: drops what is known of its bytes. Context: child, any thread. */
FSAFE_AT_FORK void fsafe_mutex_initialised(pthread_mutex_t *mutex);

/*
 * For fsafe_ledger_push_full: whether the bytes of the recorded mutex do not name the thread `context`, or whether
 * fsafe_rwlock_is_stale says that of a recorded rwlock.
 */
bool fsafe_mutex_is_stale(uintptr_t lock, void *context);

/*
 * Clears a vanished thread's records of mutexes that are free or another thread's. Context: child, any thread with
 * signals blocked, no latch held.
 */
void fsafe_mutex_clear_stale(struct fsafe_thread *vanished);
