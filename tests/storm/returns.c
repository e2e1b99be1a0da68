/*
 * Threads that come back from a wait, woken, timed out or cancelled, and go straight into a call that libc locks, while
 * others fork: none of them may be in there at the clone.
 */
#include "config.h"

#include "../moment.h"
#include "../scenario/scenario.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#ifdef HAVE_THREADS_H
#include <threads.h>
#endif

/* So many that a bare child hangs for certain, and one under a library that lets them pass. */
enum { FORKS = 150, FORKERS = 8, WORKERS = 4, CALLS = 30, WAIT_US = 20 };

struct place {
    pthread_mutex_t mutex;
    pthread_cond_t condvar;
};

static void init(struct place *place)
{
    SCN_IS(pthread_mutex_init(&place->mutex, NULL), 0);
    SCN_IS(pthread_cond_init(&place->condvar, NULL), 0);
}

static void call_libc(void)
{
    for (int i = 0; i < CALLS; i++)
        setenv("RETURNS", "value", 1);
}

static void *times_out(void *unused)
{
    struct place place;
    init(&place);
    SCN_IS(pthread_mutex_lock(&place.mutex), 0);
    for (;;) {
        const struct timespec until = moment_in_us(CLOCK_REALTIME, WAIT_US);
        pthread_cond_timedwait(&place.condvar, &place.mutex, &until);
        call_libc();
    }
    return unused;
}

#ifdef HAVE_PTHREAD_COND_CLOCKWAIT
static void *times_out_by_clock(void *unused)
{
    struct place place;
    init(&place);
    SCN_IS(pthread_mutex_lock(&place.mutex), 0);
    for (;;) {
        const struct timespec until = moment_in_us(CLOCK_MONOTONIC, WAIT_US);
        pthread_cond_clockwait(&place.condvar, &place.mutex, CLOCK_MONOTONIC, &until);
        call_libc();
    }
    return unused;
}
#endif

#ifdef HAVE_THREADS_H
static void *times_out_in_c11(void *unused)
{
    mtx_t mutex;
    cnd_t condvar;
    SCN_IS(mtx_init(&mutex, mtx_plain), thrd_success);
    SCN_IS(cnd_init(&condvar), thrd_success);
    SCN_IS(mtx_lock(&mutex), thrd_success);
    for (;;) {
        const struct timespec until = moment_in_us(CLOCK_REALTIME, WAIT_US);
        cnd_timedwait(&condvar, &mutex, &until);
        call_libc();
    }
    return unused;
}
#endif

/* Two threads that wake each other. */
static struct place shared = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};

static void *is_woken(void *unused)
{
    SCN_IS(pthread_mutex_lock(&shared.mutex), 0);
    for (;;) {
        pthread_cond_signal(&shared.condvar);
        const struct timespec until = moment_in_us(CLOCK_REALTIME, WAIT_US); /* one may be alone */
        pthread_cond_timedwait(&shared.condvar, &shared.mutex, &until);
        call_libc();
    }
    return unused;
}

/* Waits for a mutex, and calls whether it has got it or not. */
static void *queues(void *unused)
{
    for (;;) {
        const struct timespec until = moment_in_us(CLOCK_REALTIME, WAIT_US);
        const bool got = pthread_mutex_timedlock(&shared.mutex, &until) == 0;
        call_libc();
        if (got)
            pthread_mutex_unlock(&shared.mutex);
    }
    return unused;
}

static void clean(void *argument)
{
    struct place *place = argument;
    pthread_mutex_unlock(&place->mutex);
    call_libc();
    call_libc();
}

static void *wait_for_ever(void *argument)
{
    struct place *place = argument;
    pthread_mutex_lock(&place->mutex);
    pthread_cleanup_push(clean, place);
    for (;;)
        pthread_cond_wait(&place->condvar, &place->mutex);
    pthread_cleanup_pop(1);
    return NULL;
}

static void *cancels(void *unused)
{
    for (;;) {
        struct place place;
        pthread_t thread;
        init(&place);
        SCN_IS(pthread_create(&thread, NULL, wait_for_ever, &place), 0);
        usleep(100);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    return unused;
}

static const struct way {
    const char *name;
    void *(*body)(void *);
} ways[] = {
    {"timed out", times_out},
#ifdef HAVE_PTHREAD_COND_CLOCKWAIT
    {"timed out, another clock", times_out_by_clock},
#endif
#ifdef HAVE_THREADS_H
    {"timed out, C11", times_out_in_c11},
#endif
    {"woken", is_woken},
    {"queues for a mutex", queues},
    {"cancelled", cancels},
};

/* By two doors. malloc is not to be had behind the second: nothing frees its locks there. */
static void *fork_on_and_on(void *forkers)
{
    for (long i = 0; i < FORKS / (long)forkers; i++) {
        const pid_t child = i % 2 == 0 ? scn_fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        SCN_CHECK(child >= 0);
        if (child == 0) {
            scn_arm();
            unsetenv("RETURNED");
            scn_fine();
        }
        scn_reap(child);
        usleep(300);
    }
    return NULL;
}

static void returns(const struct scn_case *self)
{
    const struct way *way = self->kind;
    pthread_t forker[FORKERS];
    for (int i = 0; i < WORKERS; i++)
        scn_start(way->body, NULL);
    for (long i = 0; i < self->number; i++)
        forker[i] = scn_start(fork_on_and_on, (void *)self->number);
    for (long i = 0; i < self->number; i++)
        scn_join(forker[i]);
    scn_fine();
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (long forkers = 1; forkers <= FORKERS; forkers += FORKERS - 1)
            scn_add(SCN_CASE(.bare = "hangs", .run = returns, .kind = &ways[i], .number = forkers),
                    "%s, %ld at a time", ways[i].name, forkers);
}
