/* wrap/c11: <threads.h> in terms of pthread, for libraries where both names mean the same bytes. */
#pragma once

#include "base/compiler.h"

#include <pthread.h>
#include <stdbool.h>

/*
 * glibc's mtx_t and cnd_t are a pthread object and nothing else (nptl/thrd_priv.h); musl casts its types to pthread's.
 */
#if (defined(FSAFE_LIBC_GLIBC) || defined(FSAFE_LIBC_MUSL)) && defined(HAVE_MTX_LOCK)
#define FSAFE_C11 1

#include <threads.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t) && _Alignof(mtx_t) == _Alignof(pthread_mutex_t),
               "mtx_t is a pthread_mutex_t");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t) && _Alignof(cnd_t) == _Alignof(pthread_cond_t),
               "cnd_t is a pthread_cond_t");
_Static_assert(thrd_success == 0, "nothing to map on the fast path");

static inline pthread_mutex_t *fsafe_c11_mutex(mtx_t *mutex)
{
    return (pthread_mutex_t *)(void *)mutex;
}

static inline pthread_cond_t *fsafe_c11_condvar(cnd_t *condvar)
{
    return (pthread_cond_t *)(void *)condvar;
}

/*
 * Whether mtx_init and its like are not libc's: a library of the program's (tinycthread) has its own. Then the bytes of
 * the objects and the meaning of the results are that library's, too, and each call is passed on to it. Learned where
 * an object is made, without which no other call can be; then all rows of symbols.def from mtx_init to thrd_detach are
 * bound.
 */
enum fsafe_c11_owner { FSAFE_C11_UNKNOWN, FSAFE_C11_LIBC, FSAFE_C11_OTHER };
extern FSAFE_HIDDEN enum fsafe_c11_owner fsafe_c11_owner;
bool fsafe_c11_learn(void);
static inline bool fsafe_c11_is_other(void)
{
    return FSAFE_UNLIKELY(fsafe_c11_owner == FSAFE_C11_OTHER);
}

/* The thrd_... value that libc returns for an error number. */
int fsafe_c11_error(int error);
static inline int fsafe_c11_result(int error)
{
    return FSAFE_LIKELY(error == 0) ? thrd_success : fsafe_c11_error(error);
}
#endif
