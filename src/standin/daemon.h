/*
 * standin/daemon: the connection to the syslog daemon at /dev/log, by glibc's rules: datagrams first, then a stream;
 * kept from one message to the next; made anew once if sending fails. Part of standin/logger; see there.
 *
 * Its lock is held while a message is sent, so that the threads' messages do not mix; a holder may sleep as long as
 * the daemon does not read. Where nothing else is said a function is a cancellation point, may change errno, and its
 * context is: child.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether libc's own client has a connection, as far as its calls tell: a child that cannot make one of its own sends
 * on that. No cancellation point; errno kept.
 */
void fsafe_daemon_note_libc(bool connected);

/* Connects, unless there is a connection. */
void fsafe_daemon_open(void);

/* Ends the connection; the next begins with datagrams. */
void fsafe_daemon_close(void);

/* Sends `length` bytes, behind which there is a zero. Returns false when nobody took them. */
bool fsafe_daemon_send(const char *text, size_t length);

/* Makes the room ready whatever its state. errno kept. Context: child, alone. */
FSAFE_AT_FORK void fsafe_daemon_adopt(void);
