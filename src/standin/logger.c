/*
 * standin/logger: see logger.h. Behaves as glibc 2.36's misc/syslog.c; tests/logger/bytes.c compares the two, call by
 * call. Two things that glibc before 2.36 does are left out: it writes a message with a zero byte to stderr whole, and
 * it keeps the program's name of the first message.
 *
 * Measured. gmtime_r takes the time zone lock as localtime_r does, and %m the locks of setlocale and gettext. The
 * client uses none of them. Of 83,000 messages of 1,000 children and 4 threads to two real daemons each arrived once;
 * after a drain no child used the client, without a drain 76 to 326 of them did.
 */
#include "config.h"

#include "base/latch.h"
#include "base/pages.h"
#include "libc/symbol.h"
#include "standin/daemon.h"
#include "standin/logger.h"
#include "standin/message.h"
#include "standin/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

/* --- What openlog & co said ----------------------------------------------------------------------------- */

struct settings {
    const char *ident; /* the program's memory; NULL: its name */
    int option, facility, mask;
};

/* One of the two is valid: a child of a fork in the middle of a change has the old one. */
static struct settings settings[2] = {{.facility = LOG_USER, .mask = 0xff}};
static _Atomic unsigned valid;
static struct fsafe_latch settings_latch = FSAFE_LATCH_FREE;

static struct settings current(void)
{
    FSAFE_HOLD(&settings_latch);
    return settings[atomic_load_explicit(&valid, memory_order_acquire)];
}

static struct settings *begin_change(struct fsafe_sigset *old)
{
    fsafe_latch_acquire(&settings_latch, old);
    unsigned now = atomic_load_explicit(&valid, memory_order_relaxed);
    settings[!now] = settings[now];
    return &settings[!now];
}

static void end_change(const struct fsafe_sigset *old)
{
    unsigned now = atomic_load_explicit(&valid, memory_order_relaxed);
    atomic_store_explicit(&valid, !now, memory_order_release);
    fsafe_latch_release(&settings_latch, old);
}

static void change_settings(const char *ident, int option, int facility)
{
    struct fsafe_sigset old;
    struct settings *next = begin_change(&old);
    if (ident != NULL)
        next->ident = ident;
    next->option = option;
    /* Before glibc 2.36 a facility of 0 changes nothing. */
    if ((facility & ~LOG_FACMASK) == 0 && (facility != 0 || !fsafe_symbol_is_older("2.36")))
        next->facility = facility;
    end_change(&old);
}

void fsafe_logger_note_open(const char *ident, int option, int facility)
{
    change_settings(ident, option, facility);
    if ((option & LOG_NDELAY) != 0)
        fsafe_daemon_note_libc(true);
}

static void forget_ident(void)
{
    struct fsafe_sigset old;
    begin_change(&old)->ident = NULL;
    end_change(&old);
}

void fsafe_logger_note_close(void)
{
    forget_ident();
    fsafe_daemon_note_libc(false);
}

int fsafe_logger_mask(int mask)
{
    struct fsafe_sigset old;
    struct settings *next = begin_change(&old);
    int before = next->mask;
    if (mask != 0)
        next->mask = mask;
    end_change(&old);
    return before;
}

void fsafe_logger_note_message(int priority)
{
    /* For a masked message libc neither reads the time zone, which the program may set later, nor connects. */
    unsigned now = atomic_load_explicit(&valid, memory_order_acquire);
    if ((settings[now].mask & LOG_MASK(LOG_PRI(priority))) == 0)
        return;
    fsafe_zone_sample();
    fsafe_daemon_note_libc(true);
}

/* --- The calls ----------------------------------------------------------------------------------------------- */

static void show(int fd, const struct fsafe_message *message, const char *end)
{
    const char *body = message->text + message->body;
    struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t)body, .iov_len = strlen(body)},
        {.iov_base = (void *)(uintptr_t)end, .iov_len = strlen(end)},
    };
    if (writev(fd, parts, 2) < 0)
        return; /* as libc does */
}

static void show_on_console(const struct fsafe_message *message)
{
    int fd = open(_PATH_CONSOLE, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    show(fd, message, "\r\n");
    fsafe_sys_close(fd);
}

static void discard_cancelled(void *message)
{
    fsafe_message_discard(message);
}

__attribute__((format(printf, 4, 0))) static void log_message(const struct settings *now, int priority, int flag,
                                                             const char *format, va_list arguments)
{
    struct fsafe_message message;
    if ((now->mask & LOG_MASK(LOG_PRI(priority))) == 0)
        return;
    if ((priority & LOG_FACMASK) == 0)
        priority |= now->facility;
    const struct fsafe_message_head head = {
        .priority = priority,
        .ident = now->ident != NULL ? now->ident : program_invocation_short_name,
        .with_pid = (now->option & LOG_PID) != 0,
    };
    if (!fsafe_message_compose(&message, &head, flag, format, arguments))
        return;
    pthread_cleanup_push(discard_cancelled, &message);
    if ((now->option & LOG_PERROR) != 0)
        show(STDERR_FILENO, &message, message.text[message.length - 1] != '\n' ? "\n" : "");
    if (!fsafe_daemon_send(message.text, message.length) && (now->option & LOG_CONS) != 0)
        show_on_console(&message);
    pthread_cleanup_pop(1);
}

/* libc logs this complaint as a message of its own. */
__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
    struct settings now = current();
    va_list arguments;
    va_start(arguments, format);
    log_message(&now, LOG_ERR | LOG_CONS | LOG_PERROR | LOG_PID, 0, format, arguments);
    va_end(arguments);
}

static void unmap_format(void *format)
{
    fsafe_pages_unmap(format, strlen(format) + 1);
}

__attribute__((format(printf, 3, 0))) static void log_expanded(const struct settings *now, int priority,
                                                              char *expanded, va_list arguments)
{
    pthread_cleanup_push(unmap_format, expanded);
    /* Not by a fortified form, which takes a %n in writable memory, as ours is, for an attack. */
    log_message(now, priority, 0, expanded, arguments);
    pthread_cleanup_pop(1);
}

void fsafe_logger_write(int priority, int flag, const char *format, va_list arguments)
{
    int saved = errno;
    if ((priority & ~(LOG_PRIMASK | LOG_FACMASK)) != 0) {
        complain("syslog: unknown facility/priority: %x", (unsigned)priority);
        priority &= LOG_PRIMASK | LOG_FACMASK;
    }
    struct settings now = current();
    char *expanded = NULL;
    if (strstr(format, "%m") != NULL)
        expanded = fsafe_pages_map(fsafe_message_expand(format, saved, NULL) + 1);
    if (expanded != NULL) {
        fsafe_message_expand(format, saved, expanded);
        log_expanded(&now, priority, expanded, arguments);
    } else {
        log_message(&now, priority, flag, format, arguments);
    }
    errno = saved;
}

void fsafe_logger_open(const char *ident, int option, int facility)
{
    int saved = errno;
    change_settings(ident, option, facility);
    if ((option & LOG_NDELAY) != 0)
        fsafe_daemon_open();
    errno = saved;
}

void fsafe_logger_close(void)
{
    int saved = errno;
    forget_ident();
    fsafe_daemon_close();
    errno = saved;
}

void fsafe_logger_adopt(void)
{
    fsafe_latch_reset(&settings_latch);
    fsafe_daemon_adopt();
    fsafe_zone_adopt();
}
