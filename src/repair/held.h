/*
 * repair/held: a sleep of the only thread of a child in which no signal handler runs unnoticed.
 *
 * A wait without a limit that is made in slices (see repair/hopeless.h) has moments at which its thread is not in the
 * kernel: a signal that comes then runs its handler and interrupts nothing, but the wait that the program asked for
 * would have ended with EINTR. So where only a handler can end a wait, the thread sleeps not in a futex but in a poll
 * for a signal, and all signals are blocked from the beginning of the wait to its end, except for one instruction. The
 * thread reads which signal came; then the handlers run, with the mask that the caller had; and the wait ends or goes
 * on as the signal's flags say.
 *
 * A process with several threads cannot do so: another thread may wake the futex. There a signal that comes as a slice
 * ends still interrupts nothing.
 */
#pragma once

#include "base/tasks.h"
#include "track/thread.h"

#include <time.h>

/* Lies in the wrapper's frame. */
struct fsafe_held {
    struct fsafe_thread *self;
    struct fsafe_sigset before; /* the caller's mask */
    struct fsafe_handled handled;
};

/*
 * Holds all signals back if the calling thread is the only one of a child, a handler that interrupts system calls may
 * run, and no sandbox looks at what the thread asks the kernel for. Returns whether it does: then call fsafe_held_end
 * in the end. errno kept. Context: child, in a slice, no latch held.
 */
bool fsafe_held_begin(struct fsafe_held *held, struct fsafe_thread *self);

/*
 * Sleeps until `until`, by CLOCK_MONOTONIC (NULL: no limit), or until a handler is to run. -ETIMEDOUT: none ran.
 * -EINTR: one ran after which a system call ends. 0: others ran, after which it goes on: look at what is waited for.
 * Another error: there is no such sleep, or the process has other threads by now. But for -ETIMEDOUT and 0 the signals
 * are held back no longer, and fsafe_held_end is not to be called. A handler may leave it by a longjmp, or be
 * cancelled.
 */
long fsafe_held_sleep(struct fsafe_held *held, const struct timespec *until);

/* Handlers run again, and first of all for what came meanwhile. */
void fsafe_held_end(struct fsafe_held *held);
