/*
 * libc/fresh: see fresh.h. libc makes objects over zeroes and over ones. A reset keeps the bits in which these differ,
 * or objects with other attributes, and clears the rest. A wait that ends at once shows that use changes no kept bit.
 */
#include "config.h"

#include "libc/fresh.h"

#include <string.h>

_Static_assert(sizeof(pthread_cond_t) % 4 == 0 && sizeof(pthread_cond_t) <= FSAFE_FRESH_WORDS * 4,
               "a condition variable fits");
_Static_assert(sizeof(pthread_barrier_t) % 4 == 0 && sizeof(pthread_barrier_t) <= FSAFE_FRESH_WORDS * 4,
               "a barrier fits");

struct fsafe_fresh fsafe_fresh_condvar;
struct fsafe_fresh fsafe_fresh_barrier;

/* In musl's objects a wait that ends at once shows nothing: layout-musl.c has functions of its own. */
#ifndef FSAFE_LIBC_MUSL

/* A barrier's words: how many came, how many of them had come when its latest round was complete, how many make one. */
enum { IN, ROUND, COUNT };
static bool knows_rounds;

/* An object under study, as its type or as words. */
union specimen {
    uint32_t word[FSAFE_FRESH_WORDS];
    pthread_cond_t condvar;
    pthread_barrier_t barrier;
};

static void begin(struct fsafe_fresh *fresh, size_t bytes, const union specimen *plain)
{
    memset(fresh, 0, sizeof *fresh);
    fresh->words = (unsigned)(bytes / 4);
    memcpy(fresh->image, plain->word, bytes);
}

/* A bit in which `other` differs says an attribute, or libc never writes it. */
static void keep_difference(struct fsafe_fresh *fresh, const union specimen *other)
{
    for (unsigned i = 0; i < fresh->words; i++)
        fresh->keep[i] |= fresh->image[i] ^ other->word[i];
}

/* Notes how `other`, a process-shared object, differs. Returns whether it does in one word only. */
static bool find_shared(struct fsafe_fresh *fresh, const union specimen *other)
{
    unsigned words = 0;
    for (unsigned i = 0; i < fresh->words; i++) {
        if (fresh->image[i] == other->word[i])
            continue;
        words++;
        fresh->flags = i;
        fresh->shared = fresh->image[i] ^ other->word[i];
    }
    return words == 1;
}

/* Whether two objects say the same about how they were initialised. */
static bool same_attributes(const struct fsafe_fresh *fresh, const union specimen *a, const union specimen *b)
{
    for (unsigned i = 0; i < fresh->words; i++)
        if (((a->word[i] ^ b->word[i]) & fresh->keep[i]) != 0)
            return false;
    return true;
}

static bool is_equal(const struct fsafe_fresh *fresh, const union specimen *a, const union specimen *b)
{
    return memcmp(a->word, b->word, fresh->words * 4) == 0;
}

static bool make_condvar(const struct fsafe_fresh_calls *calls, union specimen *made, int fill, int shared,
                         clockid_t clock)
{
    pthread_condattr_t attributes;
    memset(made, fill, sizeof *made);
    bool good = pthread_condattr_init(&attributes) == 0 && pthread_condattr_setpshared(&attributes, shared) == 0 &&
                pthread_condattr_setclock(&attributes, clock) == 0 &&
                calls->cond_init(&made->condvar, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return good;
}

/* A wait that ends at once. */
static bool use_condvar(const struct fsafe_fresh_calls *calls, union specimen *used)
{
    static const struct timespec past = {.tv_sec = 1, .tv_nsec = 0};
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    calls->mutex_lock(&mutex);
    calls->cond_timedwait(&used->condvar, &mutex, &past);
    calls->mutex_unlock(&mutex);
    return calls->cond_signal(&used->condvar) == 0 && calls->cond_broadcast(&used->condvar) == 0;
}

static bool learn_condvar(const struct fsafe_fresh_calls *calls)
{
    enum { PRIVATE = PTHREAD_PROCESS_PRIVATE, SHARED = PTHREAD_PROCESS_SHARED };
    struct fsafe_fresh *fresh = &fsafe_fresh_condvar;
    union specimen plain, over_dirt, shared, both;
    if (!make_condvar(calls, &plain, 0, PRIVATE, CLOCK_REALTIME) ||
        !make_condvar(calls, &over_dirt, 0xff, PRIVATE, CLOCK_REALTIME) ||
        !make_condvar(calls, &shared, 0, SHARED, CLOCK_REALTIME) ||
        !make_condvar(calls, &both, 0, SHARED, CLOCK_MONOTONIC))
        return false;
    begin(fresh, sizeof(pthread_cond_t), &plain);
    if (!find_shared(fresh, &shared))
        return false;
    keep_difference(fresh, &over_dirt);
    keep_difference(fresh, &both); /* with both attributes that there are */
    /* A static initialiser and pthread_cond_init make the same object, and use changes no attribute. */
    const pthread_cond_t initializer = PTHREAD_COND_INITIALIZER;
    union specimen used = both;
    if (memcmp(&initializer, &plain.condvar, sizeof initializer) != 0 || !use_condvar(calls, &used) ||
        is_equal(fresh, &used, &both) || !same_attributes(fresh, &used, &both))
        return false;
    fsafe_fresh_reset(fresh, &used);
    return is_equal(fresh, &used, &both);
}

static bool make_barrier(const struct fsafe_fresh_calls *calls, union specimen *made, int fill, int shared,
                         unsigned count)
{
    pthread_barrierattr_t attributes;
    memset(made, fill, sizeof *made);
    bool good = pthread_barrierattr_init(&attributes) == 0 &&
                pthread_barrierattr_setpshared(&attributes, shared) == 0 &&
                calls->barrier_init(&made->barrier, &attributes, count) == 0;
    pthread_barrierattr_destroy(&attributes);
    return good;
}

static bool learn_barrier(const struct fsafe_fresh_calls *calls)
{
    enum { PRIVATE = PTHREAD_PROCESS_PRIVATE, SHARED = PTHREAD_PROCESS_SHARED };
    const unsigned one = 1, other_bits = 0x7ffffffe; /* libc takes no more than 31 bits of them */
    struct fsafe_fresh *fresh = &fsafe_fresh_barrier;
    union specimen plain, over_dirt, shared, large;
    if (!make_barrier(calls, &plain, 0, PRIVATE, one) || !make_barrier(calls, &over_dirt, 0xff, PRIVATE, one) ||
        !make_barrier(calls, &shared, 0, SHARED, one) || !make_barrier(calls, &large, 0, PRIVATE, other_bits))
        return false;
    begin(fresh, sizeof(pthread_barrier_t), &plain);
    if (!find_shared(fresh, &shared))
        return false;
    keep_difference(fresh, &over_dirt);
    keep_difference(fresh, &shared);
    keep_difference(fresh, &large);
    union specimen used = plain;
    if (calls->barrier_wait(&used.barrier) != PTHREAD_BARRIER_SERIAL_THREAD ||
        is_equal(fresh, &used, &plain) || !same_attributes(fresh, &used, &plain))
        return false;
    knows_rounds = used.word[IN] == one && used.word[ROUND] == one && used.word[COUNT] == one &&
                   plain.word[IN] == 0 && plain.word[ROUND] == 0 && large.word[COUNT] == other_bits;
    fsafe_fresh_reset(fresh, &used);
    return is_equal(fresh, &used, &plain);
}

void fsafe_fresh_learn(const struct fsafe_fresh_calls *calls)
{
    fsafe_fresh_condvar.known = learn_condvar(calls);
    fsafe_fresh_barrier.known = learn_barrier(calls);
}

bool fsafe_fresh_barrier_completes(const void *barrier)
{
    return !knows_rounds || fsafe_fresh_word(barrier, IN) - fsafe_fresh_word(barrier, ROUND) + 1 >=
                                fsafe_fresh_word(barrier, COUNT);
}

#endif

bool fsafe_fresh_is_new(const struct fsafe_fresh *fresh, const void *object)
{
    for (unsigned i = 0; i < fresh->words; i++)
        if (((fsafe_fresh_word(object, i) ^ fresh->image[i]) & ~fresh->keep[i]) != 0)
            return false;
    return true;
}

void fsafe_fresh_reset(const struct fsafe_fresh *fresh, void *object)
{
    uint32_t *word = object;
    for (unsigned i = 0; i < fresh->words; i++) {
        uint32_t kept = fsafe_fresh_word(object, i) & fresh->keep[i];
        __atomic_store_n(&word[i], (fresh->image[i] & ~fresh->keep[i]) | kept, __ATOMIC_RELAXED);
    }
}
