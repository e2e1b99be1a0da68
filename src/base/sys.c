/*
 * Measured. A futex wait with a limit of zero reads the word first and answers EFAULT where no memory is. (So does
 * rt_sigprocmask with a meaningless `how`, but valgrind complains of that to the user.)
 */
#include "config.h"

#include "base/sys.h"

#include <errno.h>
#include <linux/sched.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#ifdef FSAFE_ARCH_DEFINE_CALL
FSAFE_ARCH_DEFINE_CALL;
#endif
#ifdef FSAFE_ARCH_BY_LIBC
long (*fsafe_arch_libc)(long, ...) = syscall;
#endif

bool fsafe_sys_thread_alive(pid_t pid, pid_t tid)
{
    long answer = FSAFE_SYS(SYS_tgkill, pid, tid, 0);
    if (answer == 0 || answer == -ESRCH)
        return answer == 0;
    return pid != fsafe_sys_getpid() || tid == fsafe_sys_gettid() || !fsafe_sys_single_threaded();
}

static fsafe_sys_reads_clock *libc_clock;

void fsafe_sys_know_clock(fsafe_sys_reads_clock *of_libc)
{
    libc_clock = of_libc;
}

bool fsafe_sys_clock(clockid_t clock, struct timespec *now)
{
    *now = (struct timespec){.tv_sec = 0};
    if (libc_clock == NULL)
        return FSAFE_SYS(SYS_clock_gettime, clock, now) == 0;
    int saved = errno;
    bool is_clock = libc_clock(clock, now) == 0;
    if (errno != saved)
        errno = saved; /* written only if need be: in a new child a write is a page fault */
    return is_clock;
}

uint64_t fsafe_sys_now_ns(void)
{
    struct timespec now;
    fsafe_sys_clock(CLOCK_MONOTONIC, &now);
    return fsafe_sys_ns(&now);
}

uint64_t fsafe_sys_left_ns(uint64_t until_ns)
{
    uint64_t now_ns = fsafe_sys_now_ns();
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

struct timespec fsafe_sys_span_until(const struct timespec *until)
{
    return fsafe_sys_timespec(fsafe_sys_left_ns(fsafe_sys_ns(until)));
}

unsigned long fsafe_sys_sleeps(void)
{
    enum { SLEEPS = 16, WORDS = 18 }; /* of the kernel's struct rusage, all words; libc's struct may have wider times */
    unsigned long usage[WORDS] = {0};
    FSAFE_SYS(SYS_getrusage, RUSAGE_THREAD, usage);
    return usage[SLEEPS];
}

void fsafe_sys_pause_us(unsigned us)
{
    struct timespec span = {.tv_sec = 0, .tv_nsec = (long)us * 1000};
    FSAFE_SYS(FSAFE_SYS_CLOCK_NANOSLEEP, CLOCK_MONOTONIC, 0, &span, 0);
}

/* Whether a write would not wait. */
static bool has_room(int fd)
{
    struct timespec now = {0, 0};
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    long answer = FSAFE_SYS(FSAFE_SYS_PPOLL, &room, 1, &now, 0, 0);
    if (answer != -EINVAL || fd >= (int)(8 * sizeof(unsigned long)))
        return answer == 1 && (room.revents & POLLOUT) != 0;
    /* A process that may open no file (RLIMIT_NOFILE of 0) may not poll one either. */
    unsigned long writable = 1UL << fd;
    now = (struct timespec){0, 0};
    return FSAFE_SYS(FSAFE_SYS_PSELECT6, fd + 1, 0, &writable, 0, &now, 0) == 1;
}

void fsafe_sys_block_but(uint64_t open, struct fsafe_sigset *old)
{
    struct fsafe_sigset most;
    uint64_t blocked = ~(open | (uint64_t)1 << (SIGSYS - 1));
    __builtin_memset(&most, 0xff, sizeof most);
    __builtin_memcpy(&most, &blocked, sizeof blocked);
    FSAFE_SYS(SYS_rt_sigprocmask, SIG_BLOCK, &most, old, FSAFE_SIGSET_BYTES);
}

uintptr_t fsafe_sys_handler_of(int signal)
{
    uintptr_t action[20]; /* the kernel's struct begins with the handler and is smaller than this */
    long answer = FSAFE_SYS(SYS_rt_sigaction, signal, 0, action, FSAFE_SIGSET_BYTES);
    return answer == 0 ? action[0] : (uintptr_t)SIG_ERR;
}

bool fsafe_sys_is_also_futex(long *a)
{
    enum { OF_32_BITS = 2 };
    if (((unsigned)a[3] | FUTEX_PRIVATE_FLAG) != (OF_32_BITS | FUTEX_PRIVATE_FLAG) ||
        (unsigned long)a[1] != (uint32_t)a[1] || (unsigned long)a[2] != (uint32_t)a[2])
        return false;
    const long value = a[1], bits = a[2], limit = a[4];
    a[1] = FUTEX_WAIT_BITSET | (a[3] & FUTEX_PRIVATE_FLAG);
    a[2] = value;
    a[3] = limit;
    a[5] = bits;
    return true;
}

long fsafe_sys_offer(int fd, const void *from, size_t bytes)
{
    const struct timespec now = {0, 0};
    if (!has_room(fd))
        return 0;
    struct fsafe_sigset old, before, raised = {{0}};
    fsafe_sys_block_signals(&old);
    FSAFE_SYS(SYS_rt_sigpending, &before, FSAFE_SIGSET_BYTES);
    long answer = FSAFE_SYS(SYS_write, fd, from, bytes);
    if (answer == -EPIPE)
        raised.bits[0] = 1UL << (SIGPIPE - 1);
    else if (answer == -EFBIG)
        raised.bits[0] = 1UL << (SIGXFSZ - 1);
    /* Takes back the signal that our write raised; one that was pending before is the program's. */
    if ((raised.bits[0] & ~before.bits[0]) != 0)
        FSAFE_SYS(FSAFE_SYS_RT_SIGTIMEDWAIT, &raised, 0, &now, FSAFE_SIGSET_BYTES);
    fsafe_sys_restore_signals(&old);
    return answer;
}

void fsafe_sys_each_line(int fd, char *buffer, size_t bytes, size_t filled, bool (*see)(char *line, void *context),
                         void *context)
{
    bool was_cut = false; /* the rest of a line that was cut is left out */
    for (ssize_t got = 1; got > 0; filled += got > 0 ? (size_t)got : 0) {
        char *line = buffer;
        for (char *end; (end = memchr(line, '\n', filled - (size_t)(line - buffer))) != NULL; line = end + 1) {
            *end = '\0';
            if (!was_cut && !see(line, context))
                return;
            was_cut = false;
        }
        filled -= (size_t)(line - buffer);
        memmove(buffer, line, filled);
        if (filled == bytes - 1) {
            buffer[filled] = '\0';
            if (!was_cut && !see(buffer, context))
                return;
            was_cut = true;
            filled = 0;
        }
        got = fsafe_sys_read(fd, buffer + filled, bytes - 1 - filled);
    }
}

/* By five system calls, which hardly any sandbox forbids. */
static bool peek_by_pipe(uintptr_t from, void *into, size_t bytes)
{
    int ends[2];
    if (FSAFE_SYS(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    bool whole = FSAFE_SYS(SYS_write, ends[1], from, bytes) == (long)bytes &&
                 fsafe_sys_read(ends[0], into, bytes) == (long)bytes;
    fsafe_sys_close(ends[0]);
    fsafe_sys_close(ends[1]);
    return whole;
}

static _Atomic bool filtered;

void fsafe_sys_know_filter(void)
{
    atomic_store_explicit(&filtered, true, memory_order_relaxed);
}

long fsafe_sys_peek_at(pid_t pid, uintptr_t from, void *into, size_t bytes)
{
    struct iovec local = {.iov_base = into, .iov_len = bytes};
    struct iovec remote = {.iov_base = (void *)from, .iov_len = bytes};
    return atomic_load_explicit(&filtered, memory_order_relaxed)
               ? -EPERM
               : FSAFE_SYS(SYS_process_vm_readv, pid, &local, 1, &remote, 1, 0);
}

bool fsafe_sys_peek(uintptr_t from, void *into, size_t bytes)
{
    /* Any thread's id names the process; that of the first thread finds nothing once that thread has ended. */
    long answer = fsafe_sys_peek_at(fsafe_sys_gettid(), from, into, bytes);
    return answer >= 0 || answer == -EFAULT ? answer == (long)bytes : peek_by_pipe(from, into, bytes);
}

bool fsafe_sys_may_write(uintptr_t address, size_t bytes)
{
    return peek_by_pipe(address, (void *)address, bytes);
}

bool fsafe_sys_stat_fd(int fd, struct stat *status)
{
#if defined(__x86_64__) || defined(__aarch64__)
    /* Not by a function, which may be a sanitizer's or fakeroot's. */
    return FSAFE_SYS(SYS_fstat, fd, status) == 0;
#elif defined(__i386__) && defined(FSAFE_LIBC_GLIBC)
    struct stat64 wide;
    if (FSAFE_SYS(SYS_fstat64, fd, &wide) != 0)
        return false;
    *status = (struct stat){
        .st_dev = wide.st_dev, .st_ino = (ino_t)wide.st_ino, .st_mode = wide.st_mode, .st_rdev = wide.st_rdev};
    return true;
#else
    int saved = errno;
    bool open = fstat(fd, status) == 0; /* libc's: how a struct stat is filled in differs by machine */
    errno = saved;
    return open;
#endif
}

uintptr_t fsafe_sys_signal_stack(void)
{
    stack_t stack;
    bool is_on = FSAFE_SYS(SYS_sigaltstack, 0, &stack) == 0 && (stack.ss_flags & SS_ONSTACK) != 0;
    return is_on ? (uintptr_t)stack.ss_sp : 0;
}

/* How many links the directory of tasks has: two, and one for each thread. Or -errno. */
static long count_links(void)
{
#ifdef SYS_fstatat64
    struct stat64 tasks;
    long answer = FSAFE_SYS(SYS_fstatat64, AT_FDCWD, "/proc/self/task", &tasks, 0);
#else
    struct stat tasks;
    long answer = FSAFE_SYS(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &tasks, 0);
#endif
    return answer == 0 ? (long)tasks.st_nlink : answer;
}

static long links_of_one = 3; /* of a process with one thread */

void fsafe_sys_know_emulator(void)
{
    if (count_links() == 4)
        links_of_one = 4;
}

bool fsafe_sys_single_threaded(void)
{
    /*
     * A process may unshare CLONE_THREAD only while it has one thread, and then the call changes nothing: an answer of
     * the kernel's that needs no /proc. Container runtimes forbid unshare, so the directory of tasks is asked first. A
     * sandbox that forbids even to look there may end a process that calls unshare, as Chromium's does.
     */
    long answer = count_links();
    if (answer > 0)
        return answer == links_of_one;
    if (answer != -ENOENT && answer != -ENOTDIR)
        return false;
    return FSAFE_SYS(SYS_unshare, CLONE_THREAD) == 0;
}

_Noreturn void fsafe_sys_abort(void)
{
    pid_t pid = fsafe_sys_getpid();
    pid_t tid = fsafe_sys_gettid();
    struct fsafe_sigset abort_only = {{0}};
    abort_only.bits[0] = 1UL << (SIGABRT - 1);
    FSAFE_SYS(SYS_rt_sigprocmask, SIG_UNBLOCK, &abort_only, 0, FSAFE_SIGSET_BYTES);
    FSAFE_SYS(SYS_tgkill, pid, tid, SIGABRT);
    /* The handler returned, or the signal was ignored: take the default action. All zero is SIG_DFL. */
    unsigned long action[8] = {0};
    FSAFE_SYS(SYS_rt_sigaction, SIGABRT, action, 0, FSAFE_SIGSET_BYTES);
    FSAFE_SYS(SYS_tgkill, pid, tid, SIGABRT);
    for (;;)
        FSAFE_SYS(SYS_exit_group, 127);
}
