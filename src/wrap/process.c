/* wrap/process: the doors of fork. What happens behind them is fork/coordinator's. */
#include "config.h"

#include "fork/coordinator.h"
#include "repair/futex.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>

FSAFE_EXPORT pid_t fork(void)
{
    fsafe_fork_announce(FSAFE_CALLER());
    return FSAFE_NEXT(fork)();
}

#ifdef HAVE___FORK
FSAFE_DEFINE_ALIAS(__fork, fork);
#endif

#ifdef HAVE__FORK
/* Runs no handlers and must stay async-signal-safe. */
FSAFE_EXPORT pid_t _Fork(void)
{
    fsafe_fork_begin(FSAFE_CALLER());
    pid_t pid = FSAFE_NEXT(_Fork)();
    if (pid == 0)
        fsafe_fork_in_child();
    else
        fsafe_fork_in_parent();
    return pid;
}
#endif

/*
 * A child that gets its own copy of the memory is a forked one, whatever made it. One that shares ours (a thread,
 * vfork, posix_spawn) is left alone.
 */
static bool copies_memory(unsigned long flags)
{
    return (flags & CLONE_VM) == 0;
}

struct beginning {
    int (*function)(void *);
    void *argument;
};

static int begin_child(void *copied)
{
    const struct beginning beginning = *(struct beginning *)copied;
    fsafe_fork_in_child();
    return beginning.function(beginning.argument);
}

FSAFE_EXPORT int clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
    va_list more;
    va_start(more, argument);
    void *parent_tid = va_arg(more, void *);
    void *tls = va_arg(more, void *);
    void *child_tid = va_arg(more, void *);
    va_end(more);
    if (!copies_memory((unsigned long)flags))
        return FSAFE_NEXT(clone)(function, stack, flags, argument, parent_tid, tls, child_tid);
    struct beginning beginning = {.function = function, .argument = argument};
    fsafe_fork_begin(FSAFE_CALLER());
    int pid = FSAFE_NEXT(clone)(begin_child, stack, flags, &beginning, parent_tid, tls, child_tid);
    fsafe_fork_in_parent();
    return pid;
}

static bool is_fork(long number, const long *arguments)
{
#ifdef SYS_fork
    if (number == SYS_fork)
        return true;
#endif
#ifdef SYS_clone3
    /* struct clone_args begins with the 64-bit flags. */
    if (number == SYS_clone3)
        return arguments[0] != 0 && copies_memory((unsigned long)*(const uint64_t *)arguments[0]);
#endif
    return number == SYS_clone && copies_memory((unsigned long)arguments[0]);
}

FSAFE_EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list more;
    va_start(more, number);
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    if (number == SYS_futex) { /* a lock of GLib's, Rust's, libstdc++'s: with nothing but this to be seen of it */
        fsafe_fork_notice();
        if (fsafe_lineage_is_child() && fsafe_futex_judge(a, FSAFE_CALLER()))
            return 0;
    }
    if (FSAFE_LIKELY(!is_fork(number, a)))
        return FSAFE_NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    fsafe_fork_begin(FSAFE_CALLER());
    long answer = FSAFE_NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (answer == 0)
        fsafe_fork_in_child();
    else
        fsafe_fork_in_parent();
    return answer;
}
