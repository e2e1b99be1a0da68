/*
 * repair/held: a sleep of the only thread of a child in which no signal handler runs unnoticed.
 *
 * A wait without a limit that is made in slices (see repair/hopeless.h) has moments in which its thread is not in the
 * kernel: the handler of a signal that comes then interrupts nothing, where the wait that the program asked for would
 * have ended with EINTR. So where only a handler can end a wait, the thread blocks all signals from the beginning of
 * the wait to its end and sleeps in a poll for a signal, not in a futex. When a signal comes the thread reads which one
 * it is; then the handlers run, with the mask that the caller had; and the wait ends or goes on as the signal's flags
 * say.
 *
 * A process with several threads cannot do that, because another thread may wake the futex: there a signal that comes
 * as a slice ends interrupts nothing.
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
 * Blocks all signals if the calling thread is the only one of a child, a handler that interrupts system calls may run,
 * and no sandbox looks at the thread's system calls. Returns whether it did: then call fsafe_held_end in the end. errno
 * kept. Context: child, in a slice, no latch held.
 */
bool fsafe_held_begin(struct fsafe_held *held, struct fsafe_thread *self);

/*
 * Sleeps until `until`, by CLOCK_MONOTONIC (NULL: no limit), or until a signal comes that the program handles, and lets
 * its handler run. -ETIMEDOUT: no handler ran. 0: handlers ran after which a system call goes on; look at what the wait
 * is for. -EINTR: a handler ran after which a system call ends. Another error: there is no such sleep, or the process
 * has other threads by now. After any but -ETIMEDOUT and 0 the signals are no longer blocked, and fsafe_held_end must
 * not be called. A handler may leave this by a longjmp, or be cancelled.
 */
long fsafe_held_sleep(struct fsafe_held *held, const struct timespec *until);

/* Restores the caller's mask: handlers run, first those of signals that came meanwhile. */
void fsafe_held_end(struct fsafe_held *held);
