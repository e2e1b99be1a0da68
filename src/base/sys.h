/*
 * base/sys: the system calls that every room may need, without errno and without libc's locks. Owns nothing. Every
 * function is async-signal-safe and leaves errno alone.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

#include "base/arch.h"
#include "base/compiler.h"

/* Linux 5.16's wait for one of several words, which the headers may lack and the running kernel may have. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef FUTEX_WAITV_MAX
struct futex_waitv {
    uint64_t val, uaddr;
    uint32_t flags, __reserved;
};
#endif

/* Linux 6.7's wait for one word. */
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif

/*
 * The system calls of ours that take a time. On 32 bits the kernel has two of each, for times of 32 and of 64 bits. We
 * call the one for this libc's struct timespec: times of musl's have 64 bits, with glibc we build with times of a long.
 * Programs and libc call either futex.
 */
#ifdef SYS_timer_settime32 /* musl's name for the earlier one */
#define FSAFE_SYS_TIMED(call, call64) call64
_Static_assert(sizeof(time_t) == sizeof(uint64_t), "a time of another size than the system calls here take");
#else
#define FSAFE_SYS_TIMED(call, call64) call
_Static_assert(sizeof(time_t) == sizeof(long), "a time of another size than the system calls here take");
#endif
enum {
    FSAFE_SYS_FUTEX = FSAFE_SYS_TIMED(SYS_futex, SYS_futex_time64),
    FSAFE_SYS_PPOLL = FSAFE_SYS_TIMED(SYS_ppoll, SYS_ppoll_time64),
    FSAFE_SYS_PSELECT6 = FSAFE_SYS_TIMED(SYS_pselect6, SYS_pselect6_time64),
    FSAFE_SYS_RT_SIGTIMEDWAIT = FSAFE_SYS_TIMED(SYS_rt_sigtimedwait, SYS_rt_sigtimedwait_time64),
    FSAFE_SYS_CLOCK_NANOSLEEP = FSAFE_SYS_TIMED(SYS_clock_nanosleep, SYS_clock_nanosleep_time64),
    FSAFE_SYS_TIMER_SETTIME = FSAFE_SYS_TIMED(SYS_timer_settime, SYS_timer_settime64)
};

static inline bool fsafe_sys_is_futex(long number)
{
#ifdef SYS_futex_time64
    return number == SYS_futex || number == SYS_futex_time64;
#else
    return number == SYS_futex;
#endif
}

/* Makes of the six arguments of a SYS_futex_wait those of the same wait by SYS_futex. Returns whether there is one. */
bool fsafe_sys_is_also_futex(long *a);

/* Makes a system call of up to six arguments: FSAFE_SYS(SYS_close, fd). */
#define FSAFE_SYS(...) \
    FSAFE_SYS_OF(__VA_ARGS__, FSAFE_SYS_NONE(), FSAFE_SYS_NONE(), FSAFE_SYS_NONE(), FSAFE_SYS_NONE(), \
                 FSAFE_SYS_NONE(), FSAFE_SYS_NONE(), )
#define FSAFE_SYS_OF(n, a, b, c, d, e, f, ...) \
    fsafe_arch_syscall((n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* An argument that the system call does not have: what its register has already. */
static FSAFE_INLINE long FSAFE_SYS_NONE(void)
{
    long any;
    __asm__ volatile("" : "=r"(any));
    return any;
}

static inline pid_t fsafe_sys_getpid(void)
{
    return (pid_t)FSAFE_SYS(SYS_getpid);
}

static inline pid_t fsafe_sys_gettid(void)
{
    return (pid_t)FSAFE_SYS(SYS_gettid);
}

/*
 * Whether process `pid` has a thread `tid`, asked of the kernel. Where a sandbox refuses the question the answer is
 * true, unless `pid` is this process and its only thread is another one.
 */
bool fsafe_sys_thread_alive(pid_t pid, pid_t tid);

/* Sleeps while *word == value, until woken or for `span` (NULL: no limit). May return for no reason. */
static inline void fsafe_sys_futex_wait(void *word, uint32_t value, const struct timespec *span)
{
    FSAFE_SYS(FSAFE_SYS_FUTEX, word, FUTEX_WAIT_PRIVATE, value, span);
}

/* Wakes up to `count` private waiters. The word is not read: it may be gone already. */
static inline void fsafe_sys_futex_wake(void *word, int count)
{
    FSAFE_SYS(SYS_futex, word, FUTEX_WAKE_PRIVATE, count);
}

/* The kernel's signal set is 64 bits on every Linux machine but MIPS (128); libc's sigset_t is larger. */
struct fsafe_sigset {
    unsigned long bits[128 / (8 * sizeof(unsigned long))];
};

#define FSAFE_SIGSET_BYTES (_NSIG / 8)

/* The first 64 signals of a set, the kernel's or libc's: bit 0 is signal 1. */
static inline uint64_t fsafe_sys_signals(const void *set)
{
    uint64_t signals;
    __builtin_memcpy(&signals, set, sizeof signals);
    return signals;
}

/*
 * Blocks every signal but SIGSYS and those of `open`, libc's internal ones too, until fsafe_sys_restore_signals. Where
 * a sandbox traps a system call, the program's handler of SIGSYS has to answer, and a blocked SIGSYS would end the
 * process.
 */
void fsafe_sys_block_but(uint64_t open, struct fsafe_sigset *old);

/* For a few instructions. */
static inline void fsafe_sys_block_signals(struct fsafe_sigset *old)
{
    fsafe_sys_block_but(0, old);
}

static inline void fsafe_sys_restore_signals(const struct fsafe_sigset *old)
{
    FSAFE_SYS(SYS_rt_sigprocmask, SIG_SETMASK, old, 0, FSAFE_SIGSET_BYTES);
}

/* The handler that the program has for a signal, or SIG_DFL or SIG_IGN; SIG_ERR where the kernel does not say. */
uintptr_t fsafe_sys_handler_of(int signal);

/*
 * Whether the word at that address can be read; also true when the kernel does not say. Asks by a futex wait with a
 * limit of zero, which no sandbox forbids to a program with threads; some forbid fsafe_sys_peek.
 */
static inline bool fsafe_sys_may_be_readable(uintptr_t word)
{
    static const struct timespec no_time;
    return FSAFE_SYS(FSAFE_SYS_FUTEX, word, FUTEX_WAIT_PRIVATE, 0, &no_time) != -EFAULT;
}

/* Returns a descriptor that exec closes, or -errno. */
static inline int fsafe_sys_open(const char *path, int flags, int mode)
{
    return (int)FSAFE_SYS(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_NOCTTY, mode);
}

static inline void fsafe_sys_close(int fd)
{
    FSAFE_SYS(SYS_close, fd);
}

/* Returns the number of bytes read, or -errno; reads again after a signal handler. */
static inline ssize_t fsafe_sys_read(int fd, void *into, size_t bytes)
{
    ssize_t got;
    do
        got = FSAFE_SYS(SYS_read, fd, into, bytes);
    while (got == -EINTR);
    return got;
}

/*
 * Reads on to the end of the file, behind `filled` bytes of it in `buffer`, and calls `see` for each line until it
 * returns false. A line that does not fit into the buffer is cut at its end.
 */
void fsafe_sys_each_line(int fd, char *buffer, size_t bytes, size_t filled, bool (*see)(char *line, void *context),
                         void *context);

/*
 * Writes by one call, if that does not wait. Where a pipe is full or has no reader, or a file is at its limit, the
 * bytes are lost; the program goes on (no SIGPIPE, no SIGXFSZ). Returns what write(2) returns, 0 if it was not called.
 */
long fsafe_sys_offer(int fd, const void *from, size_t bytes);

/* How often the calling thread has gone to sleep; 0 where the kernel does not say. */
unsigned long fsafe_sys_sleeps(void);

/* Sleeps about `us` microseconds (below a second); a signal may end it early. */
void fsafe_sys_pause_us(unsigned us);

/*
 * Reads a clock; false, and all zero, when there is no such clock. The time is the kernel's, never that of a library
 * which stands in front of libc and makes times up (libfaketime): such a clock may stand still, it takes locks, and the
 * kernel's waits go by the true time. Once start-up knows libc's own function, that one reads, without a system call.
 */
FSAFE_AT_FORK bool fsafe_sys_clock(clockid_t clock, struct timespec *now);
typedef int fsafe_sys_reads_clock(clockid_t clock, struct timespec *now);
void fsafe_sys_know_clock(fsafe_sys_reads_clock *of_libc); /* NULL: not known. Context: start-up */

/* CLOCK_MONOTONIC, in nanoseconds. errno kept. */
FSAFE_AT_FORK uint64_t fsafe_sys_now_ns(void);

static inline struct timespec fsafe_sys_timespec(uint64_t ns)
{
    enum { SECOND = 1000000000 };
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
}

/* The nanoseconds that such a time has. */
static inline uint64_t fsafe_sys_ns(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec;
}

/* How long it is until that moment of CLOCK_MONOTONIC; zero if it is past. */
uint64_t fsafe_sys_left_ns(uint64_t until_ns);
struct timespec fsafe_sys_span_until(const struct timespec *until);

/* Whether the time's nanoseconds are less than a second, as libc demands. */
static inline bool fsafe_sys_is_valid(const struct timespec *time)
{
    return (unsigned long)time->tv_nsec < 1000000000;
}

/* Copies memory that may be unmapped by now, a page at most. Returns whether all `bytes` arrived: never faults. */
bool fsafe_sys_peek(uintptr_t from, void *into, size_t bytes);

/* The same of another process. Returns how many bytes arrived, or -errno. */
long fsafe_sys_peek_at(pid_t pid, uintptr_t from, void *into, size_t bytes);

/* The program gives itself a filter: from now on no process_vm_readv, whose caller Chromium's filter ends. */
void fsafe_sys_know_filter(void);

/*
 * Whether `bytes` of memory, a page at most, can be read and written: writes the same bytes there again. Also false
 * when the kernel does not say. Context: no thread changes the memory meanwhile.
 */
bool fsafe_sys_may_write(uintptr_t address, size_t bytes);

struct stat;

/* Fills in st_dev, st_ino, st_mode and st_rdev of an open descriptor. Returns whether there was one. */
bool fsafe_sys_stat_fd(int fd, struct stat *status);

/* Where the alternate signal stack begins that the calling thread is on; 0: it is on none. */
uintptr_t fsafe_sys_signal_stack(void);

/* Whether this process has exactly one thread; also false when the kernel does not say. */
bool fsafe_sys_single_threaded(void);

/*
 * To be called when this process, which has one thread, runs in an emulator of another processor: the emulator may have
 * a thread of its own in each process. Context: start-up.
 */
void fsafe_sys_know_emulator(void);

/* Ends the process with SIGABRT as abort() does (a handler of the program's runs first), without abort()'s lock. */
_Noreturn void fsafe_sys_abort(void);
