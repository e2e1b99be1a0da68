/*
 * python/locks: who has which threading.Lock of CPython 3.13 and later, and which RLock of 3.14 and later. These are
 * one byte inside the object, taken in place: no call of libc's shows them. Up to 3.12 both are semaphores, and also in
 * 3.13.0 (in 3.13.5 they are not).
 *
 * The methods of the two types lead through functions of ours (by the pointers in their tables of methods), which keep
 * a record in the calling thread's ledger FSAFE_PYTHON_LOCKS, as wrap/ does for semaphores. The ordinary case, a free
 * lock and no arguments, is done in place; everything else is the interpreter's work, as before.
 *
 * `with lock` costs 85.9 ns where bare costs 86.9 (3.13), 66.0 and 66.9 (3.14), acquire and release 39.0 and 38.0, 39.5
 * and 38.7, an RLock 68.0 and 68.7: the record is paid for by arguments that are not parsed. 3.15 parses none itself:
 * 53.0 where bare costs 45.9, 35.7 and 29.4, an RLock 54.4 and 47.3, on a busy machine. (make bench-python)
 *
 * What a lock is used for shows in its history, kept in a byte of the object that the interpreter does not use: one
 * that a thread took and another released, or whose taker waits for it, is an event and of no more interest.
 */
#pragma once

#include "python/interpreter.h"
#include "python/layout.h"
#include "track/thread.h"

enum fsafe_python_kind { FSAFE_PYTHON_NO_LOCK, FSAFE_PYTHON_LOCK, FSAFE_PYTHON_RLOCK };

/*
 * The interpreter has answered a call that does not wait, or no longer, that the lock is taken. Returns whether the
 * caller has the lock after all, because a vanished thread had it. Context: under the GIL; any process.
 */
typedef bool fsafe_python_try(struct fsafe_python_lock *lock, enum fsafe_python_kind kind);

/*
 * Begins; such calls ask `has_by_try`. False, and the room is off, where this interpreter's locks are not as described.
 * Context: under the GIL.
 */
bool fsafe_python_locks_start(fsafe_python_try *has_by_try);

/*
 * What lies at `object`, copied to `copy`; no memory, no lock. A freed lock looks like one until its memory is reused.
 */
enum fsafe_python_kind fsafe_python_lock_at(uintptr_t object, struct fsafe_python_lock *copy);

/* Drops the calling thread's records of the lock, and notes that it is an event. Context: in a wait for the lock. */
void fsafe_python_lock_is_event(uintptr_t object, struct fsafe_thread *self);

/* Whether the thread has tokens of semaphores used as locks, beside the one that to 3.12 stands for its life. */
FSAFE_AT_FORK bool fsafe_python_lock_has_tokens(const struct fsafe_thread *thread);
