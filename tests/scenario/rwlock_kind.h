/* The rwlock kinds and the calls that take them: one template for all rwlock_*.c. */
#ifndef RWLOCK_KIND_H
#define RWLOCK_KIND_H

#include "libc.h"
#include "scenario.h"

struct rwlock_kind {
    const char *name;
    const char *word; /* as the library's lines name it */
    int preference;   /* -1: pthread_rwlock_init without attributes */
    bool is_static;   /* the bytes of a static initialiser, no pthread_rwlock_init */
};

enum { RWLOCK_KINDS = LIBC_HAS_PREFERENCES ? 5 : 2 };

static const struct rwlock_kind rwlock_kinds[] = {
    {"default", "prefer reader", -1, false},
    {"static", "prefer reader", PTHREAD_RWLOCK_PREFER_READER_NP, true},
    {"writer", "prefer writer", PTHREAD_RWLOCK_PREFER_WRITER_NP, false},
    {"nonrecursive", "prefer writer nonrecursive", PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP, false},
    {"nonrecursive-static", "prefer writer nonrecursive", PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP, true},
};

/* One of each preference. */
static inline bool rwlock_is_plain(const struct rwlock_kind *kind)
{
    return !kind->is_static;
}

static inline void rwlock_make_shared(const struct rwlock_kind *kind, int pshared, pthread_rwlock_t *rwlock)
{
    pthread_rwlockattr_t attributes;
    SCN_IS(pthread_rwlockattr_init(&attributes), 0);
    if (kind->preference >= 0)
        SCN_IS(pthread_rwlockattr_setkind_np(&attributes, kind->preference), 0);
    SCN_IS(pthread_rwlockattr_setpshared(&attributes, pshared), 0);
    SCN_IS(pthread_rwlock_init(rwlock, &attributes), 0);
    pthread_rwlockattr_destroy(&attributes);
}

static inline void rwlock_make(const struct rwlock_kind *kind, pthread_rwlock_t *rwlock)
{
    if (kind->is_static && kind->preference == PTHREAD_RWLOCK_PREFER_READER_NP)
        *rwlock = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER;
    else if (kind->is_static)
        *rwlock = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
    else if (kind->preference < 0)
        SCN_IS(pthread_rwlock_init(rwlock, NULL), 0);
    else
        rwlock_make_shared(kind, PTHREAD_PROCESS_PRIVATE, rwlock);
}

static inline int rwlock_rdlock(void *rwlock)
{
    return pthread_rwlock_rdlock(rwlock);
}

static inline int rwlock_tryrdlock(void *rwlock)
{
    return pthread_rwlock_tryrdlock(rwlock);
}

static inline int rwlock_wrlock(void *rwlock)
{
    return pthread_rwlock_wrlock(rwlock);
}

static inline int rwlock_trywrlock(void *rwlock)
{
    return pthread_rwlock_trywrlock(rwlock);
}

static inline int rwlock_unlock(void *rwlock)
{
    return pthread_rwlock_unlock(rwlock);
}

/* A lock that can be had is had at once; one that cannot costs this long. */
enum { RWLOCK_PATIENCE_MS = 100 };

static inline int rwlock_timedrdlock(void *rwlock)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, RWLOCK_PATIENCE_MS);
    return pthread_rwlock_timedrdlock(rwlock, &deadline);
}

static inline int rwlock_clockrdlock(void *rwlock)
{
    const struct timespec deadline = scn_in_ms(CLOCK_MONOTONIC, RWLOCK_PATIENCE_MS);
    return pthread_rwlock_clockrdlock(rwlock, CLOCK_MONOTONIC, &deadline);
}

static inline int rwlock_timedwrlock(void *rwlock)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, RWLOCK_PATIENCE_MS);
    return pthread_rwlock_timedwrlock(rwlock, &deadline);
}

static inline int rwlock_clockwrlock(void *rwlock)
{
    const struct timespec deadline = scn_in_ms(CLOCK_MONOTONIC, RWLOCK_PATIENCE_MS);
    return pthread_rwlock_clockwrlock(rwlock, CLOCK_MONOTONIC, &deadline);
}

enum { RWLOCK_WRITES = 4, RWLOCK_ENTRIES = 8 };

/* The first four write. */
static const struct scn_entry rwlock_entries[RWLOCK_ENTRIES] = {
    {"wrlock", rwlock_wrlock, "hangs"},
    {"trywrlock", rwlock_trywrlock, "fails EBUSY"},
    {"timedwrlock", rwlock_timedwrlock, "fails ETIMEDOUT"},
    {"clockwrlock", rwlock_clockwrlock, "fails ETIMEDOUT"},
    {"rdlock", rwlock_rdlock, "hangs"},
    {"tryrdlock", rwlock_tryrdlock, "fails EBUSY"},
    {"timedrdlock", rwlock_timedrdlock, "fails ETIMEDOUT"},
    {"clockrdlock", rwlock_clockrdlock, "fails ETIMEDOUT"},
};

static inline int rwlock_and_unlock(int error, void *rwlock)
{
    if (error == 0)
        SCN_IS(pthread_rwlock_unlock(rwlock), 0);
    return error;
}

static inline int rwlock_try_write(void *rwlock)
{
    return rwlock_and_unlock(pthread_rwlock_trywrlock(rwlock), rwlock);
}

static inline int rwlock_try_read(void *rwlock)
{
    return rwlock_and_unlock(pthread_rwlock_tryrdlock(rwlock), rwlock);
}

static inline int rwlock_time_write(void *rwlock)
{
    return rwlock_and_unlock(rwlock_timedwrlock(rwlock), rwlock);
}

/* For every other thread of this process RWLOCK is free; held by readers; held by a writer. */
static inline void rwlock_check_free(pthread_rwlock_t *rwlock)
{
    SCN_IS(scn_elsewhere(rwlock_try_write, rwlock), 0);
    SCN_IS(scn_elsewhere(rwlock_try_read, rwlock), 0);
}

static inline void rwlock_check_read(pthread_rwlock_t *rwlock)
{
    SCN_IS(scn_elsewhere(rwlock_try_write, rwlock), EBUSY);
    SCN_IS(scn_elsewhere(rwlock_time_write, rwlock), ETIMEDOUT);
    SCN_IS(scn_elsewhere(rwlock_try_read, rwlock), 0);
}

static inline void rwlock_check_written(pthread_rwlock_t *rwlock)
{
    SCN_IS(scn_elsewhere(rwlock_try_write, rwlock), EBUSY);
    SCN_IS(scn_elsewhere(rwlock_time_write, rwlock), ETIMEDOUT);
    SCN_IS(scn_elsewhere(rwlock_try_read, rwlock), EBUSY);
}

/* It works as a new one does, for one thread and for several. */
static inline void rwlock_use(pthread_rwlock_t *rwlock)
{
    SCN_IS(pthread_rwlock_wrlock(rwlock), 0);
    SCN_IS(pthread_rwlock_tryrdlock(rwlock), EBUSY);
    SCN_IS(pthread_rwlock_unlock(rwlock), 0);
    SCN_IS(pthread_rwlock_rdlock(rwlock), 0);
    SCN_IS(pthread_rwlock_rdlock(rwlock), 0);
    SCN_IS(pthread_rwlock_trywrlock(rwlock), EBUSY);
    SCN_IS(pthread_rwlock_unlock(rwlock), 0);
    SCN_IS(pthread_rwlock_unlock(rwlock), 0);
    SCN_IS(pthread_rwlock_trywrlock(rwlock), 0);
    SCN_IS(pthread_rwlock_unlock(rwlock), 0);
}

static inline void rwlock_use_in_threads(pthread_rwlock_t *rwlock)
{
    SCN_IS(pthread_rwlock_wrlock(rwlock), 0);
    rwlock_check_written(rwlock);
    SCN_IS(pthread_rwlock_unlock(rwlock), 0);
    SCN_IS(pthread_rwlock_rdlock(rwlock), 0);
    rwlock_check_read(rwlock);
    SCN_IS(pthread_rwlock_unlock(rwlock), 0);
    rwlock_check_free(rwlock);
    scn_exclusion(rwlock_wrlock, rwlock_unlock, rwlock, 4, 2000);
    rwlock_check_free(rwlock);
}

#define RWLOCK_TAKEN "^forksafe\\[\\d+\\.\\d+\\] child took over rwlock 0x[0-9a-f]+ "
#define RWLOCK_FROM_WORKER RWLOCK_TAKEN ".* for .* held at fork by \\d+ \"worker\" since .* fork 1 by"

#endif
