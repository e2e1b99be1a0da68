/*
 * repair/semaphore: unnamed private semaphores that a program uses as locks (CPython's are), after a fork.
 *
 * A semaphore's bytes name no owner, and most semaphores are no locks: whoever waits for an event must never be
 * given a token. One counts as a lock when it was initialised to 1 and every token so far went back from the
 * thread that took it. What is known of it stands in words of sem_t that libc does not use, and dies with it:
 *
 *   note   tied to the address: the generation in which the semaphore was initialised, or *settled*: no token that a
 *          thread took in an earlier generation counts any more. 0: not a lock, or none of ours.
 *   owner  the ticket of the thread that has the token; 0: nobody, or a thread that is just taking or posting it and
 *          says so by `tokens.at`.
 *   site   the place that took it.
 *
 * A thread writes site and then owner after it took the token, and clears owner before it posts: so of a vanished
 * thread, too, the words say what it had. In a child a semaphore's note is not the one that the fast paths look for
 * until one of the functions here has settled it, under the latch: so nobody takes or posts it before that.
 */
#pragma once

#include "libc/layout.h"
#include "repair/takeover.h"

#include <semaphore.h>

/* In a note: no token went back yet. Whether the thread that takes tokens is the one to give them back has to show. */
#define FSAFE_NOTE_FIRST 0x80000000u

/*
 * The note of a lock at that address settled in that generation. The lowest 16 bits are the generation's alone, because
 * a sem_t is aligned to eight bytes: so 0, the note of fresh memory, is that of no lock before generation 65,536.
 */
static inline uint32_t fsafe_semaphore_note_of(uintptr_t address, uint32_t generation)
{
    return (uint32_t)address << 13 ^ generation;
}

static inline uint32_t fsafe_semaphore_note(const struct fsafe_sem_words *words)
{
    return atomic_load_explicit(&words->note, memory_order_acquire);
}

static inline uint32_t fsafe_semaphore_owner(const struct fsafe_sem_words *words)
{
    return atomic_load_explicit(&words->owner, memory_order_relaxed);
}

/*
 * Whether a lock with that note had tokens that went back before, and is settled in the generation of `self`, the
 * calling thread, or NULL.
 */
static inline bool fsafe_semaphore_is_plain(uint32_t note, const sem_t *semaphore, const struct fsafe_thread *self)
{
    return self != NULL &&
           note == fsafe_semaphore_note_of((uintptr_t)semaphore,
                                           (uint32_t)atomic_load_explicit(&self->generation, memory_order_relaxed));
}

/* The same without regard to whether tokens went back. */
static inline bool fsafe_semaphore_is_settled(const struct fsafe_sem_words *words, const sem_t *semaphore)
{
    return (fsafe_semaphore_note(words) & ~FSAFE_NOTE_FIRST) ==
           (fsafe_semaphore_note_of((uintptr_t)semaphore, fsafe_lineage_generation()) & ~FSAFE_NOTE_FIRST);
}

/* Whether this semaphore is used as a lock, as far as is known. Reads the note only. */
FSAFE_AT_FORK bool fsafe_semaphore_is_lock(sem_t *semaphore);

/* After sem_init succeeded: begins its history. */
FSAFE_AT_FORK void fsafe_semaphore_initialised(sem_t *semaphore, int process_shared, unsigned value);

/* Before sem_destroy: ends it. */
FSAFE_AT_FORK void fsafe_semaphore_destroyed(sem_t *semaphore);

/*
 * From now on it is no lock, and whoever took its token has it no more: another thread is about to post it, or its
 * owner waits for another thread to do so. Context: any thread that may touch it: before its post or wait, never after.
 */
void fsafe_semaphore_is_event(sem_t *semaphore);

static inline bool fsafe_semaphore_is_first(const struct fsafe_sem_words *words, const sem_t *semaphore)
{
    return ((fsafe_semaphore_note(words) ^ (uint32_t)(uintptr_t)semaphore << 13) & FSAFE_NOTE_FIRST) != 0;
}

/* Which of its counts a thread counts the token in. */
static inline uint32_t *fsafe_semaphore_count(const struct fsafe_sem_words *words, const sem_t *semaphore,
                                              struct fsafe_thread *self)
{
    return fsafe_semaphore_is_first(words, semaphore) ? &self->tokens.first : &self->tokens.proven;
}

/*
 * Around taking or posting a lock: returns what to end with. A signal handler's may lie inside another. What the outer
 * one is at stays written when it has ended, and says nothing then, because tokens.at is 0: one store less.
 */
static inline uintptr_t fsafe_semaphore_begin(struct fsafe_thread *self, sem_t *semaphore)
{
    uintptr_t outer = atomic_load_explicit(&self->tokens.at, memory_order_relaxed);
    atomic_store_explicit(&self->tokens.outer, outer, memory_order_relaxed);
    FSAFE_ORDER();
    atomic_store_explicit(&self->tokens.at, (uintptr_t)semaphore, memory_order_relaxed);
    FSAFE_ORDER();
    return outer;
}

static inline void fsafe_semaphore_end(struct fsafe_thread *self, uintptr_t outer)
{
    FSAFE_ORDER();
    atomic_store_explicit(&self->tokens.at, outer, memory_order_release);
}

/* In between: `count`, one of self's, counts the token before the words say who has it, because it keeps the slot. */
static inline void fsafe_semaphore_taken(struct fsafe_sem_words *words, struct fsafe_thread *self, uint32_t *count,
                                         uintptr_t site)
{
    atomic_store_explicit(&words->site, site, memory_order_relaxed);
    ++*count;
    FSAFE_ORDER();
    atomic_store_explicit(&words->owner, self->ticket, memory_order_release);
    FSAFE_ORDER();
}

static inline void fsafe_semaphore_leaving(struct fsafe_sem_words *words, uint32_t *count)
{
    atomic_store_explicit(&words->owner, 0, memory_order_relaxed);
    FSAFE_ORDER();
    --*count;
    FSAFE_ORDER();
}

/* Its owner is about to post a settled lock. Context: the owner. */
FSAFE_AT_FORK void fsafe_semaphore_goes_back(struct fsafe_sem_words *words, const sem_t *semaphore);

/*
 * Says what to do with a lock that is not settled and that the caller is about to wait for from `site`; `why`: what
 * speaks against taking it over, NULL: nothing. FSAFE_TAKEN: the vanished thread's token is now the caller's; the value
 * stays 0. Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_semaphore_judge(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site, const char *why,
                                         bool would_wait);

/* Whether it is a lock whose token never went back, and was a vanished thread's maybe. Context: child, any thread. */
bool fsafe_semaphore_is_unproven(sem_t *semaphore);

/*
 * Nobody is left who could post such a lock, and the caller waits for it from `site`: returns whether it is to be
 * posted in a vanished thread's stead. Context: child, any thread, no latch held.
 */
bool fsafe_semaphore_gives_up(sem_t *semaphore, uintptr_t site);

/*
 * Before the real post. Returns whether the caller has the token of this lock. Otherwise the child posts it in a
 * vanished thread's stead (CPython does, for the lock that stands for a thread's life), or it is an event from now on.
 * Context: any thread, no latch held.
 */
FSAFE_AT_FORK bool fsafe_semaphore_is_own(sem_t *semaphore, const struct fsafe_thread *self);
