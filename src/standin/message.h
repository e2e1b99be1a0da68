/*
 * standin/message: one line for the syslog daemon, in the bytes that glibc would send. Takes no lock, and maps pages
 * where it needs memory. Part of standin/logger; see there.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct fsafe_message {
    char *text; /* "<pri>Mmm dd hh:mm:ss ident[pid]: ...", with a zero behind it */
    size_t length;
    size_t body;   /* where the ident begins: what goes to stderr or the console */
    size_t mapped; /* how many bytes were mapped for a message too long for `room`; 0: none */
    char room[1024];
};

struct fsafe_message_head {
    int priority; /* with the facility */
    const char *ident;
    bool with_pid;
};

/*
 * Writes the whole message; `flag` above 0: as the fortified forms do. A %m is the calling thread's errno. Returns
 * whether there is a message, which the caller discards after sending it.
 */
bool fsafe_message_compose(struct fsafe_message *message, const struct fsafe_message_head *of, int flag,
                           const char *format, va_list arguments) __attribute__((format(printf, 4, 0)));
void fsafe_message_discard(struct fsafe_message *message);

/*
 * Copies a format with the description of `error` in place of each %m, and returns its length; with `into` NULL it only
 * counts. libc would translate the description, and take the locks of setlocale and gettext for that.
 */
size_t fsafe_message_expand(const char *format, int error, char *into);
