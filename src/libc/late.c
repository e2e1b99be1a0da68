#include "config.h"

#include "base/compiler.h"
#include "libc/late.h"
#include "libc/symbol.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/socket.h>
#include <sys/uio.h>

static void *find(void **row, const char *name)
{
    void *function = __atomic_load_n(row, __ATOMIC_RELAXED);
    if (FSAFE_LIKELY(function != NULL))
        return function;
    function = fsafe_symbol_next(name);
    __atomic_store_n(row, function, __ATOMIC_RELAXED);
    return function;
}

/* Calls a function of libc's as its header declares it. Every glibc has it, once libc/symbol has started. */
#define FIND(row, name) ((__typeof__(name) *)find(&(row), #name))
#define LATE(result, name, parameters, arguments) \
    result name parameters                        \
    {                                             \
        static void *row;                         \
        return FIND(row, name) arguments;         \
    }

LATE(int, pthread_key_create, (pthread_key_t *key, void (*destructor)(void *)), (key, destructor))
LATE(int, pthread_setspecific, (pthread_key_t key, const void *value), (key, value))
LATE(int, pthread_mutexattr_init, (pthread_mutexattr_t *a), (a))
LATE(int, pthread_mutexattr_settype, (pthread_mutexattr_t *a, int type), (a, type))
LATE(int, pthread_mutexattr_setprotocol, (pthread_mutexattr_t *a, int protocol), (a, protocol))
LATE(int, pthread_mutexattr_setrobust, (pthread_mutexattr_t *a, int robust), (a, robust))
LATE(int, pthread_mutex_consistent, (pthread_mutex_t *m), (m))
LATE(int, pthread_rwlockattr_init, (pthread_rwlockattr_t *a), (a))
LATE(int, pthread_rwlockattr_setkind_np, (pthread_rwlockattr_t *a, int kind), (a, kind))
LATE(int, pthread_rwlockattr_setpshared, (pthread_rwlockattr_t *a, int shared), (a, shared))
LATE(int, pthread_condattr_init, (pthread_condattr_t *a), (a))
LATE(int, pthread_condattr_destroy, (pthread_condattr_t *a), (a))
LATE(int, pthread_condattr_setclock, (pthread_condattr_t *a, clockid_t clock), (a, clock))
LATE(int, pthread_condattr_setpshared, (pthread_condattr_t *a, int shared), (a, shared))
LATE(int, pthread_barrierattr_init, (pthread_barrierattr_t *a), (a))
LATE(int, pthread_barrierattr_setpshared, (pthread_barrierattr_t *a, int shared), (a, shared))
LATE(int, pthread_barrierattr_destroy, (pthread_barrierattr_t *a), (a))
LATE(int, pthread_setcancelstate, (int state, int *old), (state, old))
LATE(int, pthread_setcanceltype, (int type, int *old), (type, old))
LATE(int, pthread_getcpuclockid, (pthread_t thread, clockid_t *clock), (thread, clock))
/* sem_wait's path: not by a second call. */
void pthread_testcancel(void)
{
    static void *row;
    __typeof__(pthread_testcancel) *function = __atomic_load_n(&row, __ATOMIC_RELAXED);
    if (FSAFE_UNLIKELY(function == NULL))
        function = FIND(row, pthread_testcancel);
    function();
}
/* For stand-ins. The loader would look these up in every program that starts. */
LATE(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
LATE(ssize_t, send, (int fd, const void *from, size_t bytes, int flags), (fd, from, bytes, flags))
LATE(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *bytes), (fd, level, name, value, bytes))
LATE(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
LATE(int, __fsetlocking, (FILE *stream, int how), (stream, how))
/* What pthread_cleanup_push() and pop are made of. */
LATE(void __cleanup_fct_attribute, __pthread_register_cancel, (__pthread_unwind_buf_t *buffer), (buffer))
LATE(void __cleanup_fct_attribute, __pthread_unregister_cancel, (__pthread_unwind_buf_t *buffer), (buffer))
void __cleanup_fct_attribute __pthread_unwind_next(__pthread_unwind_buf_t *buffer)
{
    static void *row;
    FIND(row, __pthread_unwind_next)(buffer);
    __builtin_unreachable();
}

/* libc's own. Before 2.34 it is in libdl, which a program may lack. */
void *fsafe_late_dlsym(void *object, const char *name)
{
    __typeof__(dlsym) *function = (__typeof__(dlsym) *)fsafe_symbol_of_libc("dlsym");
    return function != NULL ? function(object, name) : NULL;
}

static const char not_known;
const char *fsafe_late_single_threaded = &not_known;

bool fsafe_late_knows_threads(void)
{
    return fsafe_late_single_threaded != &not_known;
}

void fsafe_late_start(void)
{
    const char *variable = fsafe_symbol_variable("__libc_single_threaded", NULL);
    if (variable != NULL)
        fsafe_late_single_threaded = variable;
}

const char *fsafe_late_error_text(int error)
{
    static void *row, *texts, *count;
    const char *(*describe)(int) = (const char *(*)(int))find(&row, "strerrordesc_np"); /* 2.32 */
    if (describe != NULL)
        return describe(error);
    const char *const *text = find(&texts, "_sys_errlist");
    const int *texts_there = find(&count, "_sys_nerr");
    return text != NULL && texts_there != NULL && error >= 0 && error < *texts_there ? text[error] : NULL;
}
