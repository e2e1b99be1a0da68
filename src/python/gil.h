/*
 * python/gil: the interpreter's global lock when the thread that had it vanished: the fork was made without it, by a C
 * thread or an embedder. It is a number that a mutex guards, and two condition variables:
 *
 *     interval, last holder, locked, switches, COND, its mutex, SWITCH_COND, its mutex
 *
 * Who wants it waits in COND, a few milliseconds at a time, for ever; who gave it up on request waits in SWITCH_COND
 * until somebody else has it.
 */
#ifndef FSAFE_PYTHON_GIL_H
#define FSAFE_PYTHON_GIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Whether a wait of the interpreter's own code should end at once, as if it had been woken: it asks for a GIL that a
 * vanished thread had, which is free now; or waits for a vanished thread to take it. `site`: who waits.
 * Context: child, any thread that holds `mutex`.
 */
bool fsafe_python_gil_ends_wait(const pthread_cond_t *condvar, const pthread_mutex_t *mutex, bool timed,
                                uintptr_t site);

#endif
