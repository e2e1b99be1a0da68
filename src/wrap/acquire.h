/*
 * wrap/acquire: what is the same for all calls that ask for a lock: how they ask, and how a child asks for a lock that
 * may be orphaned.
 */
#pragma once

#include "repair/takeover.h"

#include <time.h>

enum fsafe_how { FSAFE_HOW_WAIT, FSAFE_HOW_TRY, FSAFE_HOW_UNTIL, FSAFE_HOW_BY_CLOCK };

struct fsafe_attempt {
    enum fsafe_how how;
    enum fsafe_stage stage;       /* of an rwlock: FSAFE_READING or FSAFE_WRITING */
    clockid_t clock;              /* the clock of `until` */
    const struct timespec *until; /* NULL: no limit */
    uint32_t generation;          /* of the process when it asked, if the call may return EINTR after another's fork */
};

/* Whether libc accepts the clock and the time, for locks of which it checks these before it looks at the lock. */
static inline bool fsafe_acquire_is_valid(const struct fsafe_attempt *attempt)
{
    return (attempt->clock == CLOCK_REALTIME || attempt->clock == CLOCK_MONOTONIC) &&
           fsafe_sys_is_valid(attempt->until);
}

/* A kind of lock, for fsafe_acquire_in_child. */
struct fsafe_acquired {
    /* As the kind's file in repair says. */
    enum fsafe_verdict (*judge)(void *lock, struct fsafe_thread *self, uintptr_t site,
                                const struct fsafe_attempt *attempt);
    /* Asks libc for the lock without a wait. Returns 0 or an error; EBUSY: a thread has it. */
    int (*try)(void *lock, const struct fsafe_attempt *attempt);
};

/* What fsafe_acquire_in_child returns when the caller has to make the real call. */
enum { FSAFE_ASK_LIBC = -1 };

/*
 * Before the real call: judges the lock, and tries a lock that a living thread may be taking or releasing until that is
 * over. Returns 0 when the caller has the lock, an error, or FSAFE_ASK_LIBC. Context: child, any thread, no latch held.
 */
int fsafe_acquire_in_child(const struct fsafe_acquired *kind, void *lock, struct fsafe_thread *self, uintptr_t site,
                           const struct fsafe_attempt *attempt);
