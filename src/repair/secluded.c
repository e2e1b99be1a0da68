#include "config.h"

#include "base/sys.h"
#include "base/tasks.h"
#include "base/text.h"
#include "repair/children.h"
#include "repair/secluded.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/*
 * The number of the socket, if it is one of a pair that this process has made: the kernel notes who makes a pair, on
 * both of its ends. 0: it is not. The two ends have numbers in sequence.
 */
static uint64_t number_of_own(int descriptor)
{
    static const char begins[] = "socket:[";
    struct ucred maker;
    int listens = 1;
    socklen_t maker_bytes = sizeof maker, bytes = sizeof listens;
    char path[64], link[64] = "";
    struct fsafe_text text;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &maker, &maker_bytes) != 0 ||
        maker.pid != fsafe_sys_getpid() ||
        getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) != 0 || listens)
        return 0;
    fsafe_text_begin(&text, path, sizeof path - 1);
    fsafe_text_put(&text, "/proc/self/fd/%d", descriptor);
    path[text.length] = '\0';
    const char *at = link + sizeof begins - 1;
    return FSAFE_SYS(SYS_readlinkat, AT_FDCWD, path, link, sizeof link - 1) > 0 &&
                   strncmp(link, begins, sizeof begins - 1) == 0
               ? fsafe_text_read(&at, 10)
               : 0;
}

/*
 * The ends of whole pairs that were made one after the other have numbers in sequence, and are even in number. Where
 * they are odd in number, one of them has its other end in another process, and nothing shows which one.
 */
static bool has_both_ends(int descriptor)
{
    enum { MOST = 1024, NEAR = 64 };
    uint64_t number = number_of_own(descriptor), near = 0, other;
    unsigned first = NEAR / 2, last = NEAR / 2;
    for (int fd = 0; number != 0 && fd < MOST; fd++)
        if ((other = number_of_own(fd)) != 0 && other - number + NEAR / 2 < NEAR)
            near |= (uint64_t)1 << (other - number + NEAR / 2);
    while (first > 0 && (near >> (first - 1) & 1) != 0)
        first--;
    while (last < NEAR - 1 && (near >> (last + 1) & 1) != 0)
        last++;
    return first > 0 && last < NEAR - 1 && (last - first) % 2 == 1;
}

/* The file has a line "tfd: NUMBER events: ..." for each descriptor; a file that does not fit is not judged. */
bool fsafe_secluded_epoll(int epoll)
{
    char lines[2048], name[32];
    struct fsafe_text text;
    int saved = errno, count = 0;
    fsafe_text_begin(&text, name, sizeof name - 1);
    fsafe_text_put(&text, "fdinfo/%d", epoll);
    name[text.length] = '\0';
    ssize_t got = fsafe_children_had_any() ? -1 : fsafe_tasks_read(0, 0, name, lines, sizeof lines);
    bool secluded = got > 0 && (size_t)got < sizeof lines - 1;
    for (const char *at = lines; secluded && (at = strstr(at, "tfd:")) != NULL; count++) {
        at += sizeof "tfd:" - 1;
        secluded = has_both_ends((int)fsafe_text_read(&at, 10));
    }
    errno = saved;
    return secluded && count > 0;
}
