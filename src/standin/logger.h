/*
 * standin/logger: a syslog client of our own, for a child in which a vanished thread may hold the lock of libc's.
 *
 * The client sends the same bytes as glibc to the same socket, by the same rules. Every process notes the arguments of
 * openlog, closelog and setlogmask, so that the client has them when it is needed. Like libc it keeps the pointer to
 * the ident, no copy. The client holds its own lock while it sends a message, as libc does; adopt makes free what a
 * fork in that moment copied locked.
 */
#pragma once

#include "base/compiler.h"

#include <stdarg.h>

/* Before the real call, note_close after it: notes the arguments. errno kept. */
void fsafe_logger_note_open(const char *ident, int option, int facility);
void fsafe_logger_note_close(void);

/* libc is about to log at this priority: a good moment to learn the time zone. errno kept. */
void fsafe_logger_note_message(int priority);

/* openlog and closelog of our client. errno kept. Context: child. */
void fsafe_logger_open(const char *ident, int option, int facility);
void fsafe_logger_close(void);

/* setlogmask of our client; elsewhere notes the argument. errno kept. */
int fsafe_logger_mask(int mask);

/* vsyslog, or __vsyslog_chk where `flag` is above 0. A cancellation point; errno kept. Context: child. */
void fsafe_logger_write(int priority, int flag, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* Makes the room ready whatever its state. Context: child, alone. */
FSAFE_AT_FORK void fsafe_logger_adopt(void);
