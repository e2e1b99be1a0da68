/*
 * Threads that come back from a wait for a condition, or are cancelled in one, and go straight into a call of libc's,
 * mostly with the mutex in their hands: no fork may overlook them. One row for each way to wait.
 */
#include "storm.h"
#include "../moment.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

typedef const struct storm_seat *seat_t;
#define CALL(name) static bool name##_(seat_t seat __attribute__((unused)))

enum { SEATS = 64, CALLS = 30, WAIT_US = 20 };

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t condvar;
    mtx_t c11_mutex;
    cnd_t c11_condvar;
} of_seat[SEATS];

/* waiters_cxx.cc: std::condition_variable, std::condition_variable_any */
bool waiters_wait_cxx(unsigned seat, bool any, void (*with_mutex)(unsigned));

static const char *make_locks(void)
{
    for (int i = 0; i < SEATS; i++) {
        pthread_mutex_init(&of_seat[i].mutex, NULL);
        pthread_cond_init(&of_seat[i].condvar, NULL);
        if (mtx_init(&of_seat[i].c11_mutex, mtx_plain) != thrd_success ||
            cnd_init(&of_seat[i].c11_condvar) != thrd_success)
            return "no C11 locks";
    }
    return NULL;
}

static void set_variable(unsigned number)
{
    char name[16];
    snprintf(name, sizeof name, "WAITER%u", number % SEATS);
    for (int i = 0; i < CALLS; i++)
        setenv(name, "value", 1);
}

CALL(timed)
{
    const struct timespec until = moment_in_us(CLOCK_REALTIME, WAIT_US);
    STORM_CHECK(pthread_mutex_lock(&of_seat[seat->number].mutex) == 0);
    pthread_cond_timedwait(&of_seat[seat->number].condvar, &of_seat[seat->number].mutex, &until);
    set_variable(seat->number);
    STORM_CHECK(pthread_mutex_unlock(&of_seat[seat->number].mutex) == 0);
    return true;
}

CALL(clocked)
{
#if __GLIBC_PREREQ(2, 30)
    const struct timespec until = moment_in_us(CLOCK_MONOTONIC, WAIT_US);
    STORM_CHECK(pthread_mutex_lock(&of_seat[seat->number].mutex) == 0);
    pthread_cond_clockwait(&of_seat[seat->number].condvar, &of_seat[seat->number].mutex, CLOCK_MONOTONIC, &until);
    set_variable(seat->number);
    STORM_CHECK(pthread_mutex_unlock(&of_seat[seat->number].mutex) == 0);
    return true;
#else
    return timed_(seat);
#endif
}

CALL(c11)
{
    const struct timespec until = moment_in_us(CLOCK_REALTIME, WAIT_US);
    STORM_CHECK(mtx_lock(&of_seat[seat->number].c11_mutex) == thrd_success);
    cnd_timedwait(&of_seat[seat->number].c11_condvar, &of_seat[seat->number].c11_mutex, &until);
    set_variable(seat->number);
    STORM_CHECK(mtx_unlock(&of_seat[seat->number].c11_mutex) == thrd_success);
    return true;
}

CALL(cxx)
{
    return waiters_wait_cxx(seat->number, false, set_variable);
}

CALL(cxx_any)
{
    return waiters_wait_cxx(seat->number, true, set_variable);
}

/* Woken by the next one, without a limit: a ring of pairs. */
CALL(woken)
{
    static bool turn[SEATS];
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
    const struct timespec until = moment_in_us(CLOCK_REALTIME, WAIT_US);
    STORM_CHECK(pthread_mutex_lock(&mutex) == 0);
    turn[seat->number ^ 1] = true;
    pthread_cond_broadcast(&changed);
    while (!turn[seat->number] && pthread_cond_timedwait(&changed, &mutex, &until) == 0)
        ;
    turn[seat->number] = false;
    set_variable(seat->number);
    STORM_CHECK(pthread_mutex_unlock(&mutex) == 0);
    return true;
}

static void release(void *raw)
{
    const unsigned number = (unsigned)(size_t)raw;
    pthread_mutex_unlock(&of_seat[number].mutex);
    set_variable(number);
}

static void *be_cancelled(void *raw)
{
    const unsigned number = (unsigned)(size_t)raw;
    pthread_mutex_lock(&of_seat[number].mutex);
    pthread_cleanup_push(release, raw);
    for (;;)
        pthread_cond_wait(&of_seat[number].condvar, &of_seat[number].mutex);
    pthread_cleanup_pop(1);
    return NULL;
}

CALL(cancelled)
{
    pthread_t thread;
    STORM_CHECK(pthread_create(&thread, NULL, be_cancelled, (void *)(size_t)seat->number) == 0);
    usleep(100);
    STORM_CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
    return true;
}

CALL(setenv)
{
    STORM_CHECK(setenv("CHILD", "1", 1) == 0);
    return true;
}

#define ROW(way) static const struct storm_call way##_calls[] = {{#way, way##_, STORM_WORKER}, \
                                                                 {"setenv", setenv_, STORM_CHILD}, {0}}
ROW(timed);
ROW(clocked);
ROW(c11);
ROW(cxx);
ROW(cxx_any);
ROW(woken);
ROW(cancelled);

const struct storm_row storm_rows[] = {
    {.name = "timed", .calls = timed_calls, .prepare = make_locks},
    {.name = "clocked", .calls = clocked_calls, .prepare = make_locks},
    {.name = "c11", .calls = c11_calls, .prepare = make_locks},
    {.name = "c++", .calls = cxx_calls, .prepare = make_locks},
    {.name = "c++-any", .calls = cxx_any_calls, .prepare = make_locks},
    {.name = "woken", .calls = woken_calls, .prepare = make_locks},
    {.name = "cancelled", .calls = cancelled_calls, .prepare = make_locks},
    {0}};
