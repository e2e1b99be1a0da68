/* The mutexes of <threads.h> and the calls that take them, as calls that give 0 or an error number. */
#ifndef C11_KIND_H
#define C11_KIND_H

#include "mutex_kind.h"

#include <threads.h>

struct c11_kind {
    const char *name;
    int type;
    bool recursive;
};

enum { C11_KINDS = 4 };

static const struct c11_kind c11_kinds[C11_KINDS] = {
    {"plain", mtx_plain, false},
    {"timed", mtx_timed, false},
    {"recursive", mtx_plain | mtx_recursive, true},
    {"timed-recursive", mtx_timed | mtx_recursive, true},
};

/* Any other answer is "wrong". */
static inline int c11_error(int result)
{
    switch (result) {
    case thrd_success:
        return 0;
    case thrd_busy:
        return EBUSY;
    case thrd_timedout:
        return ETIMEDOUT;
    case thrd_error:
        return EPERM;
    default:
        return -1;
    }
}

static inline int c11_lock(void *mutex)
{
    return c11_error(mtx_lock(mutex));
}

static inline int c11_trylock(void *mutex)
{
    return c11_error(mtx_trylock(mutex));
}

static inline int c11_timedlock(void *mutex)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, MUTEX_PATIENCE_MS);
    return c11_error(mtx_timedlock(mutex, &deadline));
}

static inline int c11_unlock(void *mutex)
{
    return c11_error(mtx_unlock(mutex));
}

enum { C11_ENTRIES = 3 };

static const struct scn_entry c11_entries[C11_ENTRIES] = {
    {"lock", c11_lock, "hangs"},
    {"trylock", c11_trylock, "fails EBUSY"},
    {"timedlock", c11_timedlock, "fails ETIMEDOUT"},
};

static inline int c11_try_and_unlock(void *mutex)
{
    const int error = c11_trylock(mutex);
    if (error == 0)
        SCN_IS(c11_unlock(mutex), 0);
    return error;
}

/* The calling thread takes MUTEX with TAKE, really has it alone, and leaves it free. */
static inline void c11_use(scn_call *take, mtx_t *mutex)
{
    SCN_IS(take(mutex), 0);
    SCN_IS(scn_elsewhere(c11_try_and_unlock, mutex), EBUSY);
    SCN_IS(c11_unlock(mutex), 0);
    SCN_IS(scn_elsewhere(c11_try_and_unlock, mutex), 0);
}

#endif
