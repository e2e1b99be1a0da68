/*
 * standin/daemon: the connection to the syslog daemon at /dev/log, by glibc's rules: datagrams first, then a stream;
 * kept from one message to the next; made again once if a send fails. Part of standin/logger; see there.
 *
 * A thread holds the connection's lock while it sends a message, so that messages do not mix, and sleeps with it while
 * the daemon does not read. Where nothing else is said a function is a cancellation point, may change errno, and its
 * context is: child.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Notes whether libc's own client has a connection, by the calls that the program makes: a child that cannot make its
 * own connection uses that one. No cancellation point; errno kept.
 */
void fsafe_daemon_note_libc(bool connected);

/* Connects, unless there is a connection. */
void fsafe_daemon_open(void);

/* Ends the connection; the next one begins with datagrams. */
void fsafe_daemon_close(void);

/* Sends `length` bytes, behind which there is a zero. Returns whether the daemon took them. */
bool fsafe_daemon_send(const char *text, size_t length);

/* Makes the connection usable whatever a vanished thread left. errno kept. Context: child, alone. */
FSAFE_AT_FORK void fsafe_daemon_adopt(void);
