/*
 * repair/logger: see logger.h. Modelled on the behaviour of glibc 2.36's misc/syslog.c; tests/logger/bytes.c compares
 * the two, call by call.
 */
#include "config.h"

#include "base/latch.h"
#include "base/pages.h"
#include "repair/logger.h"
#include "repair/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

/* --- What openlog & co said ----------------------------------------------------------------------------- */

struct settings {
    const char *ident; /* the program's memory; NULL: its name */
    int option, facility, mask;
};

/* Two, of which one is valid: a fork in the middle of a change leaves the child the old one. */
static struct settings settings[2] = {{.facility = LOG_USER, .mask = 0xff}};
static _Atomic unsigned valid;
static struct fsafe_latch settings_latch = FSAFE_LATCH_FREE;

static struct settings current(void)
{
    struct fsafe_sigset old;
    fsafe_latch_acquire(&settings_latch, &old);
    struct settings now = settings[atomic_load_explicit(&valid, memory_order_acquire)];
    fsafe_latch_release(&settings_latch, &old);
    return now;
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

void fsafe_logger_note_open(const char *ident, int option, int facility)
{
    struct fsafe_sigset old;
    struct settings *next = begin_change(&old);
    if (ident != NULL)
        next->ident = ident;
    next->option = option;
    if ((facility & ~LOG_FACMASK) == 0)
        next->facility = facility;
    end_change(&old);
}

void fsafe_logger_note_close(void)
{
    struct fsafe_sigset old;
    begin_change(&old)->ident = NULL;
    end_change(&old);
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

void fsafe_logger_note_mask(int mask)
{
    fsafe_logger_mask(mask);
}

void fsafe_logger_note_message(int priority)
{
    /* A masked message does not make libc read the time zone, which may yet be set. */
    if ((current().mask & LOG_MASK(LOG_PRI(priority))) != 0)
        fsafe_zone_sample();
}

/* --- A message ------------------------------------------------------------------------------------------- */

struct message {
    char *text; /* "<pri>Mmm dd hh:mm:ss ident[pid]: ...", with a zero behind it */
    size_t length;
    size_t body;   /* where the ident begins: what people are shown */
    size_t mapped; /* bytes of pages of its own, if it was too long for `room` */
    char room[1024];
};

static void discard(struct message *message)
{
    if (message->mapped != 0)
        fsafe_pages_unmap(message->text, message->mapped);
}

static size_t describe(int error, char *into, size_t room)
{
    const char *words = strerrordesc_np(error);
    int length = words != NULL ? snprintf(into, room, "%s", words) : snprintf(into, room, "Unknown error %d", error);
    return (size_t)length;
}

/*
 * Copies a format with the error's description for each %m, and returns how long it is: into NULL that is all.
 * libc would translate the description, and take locks of setlocale's and gettext's for that.
 */
static size_t expand(const char *format, int error, char *into)
{
    char words[128];
    size_t length = 0;
    size_t of_words = describe(error, words, sizeof words);
    for (; *format != '\0'; format++) {
        if (format[0] == '%' && format[1] == 'm') {
            if (into != NULL)
                memcpy(into + length, words, of_words);
            length += of_words;
            format++;
            continue;
        }
        if (into != NULL)
            into[length] = *format;
        length++;
        if (format[0] == '%' && format[1] == '%') {
            format++;
            if (into != NULL)
                into[length] = '%';
            length++;
        }
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

/* Writes the whole message. Returns whether there is one to be sent. */
__attribute__((format(printf, 5, 0))) static bool compose(struct message *message, const struct settings *now,
                                                         int priority, int flag, const char *format,
                                                         va_list arguments)
{
    int saved = errno; /* for a %m that is left */
    char stamp[FSAFE_STAMP_BYTES];
    int body = 0;
    pid_t pid = (now->option & LOG_PID) != 0 ? fsafe_sys_getpid() : 0;
    const char *ident = now->ident != NULL ? now->ident : program_invocation_short_name;
    fsafe_zone_stamp(stamp);
#define FSAFE_HEADER \
    "<%d>%s%n%s%s%.0d%s: ", priority, stamp, &body, ident, &"["[pid == 0], pid, &"]"[pid == 0]

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

/* --- The socket -------------------------------------------------------------------------------------------- */

/* Held while the socket is used; its holder may sleep. */
static struct fsafe_latch socket_latch = FSAFE_LATCH_FREE;

static int descriptor = -1;
static ino_t identity; /* of the socket: a program may have closed the descriptor and got it back for another file */
static int type = SOCK_DGRAM;

static bool is_connected(void)
{
    struct stat now;
    if (descriptor != -1 && (fstat(descriptor, &now) != 0 || !S_ISSOCK(now.st_mode) || now.st_ino != identity))
        descriptor = -1;
    return descriptor != -1;
}

static void disconnect(void)
{
    int saved = errno;
    int fd = is_connected() ? descriptor : -1;
    errno = saved;
    descriptor = -1;
    if (fd != -1)
        fsafe_sys_close(fd);
}

static bool connect_as(int kind)
{
    static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = _PATH_LOG};
    struct stat own;
    int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return false;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 || fstat(fd, &own) != 0) {
        fsafe_sys_close(fd);
        return false;
    }
    type = kind;
    identity = own.st_ino;
    descriptor = fd;
    return true;
}

static bool connect_to_daemon(void)
{
    return connect_as(type) || (errno == EPROTOTYPE && connect_as(type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM));
}

static bool send_once(const struct message *message)
{
    /* On a stream the zero behind it ends a message. */
    size_t length = message->length + (type == SOCK_STREAM);
    return send(descriptor, message->text, length, MSG_NOSIGNAL) >= 0;
}

static bool send_to_daemon(const struct message *message)
{
    if (!is_connected())
        return connect_to_daemon() && send_once(message);
    if (send_once(message))
        return true;
    disconnect(); /* the daemon went; perhaps another is there */
    return connect_to_daemon() && send_once(message);
}

static void show(int fd, const struct message *message, const char *end)
{
    const char *body = message->text + message->body;
    struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t)body, .iov_len = strlen(body)},
        {.iov_base = (void *)(uintptr_t)end, .iov_len = strlen(end)},
    };
    if (writev(fd, parts, 2) < 0)
        return; /* as libc: who would want to know? */
}

static void show_on_console(const struct message *message)
{
    int fd = open(_PATH_CONSOLE, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    show(fd, message, "\r\n");
    fsafe_sys_close(fd);
}

static void release_socket(void *unused)
{
    (void)unused;
    fsafe_latch_release_open(&socket_latch);
}

static void deliver(const struct message *message, int option)
{
    fsafe_latch_acquire_open(&socket_latch);
    pthread_cleanup_push(release_socket, NULL);
    if (!send_to_daemon(message)) {
        disconnect(); /* the next message tries again */
        if ((option & LOG_CONS) != 0)
            show_on_console(message);
    }
    pthread_cleanup_pop(1);
}

/* --- The calls ----------------------------------------------------------------------------------------------- */

static void discard_cancelled(void *message)
{
    discard(message);
}

__attribute__((format(printf, 4, 0))) static void log_message(const struct settings *now, int priority, int flag,
                                                             const char *format, va_list arguments)
{
    struct message message;
    if ((now->mask & LOG_MASK(LOG_PRI(priority))) == 0)
        return;
    if ((priority & LOG_FACMASK) == 0)
        priority |= now->facility;
    if (!compose(&message, now, priority, flag, format, arguments))
        return;
    pthread_cleanup_push(discard_cancelled, &message);
    if ((now->option & LOG_PERROR) != 0)
        show(STDERR_FILENO, &message, message.text[message.length - 1] != '\n' ? "\n" : "");
    deliver(&message, now->option);
    pthread_cleanup_pop(1);
}

/* libc logs this complaint by a call of itself. */
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
    /* Never as a fortified form: in our writable memory a %n of the program's would look like an attack. */
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
    char *expanded = strstr(format, "%m") != NULL ? fsafe_pages_map(expand(format, saved, NULL) + 1) : NULL;
    if (expanded != NULL) {
        expand(format, saved, expanded);
        log_expanded(&now, priority, expanded, arguments);
    } else {
        log_message(&now, priority, flag, format, arguments);
    }
    errno = saved;
}

void fsafe_logger_open(const char *ident, int option, int facility)
{
    int saved = errno;
    fsafe_logger_note_open(ident, option, facility);
    fsafe_latch_acquire_open(&socket_latch);
    pthread_cleanup_push(release_socket, NULL);
    if ((option & LOG_NDELAY) != 0 && !is_connected())
        connect_to_daemon();
    pthread_cleanup_pop(1);
    errno = saved;
}

void fsafe_logger_close(void)
{
    int saved = errno;
    fsafe_logger_note_close();
    fsafe_latch_acquire_open(&socket_latch);
    disconnect();
    type = SOCK_DGRAM;
    fsafe_latch_release_open(&socket_latch);
    errno = saved;
}

void fsafe_logger_adopt(void)
{
    fsafe_latch_reset(&settings_latch);
    fsafe_latch_reset(&socket_latch);
    /* A vanished thread's half message may be on a stream, and the parent is to send the other half. */
    if (type == SOCK_STREAM)
        disconnect();
    fsafe_zone_adopt();
}
