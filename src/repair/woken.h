/*
 * repair/woken: signals of a condition variable that come while a child's waiter is between two slices of its wait, see
 * repair/hopeless.
 *
 * There the waiter is not in the condition variable, and has the mutex. A signal may come before it has the mutex, or,
 * from a thread that changed the condition and then released the mutex, before the waiter is in the condition variable
 * again. Neither finds the waiter. So we keep the time of the latest signal, and after each slice the waiter looks
 * whether a signal came about the end of this slice or of the one before. It may be one that was for another waiter:
 * then this one wakes up for no reason, which is allowed.
 */
#pragma once

#include "repair/hopeless.h"

/* A thread is about to signal a condition variable, or to broadcast: notes the time. Context: child, any thread. */
FSAFE_AT_FORK void fsafe_woken_note(uintptr_t object);

/*
 * Whether a thread may have signalled the condition variable since the slice `ended`, or since this was asked last:
 * then the wait is over. Context: between two slices, with the mutex held.
 */
bool fsafe_woken_between(struct fsafe_slices *slices, const struct timespec *ended);
