/*
 * repair/hopeless: the waits without a limit in a child that no thread can end any more.
 *
 * A vanished thread cannot post, signal or unlock. If we know that it had the lock, the lock is taken over; but an
 * event, a monitor or a queue has no owner, and a child that waits for one would hang without a line. So a child makes
 * a wait without a limit in slices: the first ends after FORKSAFE_HANG_MS, each later one doubles the whole. At the end
 * of a slice the kernel may say that all other threads of the process sleep without a limit, too, in futexes that no
 * other process can reach. Then only a signal handler can wake one of them: one line says so, and the wait goes on as
 * the caller asked for it. The thread that went to sleep last writes the line, or the one whose end it waits for. Mode
 * abort ends such a process, unless it has a signal handler that could still run.
 *
 * A slice is a wait with a limit. Its wrapper chooses one that the caller cannot tell from the wait that it asked for.
 * A process that was never forked makes no slices, and until a slice ends a child reads the clock once for each wait.
 */
#pragma once

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
    bool joins;       /* it is for the end of a thread */
    bool spins;       /* it is a loop that keeps the processor busy */
    uintptr_t site;   /* the place that waits */
    /* Ends the wait after a slice if no other thread can; true: it did. NULL: nothing does. Context: the waiter. */
    bool (*give)(uintptr_t object, uintptr_t site);
};

/* A wait in slices. Lies in the wrapper's frame. */
struct fsafe_slices {
    struct fsafe_thread *self;
    struct fsafe_sleeping outer; /* the wait that a signal handler interrupted in order to make this one */
    struct timespec until;       /* when the present slice ends, by CLOCK_MONOTONIC */
    bool (*give)(uintptr_t object, uintptr_t site);
    bool given;                  /* what give returned */
    unsigned second_looks;       /* how often its end was moved up */
    bool looked_hopeless;        /* at the end of the latest slice */
    uint64_t looked_ns;          /* when was_woken was asked last; 0: never */
};

bool fsafe_hopeless_begin_in_child(struct fsafe_slices *slices, struct fsafe_thread *self,
                                   const struct fsafe_untimed_wait *wait);

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
 * The same for a wait with a limit, at `limit_ns`, that its library makes again and again as long as `value` stands in
 * the futex: they are one wait, of which one line is written. The slices end before the limit. `reached_limit`: whether
 * it will be made again, if nothing else has changed. Context: as begin.
 */
bool fsafe_hopeless_begin_again(struct fsafe_slices *slices, struct fsafe_thread *self,
                                const struct fsafe_untimed_wait *wait, uint32_t value, uint64_t limit_ns);
void fsafe_hopeless_end_again(struct fsafe_slices *slices, bool reached_limit);

/*
 * Before a wait that cannot be made in slices: if no other thread could end the wait, sleeps for the first slice and
 * then writes the line. Then the caller waits and calls fsafe_hopeless_end. `needs_nobody`: whether the call would not
 * wait at all. errno kept. Context: as begin.
 */
void fsafe_hopeless_hold_back(struct fsafe_slices *slices, bool (*needs_nobody)(const void *object));

/*
 * A call that only asks whether the wait would be over has answered no. If such calls have done so for
 * FORKSAFE_HANG_MS, without a pause that long, in a process with one thread, a line names them as a wait. Mode abort
 * ends the process here, unless the caller spins: its loop may wait for a moment in time. errno kept. Context: child,
 * any thread, no latch held.
 */
void fsafe_hopeless_asked(const struct fsafe_untimed_wait *wait);

/*
 * A slice was interrupted by a signal handler (EINTR). The wait that was asked for, without a limit, goes on after
 * handlers with SA_RESTART, and a wait with a limit after none. Returns whether this one goes on: not where handlers of
 * both sorts are installed.
 */
bool fsafe_hopeless_restarts(void);

/*
 * A condition variable is about to be signalled. Between two slices its waiter is not in it, and must not miss the
 * signal. One read of the clock. Context: child, any thread.
 */
FSAFE_AT_FORK void fsafe_hopeless_note_wake(uintptr_t object);

/*
 * Whether the condition variable may have been signalled since the slice `ended`, or since this was last asked: then
 * the wait is over. Context: between two slices, with the mutex held.
 */
bool fsafe_hopeless_was_woken(struct fsafe_slices *slices, const struct timespec *ended);

/*
 * The futex that the calling thread waits for without a limit, in slices, and from where; 0: it is in no such wait.
 * Context: any thread, also in a signal handler.
 */
uintptr_t fsafe_hopeless_futex_in_slices(uintptr_t *site);

/* The calling thread ends. */
void fsafe_hopeless_leave(struct fsafe_thread *self);
