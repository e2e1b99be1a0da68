/*
 * python/gil: the interpreter's global lock when its owner vanished: a C thread or an embedder forked without the GIL.
 * The GIL is a number that a mutex guards, and two condition variables:
 *
 *     interval, last holder, locked, switches, COND, its mutex, SWITCH_COND, its mutex
 *
 * A thread that wants the GIL waits in COND, a few milliseconds at a time, for ever; a thread that gave it up on
 * request waits in SWITCH_COND until another thread has it.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Finds the main interpreter's. Context: has the GIL, once in the life of an interpreter. */
void fsafe_python_gil_find(void);

/* Whether certainly no thread has the GIL. Context: child; one thread of several may take it at any moment. */
FSAFE_AT_FORK bool fsafe_python_gil_is_free(void);

/*
 * After a fork without the GIL: an embedder's, ctypes'. Often nobody tells the interpreter of such a fork. If no thread
 * had the GIL the objects are whole, and the child takes it. Returns whether it has. Context: child, alone.
 */
bool fsafe_python_gil_takes_free(void);

/*
 * Whether a wait of the interpreter's own code should end at once, as if it had been woken: the caller wants a GIL
 * whose owner vanished, which this call makes free; or waits for a vanished thread to take the GIL. `site`: the place
 * that waits. Context: child, any thread that holds `mutex`.
 */
bool fsafe_python_gil_ends_wait(const pthread_cond_t *condvar, const pthread_mutex_t *mutex, bool timed,
                                uintptr_t site);
