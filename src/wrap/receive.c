/*
 * wrap/receive: read, recv, accept and their like. A parent that waits for what its child sends does not wait for the
 * child's end, and looks at its children here (repair/children.h): Python's Queue and Connection read a pipe or a
 * socket. So does a server that waits for its clients.
 */
#include "config.h"

#include "repair/children.h"
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
    if (FSAFE_SYS(FSAFE_SYS_PPOLL, &ready, 1, &at_once, NULL, FSAFE_SIGSET_BYTES, 0) != 0)
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

/* What has come in part of a message (MSG_WAITALL) a signal would end. */
static FSAFE_COLD struct fsafe_watch *watch(int descriptor, int flags, uintptr_t frame)
{
    return (flags & (MSG_DONTWAIT | MSG_WAITALL)) == 0 && sleeps(descriptor) ? fsafe_children_watch(-1, frame) : NULL;
}

/* `result`: the real call. */
#define RECEIVE(descriptor, flags, result)                                            \
    do {                                                                              \
        if (FSAFE_LIKELY(!fsafe_children_any()) || fsafe_thread_is_withdrawn())       \
            return result;                                                            \
        struct fsafe_watch *watched = watch(descriptor, flags, FSAFE_FRAME());        \
        ssize_t received = result;                                                    \
        fsafe_children_over(watched, 0);                                              \
        return received;                                                              \
    } while (0)

FSAFE_EXPORT ssize_t read(int descriptor, void *to, size_t bytes)
{
    RECEIVE(descriptor, 0, FSAFE_NEXT(read)(descriptor, to, bytes));
}

FSAFE_EXPORT ssize_t recv(int descriptor, void *to, size_t bytes, int flags)
{
    RECEIVE(descriptor, flags, FSAFE_NEXT(recv)(descriptor, to, bytes, flags));
}

FSAFE_EXPORT ssize_t recvmsg(int descriptor, struct msghdr *message, int flags)
{
    RECEIVE(descriptor, flags, FSAFE_NEXT(recvmsg)(descriptor, message, flags));
}

FSAFE_EXPORT ssize_t recvfrom(int descriptor, void *to, size_t bytes, int flags, __SOCKADDR_ARG from, socklen_t *size)
{
    RECEIVE(descriptor, flags, FSAFE_NEXT(recvfrom)(descriptor, to, bytes, flags, from, size));
}

FSAFE_EXPORT int accept(int descriptor, __SOCKADDR_ARG from, socklen_t *size)
{
    RECEIVE(descriptor, 0, FSAFE_NEXT(accept)(descriptor, from, size));
}

FSAFE_EXPORT int accept4(int descriptor, __SOCKADDR_ARG from, socklen_t *size, int flags)
{
    RECEIVE(descriptor, 0, FSAFE_NEXT(accept4)(descriptor, from, size, flags));
}

#ifdef FSAFE_LIBC_GLIBC
FSAFE_DEFINE_ALIAS(__read, read);

FSAFE_EXPORT ssize_t __read_chk(int descriptor, void *to, size_t bytes, size_t room)
{
    RECEIVE(descriptor, 0, FSAFE_NEXT(__read_chk)(descriptor, to, bytes, room));
}

FSAFE_EXPORT ssize_t __recv_chk(int descriptor, void *to, size_t bytes, size_t room, int flags)
{
    RECEIVE(descriptor, flags, FSAFE_NEXT(__recv_chk)(descriptor, to, bytes, room, flags));
}

FSAFE_EXPORT ssize_t __recvfrom_chk(int descriptor, void *to, size_t bytes, size_t room, int flags,
                                    __SOCKADDR_ARG from, socklen_t *size)
{
    RECEIVE(descriptor, flags, FSAFE_NEXT(__recvfrom_chk)(descriptor, to, bytes, room, flags, from, size));
}
#endif

#ifdef FSAFE_TIME64
FSAFE_EXPORT ssize_t __recvmsg64(int descriptor, struct msghdr *message, int flags)
{
    RECEIVE(descriptor, flags, FSAFE_NEXT(__recvmsg64)(descriptor, message, flags));
}
#endif
