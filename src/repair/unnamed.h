/*
 * repair/unnamed: mutexes that are locked and name no owner, because a vanished thread was just taking or releasing
 * them.
 *
 * While the child has one thread such a mutex can only be a vanished thread's. Later a living thread may just be taking
 * it: so a survey marks them, in the records, before the child gets its second thread.
 */
#pragma once

#include "repair/takeover.h"

/*
 * The child is about to have a second thread: marks the unnamed mutexes, once in each generation. Context: child,
 * alone, no latch held.
 */
void fsafe_unnamed_note(void);

/* Whether the survey was made in this generation. Context: child, any thread. */
FSAFE_AT_FORK bool fsafe_unnamed_is_surveyed(void);

/* Whether the survey was made and no unnamed mutex is left. Context: child, any thread. */
bool fsafe_unnamed_is_none(void);

/*
 * Makes the survey. Looks several times if not `alone`, because libc made another thread without our wrapper. Context:
 * child, under the latch.
 */
void fsafe_unnamed_survey(bool alone);

/* The mutex has an owner, or is another mutex by now: unmarks it. Context: child, under the latch. */
void fsafe_unnamed_forget(uintptr_t lock);

/* The same. Context: child, no latch held. */
FSAFE_AT_FORK void fsafe_unnamed_is_over(uintptr_t lock);
