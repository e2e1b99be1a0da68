/*
 * python/waiters: vanished threads that were asleep in a threading.Condition, which Queue, Event and Semaphore wait in,
 * too. Each left a lock in the Condition's queue of waiters, and a notify() of the child would wake it in place of a
 * thread of the child's own. A child takes those locks out before its second thread, as a wait that times out does.
 */
#pragma once

#include "base/compiler.h"

/* Finds what threading's Condition is made of, if that is loaded. Context: has the GIL, once in its life. */
void fsafe_python_waiters_start(void);

/* Finds it, if it was not found so far. Context: has the GIL. */
void fsafe_python_waiters_find(void);

/* Notes which thread was asleep in which Condition. Context: child, alone; the forking thread has the GIL. */
FSAFE_AT_FORK void fsafe_python_waiters_note(void);

/* Takes the locks of the noted threads out. Context: child, alone, has the GIL. */
void fsafe_python_waiters_drop(void);
