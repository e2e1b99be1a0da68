/*
 * track/gate: keeps everybody outside for the moment of a fork.
 *
 * A thread is *inside* while its ledger of locks or of spin locks has a record. Closing the gate stops a thread at its
 * next outermost entry; one that is inside goes on and gets out. Entering costs no fence and no shared write: a record
 * is reserved before the gate's word is looked at, and the thread that closes the gate makes a barrier in all threads
 * at once, between its store to that word and its look at the records: so one of the two sees the other.
 *
 * A thread that waits for a lock, or for a condition, is not inside: see suspend. So a fork lasts as long as the locks
 * that are held at the moment, not as long as the queues for them.
 */
#pragma once

#include "base/compiler.h"
#include "track/thread.h"

#include <stdbool.h>
#include <stdint.h>

/* Makes barriers possible. Context: start-up. */
void fsafe_gate_start(void);

/*
 * Closes the gate, or joins those who have just closed it, with all signals blocked from then on. Every other thread is
 * either seen inside or stopped then. False: another fork has it closed for too long
 * already, or those it stopped have to pass first; await_turn, then ask again. The closing is revocable, so that nobody
 * is stopped for long, but not for `firm`: that is for a fork that was overruled, or has waited in vain.
 * Context: `self`, forking, which has not closed it.
 */
bool fsafe_gate_close(struct fsafe_thread *self, bool firm);

/* Sleeps until it is worth asking again. Returns false at until_ns. Context: as above. */
bool fsafe_gate_await_turn(uint64_t until_ns);

/* Whether it is closed still, since `self` closed it. Context: `self`, which has. */
bool fsafe_gate_is_ours(const struct fsafe_thread *self);

/* Whom the gate stops must not open it before then: somebody inside gets no processor. Context: as above. */
void fsafe_gate_insist(uint64_t until_ns);

/*
 * From a commit on nobody can open it; it is the last step before the fork. True: nobody has passed since `self` closed
 * it, so what it saw of the others is so. Context: as above.
 */
bool fsafe_gate_commit(struct fsafe_thread *self);

/*
 * Ends what close began, if it did, and wakes those who were stopped; signals come again. `forking` is what the thread
 * is from now on: see struct fsafe_thread. Context: `self`.
 */
void fsafe_gate_open(struct fsafe_thread *self, uint32_t forking);

/* In the child of such a fork: signals come again. Context: child, adopted. */
FSAFE_AT_FORK void fsafe_gate_restore_signals(struct fsafe_thread *self);

/* It is open, and `self`, the only thread, is not stopped by what others did before. Context: child, alone. */
FSAFE_AT_FORK void fsafe_gate_reset(struct fsafe_thread *self);

/*
 * Who has the gate closed; 0: nobody. The gate's own. One word, not one in each ledger: a fork copies what it writes.
 */
extern FSAFE_HIDDEN _Atomic uint32_t fsafe_gate_word;

/*
 * Adds record `index`, the one above the latest, to a ledger of locks or of spin locks; false when the gate is closed
 * or the ledger full: then push_slowly has to decide. Context: the ledger's thread.
 */
static FSAFE_INLINE bool fsafe_gate_push_at(struct fsafe_ledger *ledger, uint32_t index, uintptr_t lock, uintptr_t site)
{
    return fsafe_ledger_push_unless(ledger, index, lock, site, &fsafe_gate_word);
}

static FSAFE_INLINE bool fsafe_gate_push(struct fsafe_ledger *ledger, uintptr_t lock, uintptr_t site)
{
    return fsafe_gate_push_at(ledger, fsafe_ledger_depth(ledger) + 1, lock, site);
}

/*
 * The same where that failed: waits until the gate is open, but for no longer than FORKSAFE_DRAIN_MS, and not at all in
 * a thread that is inside already or has closed it. `is_stale`, `context` and what is returned: see
 * fsafe_ledger_push_full. Context: the ledger's thread.
 */
bool fsafe_gate_push_slowly(struct fsafe_ledger *ledger, uintptr_t lock, uintptr_t site,
                            fsafe_ledger_is_stale *is_stale, void *context);

/*
 * A lock that the thread waits for is none it holds: while its record is marked no fork waits for it. suspend marks the
 * latest record of `lock`; resume takes the mark away, as soon as the gate is open. Between resume and the next suspend
 * the thread is inside. A waiter that was woken and stops in resume goes on to ask for the lock in any case.
 * Context: the thread.
 */
void fsafe_gate_suspend(struct fsafe_thread *self, uintptr_t lock);
void fsafe_gate_resume(struct fsafe_thread *self, uintptr_t lock);

/* The worst of what a thread is inside of and a fork may wait for. */
enum fsafe_where {
    FSAFE_OUTSIDE,
    FSAFE_HOLDING, /* locks, which a child can take over */
    FSAFE_CALLING, /* a call of libc's, whose locks it cannot; or on the way into something */
};

/*
 * What the thread forks with, if it does, does not count; but for calls, if `calls_count`: a fork that is in none
 * itself can wait for them. Context: a forking thread, gate closed; or the thread itself.
 */
enum fsafe_where fsafe_gate_where(struct fsafe_thread *thread, bool calls_count);
