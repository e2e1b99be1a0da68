/*
 * repair/verdict: who is believed when the witnesses of a lock disagree. There are three: the bytes of the lock, the
 * kernel (does this process have a thread with that id) and the ledgers. The first row that applies decides. To have an
 * id means here: to have it now, or to have had it before a fork.
 *
 *   The bytes name an owner by its id (mutexes, rwlocks held for writing)
 *     1  the caller has that id, and a record of the lock besides the one of this call         the caller's
 *     2  a living thread has that id, and a record of the lock                                 a living thread's
 *     3  a vanished thread has that id, and a record of the lock                               a vanished thread's
 *     4  the caller has that id now                                                            the caller's
 *     5  a living thread has that id, or the kernel knows a thread with that id                a living thread's
 *     6  the caller had that id before it forked                                               the caller's
 *     7  a thread ended with the lock, or may have: it is as stuck as without a fork           a living thread's
 *     8  else                                                                                  a vanished thread's
 *
 *   The bytes name no owner (a mutex that is just taken or released; spin locks)
 *     1  a thread ended with the lock                                                          a living thread's
 *     2  the caller was already asking for it: a signal handler interrupted that call          a living thread's
 *     3  the caller is alone, or a vanished thread is known to have asked for it, and
 *        a living thread may be taking it now                                                  unsure: ask again
 *        else                                                                                  a vanished thread's
 *     4  else                                                                                  a living thread's
 *
 *   A guard names its owner by its id and by an earlier generation, so that no id which is in use again is meant
 *     1  a living thread has that id, and no vanished thread with that id has a record of it   a living thread's
 *     2  else                                                                                  a vanished thread's
 *
 *   A semaphore used as a lock names its owner by a ticket, which no other thread ever has (repair/semaphore)
 *     1  the ticket is the caller's                                                            the caller's
 *     2  the ticket is a vanished thread's                                                     a vanished thread's
 *     3  else, with a ticket: that thread ended with it, or took it after the fork             a living thread's
 *     4  no ticket, and the token is gone: the caller, or no vanished thread, is taking or
 *        posting it                                                                            a living thread's
 *     5  else                                                                                  a vanished thread's
 *
 * Rows 2 and 3 come before the kernel because ids are used again: a thread of the child may have the id of a vanished
 * thread. A thread makes its record before it asks for the lock, so a living thread that has the lock has a record. A
 * record that a longjmp left behind does not count: see fsafe_thread_forget_left. What "known" means where the bytes
 * name no owner is for the kind to say: mutexes and rwlocks are surveyed before the child has a second thread or, if
 * libc made that thread without our wrapper (timers, aio), at the first question.
 */
#pragma once

#include "repair/takeover.h"

enum fsafe_held_by { FSAFE_CALLERS, FSAFE_LIVINGS, FSAFE_VANISHEDS, FSAFE_UNSURE };

/*
 * Applies the table. `owner`: the id that the bytes name; 0: none. `alone`: the caller is the only thread. Context:
 * child, under the takeover latch; the ledgers were asked for `claims` after the bytes were read.
 */
enum fsafe_held_by fsafe_verdict(const struct fsafe_thread *self, enum fsafe_ledger_of of, int owner,
                                const struct fsafe_claims *claims, bool alone);

/* The same for a guard of an earlier generation. Context: as fsafe_verdict. */
enum fsafe_held_by fsafe_verdict_of_guard(const struct fsafe_claims *claims);

/*
 * Rows 1 to 8 without the ledgers, where these cannot contradict because no vanished thread has that id. FSAFE_UNSURE:
 * the table has to be asked. Context: child, any thread.
 */
enum fsafe_held_by fsafe_verdict_soon(struct fsafe_thread *self, int owner);
