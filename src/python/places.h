/*
 * python/places: the Python places of a line: where the caller wants a lock now, and where a vanished thread took it or
 * was at the fork. The child notes what it needs for the latter before the interpreter forgets its vanished threads;
 * their functions stay in memory, because no thread frees what a vanished thread's frames refer to.
 */
#pragma once

#include "python/interpreter.h"
#include "report/event.h"

/* Lets report ask for places. Context: has the GIL, once in the life of an interpreter. */
void fsafe_python_places_start(void);

/*
 * Notes where the threads that vanished in this fork were, if a record says that they held something; `all`: the others
 * as well. Context: child, alone, after adoption; the forking thread has the GIL, or no thread has it.
 */
FSAFE_AT_FORK void fsafe_python_places_note(bool all);

/* Notes where the calling thread is, which forks. Context: parent, in a fork that has its number; has the GIL. */
void fsafe_python_places_note_fork(void);

/* Writes down which thread that vanished in this fork had this pthread_t. Context: child, alone. */
void fsafe_python_places_holder(uintptr_t handle, struct fsafe_holder *holder);

/* The Python instruction that the calling thread is at; `site` where it is in none. */
FSAFE_AT_FORK uintptr_t fsafe_python_places_instruction(uintptr_t site);

/*
 * What to record as the place that takes a lock: `site`, or where that is in the interpreter, which takes all Python
 * locks in a single place, the Python instruction.
 */
static inline uintptr_t fsafe_python_site(uintptr_t site)
{
    return FSAFE_UNLIKELY(fsafe_python_is_text(site)) ? fsafe_python_places_instruction(site) : site;
}
