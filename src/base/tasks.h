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
    pid_t tid;                /* as its own process sees it: /proc may be that of an outer namespace */
    bool ended;               /* the first thread stays listed when it has ended before the process */
    bool filtered;            /* a sandbox (seccomp) looks at its system calls; also true when that is not known */
    bool runs;                /* it sleeps in no system call, nor is it stopped */
    bool in_futex;            /* it sleeps in a futex call, and the kernel says nothing else of that call */
    long call;                /* the system call it sleeps in; -1: it runs, or nothing is known */
    unsigned long argument[4]; /* the first four of that call */
    uintptr_t at;             /* the instruction behind the one that makes the call */
    uintptr_t stack;          /* its stack pointer there */
    uint64_t switches;        /* how often it has gone to sleep */
    uint64_t blocked;         /* the signals that it blocks: bit 0 is signal 1 */
    uint64_t caught;          /* the signals for which the process has a handler */
};

bool fsafe_tasks_waits_for_futex(const struct fsafe_task *task);

/* Mixes one thread into `mark`. Two looks at all threads give the same mark if no thread has woken in between. */
uint64_t fsafe_tasks_mark(uint64_t mark, const struct fsafe_task *task);

/* Opens a file in /proc of process `pid` (0: this one), or of its thread `tid` (if not 0). Descriptor, or -errno. */
int fsafe_tasks_open(pid_t pid, pid_t tid, const char *name, int flags);

void fsafe_tasks_close(int fd);

/* Whether this process can open none of these files, because it has no free descriptor. */
bool fsafe_tasks_has_no_descriptor(void);

/*
 * Closes what the calling thread has open here since a signal handler left functions below `frame`, the caller's, by a
 * longjmp.
 */
void fsafe_tasks_close_left(uintptr_t frame);

/* Reads the beginning of such a file and puts a zero behind it. Returns how many bytes that are, or -errno. */
ssize_t fsafe_tasks_read(pid_t pid, pid_t tid, const char *name, char *into, size_t bytes);

/* Asks about thread `tid` of this process. False when the kernel does not say, or there is no such thread. */
bool fsafe_tasks_look(pid_t tid, struct fsafe_task *task);

/* Where a thread of process `pid` makes its system call; if that is in code of the kernel's, that code's caller. */
uintptr_t fsafe_tasks_place(pid_t pid, const struct fsafe_task *task);

/* The system call in which thread `tid` of this process sleeps; -1: it runs, or the kernel does not say more. */
long fsafe_tasks_call(pid_t tid);

/*
 * Calls `each` for every thread of process `pid` (0: of this one) until it returns false. Returns whether it was called
 * for all of them and always returned true.
 */
bool fsafe_tasks_each(pid_t pid, bool (*each)(const struct fsafe_task *task, void *context), void *context);

/*
 * Whether the first thread of process `pid` runs, or sleeps otherwise than without a limit in a futex; false where the
 * kernel does not say, or that thread has ended or is stopped.
 */
bool fsafe_tasks_is_elsewhere(pid_t pid);

/* Whether the processes of /proc have the ids that this process knows: it may be that of an outer namespace. */
bool fsafe_tasks_are_of_namespace(void);

/*
 * Whether `child` is a child of this process that lives and has executed no program; also false when the kernel does
 * not say.
 */
bool fsafe_tasks_is_fork(pid_t child);

/*
 * Whether process `pid` has one thread, which sleeps where no signal wakes it: in vfork, if this process is its vfork
 * child. Also false when the kernel does not say.
 */
bool fsafe_tasks_waits_in_vfork(pid_t pid);

/*
 * Whether the parent's file `file` in /proc has the bytes `words`; a zero as their first also matches the beginning of
 * the file. The first byte must not occur in `words` again. Also false when the kernel does not say.
 */
bool fsafe_tasks_parent_has(const char *file, const char *words, size_t bytes);

/*
 * `signals` without libc's own and without those that a thread raises by what it does (faults, a broken pipe, processor
 * time used up): in a process that sleeps no thread does.
 */
uint64_t fsafe_tasks_of_others(uint64_t signals);

/*
 * The signals that the program has handlers for, without libc's own; each is in one of the first two sets.
 */
enum { FSAFE_RETURNS = 4 };
struct fsafe_handled {
    uint64_t restarting;   /* after the handler an interrupted system call goes on (SA_RESTART) */
    uint64_t interrupting; /* after the handler it ends with EINTR */
    uint64_t open;         /* the handler does not block the signal itself (SA_NODEFER) */
    uintptr_t returns[FSAFE_RETURNS]; /* the code that the handlers return to; 0: the kernel's, in the vDSO */
    unsigned places;       /* how many of these there are; FSAFE_RETURNS: perhaps more */
};
struct fsafe_handled fsafe_tasks_handled(void);
