/*
 * python/room: when the room does what. It starts when the interpreter makes its first thread, because only then can a
 * lock be another thread's; a process whose threads are all made by others asks the interpreter to call it, at the next
 * moment that suits it.
 */
#pragma once

#include "base/compiler.h"

/* A thread is about to be made. Two loads in a process without an interpreter. */
void fsafe_python_before_thread(void);

/* A fork is about to be made. Context: parent, before fork, before the drain. */
void fsafe_python_prepare(void);

/* A fork was made. Context: child, alone, after adoption and the allocator's handlers. */
FSAFE_AT_FORK void fsafe_python_child(void);
