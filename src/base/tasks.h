/*
 * base/tasks: what the kernel says about the threads of this process, or of a child, and about signal handlers.
 * Owns nothing. Reads /proc/PID/task with raw calls; context: any thread, slow paths only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One thread at one moment. */
struct fsafe_task {
    pid_t tid;
    bool ended;               /* the first thread stays listed when it has ended before the process */
    bool filtered;            /* a sandbox (seccomp) looks at its system calls; true as well when that is not known */
    long call;                /* the system call it sleeps in; -1: it runs, or nothing is known */
    unsigned long argument[4]; /* the first ones of that call */
    uintptr_t at;             /* the instruction behind the one that makes it */
    uintptr_t stack;          /* its stack pointer there */
    uint64_t switches;        /* how often it has gone to sleep */
    uint64_t blocked;         /* the signals that it blocks: bit 0 is signal 1 */
    uint64_t caught;          /* those for which the process has a handler */
};

/* Whether the call that it sleeps in is a wait for a futex. */
bool fsafe_tasks_waits_for_futex(const struct fsafe_task *task);

/* `mark`, with this task mixed in: equal in two looks at all threads if none has woken in between. */
uint64_t fsafe_tasks_mark(uint64_t mark, const struct fsafe_task *task);

/* Opens /proc/PID/`name` of `pid` (0: this process), or of its thread `tid` (0: none). The descriptor, or -errno. */
int fsafe_tasks_open(pid_t pid, pid_t tid, const char *name, int flags);

/* Asks about thread `tid` of this process. False when the kernel does not tell, or there is no such thread. */
bool fsafe_tasks_look(pid_t tid, struct fsafe_task *task);

/* Where a thread of process `pid` makes its call, also where libc has code of the kernel's do that. */
uintptr_t fsafe_tasks_place(pid_t pid, const struct fsafe_task *task);

/* The system call in which thread `tid` of this process sleeps; -1: it runs, or the kernel does not tell. */
long fsafe_tasks_call(pid_t tid);

/*
 * Calls `each` for every thread of process `pid` (0: of this one) until it returns false. Returns whether it was called
 * for all of them and always returned true.
 */
bool fsafe_tasks_each(pid_t pid, bool (*each)(const struct fsafe_task *task, void *context), void *context);

/* Whether `child` is a child of this process that has executed no program; false if the kernel does not tell. */
bool fsafe_tasks_is_fork(pid_t child);

/*
 * Whether process `pid` has one thread, and that sleeps where no signal handler runs: in vfork, if this process is its
 * vfork child. False as well when the kernel does not tell.
 */
bool fsafe_tasks_waits_in_vfork(pid_t pid);

/*
 * Whether `words` stand in /proc/PPID/`file` of the parent process; a zero at their beginning also matches the file's
 * beginning. Their first byte does not come in them again. False as well when the kernel does not tell.
 */
bool fsafe_tasks_parent_has(const char *file, const char *words, size_t bytes);

/*
 * Those of `signals` that a thread does not raise by what it does itself (faults, a broken pipe, used up processor
 * time): in a process that sleeps nobody does. Without libc's own.
 */
uint64_t fsafe_tasks_of_others(uint64_t signals);

/*
 * The signals that the program handles, each in one of two sets: after whose handlers an interrupted system call goes
 * on (SA_RESTART), and after whose it ends with EINTR. Without libc's own. `open`: those that their handler does not
 * block (SA_NODEFER). `returns`: the code that the handlers return to; 0 for the kernel's own (in the vDSO).
 */
enum { FSAFE_RETURNS = 4 };
struct fsafe_handled {
    uint64_t restarting, interrupting, open;
    uintptr_t returns[FSAFE_RETURNS];
    unsigned places; /* of these; FSAFE_RETURNS: there may be more */
};
struct fsafe_handled fsafe_tasks_handled(void);
