/*
 * repair/futex: locks that a program makes of a futex itself, without pthread. We see them only where a thread of a
 * child is about to sleep on one by syscall(SYS_futex).
 *
 * Neither the word nor any ledger says who has the lock. But a child that never had a second thread and is about to
 * sleep without a limit on private memory sleeps for ever, unless a signal handler ends that. To make such a lock free
 * we have to know what its word means: see the table in futex.c, of locks whose calls cannot be an event's.
 */
#pragma once

#include "repair/takeover.h"

/*
 * The caller is about to make the system call futex with these six arguments from `site`. Returns whether it was to
 * wait for a lock of a vanished thread: that is free now, and the caller goes on as if it had been woken. Context:
 * child, any thread, no latch held.
 */
bool fsafe_futex_judge(const long *arguments, uintptr_t site);

/* Whether the call waits without a limit. */
bool fsafe_futex_is_endless(const long *arguments);

/*
 * Whether the call waits with a limit and its library makes it again and again while the word stays the same: libc++'s
 * atomic waits, semaphores, latches and barriers. Slow for waits with libc++'s limit.
 */
bool fsafe_futex_is_made_again(const long *arguments, uintptr_t site);

/* A lock of a known algorithm that several threads want: what a fork needs to take it. */
struct fsafe_futex_lock {
    uint32_t *word;
    uint32_t contended; /* the word while one thread has the lock and others wait; 0: an RwLock, which counts */
    uint32_t kept;      /* of an RwLock: the bit that stays in the word when it is released, for a waiting writer */
};

/* Whether such a wait without a limit may be for one: quickly false for most that are not. */
bool fsafe_futex_may_be_lock(const long *arguments);

/*
 * Whether a thread that waits at `site`, by `operation`, while `word` is `value` waits for such a lock of this process;
 * fills it in. Slow.
 */
bool fsafe_futex_find_lock(uintptr_t word, int operation, uint32_t value, uintptr_t site,
                           struct fsafe_futex_lock *lock);

/* Whether a thread that waits for that lock may sleep on `word`. */
static inline bool fsafe_futex_is_of_lock(uintptr_t word, const struct fsafe_futex_lock *lock)
{
    return (uintptr_t)lock->word == word || (lock->contended == 0 && (uintptr_t)(lock->word + 1) == word);
}

/* Whether a thread has the lock, by the value of its word. */
static inline bool fsafe_futex_is_taken(uint32_t value)
{
    return (value & 0x3fffffff) != 0;
}

/* Takes the lock if it is free; if not, marks that a thread waits. Context: while a thread waits for the lock. */
bool fsafe_futex_try(const struct fsafe_futex_lock *lock);

/* Releases a lock that was taken so, and wakes all waiters. */
void fsafe_futex_give(const struct fsafe_futex_lock *lock);

/* Frees the child's copy of a lock that was taken so. Context: child, alone. */
void fsafe_futex_free(const struct fsafe_futex_lock *lock);
