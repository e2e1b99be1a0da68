/*
 * repair/logger: a syslog client of our own, for a child in which a vanished thread may hold the lock of libc's.
 *
 * The same bytes as glibc's go to the same socket, by the same rules. Every process notes what openlog & co were
 * told, so that the client knows when it is needed. Like libc's it keeps the pointer to the ident, no copy. The
 * client's own lock is held while a message is sent, as libc's is; a fork in that moment leaves it to adopt.
 */
#ifndef FSAFE_REPAIR_LOGGER_H
#define FSAFE_REPAIR_LOGGER_H

#include "base/compiler.h"

#include <stdarg.h>

/* What libc is about to be told; note_close: what it has been told. errno kept. Context: any thread. */
void fsafe_logger_note_open(const char *ident, int option, int facility);
void fsafe_logger_note_close(void);
void fsafe_logger_note_mask(int mask);

/* libc is about to log at this priority: a good moment to learn the time zone. errno kept. Context: any thread. */
void fsafe_logger_note_message(int priority);

/* openlog, closelog, setlogmask of our client. errno kept. Context: child. */
void fsafe_logger_open(const char *ident, int option, int facility);
void fsafe_logger_close(void);
int fsafe_logger_mask(int mask);

/* vsyslog, or __vsyslog_chk where `flag` is above 0. A cancellation point; errno kept. Context: child. */
void fsafe_logger_write(int priority, int flag, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* Makes the room ready whatever its state. Context: child, alone. */
FSAFE_AT_FORK void fsafe_logger_adopt(void);

#endif
