/*
 * repair/children: how a parent names a child that hangs in a wait without our wrappers (OpenMP's runtime, libc's own
 * locks, a program's own system call).
 *
 * The child itself cannot look: no signal may disturb a child that perhaps just sleeps. But usually its parent waits
 * for it, and looks meanwhile (repair/watch). The kernel may say at two looks that every thread of a child sleeps
 * without a limit in a private futex: if none has moved in between, only a signal handler can end that. A parent that
 * only asks whether a child has ended looks when it asks, and any parent when it forks once more. A parent that waits
 * for a descriptor or a signal, or sleeps, looks as well (wrap/ready, wrap/sleep).
 *
 * A parent looks at children that it forked while it had threads or vanished threads, that have executed no program,
 * and that have written no line about their present wait. Owns the list of these children, in the whole tree's memory.
 */
#pragma once

#include "track/lineage.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The generation of the process that may have a child to look at. Only repair/children writes this. */
extern FSAFE_HIDDEN _Atomic uint32_t fsafe_children_of;

/* Whether this process may have a child to look at. */
static FSAFE_INLINE bool fsafe_children_any(void)
{
    return FSAFE_UNLIKELY(atomic_load_explicit(&fsafe_children_of, memory_order_relaxed) == fsafe_lineage_generation());
}

/* Whether this process has forked, also children that it does not look at. */
bool fsafe_children_had_any(void);

/* The caller has forked `child`; <= 0: the caller is the child, or the fork failed. errno kept. */
FSAFE_AT_FORK void fsafe_children_forked(pid_t child);

/* This process has written the line that it waits; or, with false, that it went on. */
void fsafe_children_said(bool waits);

/* From now on the parent does not look at this process. */
void fsafe_children_strike_self(void);

/* Whether this process may have `child`, or any child (<= 0), in the list, and the stack has room for a look. */
bool fsafe_children_has(pid_t child);

/* From now on this process does not look at the child, which has ended, or has executed a program. */
void fsafe_children_ended(pid_t child);

/* In how many ns the next look is due, 1 where it is by now; 0: there is no child to look at. errno kept. */
uint64_t fsafe_children_due_ns(void);

/*
 * Looks at the children if that is due. For a program that has asked whether a child has ended, or waited for something
 * with a limit, and nothing has come. Returns in how many ns the next look is due; 0: there is no child to look at.
 * errno kept.
 */
uint64_t fsafe_children_look(void);
