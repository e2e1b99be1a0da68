/*
 * track/gate: keeps all other threads outside for the moment of a fork.
 *
 * A thread is *inside* while its ledger of locks or of spin locks has a record without a mark. A closed gate stops a
 * thread at its next outermost entry; a thread that is inside goes on and gets out.
 *
 * Entering costs no fence and no shared write. A thread reserves a record before it looks at the gate's word. A thread
 * that closes the gate writes that word, makes a barrier in all threads at once, and then looks at their records. So
 * one of the two sees the other.
 *
 * A thread that waits for a lock or for a condition is not inside: see suspend. So a fork waits for the threads that
 * have locks, and for none that queue for one.
 */
#pragma once

#include "base/compiler.h"
#include "track/thread.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Closes the gate, or joins other forks in a closing that has just begun, and blocks all signals. From then on every
 * other thread is seen inside, or stops at its next entry. A thread that is stopped for too long may revoke a closing,
 * but never a `firm` one: that is for a fork that was overruled, or has waited in vain.
 *
 * False: nothing was changed. The closing of other forks is too old to join, or the threads that the gate has stopped
 * have to pass first. The caller calls await_turn and then asks again. Context: `self`, forking, with no share in a
 * closing.
 */
bool fsafe_gate_close(struct fsafe_thread *self, bool firm);

/* Sleeps until it is worth asking close again. Returns false, at once, from until_ns on. Context: as above. */
bool fsafe_gate_await_turn(uint64_t until_ns);

/* Whether the closing that `self` made or joined still stands. Context: `self`, between close and open. */
bool fsafe_gate_is_ours(const struct fsafe_thread *self);

/* No stopped thread opens the gate before until_ns: a thread inside gets no processor. Context: as above. */
void fsafe_gate_insist(uint64_t until_ns);

/*
 * The last step before the fork: from a commit on no stopped thread can open the gate. True: no thread has passed since
 * `self` closed the gate, so what `self` saw of the other threads still holds. False: the closing was revoked.
 * Context: as above.
 */
bool fsafe_gate_commit(struct fsafe_thread *self);

/*
 * Ends what close began, if `self` has closed the gate: wakes the stopped threads, unless another fork keeps the gate
 * closed, and unblocks signals. `forking`: the new value of that member of struct fsafe_thread. Context: `self`.
 */
void fsafe_gate_open(struct fsafe_thread *self, uint32_t forking);

/* Unblocks the signals that close has blocked. `self` may be NULL. Context: `self`; child, adopted. */
FSAFE_AT_FORK void fsafe_gate_restore_signals(struct fsafe_thread *self);

/* Opens the gate and forgets what the parent's threads did to it. `self` may be NULL. Context: child, alone. */
FSAFE_AT_FORK void fsafe_gate_reset(struct fsafe_thread *self);

/*
 * 0: the gate is open, and no fork has a share in a closing; else see gate.c. Only track/gate writes it. One word, not
 * one in each ledger: the kernel copies each page that a fork writes.
 */
extern FSAFE_HIDDEN _Atomic uint32_t fsafe_gate_word;

/*
 * Adds record `index`, the one above the latest, to a ledger of locks or of spin locks. Returns false when the gate is
 * closed or the ledger is full: then push_slowly has to decide. Context: the ledger's thread.
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
 * Adds the record where push has failed. Waits until the gate is open, but for no longer than FORKSAFE_DRAIN_MS, nor
 * where a fork may be waiting for the thread; waits only in a thread that is outside and has no share in the closing.
 * For `is_stale`, `context` and the result see fsafe_ledger_push_full. Context: the ledger's thread.
 */
bool fsafe_gate_push_slowly(struct fsafe_ledger *ledger, uintptr_t lock, uintptr_t site,
                            fsafe_ledger_is_stale *is_stale, void *context);

/*
 * A thread does not hold a lock that it waits for: no fork waits for a record with a mark. suspend marks the latest
 * record of `lock`; resume takes the mark away, as soon as the gate is open. Between resume and the next suspend the
 * thread is inside. A waiter that was woken, and that resume stops, asks for the lock afterwards in any case.
 * Context: the thread.
 */
void fsafe_gate_suspend(struct fsafe_thread *self, uintptr_t lock);
void fsafe_gate_resume(struct fsafe_thread *self, uintptr_t lock);

/* What a thread is inside of, so that a fork may wait for it; the worst comes last. */
enum fsafe_where {
    FSAFE_OUTSIDE,
    FSAFE_HOLDING, /* locks, which a child can take over */
    FSAFE_CALLING, /* a call of libc's, whose locks a child cannot take over; or the thread is on its way in */
};

/*
 * The worst of what the thread is inside of. If the thread forks, too, the records that it forks with do not count. The
 * calls among them do if `calls_count`: a fork that was made outside all calls can wait for calls.
 * Context: a forking thread, gate closed; or the thread itself.
 */
enum fsafe_where fsafe_gate_where(struct fsafe_thread *thread, bool calls_count);
