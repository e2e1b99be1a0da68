/* Threads that only the parent has, joined or detached by the child. glibc lets it join a few; from 40 MB of stacks on
 * it unmaps what the next join reads. */
#include "libc.h"
#include "scenario.h"

#include <string.h>
#include <threads.h>

static int leave;

enum { MOST = 12 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static bool closing; /* under the lock */

/* A worker of a pool. */
static void *sleeps(void *raw)
{
    SCN_IS(pthread_mutex_lock(&lock), 0);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    scn_await(leave);
    return (void *)1;
}

static int sleeps_c11(void *raw)
{
    return sleeps(raw) == (void *)1 ? 1 : 0;
}

/* Nobody knows what a vanished thread would have returned: a join says NULL, whatever the variable held before. */
static void *given = &leave;

static int is_given_null(int result)
{
    SCN_CHECK(result != 0 || given == NULL);
    given = &leave;
    return result;
}

static int joins(pthread_t thread)
{
    return is_given_null(pthread_join(thread, &given));
}

static int tries(pthread_t thread)
{
    return is_given_null(pthread_tryjoin_np(thread, &given));
}

static int times(pthread_t thread)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, 3000);
    return is_given_null(pthread_timedjoin_np(thread, &given, &deadline));
}

static int clocks(pthread_t thread)
{
    const struct timespec deadline = scn_in_ms(CLOCK_MONOTONIC, 3000);
    return is_given_null(pthread_clockjoin_np(thread, &given, CLOCK_MONOTONIC, &deadline));
}

static int detaches(pthread_t thread)
{
    return pthread_detach(thread);
}

static int joins_c11(pthread_t thread)
{
    int value = 1;
    const int result = thrd_join(thread, &value);
    SCN_CHECK(result != thrd_success || value == 0);
    return result == thrd_success ? 0 : EINVAL;
}

static int detaches_c11(pthread_t thread)
{
    return thrd_detach(thread) == thrd_success ? 0 : EINVAL;
}

static const struct {
    const char *name;
    int (*call)(pthread_t thread);
    bool c11;
} ways[] = {
    {"join", joins, false},         {"tryjoin", tries, false},      {"timedjoin", times, false},
    {"clockjoin", clocks, false},   {"detach", detaches, false},    {"thrd-join", joins_c11, true},
    {"thrd-detach", detaches_c11, true},
};

static void vanished(const struct scn_case *self)
{
    leave = scn_bell();
    const int size = self->entry ? MOST : 2;
    pthread_t thread[MOST];
    for (int i = 0; i < size; i++) {
        if (ways[self->number].c11)
            SCN_CHECK(thrd_create(&thread[i], sleeps_c11, NULL) == thrd_success);
        else
            thread[i] = scn_start(sleeps, NULL);
    }
    usleep(50000);
    SCN_IN_CHILD {
        for (int i = 0; i < size; i++)
            SCN_IS(ways[self->number].call(thread[i]), 0);
        /* Their stacks are in use again, and their handles. */
        leave = scn_bell();
        for (int i = 0; i < size; i++) {
            thread[i] = scn_start(sleeps, NULL);
            SCN_IS(pthread_tryjoin_np(thread[i], NULL), EBUSY);
        }
        for (int i = 0; i < size; i++)
            scn_ring(leave);
        for (int i = 0; i < size; i++)
            scn_join(thread[i]);
    }
    for (int i = 0; i < size; i++)
        scn_ring(leave);
    for (int i = 0; i < size; i++)
        scn_join(thread[i]);
}


static void *joins_other(void *raw)
{
    SCN_IS(pthread_join(*(pthread_t *)raw, NULL), 0);
    return NULL;
}

/* Another thread was waiting in join when it vanished too: the child may join both. */
static void joiner_vanished(const struct scn_case *self)
{
    leave = scn_bell();
    pthread_t thread = scn_start(sleeps, NULL);
    const pthread_t joiner = scn_start(joins_other, &thread);
    usleep(50000);
    SCN_IN_CHILD {
        SCN_IS(pthread_join(joiner, NULL), 0);
    }
    scn_ring(leave);
    scn_join(joiner);
}

/* A pool as C++ programs have it, ended in the child: close, wake all, join each. */
static void *works(void *raw)
{
    SCN_IS(pthread_mutex_lock(&lock), 0);
    while (!closing)
        SCN_IS(pthread_cond_wait(&condition, &lock), 0);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    return NULL;
}

static void close_pool(const pthread_t *thread, int size)
{
    SCN_IS(pthread_mutex_lock(&lock), 0);
    closing = true;
    SCN_IS(pthread_cond_broadcast(&condition), 0);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    for (int i = 0; i < size; i++)
        scn_join(thread[i]);
    SCN_IS(pthread_cond_destroy(&condition), 0);
    SCN_IS(pthread_mutex_destroy(&lock), 0);
}

static void pool_closed(const struct scn_case *self)
{
    pthread_t thread[MOST];
    for (int i = 0; i < MOST; i++)
        thread[i] = scn_start(works, NULL);
    usleep(100000);
    for (int i = 0; i < 3; i++) {
        SCN_IN_CHILD {
            close_pool(thread, MOST);
        }
    }
    close_pool(thread, MOST);
}

void scn_cases(void)
{
    static const struct scn_entry many = {.name = "many"};
    /* glibc 2.43 and musl wait for a word that only the ended thread itself would have set, which no fork() sets. */
    bool waits = scn_glibc_since(43) || !scn_glibc_since(0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        bool joins = strstr(ways[i].name, "detach") == NULL;
        bool tries = strstr(ways[i].name, "tryjoin") != NULL;
        bool limited = strstr(ways[i].name, "timed") != NULL || strstr(ways[i].name, "clock") != NULL;
        const char *waiting = tries ? "fails EBUSY" : limited ? "fails ETIMEDOUT" : "hangs";
        scn_add(SCN_CASE(.bare = joins && waits ? waiting : "fine", .says = SCN_SILENT, .run = vanished,
                         .number = (long)i), "%s", ways[i].name);
        scn_add(SCN_CASE(.bare = !joins ? "fine" : waits ? waiting : "dies SIGSEGV", .says = SCN_SILENT,
                         .run = vanished, .number = (long)i, .entry = &many), "%s-many", ways[i].name);
    }
    scn_add(SCN_CASE(.bare = waits ? "hangs" : "dies SIGSEGV", .run = pool_closed), "pool-closed");
    scn_add(SCN_CASE(.bare = waits ? "hangs" : "fine", .says = SCN_SILENT, .run = joiner_vanished), "joiner-vanished");
}
