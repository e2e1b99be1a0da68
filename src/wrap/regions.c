/* wrap/regions: the calls of regions.def, and the few that no row can express. */
#include "config.h"

#include "fork/handlers.h"
#include "repair/standin.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <fcntl.h>
#include <stdarg.h>

/* Inline in any case, for the frame's sake: see fsafe_gate_enter. Returns whether there is a net under the call. */
static inline __attribute__((always_inline)) bool enter(enum fsafe_region region, const char *what, uintptr_t site)
{
    bool rescues = fsafe_standin_is_missing(region, what, site);
    fsafe_gate_enter(region, site);
    return rescues;
}

static inline __attribute__((always_inline)) void leave(enum fsafe_region region, bool rescues)
{
    fsafe_gate_leave(region);
    if (FSAFE_UNLIKELY(rescues))
        fsafe_rescue_end();
}

#define FSAFE_CALL(region, result, name, parameters, arguments)                         \
    FSAFE_EXPORT result name parameters                                                 \
    {                                                                                   \
        bool rescues = enter(FSAFE_REGION_##region, #name, FSAFE_CALLER());                 \
        result answer = FSAFE_NEXT(name) arguments;                                     \
        leave(FSAFE_REGION_##region, rescues);                                          \
        return answer;                                                                  \
    }
#define FSAFE_VOID(region, name, parameters, arguments)                                 \
    FSAFE_EXPORT void name parameters                                                   \
    {                                                                                   \
        bool rescues = enter(FSAFE_REGION_##region, #name, FSAFE_CALLER());                 \
        FSAFE_NEXT(name) arguments;                                                     \
        leave(FSAFE_REGION_##region, rescues);                                          \
    }
/* Those are in wide.c. */
#define FSAFE_CONVERT(result, name, parameters, arguments)
#define FSAFE_ORIENT(result, name, parameters, arguments)
#define FSAFE_FIRST(result, name, parameters, arguments)
#include "wrap/regions.def"
#undef FSAFE_CALL
#undef FSAFE_VOID

/* Its declaration says how long the array is, which a row cannot. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wvla-parameter"
#endif
FSAFE_EXPORT int regexec(const regex_t *expression, const char *text, size_t count, regmatch_t matches[], int flags)
{
    bool rescues = enter(FSAFE_REGION_REGEX, "regexec", FSAFE_CALLER());
    int answer = FSAFE_NEXT(regexec)(expression, text, count, matches, flags);
    leave(FSAFE_REGION_REGEX, rescues);
    return answer;
}

FSAFE_EXPORT sem_t *sem_open(const char *name, int flags, ...)
{
    mode_t mode = 0;
    unsigned value = 0;
    if ((flags & O_CREAT) != 0) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        value = va_arg(more, unsigned);
        va_end(more);
    }
    bool rescues = enter(FSAFE_REGION_NAMED_SEMAPHORE, "sem_open", FSAFE_CALLER());
    sem_t *answer = FSAFE_NEXT(sem_open)(name, flags, mode, value);
    leave(FSAFE_REGION_NAMED_SEMAPHORE, rescues);
    return answer;
}

/* An object is unloaded; libc drops its fork handlers then. */
FSAFE_EXPORT void __cxa_finalize(void *object)
{
    bool rescues = enter(FSAFE_REGION_EXIT, "__cxa_finalize", FSAFE_CALLER());
    FSAFE_NEXT(__cxa_finalize)(object);
    leave(FSAFE_REGION_EXIT, rescues);
    if (object != NULL)
        fsafe_handlers_remove(object);
}

/*
 * The program's handlers run inside; the thread never comes out. A vfork child would leave its parent's inside for
 * ever: that some call exit is wrong, but works.
 */
static void enter_exit(const char *what, uintptr_t site)
{
    if (!fsafe_lineage_is_guest())
        enter(FSAFE_REGION_EXIT, what, site);
}

FSAFE_EXPORT void exit(int status)
{
    enter_exit("exit", FSAFE_CALLER());
    FSAFE_NEXT(exit)(status);
    __builtin_unreachable();
}

FSAFE_EXPORT void quick_exit(int status)
{
    enter_exit("quick_exit", FSAFE_CALLER());
    FSAFE_NEXT(quick_exit)(status);
    __builtin_unreachable();
}

/* Under other names in libc, too. */
FSAFE_DEFINE_ALIAS(__gmtime_r, gmtime_r);
FSAFE_DEFINE_ALIAS(__strftime_l, strftime_l);
FSAFE_DEFINE_ALIAS(__wcsftime_l, wcsftime_l);
FSAFE_DEFINE_ALIAS(__duplocale, duplocale);
FSAFE_DEFINE_ALIAS(__freelocale, freelocale);
FSAFE_DEFINE_ALIAS(__strerror_r, strerror_r);
FSAFE_DEFINE_ALIAS(__dgettext, dgettext);
FSAFE_DEFINE_ALIAS(__dcgettext, dcgettext);
FSAFE_DEFINE_ALIAS(utmpxname, utmpname);
#ifdef HAVE_RES_QUERY
FSAFE_DEFINE_ALIAS(__res_query, res_query);
FSAFE_DEFINE_ALIAS(__res_search, res_search);
FSAFE_DEFINE_ALIAS(__res_querydomain, res_querydomain);
FSAFE_DEFINE_ALIAS(__res_mkquery, res_mkquery);
FSAFE_DEFINE_ALIAS(__res_send, res_send);
FSAFE_DEFINE_ALIAS(__res_nquery, res_nquery);
FSAFE_DEFINE_ALIAS(__res_nsearch, res_nsearch);
FSAFE_DEFINE_ALIAS(__res_nquerydomain, res_nquerydomain);
FSAFE_DEFINE_ALIAS(__res_nmkquery, res_nmkquery);
FSAFE_DEFINE_ALIAS(__res_nsend, res_nsend);
#endif
