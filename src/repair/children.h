/*
 * repair/children: how a parent names a child that hangs in a wait without our wrappers (OpenMP's runtime, libc's own
 * locks, a program's own system call).
 *
 * The child itself cannot look: no signal may disturb a child that perhaps just sleeps. But usually its parent waits
 * for it, and a system call that waits for a child goes on after a handler with SA_RESTART as if nothing had happened.
 * So a timer of the waiting thread (base/timer.h) has that thread look at its children when the wait has lasted for
 * FORKSAFE_HANG_MS, and again each time after as long. The kernel may say at two looks that every thread of a child
 * sleeps without a limit in a private futex: if none has moved in between, only a signal handler can end that. A
 * parent that only asks whether a child has ended looks when it asks, and any parent when it forks once more.
 *
 * A parent looks at children that it forked while it had threads or vanished threads, that have executed no program,
 * and that have written no line about their present wait. Owns the list of these children, in the whole tree's memory.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The caller has forked `child`; <= 0: the caller is the child, or the fork failed. errno kept. */
FSAFE_AT_FORK void fsafe_children_forked(pid_t child);

/* This process has written the line that it waits; or, with false, that it went on. */
void fsafe_children_said(bool waits);

/* From now on the parent does not look at this process. */
void fsafe_children_strike_self(void);

/*
 * A wrapper with the frame `frame` is about to wait for the end of `child`, or of any child (<= 0). Returns the `watch`
 * for fsafe_children_over; NULL: none. errno kept.
 */
struct fsafe_watch;
struct fsafe_watch *fsafe_children_watch(pid_t child, uintptr_t frame);

/* The wait is over; the child `ended` has ended (<= 0: none has). errno kept. Context: the thread that began. */
void fsafe_children_over(struct fsafe_watch *watch, pid_t ended);

/* The program has asked whether `child`, or any child (<= 0), has ended, and none has; or forked. errno kept. */
void fsafe_children_glance(pid_t child);
