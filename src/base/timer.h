/*
 * base/timer: one-shot timers of single threads, whose signal is one of the two that libc keeps for itself: no program
 * can block it, wait for it or have a handler. System calls that it interrupts go on (SA_RESTART), but for those that
 * the kernel never restarts.
 *
 * Owns the signal's handler and what was done about the signal before: libc's own use of it goes on. One handler for
 * all who listen: two that handed on to each other would never end.
 */
#ifndef FSAFE_BASE_TIMER_H
#define FSAFE_BASE_TIMER_H

#include "base/sys.h"

#ifdef FSAFE_ARCH_INTERRUPTED

/* Called with each signal of a timer. Returns whether the timer is its own. */
typedef bool fsafe_timer_listener(siginfo_t *info, void *context);

/*
 * Has `listener` called, which may be listening already; two may. Returns whether the kernel allowed it. Context: any
 * thread.
 */
bool fsafe_timer_listen(fsafe_timer_listener *listener);

/* When the last one stops, the signal is libc's again, unless somebody has taken it since. Context: any thread. */
void fsafe_timer_stop_listening(fsafe_timer_listener *listener);

/* Makes a timer of the calling thread, not yet set; its signal carries `value`. Returns whether it could be made. */
bool fsafe_timer_make(int *timer, void *value);

/* The signal comes once, `ns` from now. Context: any thread. */
void fsafe_timer_set(int timer, uint64_t ns);

void fsafe_timer_delete(int timer);

#endif
#endif
