/*
 * standin/logger: a syslog client of our own, for a child in which a vanished thread may hold the lock of libc's
 * client.
 *
 * The client sends the same bytes as glibc to the same socket, by the same rules. Every process notes the arguments of
 * openlog, closelog and setlogmask for it. Like libc it keeps the pointer to the ident, not a copy. The client holds
 * its own lock while it sends a message, as libc does; fsafe_logger_adopt makes that free in a child.
 */
#pragma once

#include "base/compiler.h"

#include <stdarg.h>

/* The program calls openlog, or has called closelog: notes that. errno kept. */
void fsafe_logger_note_open(const char *ident, int option, int facility);
void fsafe_logger_note_close(void);

/* libc is about to log at this priority, and takes the time zone's lock: learns the time zone. errno kept. */
void fsafe_logger_note_message(int priority);

/* openlog and closelog of our client. errno kept. Context: child. */
void fsafe_logger_open(const char *ident, int option, int facility);
void fsafe_logger_close(void);

/* setlogmask of our client; in other processes it notes the argument. Returns the mask of before. errno kept. */
int fsafe_logger_mask(int mask);

/* vsyslog, or __vsyslog_chk where `flag` is above 0. A cancellation point; errno kept. Context: child. */
void fsafe_logger_write(int priority, int flag, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* Makes the client usable whatever a vanished thread left. Context: child, alone. */
FSAFE_AT_FORK void fsafe_logger_adopt(void);
