/* wrap/regions: the calls of regions.def, and the few that no row can express. */
#include "config.h"

#include "track/gate.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <fcntl.h>
#include <stdarg.h>

#define FSAFE_CALL(region, result, name, parameters, arguments)                         \
    FSAFE_EXPORT result name parameters                                                 \
    {                                                                                   \
        struct fsafe_visit visit = fsafe_gate_enter(FSAFE_REGION_##region, FSAFE_CALLER()); \
        result answer = FSAFE_NEXT(name) arguments;                                     \
        fsafe_gate_leave(&visit);                                                       \
        return answer;                                                                  \
    }
#define FSAFE_VOID(region, name, parameters, arguments)                                 \
    FSAFE_EXPORT void name parameters                                                   \
    {                                                                                   \
        struct fsafe_visit visit = fsafe_gate_enter(FSAFE_REGION_##region, FSAFE_CALLER()); \
        FSAFE_NEXT(name) arguments;                                                     \
        fsafe_gate_leave(&visit);                                                       \
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
    struct fsafe_visit visit = fsafe_gate_enter(FSAFE_REGION_REGEX, FSAFE_CALLER());
    int answer = FSAFE_NEXT(regexec)(expression, text, count, matches, flags);
    fsafe_gate_leave(&visit);
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
    struct fsafe_visit visit = fsafe_gate_enter(FSAFE_REGION_NAMED_SEMAPHORE, FSAFE_CALLER());
    sem_t *answer = FSAFE_NEXT(sem_open)(name, flags, mode, value);
    fsafe_gate_leave(&visit);
    return answer;
}

/* The program's handlers run inside; the thread never comes out. */
FSAFE_EXPORT void exit(int status)
{
    fsafe_gate_enter(FSAFE_REGION_EXIT, FSAFE_CALLER());
    FSAFE_NEXT(exit)(status);
    __builtin_unreachable();
}

FSAFE_EXPORT void quick_exit(int status)
{
    fsafe_gate_enter(FSAFE_REGION_EXIT, FSAFE_CALLER());
    FSAFE_NEXT(quick_exit)(status);
    __builtin_unreachable();
}

/* Errors in a sentence. They end the process by libc's own exit, so the thread may not come out. */
#define VALUES(format, call)       \
    do {                           \
        va_list values;            \
        va_start(values, format);  \
        call;                      \
        va_end(values);            \
    } while (0)

/* Its declaration names an array of no length. */
FSAFE_EXPORT int getopt(int count, char *const arguments[], const char *letters)
{
    struct fsafe_visit visit = fsafe_gate_enter(FSAFE_REGION_LOCALE, FSAFE_CALLER());
    int answer = FSAFE_NEXT(getopt)(count, arguments, letters);
    fsafe_gate_leave(&visit);
    return answer;
}

FSAFE_EXPORT void verr(int status, const char *format, va_list values)
{
    fsafe_gate_enter(FSAFE_REGION_LOCALE, FSAFE_CALLER());
    FSAFE_NEXT(verr)(status, format, values);
    __builtin_unreachable();
}

FSAFE_EXPORT void verrx(int status, const char *format, va_list values)
{
    fsafe_gate_enter(FSAFE_REGION_LOCALE, FSAFE_CALLER());
    FSAFE_NEXT(verrx)(status, format, values);
    __builtin_unreachable();
}

FSAFE_EXPORT void err(int status, const char *format, ...)
{
    fsafe_gate_enter(FSAFE_REGION_LOCALE, FSAFE_CALLER());
    VALUES(format, FSAFE_NEXT(verr)(status, format, values));
    __builtin_unreachable();
}

FSAFE_EXPORT void errx(int status, const char *format, ...)
{
    fsafe_gate_enter(FSAFE_REGION_LOCALE, FSAFE_CALLER());
    VALUES(format, FSAFE_NEXT(verrx)(status, format, values));
    __builtin_unreachable();
}

FSAFE_EXPORT void warn(const char *format, ...)
{
    struct fsafe_visit visit = fsafe_gate_enter(FSAFE_REGION_LOCALE, FSAFE_CALLER());
    VALUES(format, FSAFE_NEXT(vwarn)(format, values));
    fsafe_gate_leave(&visit);
}

FSAFE_EXPORT void warnx(const char *format, ...)
{
    struct fsafe_visit visit = fsafe_gate_enter(FSAFE_REGION_LOCALE, FSAFE_CALLER());
    VALUES(format, FSAFE_NEXT(vwarnx)(format, values));
    fsafe_gate_leave(&visit);
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
#endif
