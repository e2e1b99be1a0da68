/*
 * python/room: when the room does what. The room starts when the interpreter makes its first thread: only then can
 * another thread have a lock. Where other code makes all threads the room asks the interpreter to call it soon.
 */
#pragma once

#include "base/compiler.h"

/* A thread is about to be made. Two loads in a process without an interpreter. */
void fsafe_python_before_thread(void);

/* The program has unloaded a module, which may be the interpreter: then its functions are gone. */
void fsafe_python_after_unload(void);

/* A fork is about to be made. Context: parent, before fork, before the drain. */
void fsafe_python_prepare(void);

/* A fork was made. Context: child, alone, after adoption and the allocator's handlers. */
FSAFE_AT_FORK void fsafe_python_child(void);
