/*
 * Threads take up to three locks of any kinds, one inside the other, wait for conditions with a limit, and start and
 * cancel threads; children do the same in one thread and in two, and fork. A generator of each one's own says what it
 * does next, so that no two rounds are alike. Whatever vanished, each child ends: critical sections end, and only a
 * child's own threads are waited for without a limit.
 */
#include "storm.h"
#include "../moment.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

typedef const struct storm_seat *seat_t;
#define CALL(name) static bool name##_(seat_t seat __attribute__((unused)))

enum { MUTEX, RECURSIVE, ERRORCHECK, ADAPTIVE, INHERITING, ROBUST };
enum { RWLOCK = ROBUST + 1, WRITERS_FIRST, SEMAPHORE, SPIN, C11, STREAM };
enum { KINDS = STREAM + 1, LOCKS = 2 * KINDS, NESTED = 3, CONDITIONS = 4, GRANDCHILD_SECONDS = 8 };

static struct {
    unsigned kind;
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
    sem_t semaphore;
    pthread_spinlock_t spin;
    mtx_t c11;
    FILE *stream;
} locks[LOCKS];

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned turn;
} conditions[CONDITIONS];

static const char *make_locks(void)
{
    for (unsigned i = 0; i < LOCKS; i++) {
        const unsigned kind = locks[i].kind = i * 5 % KINDS; /* neighbours differ */
        pthread_mutexattr_t of_mutex;
        pthread_mutexattr_init(&of_mutex);
        pthread_mutexattr_settype(&of_mutex, kind == RECURSIVE    ? PTHREAD_MUTEX_RECURSIVE
                                             : kind == ERRORCHECK ? PTHREAD_MUTEX_ERRORCHECK
                                             : kind == ADAPTIVE   ? PTHREAD_MUTEX_ADAPTIVE_NP
                                                                  : PTHREAD_MUTEX_NORMAL);
        if (kind == INHERITING)
            pthread_mutexattr_setprotocol(&of_mutex, PTHREAD_PRIO_INHERIT);
        if (kind == ROBUST)
            pthread_mutexattr_setrobust(&of_mutex, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&locks[i].mutex, &of_mutex);
        pthread_rwlockattr_t of_rwlock;
        pthread_rwlockattr_init(&of_rwlock);
        if (kind == WRITERS_FIRST)
            pthread_rwlockattr_setkind_np(&of_rwlock, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
        pthread_rwlock_init(&locks[i].rwlock, &of_rwlock);
        sem_init(&locks[i].semaphore, 0, 1);
        pthread_spin_init(&locks[i].spin, PTHREAD_PROCESS_PRIVATE);
        mtx_init(&locks[i].c11, mtx_timed);
        if (kind == STREAM && !(locks[i].stream = fopen("/dev/null", "w")))
            return "/dev/null cannot be opened";
    }
    for (unsigned i = 0; i < CONDITIONS; i++) {
        pthread_mutex_init(&conditions[i].mutex, NULL);
        pthread_cond_init(&conditions[i].changed, NULL);
    }
    return NULL;
}

/* The next of a series of numbers, below `most`. */
static unsigned next(uint32_t *series, unsigned most)
{
    *series = *series * 1664525 + 1013904223;
    return (unsigned)((uint64_t)*series * most >> 32);
}

static uint32_t series_of(seat_t seat)
{
    return (uint32_t)(seat->number * 2654435761u + seat->round * 40503u + seat->is_child);
}

static struct timespec soon(void)
{
    return moment_in_us(CLOCK_REALTIME, 2000);
}

enum how { WAIT, TRY, UNTIL };

static bool take_mutex(pthread_mutex_t *mutex, enum how how)
{
    const struct timespec until = soon();
    const int result = how == TRY     ? pthread_mutex_trylock(mutex)
                       : how == UNTIL ? pthread_mutex_timedlock(mutex, &until)
                                      : pthread_mutex_lock(mutex);
    return result == 0 || (result == EOWNERDEAD && pthread_mutex_consistent(mutex) == 0);
}

static bool take_rwlock(pthread_rwlock_t *rwlock, enum how how, bool writes)
{
    const struct timespec until = soon();
    if (how == TRY)
        return (writes ? pthread_rwlock_trywrlock : pthread_rwlock_tryrdlock)(rwlock) == 0;
    if (how == UNTIL)
        return (writes ? pthread_rwlock_timedwrlock : pthread_rwlock_timedrdlock)(rwlock, &until) == 0;
    return (writes ? pthread_rwlock_wrlock : pthread_rwlock_rdlock)(rwlock) == 0;
}

static bool take_semaphore(sem_t *semaphore, enum how how)
{
    const struct timespec until = soon();
    return (how == TRY     ? sem_trywait(semaphore)
            : how == UNTIL ? sem_timedwait(semaphore, &until)
                           : sem_wait(semaphore)) == 0;
}

static bool take(unsigned i, uint32_t *series)
{
    const enum how how = (enum how)(next(series, 8) < 6 ? WAIT : next(series, 2) ? TRY : UNTIL);
    switch (locks[i].kind) {
    case RWLOCK:
    case WRITERS_FIRST:
        return take_rwlock(&locks[i].rwlock, how, next(series, 2));
    case SEMAPHORE:
        return take_semaphore(&locks[i].semaphore, how);
    case SPIN:
        return (how == WAIT ? pthread_spin_lock : pthread_spin_trylock)(&locks[i].spin) == 0;
    case C11:
        return (how == WAIT ? mtx_lock : mtx_trylock)(&locks[i].c11) == thrd_success;
    case STREAM:
        if (how != WAIT)
            return ftrylockfile(locks[i].stream) == 0;
        flockfile(locks[i].stream);
        return true;
    default:
        return take_mutex(&locks[i].mutex, how);
    }
}

static bool give(unsigned i)
{
    switch (locks[i].kind) {
    case RWLOCK:
    case WRITERS_FIRST:
        return pthread_rwlock_unlock(&locks[i].rwlock) == 0;
    case SEMAPHORE:
        return sem_post(&locks[i].semaphore) == 0;
    case SPIN:
        return pthread_spin_unlock(&locks[i].spin) == 0;
    case C11:
        return mtx_unlock(&locks[i].c11) == thrd_success;
    case STREAM:
        funlockfile(locks[i].stream);
        return true;
    default:
        return pthread_mutex_unlock(&locks[i].mutex) == 0;
    }
}

/* Under locks: works, gives its processor away, sleeps, or is in libc, but the two last not under a spin lock. */
static void dwell(bool spins, uint32_t *series)
{
    const unsigned what = next(series, 64);
    const time_t moment = 1700000000;
    struct tm tm;
    if (what < 40)
        for (volatile unsigned i = 0; i < what * 8; i++)
            ;
    else if (what < 48)
        sched_yield();
    else if (!spins && what == 63)
        usleep(next(series, 2000));
    else if (!spins)
        localtime_r(&moment, &tm);
}

/* Upwards, so that they never wait for each other in a circle; released in either order. */
static bool take_some(uint32_t *series)
{
    unsigned held[NESTED], count = 0;
    bool spins = false;
    for (unsigned i = next(series, LOCKS); i < LOCKS && count < NESTED; i += 1 + next(series, LOCKS / 2)) {
        if (take(i, series)) {
            held[count++] = i;
            spins |= locks[i].kind == SPIN;
        }
    }
    dwell(spins, series);
    const bool reversed = next(series, 2);
    bool right = true;
    for (unsigned i = 0; i < count; i++)
        right &= give(held[reversed ? count - 1 - i : i]);
    return right;
}

CALL(locks)
{
    uint32_t series = series_of(seat);
    STORM_CHECK(take_some(&series));
    return true;
}

CALL(condition)
{
    uint32_t series = series_of(seat);
    const unsigned i = next(&series, CONDITIONS);
    const struct timespec until = soon();
    STORM_CHECK(pthread_mutex_lock(&conditions[i].mutex) == 0);
    const int waited = next(&series, 2)   ? pthread_cond_timedwait(&conditions[i].changed, &conditions[i].mutex, &until)
                       : next(&series, 2) ? pthread_cond_signal(&conditions[i].changed)
                                          : pthread_cond_broadcast(&conditions[i].changed);
    STORM_CHECK(pthread_mutex_unlock(&conditions[i].mutex) == 0);
    STORM_CHECK(waited == 0 || waited == ETIMEDOUT);
    return true;
}

/* Two threads pass a turn to each other, in each of the conditions that vanished threads waited for. */
static void *pass_turns(void *odd)
{
    enum { TIMES = 5 };
    for (unsigned i = 0; i < CONDITIONS; i++) {
        pthread_mutex_lock(&conditions[i].mutex);
        for (unsigned turn = odd ? 1 : 0; turn < 2 * TIMES; turn += 2) {
            while (conditions[i].turn != turn)
                pthread_cond_wait(&conditions[i].changed, &conditions[i].mutex);
            conditions[i].turn = turn + 1;
            pthread_cond_broadcast(&conditions[i].changed);
        }
        pthread_mutex_unlock(&conditions[i].mutex);
    }
    return NULL;
}

static void *take_many(void *raw)
{
    uint32_t series = (uint32_t)(uintptr_t)raw;
    for (unsigned i = 0; i < 30; i++)
        if (!take_some(&series))
            return raw;
    return NULL;
}

static bool work_in_threads(seat_t seat)
{
    pthread_t other;
    void *failed;
    const uintptr_t series = series_of(seat) | 1;
    STORM_CHECK(pthread_create(&other, NULL, take_many, (void *)series) == 0);
    STORM_CHECK(!take_many((void *)(series + 2)));
    STORM_CHECK(pthread_join(other, &failed) == 0 && !failed);
    for (unsigned i = 0; i < CONDITIONS; i++)
        conditions[i].turn = 0;
    STORM_CHECK(pthread_create(&other, NULL, pass_turns, (void *)1) == 0);
    pass_turns(NULL);
    STORM_CHECK(pthread_join(other, NULL) == 0);
    for (unsigned i = 0; i < CONDITIONS; i++)
        conditions[i].turn = 0;
    return true;
}

CALL(threads)
{
    return work_in_threads(seat);
}

CALL(grandchild)
{
    int status;
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(GRANDCHILD_SECONDS);
        const struct storm_seat its = {.is_child = true, .number = seat->number + 1000, .round = seat->round};
        _exit(take_many((void *)(uintptr_t)series_of(&its)) || !work_in_threads(&its));
    }
    STORM_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    return true;
}

static void unlock(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

/* Cancelled, if at all, in its wait. */
static void *live_for_a_moment(void *raw)
{
    uint32_t series = (uint32_t)(uintptr_t)raw;
    int before;
    const unsigned i = next(&series, CONDITIONS);
    const struct timespec until = soon();
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    take_some(&series);
    pthread_mutex_lock(&conditions[i].mutex);
    pthread_cleanup_push(unlock, &conditions[i].mutex);
    pthread_setcancelstate(before, &before);
    pthread_cond_timedwait(&conditions[i].changed, &conditions[i].mutex, &until);
    pthread_cleanup_pop(1);
    return NULL;
}

CALL(thread)
{
    uint32_t series = series_of(seat);
    pthread_t one;
    STORM_CHECK(pthread_create(&one, NULL, live_for_a_moment, (void *)(uintptr_t)series) == 0);
    if (next(&series, 2)) {
        const int cancelled = pthread_cancel(one);
        STORM_CHECK(cancelled == 0 || cancelled == ESRCH); /* before glibc 2.34, of a thread that has ended */
    }
    STORM_CHECK(pthread_join(one, NULL) == 0);
    return true;
}

static const struct storm_call standing[] = {{"locks", locks_, 0},
                                             {"condition", condition_, 0},
                                             {"threads", threads_, STORM_CHILD},
                                             {"grandchild", grandchild_, STORM_CHILD},
                                             {0}};
static const struct storm_call passing[] = {{"locks", locks_, 0},
                                            {"thread", thread_, STORM_WORKER},
                                            {"threads", threads_, STORM_CHILD},
                                            {"grandchild", grandchild_, STORM_CHILD},
                                            {0}};

const struct storm_row storm_rows[] = {
    {.name = "standing", .calls = standing, .prepare = make_locks, .threads = 6, .forkers = 2},
    {.name = "passing", .calls = passing, .prepare = make_locks, .threads = 4, .forkers = 1},
    {0}};
