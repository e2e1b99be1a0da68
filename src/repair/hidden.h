/*
 * repair/hidden: libc's own locks, which have no symbol: which address may be one, what its bytes say of its owner, and
 * how it is made free. Remembers those that it has made free, for children to come.
 */
#pragma once

#include "track/region.h"

#include <pthread.h>

/* Finds out where libc lies. Context: start-up. */
void fsafe_hidden_start(void);

/* Whether it is known where libc lies; and whether the address is there. */
bool fsafe_hidden_is_known(void);
bool fsafe_hidden_is_libcs(uintptr_t address);

/*
 * Whether the lock says that another thread of this process has it: a stream's, for one, also while the program's own
 * functions print or read for the stream, and sleep. Of a lock that does not count, and has anything behind it, a
 * living thread's handle will not be said by chance. A vanished thread may have had the same handle.
 */
bool fsafe_hidden_has_living_owner(const uint32_t *word);

/*
 * Makes a lock free, libc's or another, that a call of `region` waits for, until the word there is not `value` any
 * more, as do so many `others`. Returns whether the call need not wait any more. Context: child, in a signal handler;
 * no thread of this process has the lock.
 */
bool fsafe_hidden_free(uint32_t *word, uint32_t value, enum fsafe_region region, unsigned others);

/* The same of an rwlock of libc's that a call asks for again and again: see fsafe_layout_rwlock_is_spun_on. */
void fsafe_hidden_free_spun(pthread_rwlock_t *rwlock, bool writes);

/* Makes those free that this process, or one it descends from, had made free before. Context: child, alone. */
FSAFE_AT_FORK void fsafe_hidden_free_known(void);
