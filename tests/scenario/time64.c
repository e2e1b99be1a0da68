/*
 * Waits with a limit by the names that programs with 64-bit times call on 32 bits. (Where a machine has one size of
 * times these are the usual names.)
 */
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64
#include "scenario.h"

#include <semaphore.h>
#include <stdint.h>
#include <threads.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static mtx_t c11;
static pthread_cond_t condvar = PTHREAD_COND_INITIALIZER;

/* 2100: such a limit has no place in a time of 32 bits, and is no reason to be forgotten. */
static const time_t far = sizeof(time_t) > 4 ? (time_t)INT64_C(4102444800) : INT32_MAX;

/* The limit of the calls below: that moment, or soon. */
static bool is_far;

/* (scn_in_ms returns a time of the other size.) */
static const struct timespec *limit_by(clockid_t clock)
{
    static _Thread_local struct timespec limit;
    clock_gettime(clock, &limit);
    limit.tv_sec += 1;
    if (is_far)
        limit.tv_sec = far;
    return &limit;
}

static int error_of(int result)
{
    return result == 0 ? 0 : errno;
}

static int c11_error(int result)
{
    return result == thrd_success ? 0 : result == thrd_timedout ? ETIMEDOUT : EINVAL;
}

static int lock(void *unused) { return (void)unused, pthread_mutex_lock(&mutex); }
static int lock_timed(void *unused) { return (void)unused, pthread_mutex_timedlock(&mutex, limit_by(CLOCK_REALTIME)); }
static int lock_by_clock(void *unused)
{
    return pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, limit_by(CLOCK_MONOTONIC));
}
static int unlock(void *unused) { return (void)unused, pthread_mutex_unlock(&mutex); }

static int write_lock(void *unused) { return (void)unused, pthread_rwlock_wrlock(&rwlock); }
static int read_timed(void *unused)
{
    return (void)unused, pthread_rwlock_timedrdlock(&rwlock, limit_by(CLOCK_REALTIME));
}
static int write_timed(void *unused)
{
    return (void)unused, pthread_rwlock_timedwrlock(&rwlock, limit_by(CLOCK_REALTIME));
}
static int read_by_clock(void *unused)
{
    return (void)unused, pthread_rwlock_clockrdlock(&rwlock, CLOCK_MONOTONIC, limit_by(CLOCK_MONOTONIC));
}
static int write_by_clock(void *unused)
{
    return (void)unused, pthread_rwlock_clockwrlock(&rwlock, CLOCK_MONOTONIC, limit_by(CLOCK_MONOTONIC));
}
static int rwlock_give(void *unused) { return (void)unused, pthread_rwlock_unlock(&rwlock); }

static int sem_take(void *unused) { return (void)unused, error_of(sem_wait(&semaphore)); }
static int sem_timed(void *unused)
{
    return (void)unused, error_of(sem_timedwait(&semaphore, limit_by(CLOCK_REALTIME)));
}
static int sem_by_clock(void *unused)
{
    return (void)unused, error_of(sem_clockwait(&semaphore, CLOCK_MONOTONIC, limit_by(CLOCK_MONOTONIC)));
}
static int sem_give(void *unused) { return (void)unused, error_of(sem_post(&semaphore)); }

static int c11_take(void *unused) { return (void)unused, c11_error(mtx_lock(&c11)); }
static int c11_timed(void *unused) { return (void)unused, c11_error(mtx_timedlock(&c11, limit_by(CLOCK_REALTIME))); }
static int c11_give(void *unused) { return (void)unused, c11_error(mtx_unlock(&c11)); }

struct kind {
    const char *name;
    scn_call *take, *timed, *give;
    bool reads; /* two can have it so */
};

static const struct kind kinds[] = {
    {"mutex", lock, lock_timed, unlock, false},
    {"rwlock-read", write_lock, read_timed, rwlock_give, true},
    {"rwlock-write", write_lock, write_timed, rwlock_give, false},
    {"semaphore", sem_take, sem_timed, sem_give, false},
    {"c11", c11_take, c11_timed, c11_give, false},
    {"mutex-clock", lock, lock_by_clock, unlock, false},
    {"rwlock-read-clock", write_lock, read_by_clock, rwlock_give, true},
    {"rwlock-write-clock", write_lock, write_by_clock, rwlock_give, false},
    {"semaphore-clock", sem_take, sem_by_clock, sem_give, false},
};

/* Taken by a thread that vanishes; or taken with a far limit by that thread. */
static void orphaned(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    is_far = true;
    SCN_IN_CHILD_WHILE_HELD(self->number ? kind->timed : kind->take, kind->give, NULL) {
        is_far = false;
        SCN_IS(kind->timed(NULL), 0);
        SCN_IS(kind->give(NULL), 0);
    }
}

/* Somebody has it: it is waited for until the limit, however far that is. */
static void contract(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    struct scn_holder worker;
    struct scn_waiter waiter;
    scn_hold(&worker, kind->take, kind->give, NULL, 1);
    SCN_IS(kind->timed(NULL), ETIMEDOUT);
    is_far = true;
    scn_want(&waiter, kind->timed, kind->give, NULL);
    scn_let_go(&worker);
    scn_join(waiter.thread);
    SCN_IS(kind->timed(NULL), 0);
    SCN_IS(kind->give(NULL), 0);
}

static int wait_timed(void)
{
    return pthread_cond_timedwait(&condvar, &mutex, limit_by(CLOCK_REALTIME));
}

static int wait_by_clock(void)
{
    return pthread_cond_clockwait(&condvar, &mutex, CLOCK_MONOTONIC, limit_by(CLOCK_MONOTONIC));
}

static int wait_c11(void)
{
    return c11_error(cnd_timedwait((cnd_t *)&condvar, (mtx_t *)&mutex, limit_by(CLOCK_REALTIME)));
}

static int (*const waits[])(void) = {
    wait_timed,
    wait_c11,
    wait_by_clock,
};

static int wait_for_signal(void *unused)
{
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    int result;
    do
        result = waits[0]();
    while (result == ETIMEDOUT);
    return result;
}

/* A waiter vanishes: the child forgets it, the mutex is free, and waits there end as they should. */
static void conditions(const struct scn_case *self)
{
    struct scn_waiter waiter;
    is_far = true;
    scn_want(&waiter, wait_for_signal, unlock, NULL);
    SCN_IN_CHILD {
        is_far = false;
        for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++) {
            SCN_IS(pthread_mutex_lock(&mutex), 0);
            SCN_IS(waits[i](), ETIMEDOUT);
            SCN_IS(pthread_mutex_unlock(&mutex), 0);
        }
    }
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(pthread_cond_broadcast(&condvar), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    scn_join(waiter.thread);
}

static void *sleep_long(void *unused)
{
    pause();
    return unused;
}

static void joins(const struct scn_case *self)
{
    const pthread_t thread = scn_start(sleep_long, NULL);
    SCN_IN_CHILD {
        SCN_IS(self->number ? pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, limit_by(CLOCK_MONOTONIC))
                            : pthread_timedjoin_np(thread, NULL, limit_by(CLOCK_REALTIME)), 0);
    }
}

/* What localtime and its like say of 2100; it takes 64 bits. */
static void calendar(const struct scn_case *self)
{
    struct tm tm;
    const time_t t = sizeof(time_t) > 4 ? far : 0;
    const int year = sizeof(time_t) > 4 ? 200 : 70;
    SCN_CHECK(gmtime_r(&t, &tm) == &tm && tm.tm_year == year && gmtime(&t)->tm_year == year);
    SCN_CHECK(timegm(&tm) == t);
    SCN_CHECK(localtime_r(&t, &tm) == &tm && mktime(&tm) == t && localtime(&t)->tm_mday == tm.tm_mday);
}

void scn_cases(void)
{
    sem_init(&semaphore, 0, 1);
    mtx_init(&c11, mtx_plain | mtx_timed);
    for (const struct kind *kind = kinds; kind < kinds + sizeof kinds / sizeof *kinds; kind++) {
        for (long timed = 0; timed < (kind->reads ? 1 : 2); timed++)
            scn_add(SCN_CASE(.bare = "fails ETIMEDOUT", .run = orphaned, .kind = kind, .number = timed),
                    "%s-%s", kind->name, timed ? "taken-with-limit" : "orphaned");
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = contract, .kind = kind), "%s-contract", kind->name);
    }
    scn_add(SCN_CASE(.bare = "fine", .says = "once:forgot 1 vanished thread", .run = conditions), "conditions");
    scn_add(SCN_CASE(.bare = "fine|fails ETIMEDOUT", .run = joins), "join");
    scn_add(SCN_CASE(.bare = "fine|fails ETIMEDOUT", .run = joins, .number = 1), "join-clock");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = calendar), "calendar");
}
