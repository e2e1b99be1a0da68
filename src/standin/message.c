/*
 * Measured. After a change from datagrams to a stream glibc's syslog sends the first message without the zero behind
 * it: the daemon gets that message and the next as one. Our client does not do that; all other bytes are the same
 * (tests/logger/bytes.c: 64 sets of options, formats, lengths up to 500,000, 400 random sequences of calls).
 */
#include "config.h"

#include "base/pages.h"
#include "base/sys.h"
#include "libc/late.h"
#include "standin/message.h"
#include "standin/zone.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

void fsafe_message_discard(struct fsafe_message *message)
{
    if (message->mapped != 0)
        fsafe_pages_unmap(message->text, message->mapped);
}

static size_t describe(int error, char *into, size_t room)
{
    const char *words = fsafe_late_error_text(error);
    int length = words != NULL ? snprintf(into, room, "%s", words) : snprintf(into, room, "Unknown error %d", error);
    return (size_t)length;
}

size_t fsafe_message_expand(const char *format, int error, char *into)
{
    char words[128];
    size_t length = 0, of_words = describe(error, words, sizeof words);
    for (; *format != '\0'; format++) {
        bool is_error = format[0] == '%' && format[1] == 'm', is_percent = format[0] == '%' && format[1] == '%';
        size_t bytes = is_error ? of_words : is_percent ? 2 : 1;
        if (into != NULL)
            memcpy(into + length, is_error ? words : format, bytes);
        length += bytes;
        format += is_error || is_percent;
    }
    if (into != NULL)
        into[length] = '\0';
    return length;
}

__attribute__((format(printf, 4, 0))) static int print(char *into, size_t room, int flag, const char *format,
                                                      va_list arguments)
{
#ifdef HAVE___VSNPRINTF_CHK
    if (flag > 0)
        return __builtin___vsnprintf_chk(into, room, flag, room, format, arguments);
#endif
    (void)flag;
    return vsnprintf(into, room, format, arguments);
}

bool fsafe_message_compose(struct fsafe_message *message, const struct fsafe_message_head *of, int flag,
                           const char *format, va_list arguments)
{
    int saved = errno; /* for a %m in the format */
    char stamp[FSAFE_STAMP_BYTES];
    int body = 0;
    pid_t pid = of->with_pid ? fsafe_sys_getpid() : 0;
    fsafe_zone_stamp(stamp);
#define FSAFE_HEADER \
    "<%d>%s%n%s%s%.0d%s: ", of->priority, stamp, &body, of->ident, &"["[pid == 0], pid, &"]"[pid == 0]

    message->text = message->room;
    message->mapped = 0;
    int head = snprintf(message->room, sizeof message->room, FSAFE_HEADER);
    size_t used = head < (int)sizeof message->room ? (size_t)head : 0;
    va_list again;
    va_copy(again, arguments);
    errno = saved;
    int rest = print(message->room + used, sizeof message->room - used, flag, format, arguments);
    bool good = head >= 0 && rest >= 0 && rest < INT_MAX - head;
    if (good && (used == 0 || (size_t)head + (size_t)rest >= sizeof message->room)) {
        size_t bytes = (size_t)head + (size_t)rest + 1;
        char *text = fsafe_pages_map(bytes);
        if (text != NULL) {
            message->text = text;
            message->mapped = bytes;
            snprintf(text, bytes, FSAFE_HEADER);
            errno = saved;
            print(text + head, bytes - (size_t)head, flag, format, again);
        } else {
            head = snprintf(message->room, sizeof message->room, "out of memory[%d]", (int)fsafe_sys_getpid());
            rest = body = 0;
        }
    }
    va_end(again);
    message->length = (size_t)head + (size_t)rest;
    message->body = (size_t)body;
    return good;
#undef FSAFE_HEADER
}
