/*
 * repair/hidden: libc's own locks, which have no symbol: which address may be one, what the bytes say of the owner, and
 * how such a lock is made free. Remembers the locks that it has made free, for later children.
 */
#pragma once

#include "track/region.h"

#include <pthread.h>

/* Finds out where libc lies. Context: start-up. */
void fsafe_hidden_start(void);

/* Whether it is known where libc lies; and whether `address` lies in libc. */
bool fsafe_hidden_is_known(void);
bool fsafe_hidden_is_libcs(uintptr_t address);

/*
 * Whether the bytes name another thread of this process as the owner, as those of recursive locks do: a stream's, for
 * example, while functions of the program's print or read for the stream, and sleep. Behind a lock that is not
 * recursive a living thread's handle does not stand by chance. A vanished thread may have had the same handle.
 */
bool fsafe_hidden_has_living_owner(const uint32_t *word);

/*
 * A call of `region` and `others` more threads sleep while `word` is `value`. If that is a lock, libc's or another,
 * makes it free and returns true: the call need not wait any more. Context: child, in a signal handler; no thread of
 * this process has the lock.
 */
bool fsafe_hidden_free(uint32_t *word, uint32_t value, enum fsafe_region region, unsigned others);

/* Makes an rwlock of libc's free that a call asks for again and again: see fsafe_layout_rwlock_is_spun_on. */
void fsafe_hidden_free_spun(pthread_rwlock_t *rwlock, bool writes);

/* Makes the locks free that this process, or one it descends from, has made free before. Context: child, alone. */
FSAFE_AT_FORK void fsafe_hidden_free_known(void);
