/*
 * base/timer: one-shot timers of single threads, whose signal is one of the two that libc keeps for itself: no program
 * can block it, wait for it or have a handler. System calls that it interrupts go on (SA_RESTART), but for those that
 * the kernel never restarts.
 *
 * Owns nothing: who listens hands on what is not his (libc's own use of the signal, another listener's timers).
 */
#ifndef FSAFE_BASE_TIMER_H
#define FSAFE_BASE_TIMER_H

#include "base/sys.h"

#ifdef FSAFE_ARCH_INTERRUPTED

/* What is done about the signal; as the kernel takes it. */
struct fsafe_listener {
    void (*handler)(int number, siginfo_t *info, void *context);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/*
 * Has `handler` called; `before` is what was done until now, and stays as it is where that was the same handler. Returns
 * whether the kernel allowed it. Context: any thread.
 */
bool fsafe_timer_listen(void (*handler)(int number, siginfo_t *info, void *context), struct fsafe_listener *before);

/* Puts `before` back, if `handler` is still the one that is called. Context: any thread. */
void fsafe_timer_stop_listening(void (*handler)(int number, siginfo_t *info, void *context),
                                const struct fsafe_listener *before);

/* Hands on a signal that is not the listener's. Context: its handler. */
void fsafe_timer_hand_on(const struct fsafe_listener *before, int number, siginfo_t *info, void *context);

/* Makes a timer of the calling thread, not yet set; its signal carries `value`. Returns whether it could be made. */
bool fsafe_timer_make(int *timer, void *value);

/* The signal comes once, `ns` from now. Context: any thread. */
void fsafe_timer_set(int timer, uint64_t ns);

void fsafe_timer_delete(int timer);

#endif
#endif
