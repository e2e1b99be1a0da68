/*
 * wrap/wait: wait, waitpid, waitid and their like. libc does the work; a parent looks at its children while it waits
 * for them (repair/watch).
 */
#include "config.h"

#include "repair/children.h"
#include "repair/watch.h"
#include "wrap/call.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

/* NULL for a call that only asks. */
static inline struct fsafe_watch *watch_for(pid_t child, int options, uintptr_t frame)
{
    return (options & WNOHANG) != 0 ? NULL : fsafe_watch_begin(child, frame);
}

/* `child`: the child to wait for; <= 0: any. `result`: the real call. */
#define WAIT_FOR(child, options, result)                                                 \
    do {                                                                                 \
        struct fsafe_watch *watch = watch_for(child, options, FSAFE_FRAME());            \
        pid_t ended = (result);                                                          \
        /* With these options the child may be stopped, and not have ended. */           \
        fsafe_watch_end(watch, ((options) & (WUNTRACED | WCONTINUED)) == 0 ? ended : 0); \
        return ended;                                                                    \
    } while (0)

FSAFE_EXPORT pid_t wait(int *status)
{
    WAIT_FOR(-1, 0, FSAFE_NEXT(wait)(status));
}

FSAFE_EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
    WAIT_FOR(pid, options, FSAFE_NEXT(waitpid)(pid, status, options));
}

FSAFE_EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
    WAIT_FOR(-1, options, FSAFE_NEXT(wait3)(status, options, usage));
}

#ifdef FSAFE_TIME64
FSAFE_EXPORT pid_t __wait3_time64(int *status, int options, void *usage)
{
    WAIT_FOR(-1, options, FSAFE_NEXT(__wait3_time64)(status, options, usage));
}

FSAFE_EXPORT pid_t __wait4_time64(pid_t pid, int *status, int options, void *usage)
{
    WAIT_FOR(pid, options, FSAFE_NEXT(__wait4_time64)(pid, status, options, usage));
}
#endif

/* Its result does not say which child has ended. */
FSAFE_EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    pid_t child = type == P_PID ? (pid_t)id : -1;
    struct fsafe_watch *watch = watch_for(child, options, FSAFE_FRAME());
    int result = FSAFE_NEXT(waitid)(type, id, info, options);
    fsafe_watch_end(watch, 0);
    return result;
}

FSAFE_EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    WAIT_FOR(pid, options, FSAFE_NEXT(wait4)(pid, status, options, usage));
}

#ifdef FSAFE_LIBC_GLIBC
FSAFE_DEFINE_ALIAS(__wait, wait);
FSAFE_DEFINE_ALIAS(__waitpid, waitpid);
#endif
