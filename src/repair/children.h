/*
 * repair/children: a child that hangs in a wait that goes past us (OpenMP's runtime, libc's own locks, a program's own
 * system call): what a parent that waits for the child can see.
 *
 * The child itself cannot look: no signal may disturb a child that perhaps just sleeps. But mostly its parent waits for
 * it. A system call that waits for a child goes on after a handler with SA_RESTART as if nothing had been: so a timer
 * of the waiting thread (base/timer.h) has that thread look at its children when the wait has lasted for
 * FORKSAFE_HANG_MS, and each time after as long. If the kernel says at two looks that every thread of a child sleeps
 * without a limit in a private futex, and none has moved in between, only a signal handler can end that. A parent that
 * only asks whether a child has ended looks when it asks.
 *
 * A parent looks at children that were forked from a process with vanished threads or with threads, have executed no
 * program, and have written no line about their present wait. Owns the list of those, in memory of the whole tree.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The caller has forked `child`; with <= 0 it is that child, or there is none. */
FSAFE_AT_FORK void fsafe_children_forked(pid_t child);

/* This process has written a line that says that it waits, or that it went on. */
void fsafe_children_said(bool waits);

/* The parent is to look at this process no more. */
void fsafe_children_strike_self(void);

/*
 * A wait for the end of a child, `child` or any (<= 0), is about to begin from a wrapper with that frame. Returns the
 * `watch` for fsafe_children_over. errno kept.
 */
int fsafe_children_watch(pid_t child, uintptr_t frame);

/* The wait is over; the child `ended` has ended (<= 0: none has). errno kept. Context: the thread that began. */
void fsafe_children_over(int watch, pid_t ended);

/* The caller has asked whether `child`, or any, has ended, and none has. errno kept. */
void fsafe_children_glance(pid_t child);
