#include "config.h"

#include "base/latch.h"
#include "standin/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>

static struct fsafe_latch latch = FSAFE_LATCH_FREE;

static int descriptor = -1;
static ino_t identity; /* the socket's: a program may have closed the descriptor and got its number for another file */
static int type = SOCK_DGRAM;
static bool searched;         /* inherit() has run */
static _Atomic bool libc_has; /* libc's client may have a connection */

static bool is_connected(void)
{
    struct stat now;
    if (descriptor != -1 && (!fsafe_sys_stat_fd(descriptor, &now) || !S_ISSOCK(now.st_mode) || now.st_ino != identity))
        descriptor = -1;
    return descriptor != -1;
}

static void disconnect(void)
{
    int fd = is_connected() ? descriptor : -1;
    descriptor = -1;
    if (fd != -1)
        fsafe_sys_close(fd);
}

/* Makes the connected socket `fd` the connection. */
static bool keep(int fd, int kind)
{
    struct stat own;
    if (!fsafe_sys_stat_fd(fd, &own)) {
        fsafe_sys_close(fd);
        return false;
    }
    type = kind;
    identity = own.st_ino;
    descriptor = fd;
    return true;
}

static bool connect_as(int kind)
{
    static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = _PATH_LOG};
    int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return false;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        fsafe_sys_close(fd);
        return false;
    }
    return keep(fd, kind);
}

/*
 * Whether `fd` is a datagram socket that is connected to the daemon; systemd's /dev/log is a link to another address.
 */
static bool leads_to_daemon(int fd)
{
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    int kind;
    socklen_t of_kind = sizeof kind;
    memset(&peer, 0, sizeof peer);
    return getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX &&
           (strcmp(peer.sun_path, _PATH_LOG) == 0 || strcmp(peer.sun_path, "/run/systemd/journal/dev-log") == 0) &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &of_kind) == 0 && kind == SOCK_DGRAM;
}

void fsafe_daemon_note_libc(bool connected)
{
    if (atomic_load_explicit(&libc_has, memory_order_relaxed) != connected)
        atomic_store_explicit(&libc_has, connected, memory_order_relaxed);
}

/*
 * /dev/log cannot be reached. A program that foresaw this, with LOG_NDELAY before its chroot, has libc's connection
 * among its descriptors. Only libc knows which one that is, so this looks at all. Once, because that takes a while.
 */
static bool inherit(void)
{
    enum { DESCRIPTORS = 1024 };
    if (searched || !atomic_load_explicit(&libc_has, memory_order_relaxed))
        return false;
    searched = true;
    for (int fd = 3; fd < DESCRIPTORS; fd++) {
        if (!leads_to_daemon(fd))
            continue;
        int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return own != -1 && keep(own, SOCK_DGRAM);
    }
    return false;
}

static bool connect_to_daemon(void)
{
    if (connect_as(type))
        return true;
    if (errno == EPROTOTYPE)
        return connect_as(type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM);
    return inherit();
}

static bool send_once(const char *text, size_t length)
{
    /* On a stream the zero ends a message. */
    return send(descriptor, text, length + (type == SOCK_STREAM), MSG_NOSIGNAL) >= 0;
}

static bool send_or_reconnect(const char *text, size_t length)
{
    if (is_connected()) {
        if (send_once(text, length))
            return true;
        disconnect(); /* the daemon has ended; perhaps there is another */
    }
    if (connect_to_daemon() && send_once(text, length))
        return true;
    disconnect(); /* the next message tries again */
    return false;
}

static void release(void *unused)
{
    (void)unused;
    fsafe_latch_release_open(&latch);
}

bool fsafe_daemon_send(const char *text, size_t length)
{
    bool sent;
    fsafe_latch_acquire_open(&latch);
    pthread_cleanup_push(release, NULL);
    sent = send_or_reconnect(text, length);
    pthread_cleanup_pop(1);
    return sent;
}

void fsafe_daemon_open(void)
{
    fsafe_latch_acquire_open(&latch);
    pthread_cleanup_push(release, NULL);
    if (!is_connected())
        connect_to_daemon();
    pthread_cleanup_pop(1);
}

void fsafe_daemon_close(void)
{
    fsafe_latch_acquire_open(&latch);
    disconnect();
    type = SOCK_DGRAM;
    fsafe_daemon_note_libc(false); /* libc's descriptor is still open, but the program has closed the log */
    fsafe_latch_release_open(&latch);
}

void fsafe_daemon_adopt(void)
{
    fsafe_latch_reset(&latch);
    /* Writes nothing, and asks libc for nothing, without need: each may be a page to copy. */
    if (searched)
        searched = false;
    if (type == SOCK_STREAM) {
        /* A vanished thread may have sent half a message, and the parent sends the other half. */
        int saved = errno;
        disconnect();
        errno = saved;
    }
}
