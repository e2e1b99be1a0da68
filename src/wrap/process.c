/*
 * wrap/process: the doors. What a fork does is in fork/coordinator.
 *
 * Measured. exit() in a vfork child runs __cxa_finalize, in the parent's memory, for each object, which drops the
 * object's fork handlers: no later child of the parent was adopted. So our handlers belong to no object. And such a
 * child must not join: 24 threads whose first lock was their vfork child's lost their slots to the next 40 threads,
 * because no thread had the ids in these slots.
 */
#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "fork/contended.h"
#include "fork/coordinator.h"
#include "fork/handlers.h"
#include "repair/asleep.h"
#include "repair/children.h"
#include "repair/futex.h"
#include "report/report.h"
#include "track/join.h"
#include "wrap/next.h"
#include "wrap/slices.h"
#include "wrap/undeclared.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* --- Doors at which libc runs the fork handlers, which do not learn who called -------------------------- */

FSAFE_EXPORT FSAFE_AT_FORK pid_t fork(void)
{
    uintptr_t before = fsafe_fork_announce(FSAFE_CALLER());
    bool prepared = fsafe_fork_prepare();
    pid_t pid = FSAFE_NEXT(fork)();
    if (prepared)
        fsafe_fork_finish(pid);
    fsafe_fork_announce(before);
    fsafe_children_forked(pid);
    return pid;
}

#ifdef HAVE___FORK
FSAFE_DEFINE_ALIAS(__fork, fork);
#endif

#ifdef HAVE_DAEMON
FSAFE_EXPORT int daemon(int stays, int keeps)
{
    uintptr_t before = fsafe_fork_announce(FSAFE_CALLER());
    int state = fsafe_fork_make_ready();
    int result = FSAFE_NEXT(daemon)(stays, keeps);
    fsafe_fork_forget_ready(state);
    fsafe_fork_announce(before);
    return result;
}
#endif

#ifdef HAVE_FORKPTY
FSAFE_EXPORT int forkpty(int *master, char *name, const struct termios *terminal, const struct winsize *size)
{
    uintptr_t before = fsafe_fork_announce(FSAFE_CALLER());
    int state = fsafe_fork_make_ready();
    int result = FSAFE_NEXT(forkpty)(master, name, terminal, size);
    fsafe_fork_forget_ready(state);
    fsafe_fork_announce(before);
    fsafe_children_forked(result);
    if (result == 0)
        fsafe_report_know_stderr(); /* libc's own dup2 has made the terminal descriptor 2 */
    return result;
}
#endif

#ifdef FSAFE_LIBC_GLIBC
/* Each object has its own copy of pthread_atfork, which calls this. */
FSAFE_EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object)
{
    return fsafe_handlers_are_ours() ? fsafe_handlers_add(prepare, parent, child, object)
                                     : FSAFE_NEXT(__register_atfork)(prepare, parent, child, object);
}
#else
FSAFE_EXPORT int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return fsafe_handlers_are_ours() ? fsafe_handlers_add(prepare, parent, child, NULL)
                                     : FSAFE_NEXT(pthread_atfork)(prepare, parent, child);
}
#endif

/* --- Doors without handlers --------------------------------------------------------------------------------- */

#ifdef HAVE__FORK
/* Must stay async-signal-safe: does not drain. */
FSAFE_EXPORT pid_t _Fork(void)
{
    struct fsafe_bare_fork fork;
    fsafe_fork_begin(&fork, FSAFE_CALLER(), false);
    pid_t pid = FSAFE_NEXT(_Fork)();
    if (pid == 0)
        fsafe_fork_in_child(true);
    else
        fsafe_fork_end(&fork);
    fsafe_children_forked(pid);
    return pid;
}
#endif

/*
 * A child that gets its own copy of the memory is a forked child, whichever call made it. A child that shares our
 * memory (a thread, vfork, posix_spawn) is left alone, and so is a child with thread-local data of its own, which lacks
 * ours.
 */
static bool is_forked(unsigned long flags)
{
    return (flags & (CLONE_VM | CLONE_SETTLS)) == 0 && fsafe_options.mode != FSAFE_MODE_OFF;
}

/* Not for threads, which we know, nor for a vfork child, whose maker sleeps in that call. */
static void note_lending(unsigned long flags)
{
    if ((flags & (CLONE_VM | CLONE_THREAD | CLONE_VFORK)) == CLONE_VM)
        fsafe_asleep_lend_memory();
}

/* No drain for a vfork child: the gate would stay closed until the child has called exec. */
static bool drains(unsigned long flags)
{
    return (flags & CLONE_VFORK) == 0;
}

struct beginning {
    int (*function)(void *);
    void *argument, *stack;
};

/*
 * A child of clone's has a stack of its own, perhaps one of few bytes, or one that lies in its maker's frame above what
 * the function reads first: both are right as long as that function alone runs there (D's collector has 256 bytes). So
 * our own work is done below the wrapper's frame, of which the child has a copy, and nothing above it changes.
 */
#ifdef FSAFE_ARCH_DEFINE_BEGIN
FSAFE_ARCH_DEFINE_BEGIN;
#endif

static int begin_child(void *copied)
{
    const struct beginning beginning = *(struct beginning *)copied;
    fsafe_fork_in_child(false);
#ifdef FSAFE_ARCH_DEFINE_BEGIN
    fsafe_arch_begin(beginning.argument, beginning.function, beginning.stack);
#else
    return beginning.function(beginning.argument);
#endif
}

FSAFE_EXPORT int clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
    va_list more;
    va_start(more, argument);
    void *parent_tid = va_arg(more, void *);
    void *tls = va_arg(more, void *);
    void *child_tid = va_arg(more, void *);
    va_end(more);
    note_lending((unsigned long)flags);
    /* Without a function or a stack libc returns an error. */
    if (!is_forked((unsigned long)flags) || function == NULL || stack == NULL)
        return FSAFE_NEXT(clone)(function, stack, flags, argument, parent_tid, tls, child_tid);
    struct {
        char lowest[256]; /* libc writes here what the child begins with */
        struct beginning beginning;
    } frame __attribute__((aligned(16)));
    frame.beginning = (struct beginning){.function = function, .argument = argument, .stack = stack};
#ifdef FSAFE_ARCH_DEFINE_BEGIN
    stack = &frame.beginning;
#endif
    struct fsafe_bare_fork fork;
    fsafe_fork_begin(&fork, FSAFE_CALLER(), drains((unsigned long)flags));
    int pid = FSAFE_NEXT(clone)(begin_child, stack, flags, &frame.beginning, parent_tid, tls, child_tid);
    fsafe_fork_end(&fork);
    fsafe_children_forked(pid);
    return pid;
}

#ifdef HAVE___CLONE
FSAFE_DEFINE_ALIAS(__clone, clone);
#endif

/* What a system call asks the kernel for; all zero for SYS_fork. Laid out as the first members of struct clone_args. */
struct request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static bool read_request(struct request *request, long number, long a, long b)
{
#ifdef SYS_clone3
    /* The kernel refuses a bad address. */
    if (number == SYS_clone3)
        return (size_t)b >= sizeof *request && fsafe_sys_peek((uintptr_t)a, request, sizeof *request);
#endif
#ifdef SYS_fork
    if (number == SYS_fork) {
        *request = (struct request){.flags = 0};
        return true;
    }
#endif
    if (number != SYS_clone)
        return false;
#ifdef __s390__
    *request = (struct request){.flags = (unsigned long)b, .stack = (unsigned long)a};
#else
    *request = (struct request){.flags = (unsigned long)a, .stack = (unsigned long)b};
#endif
    return true;
}

/* Whether a system call makes a forked child that returns here, which a child with a stack of its own does not. */
static bool is_fork(long number, long a, long b)
{
    struct request request;
    if (!read_request(&request, number, a, b))
        return false;
    note_lending((unsigned long)request.flags);
    return is_forked((unsigned long)request.flags) && request.stack == 0;
}

/* A system call that makes a process has no sixth argument. */
static long fork_by_syscall(long number, long a, long b, long c, long d, long e)
{
    struct request request = {.flags = 0}; /* the caller's may be gone since it was looked at */
    struct fsafe_bare_fork fork;
    read_request(&request, number, a, b);
    fsafe_fork_begin(&fork, FSAFE_CALLER(), drains((unsigned long)request.flags));
    long answer = FSAFE_NEXT(syscall)(number, a, b, c, d, e, 0L);
    if (answer == 0)
        fsafe_fork_in_child(false);
    else
        fsafe_fork_end(&fork);
    fsafe_children_forked((pid_t)answer);
    return answer;
}

/* Locks of GLib, Rust and libstdc++ show only by this system call. */
static long futex_by_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long arguments[] = {a, b, c, d, e, f};
    fsafe_fork_notice();
    if (number == SYS_futex_wait && (e != 0 || !fsafe_sys_is_also_futex(arguments) ||
                                     FSAFE_SYS(SYS_futex_wait, 0, 0, 0, 0, 0, 0) == -ENOSYS))
        return FSAFE_NEXT(syscall)(number, a, b, c, d, e, f);
    if (((int)arguments[1] & FUTEX_CMD_MASK) == FUTEX_WAKE)
        fsafe_contended_hand_over((uintptr_t)a);
    bool is_child = fsafe_options.mode != FSAFE_MODE_OFF && fsafe_lineage_is_child();
    if (is_child && fsafe_futex_judge(arguments, FSAFE_CALLER()))
        return 0;
    if (is_child && fsafe_futex_is_made_again(arguments, FSAFE_CALLER()))
        return fsafe_slices_futex_again(arguments, fsafe_thread_join(), FSAFE_CALLER());
    if (!fsafe_futex_is_endless(arguments) || fsafe_options.mode == FSAFE_MODE_OFF)
        return FSAFE_NEXT(syscall)(number, a, b, c, d, e, f);
    bool contends = fsafe_contended_enter(arguments, FSAFE_CALLER());
    long result = is_child ? fsafe_slices_futex(arguments, "futex", "unknown", fsafe_thread_join(), FSAFE_CALLER())
                           : FSAFE_NEXT(syscall)(number, a, b, c, d, e, f);
    if (contends)
        fsafe_contended_leave();
    return result;
}

/* For one of several words. */
static long futexes_by_syscall(long number, long a, long b, long c, long d, long e)
{
    const long arguments[] = {a, b, c, d, e};
    fsafe_fork_notice();
    return d == 0 && fsafe_lineage_is_child() && fsafe_options.mode != FSAFE_MODE_OFF
               ? fsafe_slices_futexes(arguments, fsafe_thread_join(), FSAFE_CALLER())
               : FSAFE_NEXT(syscall)(number, a, b, c, d, e);
}

/* --- Threads that seccomp's strict mode kills at their next system call -------------------------------------- */

static bool is_into_strict_mode(long number, long a, long b)
{
    if (number == SYS_seccomp || (number == SYS_prctl && a == PR_SET_SECCOMP))
        fsafe_sys_know_filter();
    return (number == SYS_prctl && a == PR_SET_SECCOMP && b == SECCOMP_MODE_STRICT) ||
           (number == SYS_seccomp && a == SECCOMP_SET_MODE_STRICT);
}

/*
 * From then on we neither record the thread's locks nor stop it at the gate, and it must not read a clock. Not so for a
 * vfork child, which runs as its parent's thread.
 */
static long enter_strict_mode(long number, long a, long b, long c, long d, long e)
{
    if (fsafe_lineage_is_guest())
        return FSAFE_NEXT(syscall)(number, a, b, c, d, e, 0L);
    struct fsafe_thread *self = fsafe_thread_withdraw();
    long result = FSAFE_NEXT(syscall)(number, a, b, c, d, e, 0L);
    if (result != 0)
        fsafe_thread_return(self);
    return result;
}

FSAFE_EXPORT int prctl(int option, ...)
{
    unsigned long a[4];
    va_list more;
    va_start(more, option);
    for (unsigned i = 0; i < 4; i++)
        a[i] = va_arg(more, unsigned long);
    va_end(more);
    if (is_into_strict_mode(SYS_prctl, option, (long)a[0]))
        return (int)enter_strict_mode(SYS_prctl, option, (long)a[0], (long)a[1], (long)a[2], (long)a[3]);
    return FSAFE_NEXT(prctl)(option, a[0], a[1], a[2], a[3]);
}

#ifdef FSAFE_TIME64
FSAFE_DEFINE_ALIAS(__prctl_time64, prctl);
#endif

#ifdef FSAFE_ARCH_CHOOSE
/* Returns the function that makes the system call for the caller. */
static __attribute__((used)) void *choose_syscall(long number, long a, long b)
{
    if (fsafe_sys_is_futex(number) || number == SYS_futex_wait)
        return (void *)futex_by_syscall;
    if (number == SYS_futex_waitv)
        return (void *)futexes_by_syscall;
    if (is_into_strict_mode(number, a, b))
        return (void *)enter_strict_mode;
    return is_fork(number, a, b) ? (void *)fork_by_syscall : (void *)FSAFE_NEXT(syscall);
}

/*
 * All other system calls jump to libc's syscall. With a frame of ours a child that shares the stack (SYS_vfork) would
 * return first and overwrite that frame, through which the parent still has to return.
 */
FSAFE_ARCH_CHOOSE(syscall, choose_syscall);
#else
FSAFE_EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list more;
    va_start(more, number);
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    if (fsafe_sys_is_futex(number) || number == SYS_futex_wait)
        return futex_by_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_futex_waitv)
        return futexes_by_syscall(number, a[0], a[1], a[2], a[3], a[4]);
    if (is_into_strict_mode(number, a[0], a[1]))
        return enter_strict_mode(number, a[0], a[1], a[2], a[3], a[4]);
    if (is_fork(number, a[0], a[1]))
        return fork_by_syscall(number, a[0], a[1], a[2], a[3], a[4]);
    return FSAFE_NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
#endif
