/*
 * standin/message: one line for the syslog daemon, in the bytes that glibc would send. Waits for nobody and allocates
 * from pages of our own. Part of standin/logger; see there.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct fsafe_message {
    char *text; /* "<pri>Mmm dd hh:mm:ss ident[pid]: ...", with a zero behind it */
    size_t length;
    size_t body;   /* where the ident begins: what people are shown */
    size_t mapped; /* bytes of pages of its own, if it was too long for `room` */
    char room[1024];
};

struct fsafe_message_head {
    int priority; /* with the facility */
    const char *ident;
    bool with_pid;
};

/*
 * Writes the whole message; `flag` above 0: as the fortified forms. Returns whether there is one to be sent; then it is
 * to be discarded. A %m is the calling thread's errno.
 */
bool fsafe_message_compose(struct fsafe_message *message, const struct fsafe_message_head *of, int flag,
                           const char *format, va_list arguments) __attribute__((format(printf, 4, 0)));
void fsafe_message_discard(struct fsafe_message *message);

/*
 * Copies a format with the description of `error` for each %m and returns its length; into NULL that is all. libc would
 * translate the description, and take locks of setlocale's and gettext's for that.
 */
size_t fsafe_message_expand(const char *format, int error, char *into);
