/* wrap/c11: <threads.h> in terms of pthread, for libraries where both names mean the same bytes. */
#pragma once

#include "base/compiler.h"

#include <pthread.h>

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

/* The thrd_... value that libc returns for an error number. */
int fsafe_c11_error(int error);
static inline int fsafe_c11_result(int error)
{
    return FSAFE_LIKELY(error == 0) ? thrd_success : fsafe_c11_error(error);
}
#endif
