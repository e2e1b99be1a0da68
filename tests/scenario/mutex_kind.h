/* The mutex kinds of this library's promise and the calls that take them: one template for all mutex_*.c. */
#ifndef MUTEX_KIND_H
#define MUTEX_KIND_H

#include "libc.h"
#include "scenario.h"

struct mutex_kind {
    const char *name;
    const char *word; /* as the library's lines name it */
    int type;         /* -1: pthread_mutex_init without attributes */
    bool is_static;   /* the bytes of a static initialiser, no pthread_mutex_init */
    bool owned;       /* unlock and relock ask who owns it: glibc refuses the child's new thread id */
};

/* The last two are the adaptive ones. */
enum { MUTEX_KINDS = LIBC_HAS_ADAPTIVE ? 9 : 7 };

static const struct mutex_kind mutex_kinds[] = {
    {"default", "normal", -1, false, false},
    {"normal", "normal", PTHREAD_MUTEX_NORMAL, false, false},
    {"normal-static", "normal", PTHREAD_MUTEX_NORMAL, true, false},
    {"recursive", "recursive", PTHREAD_MUTEX_RECURSIVE, false, true},
    {"recursive-static", "recursive", PTHREAD_MUTEX_RECURSIVE, true, true},
    {"errorcheck", "errorcheck", PTHREAD_MUTEX_ERRORCHECK, false, true},
    {"errorcheck-static", "errorcheck", PTHREAD_MUTEX_ERRORCHECK, true, true},
    {"adaptive", "adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, false, false},
    {"adaptive-static", "adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, true, false},
};

/* One kind of each type, for situations in which the way of initialising makes no difference. */
static inline bool mutex_is_plain(const struct mutex_kind *kind)
{
    return kind->type >= 0 && kind->is_static == (kind->type == PTHREAD_MUTEX_NORMAL);
}

static inline void mutex_make_shared(const struct mutex_kind *kind, int pshared, pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    SCN_IS(pthread_mutexattr_init(&attributes), 0);
    if (kind->type >= 0)
        SCN_IS(pthread_mutexattr_settype(&attributes, kind->type), 0);
    SCN_IS(pthread_mutexattr_setpshared(&attributes, pshared), 0);
    SCN_IS(pthread_mutex_init(mutex, &attributes), 0);
    pthread_mutexattr_destroy(&attributes);
}

static inline void mutex_make(const struct mutex_kind *kind, pthread_mutex_t *mutex)
{
    if (kind->is_static && kind->type == PTHREAD_MUTEX_RECURSIVE)
        *mutex = (pthread_mutex_t)PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    else if (kind->is_static && kind->type == PTHREAD_MUTEX_ERRORCHECK)
        *mutex = (pthread_mutex_t)PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
    else if (kind->is_static && kind->type == PTHREAD_MUTEX_ADAPTIVE_NP)
        *mutex = (pthread_mutex_t)PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
    else if (kind->is_static)
        *mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    else if (kind->type < 0)
        SCN_IS(pthread_mutex_init(mutex, NULL), 0);
    else
        mutex_make_shared(kind, PTHREAD_PROCESS_PRIVATE, mutex);
}

static inline int mutex_lock(void *mutex)
{
    return pthread_mutex_lock(mutex);
}

static inline int mutex_trylock(void *mutex)
{
    return pthread_mutex_trylock(mutex);
}

static inline int mutex_unlock(void *mutex)
{
    return pthread_mutex_unlock(mutex);
}

/* A lock that can be had is had at once; one that cannot costs this long. */
enum { MUTEX_PATIENCE_MS = 100 };

static inline int mutex_timedlock(void *mutex)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, MUTEX_PATIENCE_MS);
    return pthread_mutex_timedlock(mutex, &deadline);
}

static inline int mutex_clocklock(void *mutex)
{
    const struct timespec deadline = scn_in_ms(CLOCK_MONOTONIC, MUTEX_PATIENCE_MS);
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &deadline);
}

enum { MUTEX_ENTRIES = 4 };

static const struct scn_entry mutex_entries[MUTEX_ENTRIES] = {
    {"lock", mutex_lock, "hangs"},
    {"trylock", mutex_trylock, "fails EBUSY"},
    {"timedlock", mutex_timedlock, "fails ETIMEDOUT"},
    {"clocklock", mutex_clocklock, "fails ETIMEDOUT"},
};

static inline int mutex_try_and_unlock(void *mutex)
{
    const int error = pthread_mutex_trylock(mutex);
    if (error == 0)
        SCN_IS(pthread_mutex_unlock(mutex), 0);
    return error;
}

static inline int mutex_time_and_unlock(void *mutex)
{
    const int error = mutex_timedlock(mutex);
    if (error == 0)
        SCN_IS(pthread_mutex_unlock(mutex), 0);
    return error;
}

/* MUTEX is free for every thread of this process, or for none but its holder. */
static inline void mutex_check_free(pthread_mutex_t *mutex)
{
    SCN_IS(scn_elsewhere(mutex_try_and_unlock, mutex), 0);
}

static inline void mutex_check_held(pthread_mutex_t *mutex)
{
    SCN_IS(scn_elsewhere(mutex_try_and_unlock, mutex), EBUSY);
}

/* The calling thread takes MUTEX with TAKE, uses it, really has it alone, and leaves it free. */
static inline void mutex_use(scn_call *take, pthread_mutex_t *mutex)
{
    SCN_IS(take(mutex), 0);
    SCN_IS(pthread_mutex_unlock(mutex), 0);
    SCN_IS(pthread_mutex_lock(mutex), 0);
    mutex_check_held(mutex);
    SCN_IS(pthread_mutex_unlock(mutex), 0);
    mutex_check_free(mutex);
}

/* Every mutex takeover of a holder that the harness started is told like this. */
#define MUTEX_TAKEN "^forksafe\\[\\d+\\.\\d+\\] child took over mutex 0x[0-9a-f]+ "

static inline const char *mutex_line(const struct mutex_kind *kind)
{
    switch (kind->type) {
    case PTHREAD_MUTEX_RECURSIVE:
        return MUTEX_TAKEN ".*\\(recursive\\) for .* held at fork by \\d+ \"worker\"";
    case PTHREAD_MUTEX_ERRORCHECK:
        return MUTEX_TAKEN ".*\\(errorcheck\\) for .* held at fork by \\d+ \"worker\"";
    case PTHREAD_MUTEX_ADAPTIVE_NP:
        return MUTEX_TAKEN ".*\\(adaptive\\) for .* held at fork by \\d+ \"worker\"";
    default:
        return MUTEX_TAKEN ".*\\(normal\\) for .* held at fork by \\d+ \"worker\"";
    }
}

#endif
