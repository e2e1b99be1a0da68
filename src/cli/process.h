/*
 * cli/process: reads another process from outside: /proc, memory, the stacks of threads, the Python functions that the
 * threads run. Changes nothing in the process; to read a stack it stops the process for a moment.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Opens a file of /proc/PID for reading; NULL: there is none, or we must not read it. */
FILE *fsafe_process_open(long pid, const char *name);

/* A number of /proc/PID/status; 0 when it is not there. */
long fsafe_process_status(long pid, const char *word);

/*
 * Whether the program handles a signal that its first thread does not block. Not counted: SIGINT, which Python always
 * handles; those that a thread raises by what it does itself; libc's own.
 */
bool fsafe_process_has_handler(long pid);

/*
 * A process in a PID namespace of its own (a container's) knows its threads by other ids than we do, and its locks have
 * those. The process's id of our thread `tid`; and our id of the thread that it calls `own`, 0: it has none.
 */
long fsafe_process_own_id(long pid, long tid);
long fsafe_process_find_thread(long pid, long own);
void fsafe_process_thread_name(long pid, long tid, char name[64]);

void fsafe_process_each(void (*see)(long pid, void *context), void *context);

/* Calls `see` for each thread until it returns false. Returns whether there is such a process. */
bool fsafe_process_each_thread(long pid, bool (*see)(long tid, void *context), void *context);

/* Copies memory of the process. Returns whether all of it could be read. */
bool fsafe_process_peek(long pid, uint64_t from, void *into, size_t bytes);

/* How many bytes an address has in the process: 4 or 8. */
unsigned fsafe_process_address_bytes(long pid);

/* The system call that a thread sleeps in: its number, its first arguments, the stack pointer. */
struct fsafe_process_call {
    long number;
    unsigned long arguments[6], stack;
};
/* False, with errno: it cannot be read. */
bool fsafe_process_call(long pid, long tid, struct fsafe_process_call *call);

/* Whether that is the system call futex, by the numbers of the process's word size. */
bool fsafe_process_is_futex(long pid, const struct fsafe_process_call *call);

/*
 * Whether the process was forked and has executed no program since. True also when the kernel does not say.
 */
bool fsafe_process_is_fork(long pid);

/*
 * If the call waits, without a limit, for data in pipes and in pairs of sockets of which the process has both ends, and
 * in nothing else, `prints` each with the processes that can write to it. Returns which these are, beside the process
 * itself; processes that we may not look at are left out.
 */
enum fsafe_pipe_writers { FSAFE_PIPES_UNKNOWN, FSAFE_PIPES_OF_SELF, FSAFE_PIPES_OF_PARENT, FSAFE_PIPES_OF_OTHERS };
enum fsafe_pipe_writers fsafe_pipes_look(long pid, const struct fsafe_process_call *call, bool prints);

/* --- Stacks --------------------------------------------------------------------------------------------- */

enum { FSAFE_STACK_FRAMES = 32 };
struct Dwfl;
struct fsafe_stack {
    struct Dwfl *dwfl;
    uint64_t pc[FSAFE_STACK_FRAMES];
    bool exact[FSAFE_STACK_FRAMES]; /* pc is the instruction itself; false: the one that a call returns to */
    size_t count;
};

/*
 * Fills in the stack of a thread; it stays empty where elfutils is missing or the kernel refuses. Valid until stacks of
 * two other processes have been read.
 */
void fsafe_stack_read(struct fsafe_stack *stack, long pid, long tid);

/* The function of a frame; "?" unknown. Valid while the stack is. */
const char *fsafe_stack_symbol(const struct fsafe_stack *stack, size_t frame);
void fsafe_stack_print(const struct fsafe_stack *stack, const char *indent);

/* The value of a symbol in the process, looked for in modules whose path has `module` in it; 0: none has it. */
uint64_t fsafe_stack_find_symbol(const struct fsafe_stack *stack, const char *module, const char *symbol,
                                 const char **path);

/* --- Python --------------------------------------------------------------------------------------------- */

/* A kind of lock that no thread has: another thread notifies the one that waits. */
#define FSAFE_PYTHON_CONDITION "Condition (of an Event, a Queue, ...)"

/*
 * The lock that a thread, asleep on `futex`, is about to take, by its innermost Python functions, and its owner: an
 * RLock names its owner; the owner of a Lock is the thread that is inside a "with" of it. Returns the id by which
 * `parent` itself knows that thread; 0: unknown. `kind` is set to what the lock is, or NULL.
 */
long fsafe_python_owner(const struct fsafe_stack *stack, long pid, long tid, long parent, uint64_t futex,
                        const char **kind);

/* Prints the Python functions that a thread runs, the innermost first. Returns how many. */
unsigned fsafe_python_print(const struct fsafe_stack *stack, long pid, long tid, const char *indent);
