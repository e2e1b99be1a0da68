/* wrap/log: syslog & co. libc does the work, except in a child in which a vanished thread may hold its lock. */
#include "config.h"

#include "standin/logger.h"
#include "wrap/call.h"

/* `flag`: the argument of the fortified forms; -1 for the others. */
__attribute__((format(printf, 3, 0))) static void write_log(int priority, int flag, const char *format,
                                                           va_list arguments, uintptr_t site)
{
    if (fsafe_call_needs_standin(FSAFE_REGION_SYSLOG, "syslog", FSAFE_FRAME(), site)) {
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
    FSAFE_LEAVE_CALL(SYSLOG);
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
    if (FSAFE_NEEDS_STANDIN(SYSLOG, "openlog")) {
        fsafe_logger_open(ident, option, facility);
    } else {
        fsafe_logger_note_open(ident, option, facility);
        FSAFE_NEXT(openlog)(ident, option, facility);
    }
    FSAFE_LEAVE_CALL(SYSLOG);
}

FSAFE_EXPORT void closelog(void)
{
    if (FSAFE_NEEDS_STANDIN(SYSLOG, "closelog")) {
        fsafe_logger_close();
    } else {
        FSAFE_NEXT(closelog)();
        fsafe_logger_note_close();
    }
    FSAFE_LEAVE_CALL(SYSLOG);
}

FSAFE_EXPORT int setlogmask(int mask)
{
    bool is_ours = FSAFE_NEEDS_STANDIN(SYSLOG, "setlogmask");
    int before = fsafe_logger_mask(mask);
    if (!is_ours)
        before = FSAFE_NEXT(setlogmask)(mask);
    FSAFE_LEAVE_CALL(SYSLOG);
    return before;
}
