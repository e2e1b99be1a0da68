/*
 * libc/fresh: what a condition variable and a barrier look like when they are new. We learn that before a process gets
 * its second thread, from objects that libc's own init functions make with each attribute. So it needs to know hardly
 * anything about the members, which change: glibc 2.41 moved those of a condition variable.
 *
 * The program has just passed the object to a wrapper, so its memory is there. Nothing here waits, allocates or
 * changes errno.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { FSAFE_FRESH_WORDS = 12 };

struct fsafe_fresh {
    bool known;       /* false: libc did not do what is expected; all else is void */
    unsigned words;   /* the object's length, in words of 32 bits */
    unsigned flags;   /* the index of the word that says "process-shared" */
    uint32_t shared;  /* the bits of that word which say so */
    uint32_t image[FSAFE_FRESH_WORDS]; /* a new object without attributes */
    uint32_t keep[FSAFE_FRESH_WORDS];  /* bits that say how the object was initialised, or that libc never writes */
};

/* Written by fsafe_fresh_learn only. */
extern struct fsafe_fresh fsafe_fresh_condvar;
extern struct fsafe_fresh fsafe_fresh_barrier;

/* The calls to learn from: the next definitions, never our wrappers. */
#define FSAFE_FRESH_CALLS(CALL)                  \
    CALL(mutex_lock, pthread_mutex_lock)         \
    CALL(mutex_unlock, pthread_mutex_unlock)     \
    CALL(cond_init, pthread_cond_init)           \
    CALL(cond_timedwait, pthread_cond_timedwait) \
    CALL(cond_signal, pthread_cond_signal)       \
    CALL(cond_broadcast, pthread_cond_broadcast) \
    CALL(barrier_init, pthread_barrier_init)     \
    CALL(barrier_wait, pthread_barrier_wait)
#define FSAFE_CALL_FIELD(name, function) __typeof__(function) *name;
struct fsafe_fresh_calls {
    FSAFE_FRESH_CALLS(FSAFE_CALL_FIELD)
};

/* Fills in both. Context: a thread about to make another. */
void fsafe_fresh_learn(const struct fsafe_fresh_calls *calls);

static inline uint32_t fsafe_fresh_word(const void *object, unsigned index)
{
    return __atomic_load_n((const uint32_t *)object + index, __ATOMIC_RELAXED);
}

/* Whether the object was initialised to be shared between processes. */
static inline bool fsafe_fresh_is_shared(const struct fsafe_fresh *fresh, const void *object)
{
    return ((fsafe_fresh_word(object, fresh->flags) ^ fresh->image[fresh->flags]) & fresh->shared) != 0;
}

/* Whether a thread that calls pthread_barrier_wait now completes a round and does not wait; also true if not known. */
bool fsafe_fresh_barrier_completes(const void *barrier);

/* Whether the object is as new but for its attributes: then no thread is inside of it. */
bool fsafe_fresh_is_new(const struct fsafe_fresh *fresh, const void *object);

/* Makes the object as new, with the attributes it had. Context: no thread of this process is inside of it. */
void fsafe_fresh_reset(const struct fsafe_fresh *fresh, void *object);
