/* wrap/log: syslog & co. libc does the work, except in a child in which a vanished thread may hold its lock. */
#include "config.h"

#include "fork/coordinator.h"
#include "standin/logger.h"
#include "standin/standin.h"
#include "wrap/next.h"

static bool is_ours(const char *what, uintptr_t site)
{
    fsafe_fork_notice();
    return fsafe_standin_is_needed(FSAFE_REGION_SYSLOG, what, site);
}

/* `flag`: the argument of the fortified forms; -1 for the others. */
__attribute__((format(printf, 3, 0))) static void write_log(int priority, int flag, const char *format,
                                                           va_list arguments, uintptr_t site)
{
    fsafe_region_enter(FSAFE_REGION_SYSLOG, site);
    if (is_ours("syslog", site)) {
        fsafe_logger_write(priority, flag, format, arguments);
    } else {
        fsafe_logger_note_message(priority);
#ifdef HAVE___VSYSLOG_CHK
        if (flag >= 0)
            FSAFE_NEXT(__vsyslog_chk)(priority, flag, format, arguments);
        else
#endif
            FSAFE_NEXT(vsyslog)(priority, format, arguments);
    }
    fsafe_region_leave(FSAFE_REGION_SYSLOG);
}

FSAFE_EXPORT void vsyslog(int priority, const char *format, va_list arguments)
{
    write_log(priority, -1, format, arguments, FSAFE_CALLER());
}

FSAFE_EXPORT void syslog(int priority, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_log(priority, -1, format, arguments, FSAFE_CALLER());
    va_end(arguments);
}

#ifdef HAVE___VSYSLOG_CHK
FSAFE_EXPORT void __vsyslog_chk(int priority, int flag, const char *format, va_list arguments)
{
    write_log(priority, flag, format, arguments, FSAFE_CALLER());
}

FSAFE_EXPORT void __syslog_chk(int priority, int flag, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_log(priority, flag, format, arguments, FSAFE_CALLER());
    va_end(arguments);
}
#endif

FSAFE_EXPORT void openlog(const char *ident, int option, int facility)
{
    uintptr_t site = FSAFE_CALLER();
    fsafe_region_enter(FSAFE_REGION_SYSLOG, site);
    if (is_ours("openlog", site)) {
        fsafe_logger_open(ident, option, facility);
    } else {
        fsafe_logger_note_open(ident, option, facility);
        FSAFE_NEXT(openlog)(ident, option, facility);
    }
    fsafe_region_leave(FSAFE_REGION_SYSLOG);
}

FSAFE_EXPORT void closelog(void)
{
    uintptr_t site = FSAFE_CALLER();
    fsafe_region_enter(FSAFE_REGION_SYSLOG, site);
    if (is_ours("closelog", site)) {
        fsafe_logger_close();
    } else {
        FSAFE_NEXT(closelog)();
        fsafe_logger_note_close();
    }
    fsafe_region_leave(FSAFE_REGION_SYSLOG);
}

FSAFE_EXPORT int setlogmask(int mask)
{
    uintptr_t site = FSAFE_CALLER();
    fsafe_region_enter(FSAFE_REGION_SYSLOG, site);
    int before = fsafe_logger_mask(mask);
    if (!is_ours("setlogmask", site))
        before = FSAFE_NEXT(setlogmask)(mask);
    fsafe_region_leave(FSAFE_REGION_SYSLOG);
    return before;
}
