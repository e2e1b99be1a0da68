/* python/selftest: whether this interpreter's locks are as python/locks describes them, tried on locks of our own. */
#pragma once

#include "python/interpreter.h"

/*
 * A threading.Lock, and an RLock of 3.14 and later. `rlock_type`: NULL where an RLock is a semaphore. Context: has the
 * GIL.
 */
bool fsafe_python_selftest_passes(void *lock_type, void *rlock_type);
