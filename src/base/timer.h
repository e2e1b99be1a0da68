/*
 * base/timer: one-shot timers of single threads. Their signal is one of the two that libc keeps for itself: no program
 * can block it, wait for it or have a handler. System calls that it interrupts go on (SA_RESTART), but for those that
 * the kernel never restarts.
 *
 * Owns the signal's handler, which also calls the one that was there before: libc's own use of the signal goes on. All
 * listeners share one handler, because two handlers that called each other would never end.
 */
#pragma once

#include "base/sys.h"

/*
 * Called with each signal of a timer, as a signal handler is, with all signals but SIGSYS blocked. Returns whether the
 * timer is the listener's.
 */
typedef bool fsafe_timer_listener(siginfo_t *info, void *context);

/*
 * From now on calls `listener`, which may be listening already; there may be two listeners. Returns whether the kernel
 * allowed that, and this processor is one of those of which base/arch knows what a signal interrupts.
 */
bool fsafe_timer_listen(fsafe_timer_listener *listener);

/* When the last listener stops, the signal is libc's again, unless the program has taken it since. */
void fsafe_timer_stop_listening(fsafe_timer_listener *listener);

/* Makes a timer of the calling thread, not yet set; its signal carries `value`. Returns whether it could be made. */
bool fsafe_timer_make(int *timer, void *value);

/* The signal comes once, `ns` from now. */
void fsafe_timer_set(int timer, uint64_t ns);

void fsafe_timer_delete(int timer);

/*
 * Whether a longjmp has left the function with the frame `frame`. `context`: the listener's, `stack`: what that
 * interrupted has as its stack pointer, perhaps another signal's handler on the alternate stack, wherever that lies.
 */
bool fsafe_timer_has_left(const void *context, uintptr_t stack, uintptr_t frame);
