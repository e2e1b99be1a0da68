/*
 * track/slots: where the slots of threads lie, how to go through them, and which thread has a ticket. A thread claims a
 * slot by one compare-and-swap. A slot is never moved and never unmapped; slabs of slots are added, never taken away.
 * So a fork at any moment leaves the child a registry that reads well.
 */
#pragma once

#include "track/thread.h"

/* How many slots there are, free ones too: the indices below that number. */
FSAFE_AT_FORK uint32_t fsafe_thread_slots(void);

/* The slot at `index`, which may be free. */
FSAFE_AT_FORK struct fsafe_thread *fsafe_thread_slot(uint32_t index);

/*
 * Goes through the slots of certain threads:
 *     for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING | FSAFE_ENDED); fsafe_thread_next(&at);)
 * FSAFE_LIVING: threads of this process, as far as we know. FSAFE_ENDED: threads of this process that ended with locks
 * in their hands. FSAFE_VANISHED: threads of earlier generations. Context: any thread; slots may come and go meanwhile.
 */
enum fsafe_whom { FSAFE_LIVING = 1, FSAFE_ENDED = 2, FSAFE_VANISHED = 4, FSAFE_ANYBODY = 7 };

struct fsafe_thread_walk {
    struct fsafe_thread *thread;
    uint32_t generation; /* the thread's */
    uint32_t index;      /* of its slot */
    unsigned whom;
};

FSAFE_AT_FORK struct fsafe_thread_walk fsafe_thread_walk(unsigned whom);
FSAFE_AT_FORK bool fsafe_thread_next(struct fsafe_thread_walk *at);

/*
 * Goes through the records that such threads have in one ledger, of each thread the latest first:
 *     struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_SPINS);
 *     while (fsafe_thread_record(&at))
 * Records may be cleared meanwhile.
 */
struct fsafe_thread_records {
    struct fsafe_thread_walk of;
    struct fsafe_ledger_walk record;
    enum fsafe_ledger_of ledger;
    uintptr_t address; /* the record's lock without its stage */
};

FSAFE_AT_FORK struct fsafe_thread_records fsafe_thread_records(unsigned whom, enum fsafe_ledger_of ledger);
FSAFE_AT_FORK bool fsafe_thread_record(struct fsafe_thread_records *at);

/* Empties the record: see fsafe_ledger_clear. */
static inline void fsafe_thread_clear(const struct fsafe_thread_records *at)
{
    fsafe_ledger_clear(&at->of.thread->ledgers[at->ledger], at->record.index, at->record.lock);
}

/* Whether another thread of this process has a slot. Costs no system call. */
bool fsafe_thread_has_company(const struct fsafe_thread *self);

/*
 * The thread that has the ticket; it may have vanished, or ended with tokens. NULL: the thread has ended, and no thread
 * needs its slot any more. Context: any thread; sure only while the thread cannot end.
 */
struct fsafe_thread *fsafe_thread_of_ticket(uint32_t ticket);

/* --- For track/join alone ----------------------------------------------------------------------------------------- */

/* `clear`: clear_stale of struct fsafe_thread_calls. Context: start-up. */
void fsafe_slots_start(void (*clear)(struct fsafe_thread *vanished));

/*
 * Returns a slot that no thread needs any more, or one of new memory; NULL: there is none. The slot is marked
 * FSAFE_JOINING and has a ticket. Context: any thread; no signal handler may join meanwhile.
 */
struct fsafe_thread *fsafe_slots_claim(void);

/* Writes in which generation the slot's thread lives; 0: frees the slot. Context: its thread. */
FSAFE_AT_FORK void fsafe_slots_set_generation(struct fsafe_thread *thread, uint32_t generation);
