/* cli/process: the pipes and pairs of sockets that a thread waits for, and which processes can write to them. */
#include "config.h"

#include "cli/process.h"

#include <dirent.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 5.6's, which the headers may lack. */
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

enum { MOST = 16, LINK_BYTES = 64 };

/* What file descriptor `fd` of the process is, as the kernel calls it: "pipe:[1234]". */
static bool read_link(long pid, const char *fd, char link[LINK_BYTES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/%.16s", pid, fd);
    ssize_t got = readlink(path, link, LINK_BYTES - 1);
    link[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/*
 * Whether the process has made the socket by socketpair(2): the kernel notes who makes a pair, on both of its ends.
 * getsockopt(2) needs a descriptor of ours.
 */
static bool is_of_own_pair(long pid, int fd)
{
    struct ucred maker = {0};
    socklen_t maker_bytes = sizeof maker, bytes = sizeof(int);
    int listens = 1;
    int process = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    int ours = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
    bool known = ours >= 0 && getsockopt(ours, SOL_SOCKET, SO_PEERCRED, &maker, &maker_bytes) == 0 &&
                 getsockopt(ours, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) == 0;
    if (ours >= 0)
        close(ours);
    if (process >= 0)
        close(process);
    return known && maker.pid == pid && !listens;
}

/* Replaces the link of one end of a pair by that of the other, if the process has that, too: their numbers follow. */
static bool read_other_end(long pid, int fd, char link[LINK_BYTES])
{
    char path[64], other[LINK_BYTES];
    unsigned long number, next;
    bool found = false;
    if (sscanf(link, "socket:[%lu]", &number) != 1 || !is_of_own_pair(pid, fd))
        return false;
    snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    DIR *files = opendir(path);
    for (struct dirent *entry; files != NULL && !found && (entry = readdir(files)) != NULL;)
        found = read_link(pid, entry->d_name, other) && sscanf(other, "socket:[%lu]", &next) == 1 &&
                (next == number - 1 || next == number + 1) && is_of_own_pair(pid, atoi(entry->d_name));
    if (files != NULL)
        closedir(files);
    if (found)
        memcpy(link, other, LINK_BYTES);
    return found;
}

/* What one has to write to so that there are data in `fd`: the pipe itself; of a pair of sockets the other end. */
static bool read_source(long pid, int fd, char link[LINK_BYTES])
{
    char name[16];
    snprintf(name, sizeof name, "%d", fd);
    if (!read_link(pid, name, link))
        return false;
    return strncmp(link, "pipe:", 5) == 0 || read_other_end(pid, fd, link);
}

static bool is_open_for_writing(long pid, const char *fd)
{
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%ld/fd/%.16s", pid, fd);
    return lstat(path, &status) == 0 && (status.st_mode & S_IWUSR) != 0;
}

struct writers {
    const char *link;
    long self, pids[MOST];
    unsigned count; /* of other processes */
    bool self_writes;
};

static void see_process(long pid, void *context)
{
    struct writers *writers = context;
    char path[64], link[LINK_BYTES];
    bool writes = false;
    snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    DIR *files = opendir(path);
    for (struct dirent *entry; files != NULL && !writes && (entry = readdir(files)) != NULL;)
        writes = read_link(pid, entry->d_name, link) && strcmp(link, writers->link) == 0 &&
                 is_open_for_writing(pid, entry->d_name);
    if (files != NULL)
        closedir(files);
    if (writes && pid == writers->self)
        writers->self_writes = true;
    else if (writes && writers->count < MOST)
        writers->pids[writers->count++] = pid;
}

static void print_writers(const struct writers *writers)
{
    printf("    waits for data %s %s; writers: ", writers->link[0] == 'p' ? "in" : "that is written to", writers->link);
    fputs(writers->self_writes ? "this process" : "", stdout);
    for (unsigned i = 0; i < writers->count; i++)
        printf("%s%ld", i > 0 || writers->self_writes ? ", " : "", writers->pids[i]);
    putchar('\n');
}

/* The descriptors that an epoll looks at; 0: too many, or it waits for other things than data. */
static unsigned read_epoll(long pid, unsigned long epoll, int fds[MOST])
{
    char name[64], line[256];
    unsigned count = 0, events;
    int fd;
    bool fits = true;
    snprintf(name, sizeof name, "fdinfo/%lu", epoll);
    FILE *file = fsafe_process_open(pid, name);
    while (file != NULL && fits && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "tfd: %d events: %x", &fd, &events) == 2) {
            fits = count < MOST && (events & (EPOLLIN | EPOLLOUT)) == EPOLLIN;
            if (fits)
                fds[count++] = fd;
        }
    if (file != NULL)
        fclose(file);
    return fits ? count : 0;
}

static unsigned read_poll(long pid, const unsigned long *arguments, int fds[MOST])
{
    struct pollfd all[MOST];
    unsigned long count = arguments[1];
    if (count > MOST || !fsafe_process_peek(pid, arguments[0], all, count * sizeof *all))
        return 0;
    for (unsigned long i = 0; i < count; i++) {
        if ((all[i].events & (POLLIN | POLLOUT)) != POLLIN)
            return 0;
        fds[i] = all[i].fd;
    }
    return (unsigned)count;
}

/* The descriptors of which the call waits for data, without a limit; 0: it is no such call, or one of unknown shape. */
static unsigned read_waited_for(long pid, const struct fsafe_process_call *call, int fds[MOST])
{
    const unsigned long *arguments = call->arguments;
    if (fsafe_process_address_bytes(pid) != sizeof(void *))
        return 0;
    switch (call->number) {
    case SYS_read:
        fds[0] = (int)arguments[0];
        return 1;
#ifdef SYS_poll
    case SYS_poll:
        return (int)arguments[2] < 0 ? read_poll(pid, arguments, fds) : 0;
#endif
    case SYS_ppoll:
        return arguments[2] == 0 ? read_poll(pid, arguments, fds) : 0;
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
    case SYS_epoll_pwait:
        return (int)arguments[3] < 0 ? read_epoll(pid, arguments[0], fds) : 0;
    default:
        return 0;
    }
}

enum fsafe_pipe_writers fsafe_pipes_look(long pid, const struct fsafe_process_call *call, bool prints)
{
    int fds[MOST];
    char links[MOST][LINK_BYTES];
    long parent = fsafe_process_status(pid, "PPid");
    enum fsafe_pipe_writers found = FSAFE_PIPES_OF_SELF;
    unsigned count = read_waited_for(pid, call, fds);
    for (unsigned i = 0; i < count; i++)
        if (!read_source(pid, fds[i], links[i]))
            return FSAFE_PIPES_UNKNOWN;
    for (unsigned i = 0; i < count; i++) {
        struct writers writers = {.link = links[i], .self = pid};
        fsafe_process_each(see_process, &writers);
        if (prints)
            print_writers(&writers);
        for (unsigned k = 0; k < writers.count; k++)
            if (writers.pids[k] != parent)
                found = FSAFE_PIPES_OF_OTHERS;
            else if (found == FSAFE_PIPES_OF_SELF)
                found = FSAFE_PIPES_OF_PARENT;
    }
    return count == 0 ? FSAFE_PIPES_UNKNOWN : found;
}
