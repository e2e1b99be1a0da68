/*
 * track/region: which thread is inside which of libc's own critical sections. The locks of these have no symbol, so
 * this room has a record of each call that takes one.
 *
 * A thread enters such a call through the gate, as it asks for a lock; the call's record is in the ledger of locks.
 */
#pragma once

#include "track/gate.h"
#include "track/join.h"
#include "track/thread.h"

#include <stdbool.h>
#include <stdint.h>

/* libc's own locks, by the calls that take them. A call that takes several belongs to the one that it holds longest. */
enum fsafe_region {
    FSAFE_REGION_SYSLOG = 1,
    FSAFE_REGION_TIME_ZONE,
    FSAFE_REGION_ENVIRONMENT,
    FSAFE_REGION_RANDOM,
    FSAFE_REGION_LOCALE,  /* calls that change it, or where messages come from */
    FSAFE_REGION_GETTEXT, /* calls that read a message */
    FSAFE_REGION_LOADER,
    FSAFE_REGION_ICONV,
    FSAFE_REGION_NSS,      /* one entry, by name or number */
    FSAFE_REGION_NSS_LIST, /* all entries, one after the other */
    FSAFE_REGION_UTMP,
    /*
     * A thread that stays long in a call of those below mostly sleeps without the lock, or holds another object's lock.
     */
    FSAFE_REGION_MOSTLY_FREE,
    FSAFE_REGION_EXIT = FSAFE_REGION_MOSTLY_FREE,
    FSAFE_REGION_RESOLVER,
    FSAFE_REGION_NAMED_SEMAPHORE,
    FSAFE_REGION_POPEN,
    FSAFE_REGION_TIMER,
    FSAFE_REGION_DIRECTORY,
    FSAFE_REGION_REGEX,
    FSAFE_REGION_THREAD,
    FSAFE_REGION_SELDOM, /* calls that take the lock only now and then: no line warns of them */
    FSAFE_REGIONS,
};

/* A set of regions. */
#define FSAFE_REGION_BIT(region) (UINT32_C(1) << (region))

/*
 * What the record of a call says in the place of a lock's address: the mark of a call, the region, and above that the
 * frame of the function that makes the call. The frame tells a call that a longjmp has left from one that is under way:
 * a later call has its frame at the same address or above.
 */
static inline uintptr_t fsafe_region_record(enum fsafe_region region, uintptr_t frame)
{
    uintptr_t of_frame = FSAFE_CALL_MARK != 0 ? frame >> 4 << 8 : 0;
    return FSAFE_CALL_MARK | of_frame | (uintptr_t)region << 2; /* the stage bits stay clear */
}

/* The region of such a record. */
static inline enum fsafe_region fsafe_region_of(uintptr_t lock)
{
    return (enum fsafe_region)(lock >> 2 & 63);
}

/* The part of the frame's address that the record has, in units of a stack's alignment. */
static inline uintptr_t fsafe_region_frame(uintptr_t lock)
{
    return (lock & (FSAFE_CALL_MARK - 1)) >> 8 << 4;
}

/* For all cases but the common one, in which the thread is in no other call and the gate is open. */
void fsafe_region_enter_slowly(uintptr_t record, uintptr_t site);
void fsafe_region_leave_slowly(uintptr_t record);

/*
 * Enter and leave stand before and after the real call. `frame`: of the function that makes the call; `site`: the place
 * that called. Leave removes the record that enter made.
 */

/* Enters if the thread is in no other call and the gate is open; false: nothing is done. */
static inline bool fsafe_region_enter_soon(uintptr_t record, uintptr_t site)
{
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_UNLIKELY(self == NULL))
        return false;
    struct fsafe_ledger *locks = fsafe_thread_locks(self);
    uint32_t depth = fsafe_ledger_depth(locks);
    for (uint32_t i = depth; FSAFE_UNLIKELY(i > 0); i--)
        if (fsafe_ledger_is_of_call(fsafe_ledger_word(locks, i)))
            return false;
    return FSAFE_LIKELY(fsafe_gate_push_at(locks, depth + 1, record, site));
}

static inline void fsafe_region_enter(enum fsafe_region region, uintptr_t frame, uintptr_t site)
{
    uintptr_t record = fsafe_region_record(region, frame);
    if (!fsafe_region_enter_soon(record, site))
        fsafe_region_enter_slowly(record, site);
}

/* The same, by the record. */
static inline void fsafe_region_leave_record(uintptr_t record)
{
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_UNLIKELY(self == NULL || !fsafe_ledger_pop_latest(fsafe_thread_locks(self), record)))
        fsafe_region_leave_slowly(record);
}

static inline void fsafe_region_leave(enum fsafe_region region, uintptr_t frame)
{
    fsafe_region_leave_record(fsafe_region_record(region, frame));
}

bool fsafe_region_is_inside(struct fsafe_thread *thread);

/* The regions that vanished threads were inside of, at any fork from the first process to this one. Context: child. */
uint32_t fsafe_region_vanished_inside(void);

/* Whether a vanished thread with that handle, which may be reused, was inside one of `regions`. Context: child. */
bool fsafe_region_had_inside(pthread_t handle, uint32_t regions);

/*
 * Names in the event the thread that vanished last of those that were inside one of `regions`, and the fork in which it
 * vanished. If there was no such thread, changes nothing. Context: child.
 */
void fsafe_region_name_vanished(uint32_t regions, struct fsafe_event *event);
