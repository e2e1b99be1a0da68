/*
 * repair/elsewhere: which signals another thread of this process would take if the one that looks at its children
 * blocked them. A look blocks no such signal: its handler runs in the thread in which it would run without us.
 */
#pragma once

#include "base/sys.h"

#include <stdint.h>

/* At the end of a look, for the next one: asking takes a while. */
void fsafe_elsewhere_note(void);

/* Bit 0 is signal 1; all, while nobody has asked. */
uint64_t fsafe_elsewhere_signals(void);

/*
 * For a look in the middle of a wait that a signal ends: blocks the calling thread's signals but for those. The first
 * look of a process blocks none. Afterwards: fsafe_sys_restore_signals.
 */
void fsafe_elsewhere_hold(struct fsafe_sigset *before);
