/*
 * repair/futex: locks that a program makes of a futex by itself, without pthread: seen only where a thread is about to
 * sleep on one by syscall(SYS_futex), in a child.
 *
 * Neither the word nor any ledger says who has it. But a child that never had a second thread and is about to sleep
 * without a limit on private memory sleeps for ever: only a signal handler could end that. Of such a word we have to
 * know what it means. Those locks are known whose calls cannot be taken for an event's: see the table in futex.c.
 */
#ifndef FSAFE_REPAIR_FUTEX_H
#define FSAFE_REPAIR_FUTEX_H

#include "repair/takeover.h"

/*
 * The caller is about to make the system call futex with these six arguments, an endless wait, from `site`. Returns
 * whether it was to wait for a lock of a vanished thread: that is free now, and the call is over, as if it had been
 * woken.
 * Context: child, any thread, no latch held.
 */
bool fsafe_futex_judge(const long *arguments, uintptr_t site);

/* Whether that is a wait without a limit. Context: any thread. */
bool fsafe_futex_is_endless(const long *arguments);

#endif
