/* A /dev of this process and its children alone, so that a test can be the syslog daemon. */
#ifndef PRIVATE_DEV_H
#define PRIVATE_DEV_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static inline bool private_write(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return good;
}

/* Namespaces of our own, with the help of a user namespace where we are not root. */
static inline bool private_namespace(void)
{
    char map[64];
    if (unshare(CLONE_NEWNS) == 0)
        return true;
    snprintf(map, sizeof map, "0 %d 1", (int)getuid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && private_write("/proc/self/setgroups", "deny") &&
           private_write("/proc/self/uid_map", map);
}

/* A tmpfs with the usual devices and an ordinary file as console. False where that is not allowed. */
static inline bool private_dev(void)
{
    static const char *const nodes[] = {"null", "zero", "full", "random", "urandom"};
    char place[] = "/tmp/forksafe-dev-XXXXXX", path[64], device[64];
    if (!private_namespace() || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mkdtemp(place) == NULL)
        return false;
    bool good = mount("none", place, "tmpfs", MS_NOSUID, "mode=755") == 0;
    for (size_t i = 0; good && i < sizeof nodes / sizeof nodes[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", place, nodes[i]);
        snprintf(device, sizeof device, "/dev/%s", nodes[i]);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        good = mount(device, path, NULL, MS_BIND, NULL) == 0;
    }
    good = good && mount(place, "/dev", NULL, MS_MOVE, NULL) == 0;
    rmdir(place);
    if (good)
        close(open("/dev/console", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return good;
}

/* A socket at /dev/log that nobody reads yet, or -1. */
static inline int private_daemon(int type)
{
    const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    unlink(address.sun_path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        ((type & SOCK_STREAM) != 0 && (type & SOCK_DGRAM) == 0 && listen(fd, 64) != 0))
        return -1;
    return fd;
}

#endif
