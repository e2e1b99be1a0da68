/*
 * repair/semaphore: unnamed private semaphores that a program uses as locks (CPython's are), after a fork.
 *
 * A semaphore's bytes name no owner, and most semaphores are no locks: a thread that waits for an event must never get
 * a token from us. A semaphore counts as a lock when it was initialised to 1 and each token so far was posted by the
 * thread that took it. What we know of it stands in words of sem_t that libc does not use:
 *
 *   note   tied to the address: the generation in which the semaphore was initialised or *settled*: no token that a
 *          thread took in an earlier generation counts any more. 0: it is no lock, or we do not know it.
 *   owner  the ticket of the thread that has the token; 0: no thread has it, or one is just taking or posting it and
 *          says so by `tokens.at`.
 *   site   the place that took the token.
 *
 * A thread writes site and then owner after it has taken the token, and clears owner before it posts: so the words also
 * say what a vanished thread had. The fast paths look for a note of the present generation. A child's semaphores have
 * none until one of the functions here has settled them, under the latch: so no thread takes or posts one before that.
 */
#pragma once

#include "libc/layout.h"
#include "repair/takeover.h"

#include <semaphore.h>

/* In a note: no thread has posted it yet, so that nothing shows whether the thread that takes a token posts it. */
#define FSAFE_NOTE_FIRST 0x80000000u

/*
 * The note of a lock at that address that is settled in that generation. Its lowest 16 bits are the generation's alone,
 * because a sem_t is aligned to eight bytes: so no lock has the note of fresh memory, 0, before generation 65,536.
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
 * Whether a lock with that note has been posted before, and is settled in the generation of `self`, the calling thread;
 * false if `self` is NULL.
 */
static inline bool fsafe_semaphore_is_plain(uint32_t note, const sem_t *semaphore, const struct fsafe_thread *self)
{
    return self != NULL &&
           note == fsafe_semaphore_note_of((uintptr_t)semaphore,
                                           (uint32_t)atomic_load_explicit(&self->generation, memory_order_relaxed));
}

/* Whether the lock is settled in this generation. */
static inline bool fsafe_semaphore_is_settled(const struct fsafe_sem_words *words, const sem_t *semaphore)
{
    return (fsafe_semaphore_note(words) & ~FSAFE_NOTE_FIRST) ==
           (fsafe_semaphore_note_of((uintptr_t)semaphore, fsafe_lineage_generation()) & ~FSAFE_NOTE_FIRST);
}

/* Whether this semaphore counts as a lock, by its note. */
FSAFE_AT_FORK bool fsafe_semaphore_is_lock(sem_t *semaphore);

/* After sem_init has succeeded: writes its words. */
FSAFE_AT_FORK void fsafe_semaphore_initialised(sem_t *semaphore, int process_shared, unsigned value);

/* Before sem_destroy: clears them. */
FSAFE_AT_FORK void fsafe_semaphore_destroyed(sem_t *semaphore);

/*
 * From now on it is no lock, and no thread has its token: another thread than the owner is about to post it, or the
 * owner waits for it. Context: before the caller's post or wait, not after, when the semaphore may be gone.
 */
void fsafe_semaphore_is_event(sem_t *semaphore);

static inline bool fsafe_semaphore_is_first(const struct fsafe_sem_words *words, const sem_t *semaphore)
{
    return ((fsafe_semaphore_note(words) ^ (uint32_t)(uintptr_t)semaphore << 13) & FSAFE_NOTE_FIRST) != 0;
}

/* The count of `self` for the token of such a lock. */
static inline uint32_t *fsafe_semaphore_count(const struct fsafe_sem_words *words, const sem_t *semaphore,
                                              struct fsafe_thread *self)
{
    return fsafe_semaphore_is_first(words, semaphore) ? &self->tokens.first : &self->tokens.proven;
}

/*
 * Before and after a thread takes or posts a lock: begin returns the argument for end. A signal handler may do so
 * within such a pair. end leaves tokens.outer as it is, which means nothing while tokens.at is 0: one store less.
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

/*
 * In between. The token counts in `count` before the words name its owner, because the count keeps the thread's slot.
 */
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

/* The owner is about to post a settled lock. Context: the owner. */
FSAFE_AT_FORK void fsafe_semaphore_goes_back(struct fsafe_sem_words *words, const sem_t *semaphore);

/*
 * Says what to do with a lock that is not settled and for which the caller is about to wait from `site`; `why`: why it
 * may not be taken over, NULL: it may. FSAFE_TAKEN: the vanished thread's token is the caller's now; the value stays 0.
 * Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_semaphore_judge(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site, const char *why,
                                         bool would_wait);

/* Whether it is a lock that was never posted, and is not settled in this child. Context: child, any thread. */
bool fsafe_semaphore_is_unproven(sem_t *semaphore);

/*
 * The caller waits for such a lock from `site`, and no other thread can post it. Returns whether the caller has to post
 * it for a vanished thread. Context: child, any thread, no latch held.
 */
bool fsafe_semaphore_gives_up(sem_t *semaphore, uintptr_t site);

/*
 * Before the real post. Returns whether the caller has the token of this lock. If not, the caller posts it for a
 * vanished thread (as CPython does for the lock that stands for a thread's life), or it is an event from now on.
 * Context: any thread, no latch held.
 */
FSAFE_AT_FORK bool fsafe_semaphore_is_own(sem_t *semaphore, const struct fsafe_thread *self);
