/* python/selftest: whether this interpreter's locks are as python/locks describes them, tried on locks of our own. */
#pragma once

#include "python/interpreter.h"

/* A threading.Lock and, from 3.14 on, an RLock (`rlock_type` NULL: it is a semaphore). Context: has the GIL. */
bool fsafe_python_selftest_passes(void *lock_type, void *rlock_type);
