/*
 * python/wanted: which lock of the interpreter's a semaphore is, up to 3.12 a Lock and up to 3.13 an RLock: for lines,
 * and because nobody but its owner can release an RLock.
 *
 * The call that wants the lock has the lock's object on its stack, and the object has the semaphore. So what is found
 * is certain, wherever on the stack it was found.
 */
#pragma once

#include "python/interpreter.h"
#include "python/locks.h"

/* Learns the types. Context: has the GIL, once in the life of an interpreter. */
void fsafe_python_wanted_start(void);

/*
 * Which lock the calling thread wants by `semaphore`, and where its object is; FSAFE_PYTHON_NO_LOCK: it is none. Never
 * faults; some hundred system calls. Context: in a call of sem_wait or its like; an interpreter is started.
 */
enum fsafe_python_kind fsafe_python_wanted_find(uintptr_t semaphore, uintptr_t *object);

/* Whether that is an RLock. One load in a process without an interpreter. */
static inline bool fsafe_python_wants_rlock(uintptr_t semaphore)
{
    uintptr_t object;
    return fsafe_python_is_started() && fsafe_python_wanted_find(semaphore, &object) == FSAFE_PYTHON_RLOCK;
}
