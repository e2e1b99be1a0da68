/*
 * wrap/receive: read, recv, accept and their like. A parent that waits for what its child sends does not wait for the
 * child's end, and looks at its children here (repair/watch): Python's Queue and Connection read a pipe or a
 * socket. So does a server that waits for its clients.
 */
#include "config.h"

#include "repair/children.h"
#include "repair/watch.h"
#include "track/join.h"
#include "wrap/call.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#ifndef FSAFE_LIBC_GLIBC
#define __SOCKADDR_ARG struct sockaddr *restrict
#endif

/*
 * Whether a read of the descriptor sleeps now, without a limit, in a system call that goes on after a handler with
 * SA_RESTART: that of a pipe does, and of a socket, unless it has a limit, or a signal would end it before all that it
 * waits for has come. errno kept.
 */
static bool sleeps(int descriptor)
{
    static const struct timespec at_once;
    struct pollfd ready = {.fd = descriptor, .events = POLLIN};
    if (FSAFE_SYS(FSAFE_SYS_PPOLL, &ready, 1, &at_once, NULL, FSAFE_SIGSET_BYTES) != 0)
        return false;
    int saved = errno, least;
    struct timeval limit;
    socklen_t bytes = sizeof limit, of_least = sizeof least;
    bool waits = (fcntl(descriptor, F_GETFL) & O_NONBLOCK) == 0 &&
                 (fcntl(descriptor, F_GETPIPE_SZ) > 0 ||
                  (getsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, &bytes) == 0 && limit.tv_sec == 0 &&
                   limit.tv_usec == 0 &&
                   getsockopt(descriptor, SOL_SOCKET, SO_RCVLOWAT, &least, &of_least) == 0 && least <= 1));
    errno = saved;
    return waits;
}

/*
 * What has come in part of a message (MSG_WAITALL) a signal would end. For a thread that has withdrawn (track/join)
 * nothing is done here.
 */
static struct fsafe_watch *begin(int descriptor, int flags, uintptr_t frame)
{
    if (fsafe_thread_is_withdrawn())
        return NULL;
    bool waits = fsafe_children_any() && (flags & (MSG_DONTWAIT | MSG_WAITALL)) == 0 && sleeps(descriptor);
    struct fsafe_watch *watch = waits ? fsafe_watch_begin(-1, frame) : NULL;
    if (watch == NULL) /* perhaps in a handler, in the middle of a wait */
        fsafe_watch_rest(true);
    return watch;
}

static void end(struct fsafe_watch *watch)
{
    if (fsafe_thread_is_withdrawn())
        return;
    if (watch == NULL)
        fsafe_watch_rest(false);
    fsafe_watch_end(watch, 0);
}

/* A process without children jumps to libc's function, once the row is bound. */
#define RECEIVE(type, name, parameters, arguments, flags)                             \
    static FSAFE_COLD type watched_##name parameters                                  \
    {                                                                                 \
        struct fsafe_watch *watch = begin(descriptor, flags, FSAFE_FRAME());          \
        type received = FSAFE_NEXT(name) arguments;                                   \
        end(watch);                                                                   \
        return received;                                                              \
    }                                                                                 \
    FSAFE_EXPORT type name parameters                                                 \
    {                                                                                 \
        bool passes = FSAFE_LIKELY(!fsafe_children_any() && fsafe_next.name != NULL); \
        return passes ? fsafe_next.name arguments : watched_##name arguments;         \
    }

RECEIVE(ssize_t, read, (int descriptor, void *to, size_t bytes), (descriptor, to, bytes), 0)
RECEIVE(ssize_t, recv, (int descriptor, void *to, size_t bytes, int flags), (descriptor, to, bytes, flags), flags)
RECEIVE(ssize_t, recvmsg, (int descriptor, struct msghdr *message, int flags), (descriptor, message, flags), flags)
RECEIVE(ssize_t, recvfrom, (int descriptor, void *to, size_t bytes, int flags, __SOCKADDR_ARG from, socklen_t *size),
        (descriptor, to, bytes, flags, from, size), flags)
RECEIVE(int, accept, (int descriptor, __SOCKADDR_ARG from, socklen_t *size), (descriptor, from, size), 0)
RECEIVE(int, accept4, (int descriptor, __SOCKADDR_ARG from, socklen_t *size, int flags),
        (descriptor, from, size, flags), 0)

#ifdef FSAFE_LIBC_GLIBC
FSAFE_DEFINE_ALIAS(__read, read);
RECEIVE(ssize_t, __read_chk, (int descriptor, void *to, size_t bytes, size_t room), (descriptor, to, bytes, room), 0)
RECEIVE(ssize_t, __recv_chk, (int descriptor, void *to, size_t bytes, size_t room, int flags),
        (descriptor, to, bytes, room, flags), flags)
RECEIVE(ssize_t, __recvfrom_chk,
        (int descriptor, void *to, size_t bytes, size_t room, int flags, __SOCKADDR_ARG from, socklen_t *size),
        (descriptor, to, bytes, room, flags, from, size), flags)
#endif

#ifdef FSAFE_TIME64
RECEIVE(ssize_t, __recvmsg64, (int descriptor, struct msghdr *message, int flags), (descriptor, message, flags), flags)
#endif
