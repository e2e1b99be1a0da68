/*
 * python/orphans: what a child does about Python locks (python/locks) that vanished threads had.
 *
 * At a fork each of these locks is *marked* in its byte. The mark lives exactly as long as that acquisition: release,
 * reinitialisation and hand-over write the byte anew. So a thread that waits for a marked lock waits for a vanished
 * thread, not for a lock that the child has taken itself or has made at the same address since.
 *
 * A waiter sleeps in sem_wait on a semaphore on its own stack; the word before it is the byte's address. Our sem_wait
 * makes the lock free and ends the wait as if a signal had come: the interpreter looks at the byte again. A call that
 * does not wait shows only by its answer.
 */
#pragma once

#include "base/compiler.h"
#include "python/interpreter.h"
#include "python/locks.h"
#include "track/thread.h"

#include <semaphore.h>

/* Marks the locks. Reads and writes memory only. Context: child, alone; `self`, the forking thread, is adopted. */
FSAFE_AT_FORK void fsafe_python_adopt(struct fsafe_thread *self);

/* Clears records of vanished threads whose lock bears no mark any more. Context: child, any thread. */
void fsafe_python_clear_stale(struct fsafe_thread *vanished);

/*
 * Whether a signal may call Python code: that could release a lock. May wait for the GIL. Context: child, any thread
 * that is about to wait for a lock, no latch held.
 */
bool fsafe_python_may_be_interrupted(void);

/*
 * Whether SIGINT's handler certainly is the interpreter's own, which raises KeyboardInterrupt. Does not wait for the
 * GIL: while a thread has it the answer is no. Context: child, any thread, no latch held.
 */
bool fsafe_python_interrupt_is_default(void);

/* What a thread that is about to wait has to do: wait; wait up to a time and ask anew; look at the lock again. */
enum fsafe_python_parking { FSAFE_PYTHON_SLEEPS, FSAFE_PYTHON_SLEEPS_UNTIL, FSAFE_PYTHON_LOOKS_AGAIN };

enum fsafe_python_parking fsafe_python_parks_in_lock(sem_t *semaphore, uintptr_t site, bool endless,
                                                     struct timespec *until);

/*
 * The caller at `site` is about to wait for an event by `semaphore`, without a limit or with one. `until`: where to say
 * how long, by CLOCK_MONOTONIC; NULL: that time is over. One load in a process without an interpreter.
 */
static inline enum fsafe_python_parking fsafe_python_parks(sem_t *semaphore, uintptr_t site, bool endless,
                                                           struct timespec *until)
{
    return FSAFE_UNLIKELY(fsafe_python_is_started()) ? fsafe_python_parks_in_lock(semaphore, site, endless, until)
                                                     : FSAFE_PYTHON_SLEEPS;
}

/* See python/locks. */
fsafe_python_try fsafe_python_has_by_try;

/*
 * The caller at `site` is about to sleep by `semaphore` without a limit, as all threads of the child do. If it sleeps
 * for a lock that it may have then, makes the lock free and returns true. Context: child, any thread; no latch held.
 */
bool fsafe_python_may_be_given(uintptr_t semaphore, uintptr_t site);
bool fsafe_python_gives_up(uintptr_t semaphore, uintptr_t site);

/*
 * The same where the interpreter waits with the GIL, so that no Python code can run, for a thread of its own without
 * one: faulthandler's watchdog. The caller is to post the semaphore, as that thread would have. Context: as above.
 */
bool fsafe_python_may_be_posted(uintptr_t semaphore, uintptr_t site);
bool fsafe_python_posts(uintptr_t semaphore, uintptr_t site);
