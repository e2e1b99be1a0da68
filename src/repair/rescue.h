/*
 * repair/rescue: for locks that we see only when the only thread of a child sleeps on them.
 *
 * libc's own locks have no symbol, and after a drain that failed a vanished thread may have one. When a child makes a
 * call of such a region, it sets a timer for just that call: the call has a *net*. The timer's signal handler looks at
 * what it has interrupted. If that is a wait without a limit, on a private word of libc's own data that reads "locked,
 * with a waiter", and no other thread can have that lock (repair/idle), the handler makes the lock free, and the wait,
 * which the kernel begins anew, ends. A call that waits for long and is not rescued is named.
 *
 * The signal (base/timer.h) is ours only during the call, in a process with other threads from then on.
 */
#pragma once

#include "base/compiler.h"
#include "track/region.h"

struct fsafe_rescued {
    enum fsafe_region region;
    uint32_t regions; /* in which a vanished thread may have a lock that the call needs; 0: no record shows one */
    const char *what; /* the call's name */
    uintptr_t site;   /* that makes it */
    uintptr_t frame;  /* of the wrapper */
};

/* Finds out where libc lies. Context: start-up. */
void fsafe_rescue_start(void);

/*
 * A thread is about to make a call. Returns whether the call has a net. FSAFE_NET: the caller calls fsafe_rescue_end
 * after the call. FSAFE_NET_ABOVE: it has the net of a call around it, or needs none. There is none on a processor that
 * base/arch.h does not know; in other modes than repair only from FSAFE_REGION_MOSTLY_FREE on, and there it says what
 * it would do. errno kept. Context: child.
 */
enum fsafe_net { FSAFE_NO_NET, FSAFE_NET_ABOVE, FSAFE_NET };
enum fsafe_net fsafe_rescue_begin(const struct fsafe_rescued *call);
void fsafe_rescue_end(void);

/*
 * Whether a call of that region was rescued in this process or one it descends from: that lock is free. Context: child.
 */
bool fsafe_rescue_has_saved(enum fsafe_region region);

/*
 * Makes the locks free that a rescue in this family of processes has found, unless `self` is in a call that may have
 * one; with FORKSAFE_RESCUE_MS all that this child does has a net. Context: child, alone, adopted.
 */
FSAFE_AT_FORK void fsafe_rescue_adopt(struct fsafe_thread *self);
