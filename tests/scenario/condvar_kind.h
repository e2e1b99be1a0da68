/* Condition variables, the calls that wait, and threads that sleep in them: one template for all condvar_*.c. */
#ifndef CONDVAR_KIND_H
#define CONDVAR_KIND_H

#include "mutex_kind.h"

#include <sched.h>

struct condvar_kind {
    const char *name;
    clockid_t clock;
    bool is_static; /* the bytes of the static initialiser, no pthread_cond_init */
};

enum { CONDVAR_KINDS = 3 };

static const struct condvar_kind condvar_kinds[CONDVAR_KINDS] = {
    {"static", CLOCK_REALTIME, true},
    {"realtime", CLOCK_REALTIME, false},
    {"monotonic", CLOCK_MONOTONIC, false},
};

static inline void condvar_make_shared(const struct condvar_kind *kind, int pshared, pthread_cond_t *condvar)
{
    pthread_condattr_t attributes;
    SCN_IS(pthread_condattr_init(&attributes), 0);
    SCN_IS(pthread_condattr_setclock(&attributes, kind->clock), 0);
    SCN_IS(pthread_condattr_setpshared(&attributes, pshared), 0);
    SCN_IS(pthread_cond_init(condvar, &attributes), 0);
    pthread_condattr_destroy(&attributes);
}

static inline void condvar_make(const struct condvar_kind *kind, pthread_cond_t *condvar)
{
    if (kind->is_static)
        *condvar = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    else
        condvar_make_shared(kind, PTHREAD_PROCESS_PRIVATE, condvar);
}

/* How a thread waits; a long time, where there is one. */
typedef int condvar_wait(const struct condvar_kind *kind, pthread_cond_t *condvar, pthread_mutex_t *mutex, long ms);

static inline int condvar_plainly(const struct condvar_kind *kind, pthread_cond_t *condvar, pthread_mutex_t *mutex,
                                  long ms)
{
    (void)kind, (void)ms;
    return pthread_cond_wait(condvar, mutex);
}

static inline int condvar_timed(const struct condvar_kind *kind, pthread_cond_t *condvar, pthread_mutex_t *mutex,
                                long ms)
{
    const struct timespec deadline = scn_in_ms(kind->clock, ms);
    return pthread_cond_timedwait(condvar, mutex, &deadline);
}

static inline int condvar_clocked(const struct condvar_kind *kind, pthread_cond_t *condvar, pthread_mutex_t *mutex,
                                  long ms)
{
    const struct timespec deadline = scn_in_ms(CLOCK_MONOTONIC, ms);
    return pthread_cond_clockwait(condvar, mutex, CLOCK_MONOTONIC, &deadline);
}

struct condvar_entry {
    const char *name;
    condvar_wait *wait;
};

enum { CONDVAR_ENTRIES = 3, CONDVAR_LONG_MS = 60000 };

static const struct condvar_entry condvar_entries[CONDVAR_ENTRIES] = {
    {"wait", condvar_plainly},
    {"timedwait", condvar_timed},
    {"clockwait", condvar_clocked},
};

/* Threads named "worker" that wait until they may go. */
struct crew {
    const struct condvar_kind *kind;
    condvar_wait *wait;
    pthread_cond_t *condvar;
    pthread_mutex_t *mutex;
    int depth; /* how often each has locked the mutex when it waits */
    bool go;   /* under the mutex */
    int size;
    atomic_int tid, back;
    pthread_t thread[8];
};

static inline void *crew_body(void *raw)
{
    struct crew *crew = raw;
    pthread_setname_np(pthread_self(), "worker");
    for (int i = 0; i < crew->depth; i++)
        SCN_IS(pthread_mutex_lock(crew->mutex), 0);
    atomic_store(&crew->tid, (int)gettid());
    while (!crew->go)
        SCN_IS(crew->wait(crew->kind, crew->condvar, crew->mutex, CONDVAR_LONG_MS), 0);
    atomic_fetch_add(&crew->back, 1);
    for (int i = 0; i < crew->depth; i++)
        SCN_IS(pthread_mutex_unlock(crew->mutex), 0);
    return NULL;
}

/* Returns when all sleep in the condition variable. Wants kind, wait, condvar, mutex and size; depth 0 means 1. */
static inline void crew_gather(struct crew *crew)
{
    if (crew->depth == 0)
        crew->depth = 1;
    for (int i = 0; i < crew->size; i++) {
        atomic_store(&crew->tid, 0);
        crew->thread[i] = scn_start(crew_body, crew);
        while (!atomic_load(&crew->tid))
            sched_yield();
        /* It has the mutex, which nobody contends: the first thing it sleeps in is the wait. */
        scn_await_asleep(atomic_load(&crew->tid), NULL);
    }
}

static inline void crew_join(struct crew *crew)
{
    for (int i = 0; i < crew->size; i++)
        scn_join(crew->thread[i]);
    SCN_CHECK(atomic_load(&crew->back) == crew->size);
}

static inline void crew_dismiss(struct crew *crew)
{
    SCN_IS(pthread_mutex_lock(crew->mutex), 0);
    crew->go = true;
    SCN_IS(pthread_cond_broadcast(crew->condvar), 0);
    SCN_IS(pthread_mutex_unlock(crew->mutex), 0);
    crew_join(crew);
}

/* Two or more threads pass a ball: each waits for its turn, then wakes the others. A lost wake-up hangs. */
struct rally {
    pthread_cond_t *condvar;
    pthread_mutex_t *mutex;
    int players, rounds;
    bool by_signal; /* one at a time wakes exactly one; needs two players */
    int turn;
    atomic_int seated;
};

static inline void *rally_body(void *raw)
{
    struct rally *rally = raw;
    const int seat = atomic_fetch_add(&rally->seated, 1);
    SCN_IS(pthread_mutex_lock(rally->mutex), 0);
    for (int i = 0; i < rally->rounds; i++) {
        while (rally->turn % rally->players != seat)
            SCN_IS(pthread_cond_wait(rally->condvar, rally->mutex), 0);
        rally->turn++;
        SCN_IS((rally->by_signal ? pthread_cond_signal : pthread_cond_broadcast)(rally->condvar), 0);
    }
    SCN_IS(pthread_mutex_unlock(rally->mutex), 0);
    return NULL;
}

static inline void condvar_rally(pthread_cond_t *condvar, pthread_mutex_t *mutex, bool by_signal, int rounds)
{
    struct rally rally = {
        .condvar = condvar, .mutex = mutex, .players = by_signal ? 2 : 4, .rounds = rounds, .by_signal = by_signal};
    pthread_t thread[4];
    for (int i = 0; i < rally.players; i++)
        thread[i] = scn_start(rally_body, &rally);
    for (int i = 0; i < rally.players; i++)
        scn_join(thread[i]);
    SCN_CHECK(rally.turn == rally.players * rounds);
}

/* Nobody is in there: everything works as with a new one, with the clock it was made for, and both can go. */
static inline void condvar_use_and_destroy(const struct condvar_kind *kind, pthread_cond_t *condvar,
                                           pthread_mutex_t *mutex)
{
    struct timespec before, after;
    SCN_IS(pthread_mutex_lock(mutex), 0);
    clock_gettime(CLOCK_MONOTONIC, &before);
    SCN_IS(condvar_timed(kind, condvar, mutex, 50), ETIMEDOUT);
    clock_gettime(CLOCK_MONOTONIC, &after);
    SCN_CHECK((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 40);
    SCN_IS(pthread_mutex_unlock(mutex), 0);
    condvar_rally(condvar, mutex, true, 50);
    condvar_rally(condvar, mutex, false, 50);
    SCN_IS(pthread_cond_destroy(condvar), 0);
    SCN_IS(pthread_mutex_destroy(mutex), 0);
}

/*
 * How a case ends bare that ends so where libc's calls wait for the threads inside; elsewhere the child does not
 * notice.
 */
#define CONDVAR_BARE(how) (LIBC_WAITS_INSIDE ? (how) : "fine")

#define CONDVAR_FORGOT                                                                                                 \
    "^forksafe\\[\\d+\\.\\d+\\] child forgot \\d vanished threads? in condition variable 0x[0-9a-f]+ "
#define CONDVAR_FORGOT_ONCE "once:" CONDVAR_FORGOT ".*\\(private\\) for .* in use at fork by \\d+ \"worker\" since"
#define CONDVAR_DESTROYED (LIBC_WAITS_INSIDE ? CONDVAR_FORGOT_ONCE : SCN_SILENT)

#endif
