/*
 * repair/rescue: the last net: a lock of which nothing is seen until the only thread of a child sleeps on it.
 *
 * libc's own locks have no symbol, and when a drain has failed a vanished thread may have one. A child with one thread
 * that makes a call of such a region is given a timer for just that call. Its signal handler looks at what it has
 * interrupted: a wait without a limit, on a private word of libc's own data that reads "locked, and somebody waits". Nobody
 * can end that wait, so the lock is made free, and the wait, which the kernel begins anew, ends.
 *
 * The signal (base/timer.h) is borrowed for the call.
 */
#ifndef FSAFE_REPAIR_RESCUE_H
#define FSAFE_REPAIR_RESCUE_H

#include "base/compiler.h"
#include "track/region.h"

struct fsafe_rescued {
    enum fsafe_region region;
    uint32_t regions; /* in which somebody may have a lock that the call needs */
    const char *what; /* the call's name */
    uintptr_t site;   /* that makes it */
    uintptr_t frame;  /* of the wrapper */
};

/* Finds out where libc lies. Context: start-up. */
void fsafe_rescue_start(void);

/*
 * A thread is about to make a call. Returns whether it has the net; with FSAFE_NET it has to say when the call is over.
 * There is none in a process with other threads, on a processor that base/arch.h does not know, in other modes than
 * repair. errno kept. Context: child.
 */
enum fsafe_net { FSAFE_NO_NET, FSAFE_NET_ABOVE, FSAFE_NET };
enum fsafe_net fsafe_rescue_begin(const struct fsafe_rescued *call);
void fsafe_rescue_end(void);

/* Whether a call of that region was rescued in this process or one it descends from: that lock is free. Context: child. */
bool fsafe_rescue_has_saved(enum fsafe_region region);

/*
 * Makes those locks free that were rescued once in this family of processes, unless `self` is in a call that may have
 * one; with FORKSAFE_RESCUE_MS spreads the net under everything that this child does. Context: child, alone, adopted.
 */
FSAFE_AT_FORK void fsafe_rescue_adopt(struct fsafe_thread *self);

#endif
