/*
 * repair/semaphore: unnamed private semaphores that a program uses as locks (CPython's are), after a fork.
 *
 * A semaphore's bytes name no owner, and most semaphores are no locks: whoever waits for an event must never be
 * given a token. One counts as a lock when it was initialised to 1 and every token so far went back from the
 * thread that took it. Its history is kept where it dies with the semaphore: in a word of sem_t that libc does
 * not use, tied to its address. Without that word, or where it does not match, a semaphore is not ours.
 */
#ifndef FSAFE_REPAIR_SEMAPHORE_H
#define FSAFE_REPAIR_SEMAPHORE_H

#include "libc/layout.h"
#include "repair/takeover.h"

#include <semaphore.h>

/* The note: the upper half tied to the address, one bit "an event, not a lock", the generation of its birth. */
#define FSAFE_NOTE_EVENT 0x8000u
#define FSAFE_NOTE_BORN 0x7fffu

static inline uint32_t fsafe_semaphore_note_of(uintptr_t address)
{
    return (uint32_t)(address >> 3 ^ address >> 19) << 16 | 0x10000u; /* never 0, the note of fresh memory */
}

/* Whether this semaphore is used as a lock, as far as is known. Reads the note only. Context: any thread. */
static inline bool fsafe_semaphore_is_lock(sem_t *semaphore)
{
    const _Atomic uint32_t *note = fsafe_layout_sem_note(semaphore);
    return note != NULL && (atomic_load_explicit(note, memory_order_relaxed) & ~FSAFE_NOTE_BORN) ==
                               fsafe_semaphore_note_of((uintptr_t)semaphore);
}

/* After sem_init succeeded: begins its history. A process-shared one is left alone. Context: any thread. */
void fsafe_semaphore_born(sem_t *semaphore, int process_shared, unsigned value);

/* Before sem_destroy: ends it. Context: any thread. */
void fsafe_semaphore_dies(sem_t *semaphore);

/* From now on it is an event. Context: any thread that may touch it: before its post or wait, never after. */
void fsafe_semaphore_is_event(sem_t *semaphore);

/*
 * A thread that did not take it is about to post it: from now on it is an event, and whoever took it has not got
 * it any more; a record that stayed would speak for the next semaphore at this address. Looks at all ledgers, once
 * in a semaphore's life. Context: any thread, before its post.
 */
void fsafe_semaphore_handed_over(sem_t *semaphore);

/*
 * Says what to do with a lock whose value is 0 and that the caller is about to wait for from `site`.
 * FSAFE_TAKEN: the dead thread's token is now the caller's; the value stays 0.
 * Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_semaphore_judge(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site,
                                         bool would_wait);

/*
 * The child is taking or posting it by itself: what vanished threads recorded is over, and the note says so by a
 * later birth. So as long as their records count, no token has moved in this process. Returns whether one of them
 * had it. Context: child, any thread, no latch held, before the real call.
 */
bool fsafe_semaphore_settle(sem_t *semaphore, const struct fsafe_thread *self);

/*
 * Whether the thread has a token of a lock, beyond the first `kept` that it took: CPython's threads up to 3.12 keep one
 * for all their life. Context: any thread.
 */
bool fsafe_semaphore_thread_has_one(struct fsafe_thread *thread, uint32_t kept);

/* For fsafe_ledger_push_full: a record that says nothing any more. */
bool fsafe_semaphore_is_stale(uintptr_t lock, void *context);

#endif
