/*
 * repair/children: a child that hangs where nobody sees it wait: what a parent that waits for the child can see.
 *
 * A wait that goes past us (OpenMP's runtime, libc's own locks, a program's own system call) is not looked at in the
 * child, and no signal may disturb a child that perhaps just sleeps. But mostly its parent waits for it. A system call
 * that waits for a child goes on after a handler with SA_RESTART as if nothing had been: so a timer of the waiting
 * thread (base/timer.h) has it look at its children when that has lasted for FORKSAFE_HANG_MS, and each time after as
 * long. Where the kernel says both times that every thread of a child sleeps without a limit in a private futex, and
 * none has moved in between, nobody but a signal handler can end that. A parent that only asks whether a child has
 * ended looks when it asks.
 *
 * Looked at are children that were forked from a process with vanished threads or with threads, have executed no
 * program, and have not said a word about their present wait themselves. Owns the list of those, which lies in the
 * memory that the process tree shares.
 */
#ifndef FSAFE_REPAIR_CHILDREN_H
#define FSAFE_REPAIR_CHILDREN_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The caller has forked `child`; with <= 0 it is that child, or there is none. Context: any thread. */
FSAFE_AT_FORK void fsafe_children_forked(pid_t child);

/* This process has told the user that it waits, or that it went on. Context: any thread. */
void fsafe_children_said(bool waits);

/*
 * A wait for the end of a child, `child` or any (<= 0), is about to begin from a wrapper with that frame. Returns what
 * `over` is to be told. errno kept. Context: any thread.
 */
int fsafe_children_watch(pid_t child, uintptr_t frame);

/* It is over, and was told of the end of `ended` (<= 0: of none). errno kept. Context: the thread that began. */
void fsafe_children_over(int watch, pid_t ended);

/* The caller has asked whether `child`, or any, has ended, and none has. errno kept. Context: any thread. */
void fsafe_children_glance(pid_t child);

#endif
