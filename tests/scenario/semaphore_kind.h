/* Semaphores and the calls that take them: one template for all semaphore_*.c. Calls give 0 or an error number. */
#ifndef SEMAPHORE_KIND_H
#define SEMAPHORE_KIND_H

#include "libc.h"
#include "scenario.h"

#include <semaphore.h>

/* Like CPython's locks: a semaphore that starts with its one token. */
static inline void semaphore_make(sem_t *semaphore, unsigned value)
{
    SCN_CHECK(sem_init(semaphore, 0, value) == 0);
}

static inline int semaphore_wait(void *semaphore);
static inline int semaphore_post(void *semaphore);

/* One whose taker has given it back before, so that nobody else can be meant to. */
static inline void semaphore_make_used(sem_t *semaphore)
{
    semaphore_make(semaphore, 1);
    SCN_IS(semaphore_wait(semaphore), 0);
    SCN_IS(semaphore_post(semaphore), 0);
}

static inline int semaphore_wait(void *semaphore)
{
    return sem_wait(semaphore) == 0 ? 0 : errno;
}

static inline int semaphore_trywait(void *semaphore)
{
    return sem_trywait(semaphore) == 0 ? 0 : errno;
}

/* A token that can be had is had at once; one that cannot costs this long. */
enum { SEMAPHORE_PATIENCE_MS = 100 };

static inline int semaphore_timedwait(void *semaphore)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, SEMAPHORE_PATIENCE_MS);
    return sem_timedwait(semaphore, &deadline) == 0 ? 0 : errno;
}

static inline int semaphore_clockwait(void *semaphore)
{
    const struct timespec deadline = scn_in_ms(CLOCK_MONOTONIC, SEMAPHORE_PATIENCE_MS);
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, &deadline) == 0 ? 0 : errno;
}

/* CPython's way in: try, then wait; a signal handler that runs meanwhile is no failure. */
static inline int semaphore_try_then_wait(void *semaphore)
{
    if (sem_trywait(semaphore) == 0)
        return 0;
    int error;
    do
        error = semaphore_wait(semaphore);
    while (error == EINTR);
    return error;
}

static inline int semaphore_post(void *semaphore)
{
    return sem_post(semaphore) == 0 ? 0 : errno;
}

enum { SEMAPHORE_ENTRIES = 4 };

static const struct scn_entry semaphore_entries[SEMAPHORE_ENTRIES] = {
    {"wait", semaphore_wait, "hangs"},
    {"trywait", semaphore_trywait, "fails EAGAIN"},
    {"timedwait", semaphore_timedwait, "fails ETIMEDOUT"},
    {"clockwait", semaphore_clockwait, "fails ETIMEDOUT"},
};

static inline int semaphore_value(sem_t *semaphore)
{
    int value = -1;
    SCN_CHECK(sem_getvalue(semaphore, &value) == 0);
    return value;
}

/* No token, for no call of no thread of this process. */
static inline void semaphore_check_none(sem_t *semaphore)
{
    SCN_CHECK(semaphore_value(semaphore) == 0);
    SCN_IS(semaphore_trywait(semaphore), EAGAIN);
    SCN_IS(semaphore_timedwait(semaphore), ETIMEDOUT);
    SCN_IS(semaphore_clockwait(semaphore), ETIMEDOUT);
    SCN_IS(scn_elsewhere(semaphore_trywait, semaphore), EAGAIN);
    SCN_IS(scn_elsewhere(semaphore_timedwait, semaphore), ETIMEDOUT);
    SCN_CHECK(semaphore_value(semaphore) == 0);
}

/* Exactly TOKENS tokens; they are all there again afterwards. */
static inline void semaphore_check_tokens(sem_t *semaphore, int tokens)
{
    SCN_CHECK(semaphore_value(semaphore) == tokens);
    for (int i = 0; i < tokens; i++)
        SCN_IS(semaphore_entries[i % SEMAPHORE_ENTRIES].take(semaphore), 0);
    SCN_IS(semaphore_trywait(semaphore), EAGAIN);
    SCN_IS(scn_elsewhere(semaphore_trywait, semaphore), EAGAIN);
    for (int i = 0; i < tokens; i++)
        SCN_IS(semaphore_post(semaphore), 0);
    SCN_CHECK(semaphore_value(semaphore) == tokens);
}

/* The calling thread takes the lock with TAKE, has it alone, and leaves it free: one token, never two. */
static inline void semaphore_use(scn_call *take, sem_t *semaphore)
{
    SCN_IS(take(semaphore), 0);
    SCN_CHECK(semaphore_value(semaphore) == 0);
    SCN_IS(semaphore_trywait(semaphore), EAGAIN);
    SCN_IS(scn_elsewhere(semaphore_trywait, semaphore), EAGAIN);
    SCN_IS(semaphore_post(semaphore), 0);
    SCN_CHECK(semaphore_value(semaphore) == 1);
}

#define SEMAPHORE_TAKEN "^forksafe\\[\\d+\\.\\d+\\] child took over semaphore 0x[0-9a-f]+ "
#define SEMAPHORE_TAKEN_FROM_WORKER SEMAPHORE_TAKEN ".*for .* held at fork by \\d+ \"worker\""

#endif
