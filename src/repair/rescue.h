/*
 * repair/rescue: locks that we see only when a child sleeps on them.
 *
 * libc's own locks have no symbol, and after a drain that failed a vanished thread may have one. When a child makes a
 * call of such a region, it sets a timer for just that call: the call has a *net*. The timer's signal handler looks at
 * what it has interrupted. That may be a wait without a limit, on a private word of libc's own data that says "locked,
 * with a waiter". If no other thread can have that lock (repair/idle), the handler makes the lock free; the kernel
 * begins the wait again, which then ends. A line names a call that waits for long and is not rescued.
 *
 * In a process with one thread the signal (base/timer.h) is ours only during the call; with more threads it stays ours.
 */
#pragma once

#include "base/compiler.h"
#include "track/region.h"

struct fsafe_rescued {
    enum fsafe_region region;
    uint32_t regions; /* in which a vanished thread may have a lock that the call needs; 0: no record shows one */
    const char *what; /* the call's name */
    uintptr_t site;   /* the place that makes the call */
    uintptr_t frame;  /* the wrapper's */
};

/* Finds out where libc lies. Context: start-up. */
void fsafe_rescue_start(void);

/*
 * A thread is about to make a call. Returns whether the call has a net, which fsafe_rescue_end takes away after it, or
 * that of a call around it, or needs none. False: it has none, as on processors that base/arch.h does not know. In
 * other modes than repair only calls of regions from FSAFE_REGION_MOSTLY_FREE on get a net, which says what it would
 * do. errno kept. Context: child.
 */
bool fsafe_rescue_begin(const struct fsafe_rescued *call);

/* After a call from that frame, which may have a net; not needed while no call has one. */
void fsafe_rescue_end(uintptr_t frame);

/* How many calls have a net; also counts those of threads that have ended, or vanished. */
extern FSAFE_HIDDEN _Atomic unsigned fsafe_rescue_nets;

static inline bool fsafe_rescue_has_nets(void)
{
    return atomic_load_explicit(&fsafe_rescue_nets, memory_order_relaxed) != 0;
}

/*
 * Makes the locks free that a rescue found in this process or one from which it descends, unless `self` is in a call
 * that may have one. With FORKSAFE_RESCUE_MS puts a net under all that this child does. Context: child, alone, adopted.
 */
FSAFE_AT_FORK void fsafe_rescue_adopt(struct fsafe_thread *self);
