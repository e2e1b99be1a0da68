/*
 * track/slots: where the slots of threads lie, and how to go through them. A slot is claimed by one compare-and-swap,
 * never moves and is never unmapped, and slabs of slots are only ever added: so a fork at any moment leaves the child a
 * registry that reads well.
 */
#pragma once

#include "track/thread.h"

/* How many slots may be in use: indices below it can be asked for. */
FSAFE_AT_FORK uint32_t fsafe_thread_slots(void);

/* The slot at `index`; may be free. */
FSAFE_AT_FORK struct fsafe_thread *fsafe_thread_slot(uint32_t index);

/*
 * Goes through the slots of certain threads:
 *     for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING | FSAFE_ENDED); fsafe_thread_next(&at);)
 * FSAFE_LIVING: of this process, as far as we know. FSAFE_ENDED: of this process, which ended with locks in its hands.
 * FSAFE_VANISHED: of the processes before it. Context: any thread; slots may come and go meanwhile.
 */
enum fsafe_whom { FSAFE_LIVING = 1, FSAFE_ENDED = 2, FSAFE_VANISHED = 4, FSAFE_ANYBODY = 7 };

struct fsafe_thread_walk {
    struct fsafe_thread *thread;
    uint32_t generation; /* the thread's */
    uint32_t index;      /* of its slot */
    unsigned whom;
};

static inline struct fsafe_thread_walk fsafe_thread_walk(unsigned whom)
{
    return (struct fsafe_thread_walk){.index = fsafe_thread_slots(), .whom = whom};
}

FSAFE_AT_FORK bool fsafe_thread_next(struct fsafe_thread_walk *at);

/* Whether another thread of this process has a slot. Costs no system call. */
bool fsafe_thread_has_company(const struct fsafe_thread *self);

/*
 * The thread whose ticket that is, living, vanished or ended with tokens; NULL: one that ended, and nobody needs its
 * slot any more. Context: any thread; sure only while the thread cannot end.
 */
struct fsafe_thread *fsafe_thread_of_ticket(uint32_t ticket);

/* --- For track/join alone ------------------------------------------------------------------------------------------ */

/* `clear`: see struct fsafe_thread_calls. Context: start-up. */
void fsafe_slots_start(void (*clear)(struct fsafe_thread *vanished));

/*
 * A slot that nobody needs any more, or of new memory; NULL: there is none. It is marked FSAFE_JOINING and has a
 * ticket. Context: any thread, signals blocked.
 */
struct fsafe_thread *fsafe_slots_claim(void);

/* The generation in which the slot's thread lives; 0: the slot is free. Context: its thread. */
FSAFE_AT_FORK void fsafe_slots_set_generation(struct fsafe_thread *thread, uint32_t generation);
