/*
 * What a program does with descriptor 2, and what our lines do then. A thread holds a mutex, the program arranges its
 * descriptors, forks, and the child takes the mutex: under the library a line is due. Exit status 0 if the child ended
 * right.
 *
 *     stream CASE [FILE]    the cases are in main
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t taken;

static int other_end = -1; /* nothing may arrive here */
static int terminal = -1; /* and here something must */

static void *hold(void *unused)
{
    pthread_mutex_lock(&lock);
    pthread_barrier_wait(&taken);
    pause();
    return unused;
}

static int is(const char *which, const char *name)
{
    return strcmp(which, name) == 0;
}

static int must(int result)
{
    if (result < 0)
        _exit(3);
    return result;
}

int main(int count, char **arguments)
{
    const char *which = arguments[1];
    static const char *file; /* not on the stack, whose variables gcc 16 thinks vfork() may change */
    file = count > 2 ? arguments[2] : "/dev/null";
    int arrived = 0;
    pthread_t thread;
    pthread_barrier_init(&taken, NULL, 2);
    pthread_create(&thread, NULL, hold, NULL);
    pthread_barrier_wait(&taken);

    if (is(which, "closed-all"))
        for (int fd = 3; fd < 1024; fd++)
            close(fd);
    if (is(which, "append")) {
        close(2);
        if (open(file, O_WRONLY | O_CREAT | O_APPEND, 0600) != 2)
            return 3;
    }
    if (is(which, "reused") && open(file, O_WRONLY | O_CREAT | O_APPEND, 0600) != 2)
        return 3; /* it was started without */
    if (is(which, "pipe")) {
        int ends[2];
        close(1);
        close(2);
        if (pipe(ends) != 0 || ends[1] != 2)
            return 3;
        other_end = ends[0];
    }
    if (is(which, "socket")) {
        int ends[2];
        close(2);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || ends[0] != 2)
            return 3;
        other_end = ends[1];
    }
    if (is(which, "dup2"))
        must(dup2(must(open(file, O_WRONLY | O_CREAT, 0600)), 2));
    if (is(which, "dup3"))
        must(dup3(must(open(file, O_WRONLY | O_CREAT, 0600)), 2, O_CLOEXEC));
    if (is(which, "login-tty")) {
        int line;
        must(openpty(&terminal, &line, NULL, NULL, NULL));
        must(login_tty(line));
    }
    if (is(which, "freopen") && freopen(file, "a", stderr) == NULL)
        return 3;
    if (is(which, "broken")) { /* a pipe that nobody reads any more */
        int ends[2];
        must(pipe(ends));
        must(dup2(ends[1], 2));
        close(ends[0]);
    }
    if (is(which, "full")) { /* one that nobody empties */
        int ends[2];
        char page[4096] = "";
        must(pipe(ends));
        must(fcntl(ends[1], F_SETFL, O_NONBLOCK));
        while (write(ends[1], page, sizeof page) > 0)
            ;
        must(fcntl(ends[1], F_SETFL, 0));
        must(dup2(ends[1], 2));
    }
    if (is(which, "limit")) { /* a file that may not grow */
        const struct rlimit none = {0, 0};
        must(dup2(must(open(file, O_WRONLY | O_CREAT, 0600)), 2));
        must(setrlimit(RLIMIT_FSIZE, &none));
    }
    if (is(which, "chdir"))
        must(chdir("/"));
    if (is(which, "environment"))
        clearenv();
    if (is(which, "vfork")) { /* a child that shares our memory gives itself another stderr */
        pid_t pid = vfork();
        if (pid == 0) {
            dup2(must(open(file, O_WRONLY | O_CREAT, 0600)), 2);
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        waitpid(pid, NULL, 0);
    }

    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        errno = 77;
        int got = pthread_mutex_lock(&lock);
        _exit(got == 0 && errno == 77 ? 7 : 1);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid)
        return 2;
    if (other_end >= 0 && (ioctl(other_end, FIONREAD, &arrived) != 0 || arrived != 0))
        return 4;
    struct pollfd shown = {.fd = terminal,
                           .events = POLLIN}; /* what one end of a terminal is sent comes later to the other */
    if (terminal >= 0 && poll(&shown, 1, 60000) != 1)
        return 5;
    return WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : 1;
}
