/*
 * repair/hopeless: waits without a limit in a child that no thread can end any more.
 *
 * A vanished thread cannot post, signal or unlock. If we know that it had a lock, the lock is taken over; but an event,
 * a monitor or a queue has no owner, and a child that waits for one would hang without a line. So a child makes a wait
 * without a limit in slices, waits with a limit: the first ends after FORKSAFE_HANG_MS, each later one doubles the
 * whole. At the end of a slice the kernel may say that all other threads of the process sleep without a limit, too, in
 * futexes that no other process can reach. Then only a signal handler can end a wait of theirs: one line says so, and
 * the wait goes on as the caller asked for it. The thread that went to sleep last writes the line, or the thread that
 * this one joins. Mode abort ends such a process, unless it has a signal handler that could still run.
 *
 * A wrapper makes slices by a call that looks to the program like the wait that it asked for. A process that was never
 * forked makes no slices, and a child reads the clock once for each wait until a slice ends.
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
    /* Gives the waiter what it waits for, after a slice, if no other thread can; true: it did. NULL: nothing does. */
    bool (*give)(uintptr_t object, uintptr_t site);
};

/* A wait in slices. Lies in the wrapper's frame. */
struct fsafe_slices {
    struct fsafe_thread *self;
    struct fsafe_sleeping outer; /* the wait around this one, if a signal handler makes this one */
    struct timespec until;       /* when the present slice ends, by CLOCK_MONOTONIC */
    bool (*give)(uintptr_t object, uintptr_t site);
    bool given;                  /* what give returned */
    unsigned second_looks;       /* how many slices in a row were short ones, to look again soon */
    bool had_no_turn;            /* at the end of the latest slice another thread looked */
    uint64_t gift_ns;            /* when the latest of the process's waiters had been given something then */
    bool looked_hopeless;        /* at the end of the latest slice only a handler could have ended the wait */
    bool resumed;                /* a signal handler had interrupted the wait before */
    uint64_t looked_ns;          /* when fsafe_woken_between was last asked; 0: never */
};

bool fsafe_hopeless_begin_in_child(struct fsafe_slices *slices, struct fsafe_thread *self,
                                   const struct fsafe_untimed_wait *wait);

/*
 * A wait without a limit is about to begin. Returns whether the caller has to make it in slices: waits until
 * `slices->until`; when that time comes first, asks fsafe_hopeless_goes_on; and in the end calls fsafe_hopeless_end.
 * errno kept. Context: any thread, no latch held.
 */
static inline bool fsafe_hopeless_begin(struct fsafe_slices *slices, struct fsafe_thread *self,
                                        const struct fsafe_untimed_wait *wait)
{
    return FSAFE_UNLIKELY(fsafe_lineage_is_child()) && self != NULL && fsafe_options.hang_ms != 0 &&
           fsafe_hopeless_begin_in_child(slices, self, wait);
}

/*
 * A slice is over. True: another is to be made, until the new `slices->until`. False: wait without a limit, as the
 * program asked. In mode abort it may not return. errno kept. Context: the thread that began, no latch held.
 */
bool fsafe_hopeless_goes_on(struct fsafe_slices *slices);

/* The wait is over; the object may be gone. errno kept. Context: the thread that began, no latch held. */
void fsafe_hopeless_end(struct fsafe_slices *slices);

/*
 * The same where a signal handler interrupted the wait. If the program makes it again soon, as Python does, that is the
 * same wait: else handlers that come more often than FORKSAFE_HANG_MS would keep it from being named.
 */
void fsafe_hopeless_end_interrupted(struct fsafe_slices *slices);

/*
 * The same for a wait with a limit, at `limit_ns`, that its library makes again and again while the futex is `value`:
 * all of these count as one wait, about which one line is written. The slices end before the limit. `reached_limit`:
 * the wait ended by its limit, so that the library makes it again. Context: as begin.
 */
bool fsafe_hopeless_begin_again(struct fsafe_slices *slices, struct fsafe_thread *self,
                                const struct fsafe_untimed_wait *wait, uint32_t value, uint64_t limit_ns);
void fsafe_hopeless_end_again(struct fsafe_slices *slices, bool reached_limit);

/*
 * Before a wait that cannot be made in slices: if no other thread can end the wait, sleeps for the first slice and then
 * writes the line. Afterwards the caller waits and calls fsafe_hopeless_end. `needs_nobody`: whether the call would
 * return at once. errno kept. Context: as begin.
 */
void fsafe_hopeless_hold_back(struct fsafe_slices *slices, bool (*needs_nobody)(const void *object));

/*
 * A call that only asks whether a wait would be over has answered no. If such calls have done so for FORKSAFE_HANG_MS,
 * without a pause of that length, in a process with one thread, one line names them as a wait. Mode abort ends the
 * process then, unless the caller spins: such a loop may wait for a time of day. errno kept. Context: child, any
 * thread, no latch held.
 */
void fsafe_hopeless_asked(const struct fsafe_untimed_wait *wait);

/*
 * A signal handler has interrupted a slice (EINTR): a wait without a limit goes on after a handler with SA_RESTART, a
 * wait with a limit after none. Returns whether the program's wait goes on: only where all handlers have SA_RESTART;
 * those of faults and the like do not count, which no sleeping thread raises.
 */
bool fsafe_hopeless_restarts(void);

/*
 * The futex for which the calling thread waits without a limit, in slices; 0: it does not. *site: the place that waits.
 * Context: any thread, also in a signal handler.
 */
uintptr_t fsafe_hopeless_futex_in_slices(uintptr_t *site);

/* The calling thread ends. */
void fsafe_hopeless_leave(struct fsafe_thread *self);
