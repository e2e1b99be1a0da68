/*
 * repair/hopeless: the waits without a limit in a child, and when nobody is left who could end them.
 *
 * A thread that vanished cannot post, signal or unlock. Where we know that it had the lock the lock is taken over; but
 * an event, a monitor, a queue is nobody's, and the child that waits for one hangs without a word. So a wait without a
 * limit is made in slices here: the first ends after FORKSAFE_HANG_MS, each later one doubles the whole. When a slice
 * ends and the kernel says that all other threads of the process sleep without a limit, too, in futexes that no other
 * process can reach, nobody but a signal handler can wake any of them: that is said in one line, and the wait goes on as
 * the caller asked for it. Who went to sleep last says it. Mode abort ends such a process, unless it has a signal
 * handler that could still run.
 *
 * A slice is a wait with a limit that its wrapper chooses, such that it differs from the one that was asked for in
 * nothing that the caller could see. A process that was never forked does none of this, and until a slice ends a
 * child reads the clock once for each wait.
 */
#ifndef FSAFE_REPAIR_HOPELESS_H
#define FSAFE_REPAIR_HOPELESS_H

#include "base/options.h"
#include "track/thread.h"

#include <time.h>

/* A wait, as its wrapper sees it. */
struct fsafe_untimed_wait {
    const char *lock; /* "semaphore", in reports */
    const char *kind; /* "private" */
    uintptr_t object;
    uint32_t bytes;   /* how long the object is */
    uintptr_t mutex;  /* a condition variable's; 0: none */
    uintptr_t site;   /* the place that waits */
    /*
     * Ends the wait once a slice is over and no other thread can. Returns whether it did. NULL: nothing ends it.
     * Context: the waiter.
     */
    bool (*give)(uintptr_t object, uintptr_t site);
};

/* A wait in slices. Lies in the wrapper's frame. */
struct fsafe_slices {
    struct fsafe_thread *self;
    struct fsafe_sleeping outer; /* the wait that a signal handler interrupted in order to make this one */
    struct timespec until;       /* when the present slice ends, by CLOCK_MONOTONIC */
    bool (*give)(uintptr_t object, uintptr_t site);
    unsigned second_looks;       /* how often its end was moved up */
    uint64_t looked_ns;          /* when was_woken was asked last; 0: never */
};

bool fsafe_hopeless_begin_in_child(struct fsafe_slices *slices, struct fsafe_thread *self, const struct fsafe_untimed_wait *wait);

/*
 * A wait without a limit is about to begin. Returns whether it is to be made in slices: then wait until
 * `slices->until`, ask fsafe_hopeless_goes_on as long as that time comes before the wait is over, and call
 * fsafe_hopeless_end in the end. errno kept. Context: any thread, no latch held.
 */
static inline bool fsafe_hopeless_begin(struct fsafe_slices *slices, struct fsafe_thread *self,
                                        const struct fsafe_untimed_wait *wait)
{
    return FSAFE_UNLIKELY(fsafe_lineage_is_child()) && self != NULL && fsafe_options.hang_ms != 0 &&
           fsafe_hopeless_begin_in_child(slices, self, wait);
}

/*
 * A slice is over. Returns true when another is to be made, until the new `slices->until`; false: wait as the caller
 * asked. In mode abort it may not return. errno kept. Context: the thread that began, no latch held.
 */
bool fsafe_hopeless_goes_on(struct fsafe_slices *slices);

/* The wait is over; the object may be gone. errno kept. Context: as above. */
void fsafe_hopeless_end(struct fsafe_slices *slices);

/*
 * For a wait that cannot be made in slices: called before it. Sleeps for the first slice when nobody else could end the
 * wait, and says so. Then the caller waits and calls fsafe_hopeless_end. errno kept. Context: as begin.
 */
void fsafe_hopeless_hold_back(struct fsafe_slices *slices);

/*
 * A call that only asks whether the wait would be over has said no. When that has been so for FORKSAFE_HANG_MS, with
 * never as long a pause, in a process with one thread, it is said as of a wait. In mode abort it may not return. errno
 * kept. Context: child, any thread, no latch held.
 */
void fsafe_hopeless_asked(const struct fsafe_untimed_wait *wait);

/*
 * A slice was interrupted by a signal handler (EINTR). The wait that was asked for, without a limit, goes on after
 * handlers with SA_RESTART, and a wait with a limit after none. Returns whether this one goes on: not where handlers of
 * both sorts are installed. Context: any thread.
 */
bool fsafe_hopeless_restarts(void);

/*
 * A condition variable is about to be signalled. Between two slices its waiter is not in there, and must yet not miss
 * that. One read of the clock. Context: child, any thread.
 */
FSAFE_AT_FORK void fsafe_hopeless_note_wake(uintptr_t object);

/*
 * Whether that may have happened since the slice `ended`, or of the one before just after it was asked: then the
 * wait is over. Context: between two slices, with the mutex held.
 */
bool fsafe_hopeless_was_woken(struct fsafe_slices *slices, const struct timespec *ended);

/*
 * The futex that the calling thread waits for without a limit, in slices, and from where; 0: it is in no such wait.
 * Context: any thread, also in a signal handler.
 */
uintptr_t fsafe_hopeless_futex_in_slices(uintptr_t *site);

/*
 * Whether it has not been said of this place that only a handler can end a wait there; it is taken as said now. Context:
 * any thread.
 */
bool fsafe_hopeless_is_new_place(uintptr_t site);

/* The thread ends. Context: its thread. */
void fsafe_hopeless_leave(struct fsafe_thread *self);

#endif
