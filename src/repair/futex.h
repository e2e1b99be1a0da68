/*
 * repair/futex: locks that a program makes of a futex by itself, without pthread: seen only where a thread is about to
 * sleep on one by syscall(SYS_futex), in a child.
 *
 * Neither the word nor any ledger says who has it. But a child that never had a second thread and is about to sleep
 * without a limit on private memory sleeps for ever: only a signal handler could end that. Of such a word we have to
 * know what it means. Those locks are known whose calls cannot be taken for an event's: see the table in futex.c.
 */
#pragma once

#include "repair/takeover.h"

/*
 * The caller is about to make the system call futex with these six arguments from `site`. Returns whether it was to
 * wait for a lock of a vanished thread: that is free now, and the call is over, as if it had been woken. A wait with a
 * limit is judged where Qt makes it. Context: child, any thread, no latch held.
 */
bool fsafe_futex_judge(const long *arguments, uintptr_t site);

/* Whether that is a wait without a limit. */
bool fsafe_futex_is_endless(const long *arguments);

/*
 * Whether that is a wait with a limit that is made again and again as long as the word says the same: libc++'s atomic
 * waits, semaphores, latches and barriers. Slow where the limit is the one that these have.
 */
bool fsafe_futex_is_made_again(const long *arguments, uintptr_t site);

/* A lock that several threads want, of an algorithm that is known: what it takes to want it, too. */
struct fsafe_futex_lock {
    uint32_t *word;
    uint32_t contended; /* what it says while one has it and others wait; 0: an RwLock, which counts */
    uint32_t kept;      /* of an RwLock: what giving it back leaves in the word, for the writer that waits */
};

/* Whether such a wait without a limit may be for one: a quick no for most that are for something else. Context: any. */
bool fsafe_futex_may_be_lock(const long *arguments);

/* Whether a thread that waits for `value` in `word`, from `site`, waits for such a lock, of this process. Slow. */
bool fsafe_futex_find_lock(uintptr_t word, int operation, uint32_t value, uintptr_t site,
                           struct fsafe_futex_lock *lock);

/* Whether a thread that waits for that lock may wait in `word`. */
static inline bool fsafe_futex_is_of_lock(uintptr_t word, const struct fsafe_futex_lock *lock)
{
    return (uintptr_t)lock->word == word || (lock->contended == 0 && (uintptr_t)(lock->word + 1) == word);
}

/* Whether somebody has a lock that says so. */
static inline bool fsafe_futex_is_taken(uint32_t value)
{
    return (value & 0x3fffffff) != 0;
}

/* Takes it if it is free, else says that somebody waits; gives it back and wakes waiters. Context: while one waits. */
bool fsafe_futex_try(const struct fsafe_futex_lock *lock);
void fsafe_futex_give(const struct fsafe_futex_lock *lock);

/* Frees the copy of one that was taken. Context: child, alone. */
void fsafe_futex_free(const struct fsafe_futex_lock *lock);
