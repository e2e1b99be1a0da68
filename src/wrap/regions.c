/* wrap/regions: the calls of regions.def, and the few that no row can express. */
#include "config.h"

#include "fork/handlers.h"
#include "wrap/call.h"
#include "wrap/undeclared.h"

#include <fcntl.h>
#include <stdarg.h>

#define FSAFE_CALL(region, result, name, ...)                                                                 \
    FSAFE_EXPORT result name FSAFE_PARAMETERS(__VA_ARGS__)                                                    \
    {                                                                                                         \
        FSAFE_RETURN_PASSED(fsafe_call_pass, FSAFE_CALL_OF(region, name), result, ##__VA_ARGS__);             \
    }
/* Rows for wrap/wide. */
#define FSAFE_CONVERT(result, name, ...)
#define FSAFE_ORIENT(stream, result, name, ...)
#define FSAFE_OTHER(name, of) FSAFE_DEFINE_ALIAS(name, of);
#include "wrap/regions.def"

/* No row, because its declaration says how long the array is. */
#if defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wvla-parameter"
#endif
FSAFE_EXPORT int regexec(const regex_t *expression, const char *text, size_t count, regmatch_t matches[], int flags)
{
    FSAFE_RETURN_CALL(REGEX, int, regexec, (expression, text, count, matches, flags));
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
    FSAFE_RETURN_CALL(NAMED_SEMAPHORE, sem_t *, sem_open, (name, flags, mode, value));
}

/* An object is being unloaded: libc drops its fork handlers, and so do we. */
FSAFE_EXPORT void __cxa_finalize(void *object)
{
    FSAFE_ENTER_CALL(EXIT, __cxa_finalize)(object);
    FSAFE_LEAVE_CALL(EXIT);
    if (object != NULL)
        fsafe_handlers_remove(object);
}

/*
 * The program's handlers run inside the region, which the thread never leaves. Not so in a vfork child that calls exit,
 * which is wrong but works: it would leave its parent's thread inside for ever.
 */
#define LEAVING(name)                                                                         \
    FSAFE_EXPORT void name(int status)                                                        \
    {                                                                                         \
        (fsafe_lineage_is_guest() ? FSAFE_NEXT(name) : FSAFE_ENTER_CALL(EXIT, name))(status); \
        __builtin_unreachable();                                                              \
    }
LEAVING(exit)
LEAVING(quick_exit)
