/*
 * repair/spin: spin locks after a fork. Their bytes name no owner and do not say whether they are private, so the
 * records decide, each made before the lock is asked for, and whether the lock is locked.
 *
 * A spin lock that is taken over stays locked: the caller is its owner now.
 */
#pragma once

#include "repair/takeover.h"

#include <pthread.h>

/* `trylock`: the next definition, to try a copy of a spin lock with. Context: start-up. */
void fsafe_spin_start(__typeof__(pthread_spin_trylock) *trylock);

/*
 * Says what to do with a spin lock that the caller, which has a record that it wants it, could not have at once.
 * FSAFE_TAKEN: it is the caller's now. Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_spin_judge(pthread_spinlock_t *spin, struct fsafe_thread *self, uintptr_t site,
                                    bool would_wait);

/*
 * The caller has just taken, initialised or destroyed it: drops vanished threads' records of it. Costs one load where
 * there are none. Context: child, any thread; before the caller releases it.
 */
void fsafe_spin_settle(pthread_spinlock_t *spin);

/* A thread without a record of it is about to release it: drops the record that another thread has. Slow. */
void fsafe_spin_handed_over(pthread_spinlock_t *spin);

/* The child is about to have a second thread: drops records of spin locks that are free. Context: child, alone. */
void fsafe_spin_survey(void);

/* For fsafe_ledger_push_full: whether the recorded spin lock is free. */
bool fsafe_spin_is_stale(uintptr_t lock, void *context);
