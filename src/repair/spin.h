/*
 * repair/spin: spin locks after a fork. Their bytes name nobody and do not even say that they are private, so the
 * records alone decide, each made before the lock is asked for, and whether it is locked at all.
 *
 * A taken-over spin lock stays locked: its owner is the caller instead of the vanished thread.
 */
#pragma once

#include "repair/takeover.h"

#include <pthread.h>

/* The call that a copy of a spin lock is tried with: the next definition. Context: start-up. */
void fsafe_spin_start(__typeof__(pthread_spin_trylock) *trylock);

/*
 * Says what to do with a spin lock that the caller, who has recorded that it wants it, could not have at once.
 * FSAFE_TAKEN: it is the caller's now. Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_spin_judge(pthread_spinlock_t *spin, struct fsafe_thread *self, uintptr_t site,
                                    bool would_wait);

/*
 * The caller has just taken it by itself, initialised or destroyed it: what vanished threads recorded is over.
 * One load where they recorded nothing. Context: child, any thread; before the caller releases it.
 */
void fsafe_spin_settle(pthread_spinlock_t *spin);

/* A thread without a record of it is about to release it: drops the record of another. Looks at all ledgers. */
void fsafe_spin_handed_over(pthread_spinlock_t *spin);

/* The child is about to have a second thread: drops what no bytes bear out. Context: child, alone. */
void fsafe_spin_survey(void);

/* For fsafe_ledger_push_full: the record of a spin lock that is free. */
bool fsafe_spin_is_stale(uintptr_t lock, void *context);
