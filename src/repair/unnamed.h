/*
 * repair/unnamed: the mutexes that are locked and name no owner, because a vanished thread was just taking or releasing
 * them.
 *
 * While the child has one thread, such a mutex can only be a vanished thread's. Later a living thread may be just
 * taking it: so the unnamed mutexes are noted, in the records, before the child gets its second thread.
 */
#pragma once

#include "repair/takeover.h"

/*
 * The child is about to have a second thread: notes which mutexes are unnamed, once in each generation.
 * Context: child, alone, no latch held.
 */
void fsafe_unnamed_note(void);

/* Whether the unnamed mutexes are noted in this generation. Context: child, any thread. */
FSAFE_AT_FORK bool fsafe_unnamed_is_surveyed(void);

/* Whether they are noted, and there was none. Context: child, any thread. */
bool fsafe_unnamed_is_none(void);

/*
 * Notes them; not alone (libc made the other thread, unseen) it looks several times. Context: child, under the latch.
 */
void fsafe_unnamed_survey(bool alone);

/* The mutex has an owner, or is another: drops what was noted of it. Context: child, under the latch. */
void fsafe_unnamed_forget(uintptr_t lock);

/* The same without the latch. */
FSAFE_AT_FORK void fsafe_unnamed_is_over(uintptr_t lock);
