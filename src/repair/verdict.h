/*
 * repair/verdict: who is believed when the witnesses of a lock disagree. There are three: the bytes of the lock, the
 * kernel (does a thread of that id exist here) and the ledgers. The first row that applies decides.
 *
 *   The bytes name an owner (mutexes, rwlocks held for writing)
 *     1  the caller is or was called so and has a record of the lock besides the one of this call     the caller's
 *     2  a living thread is or was called so and has a record of the lock                      a living thread's
 *     3  a vanished thread is or was called so and has a record of the lock                    a vanished thread's
 *     4  the caller is called so                                                               the caller's
 *     5  a living thread is or was called so, or the kernel knows a thread of that id          a living thread's
 *     6  the caller was called so before it forked                                             the caller's
 *     7  a thread ended with it, or may have: it is as stuck as without a fork                 a living thread's
 *     8  else                                                                                  a vanished thread's
 *
 *   The bytes name nobody (a mutex that is just taken or released; spin locks)
 *     1  a thread ended with it                                                                a living thread's
 *     2  the caller was at it already: a signal handler interrupted that call                  a living thread's
 *     3  the caller is alone, or a vanished thread is known to have been at it:
 *        a living thread may be at it now                                                      unsure: ask again
 *        else                                                                                  a vanished thread's
 *     4  else                                                                                  a living thread's
 *
 *   A guard names its owner and the generation that it is of, which is over: no id that is used anew is meant
 *     1  a living thread was called so, and no vanished one that was has a record of the guard  a living thread's
 *     2  else                                                                                  a vanished thread's
 *
 *   A semaphore used as a lock names its owner by a ticket, which no other thread ever has (repair/semaphore)
 *     1  the ticket is the caller's                                                            the caller's
 *     2  it is a vanished thread's                                                             a vanished thread's
 *     3  it is anybody else's: that thread ended with it, or took it after the fork            a living thread's
 *     4  none, and the token is gone: the caller is taking or posting it, or no vanished was   a living thread's
 *     5  else                                                                                  a vanished thread's
 *
 * Rows 2 and 3 stand before the kernel because ids are used anew: a thread of the child may have the id of a vanished
 * one. A record is made before the lock is asked for, so whoever of the living has the lock has a record. A record that
 * a longjmp left behind is none: see fsafe_thread_forget_left. What "known" means when the bytes name nobody is the
 * kind's affair: mutexes and rwlocks are surveyed before the child has a second thread, or, when libc made that one
 * unseen (timers, aio), at the first question.
 */
#pragma once

#include "repair/takeover.h"

enum fsafe_held_by { FSAFE_CALLERS, FSAFE_LIVINGS, FSAFE_VANISHEDS, FSAFE_UNSURE };

/*
 * Applies the table. `owner`: whom the bytes name, 0: nobody. `alone`: the caller is the only thread.
 * Context: child, under the takeover latch, with claims that are as young as the look at the bytes.
 */
enum fsafe_held_by fsafe_verdict(const struct fsafe_thread *self, enum fsafe_ledger_of of, int owner,
                                const struct fsafe_claims *claims, bool alone);

/* The same for a guard of an earlier generation. Context: as above. */
enum fsafe_held_by fsafe_verdict_of_guard(const struct fsafe_claims *claims);

/*
 * Rows 1 to 8 without a look at the ledgers, where they cannot contradict: no vanished thread was called so. Returns
 * FSAFE_UNSURE where the table has to be asked. Context: child, any thread.
 */
enum fsafe_held_by fsafe_verdict_soon(struct fsafe_thread *self, int owner);
