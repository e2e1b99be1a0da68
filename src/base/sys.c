/* base/sys: see sys.h. */
#include "config.h"

#include "base/sys.h"

#include <errno.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

void fsafe_sys_pause_us(unsigned us)
{
    struct timespec span = {.tv_sec = 0, .tv_nsec = (long)us * 1000};
    FSAFE_SYS(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &span, 0, 0, 0);
}

void fsafe_sys_offer(int fd, const void *from, size_t bytes)
{
    const struct timespec now = {0, 0};
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    if (FSAFE_SYS(SYS_ppoll, &room, 1, &now, 0, 0, 0) != 1 || (room.revents & POLLOUT) == 0)
        return;
    struct fsafe_sigset old, before, pipe_only = {{0}};
    pipe_only.bits[0] = 1UL << (SIGPIPE - 1);
    fsafe_sys_block_signals(&old);
    FSAFE_SYS(SYS_rt_sigpending, &before, FSAFE_SIGSET_BYTES, 0, 0, 0, 0);
    long answer = FSAFE_SYS(SYS_write, fd, from, bytes, 0, 0, 0);
    /* The signal of our own write is ours to take; one that was waiting before is the program's. */
    if (answer == -EPIPE && (before.bits[0] & pipe_only.bits[0]) == 0)
        FSAFE_SYS(SYS_rt_sigtimedwait, &pipe_only, 0, &now, FSAFE_SIGSET_BYTES, 0, 0);
    fsafe_sys_restore_signals(&old);
}

bool fsafe_sys_peek(uintptr_t from, void *into, size_t bytes)
{
    struct iovec local = {.iov_base = into, .iov_len = bytes};
    struct iovec remote = {.iov_base = (void *)from, .iov_len = bytes};
    /* Any thread's id will do, and that of the first one finds nothing once it has ended. */
    return FSAFE_SYS(SYS_process_vm_readv, fsafe_sys_gettid(), &local, 1, &remote, 1, 0) == (long)bytes;
}

bool fsafe_sys_stat_fd(int fd, struct stat *status)
{
    int saved = errno;
    bool open = fstat(fd, status) == 0; /* libc's: how a struct stat is filled in differs by machine */
    errno = saved;
    return open;
}

bool fsafe_sys_single_threaded(void)
{
    /*
     * A process may unshare CLONE_THREAD only while nobody shares its memory, and then it changes
     * nothing: the kernel's own answer, and no /proc needed. Container runtimes forbid unshare, so
     * the task directory, which has two links and one more a thread, is asked first.
     */
    struct stat tasks;
#ifdef SYS_newfstatat
    if (FSAFE_SYS(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &tasks, 0, 0, 0) == 0)
        return tasks.st_nlink == 3;
#else
    (void)tasks;
#endif
    return FSAFE_SYS(SYS_unshare, CLONE_THREAD, 0, 0, 0, 0, 0) == 0;
}

_Noreturn void fsafe_sys_abort(void)
{
    pid_t pid = fsafe_sys_getpid();
    pid_t tid = fsafe_sys_gettid();
    struct fsafe_sigset abort_only = {{0}};
    abort_only.bits[0] = 1UL << (SIGABRT - 1);
    FSAFE_SYS(SYS_rt_sigprocmask, SIG_UNBLOCK, &abort_only, 0, FSAFE_SIGSET_BYTES, 0, 0);
    FSAFE_SYS(SYS_tgkill, pid, tid, SIGABRT, 0, 0, 0);
    /* The handler returned, or the signal was ignored: take the default action. All zero is SIG_DFL. */
    unsigned long action[8] = {0};
    FSAFE_SYS(SYS_rt_sigaction, SIGABRT, action, 0, FSAFE_SIGSET_BYTES, 0, 0);
    FSAFE_SYS(SYS_tgkill, pid, tid, SIGABRT, 0, 0, 0);
    for (;;)
        FSAFE_SYS(SYS_exit_group, 127, 0, 0, 0, 0, 0);
}
