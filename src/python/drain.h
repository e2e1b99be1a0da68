/*
 * python/drain: before os.fork, waits until other threads of the interpreter have released their Python locks, so that
 * the child copies whole data. The drain of fork/ cannot do that: its thread holds the GIL, without which no other
 * thread can go on.
 *
 * The drain is a function that os.register_at_fork calls before a fork, so all that happens in it may happen in Python
 * code. Other ways to fork (a fork inside a C module) get takeovers, and no drain.
 *
 * The drain takes a twentieth of FORKSAFE_DRAIN_MS at most, a quarter if no thread gets a processor; all of it while
 * another thread imports a module in which the forking thread does not run: half a module is of no use to the child.
 * If a fork has waited for a thread in vain, each next fork waits for that thread half as long, until it is seen
 * outside of all locks; the same holds for imports.
 *
 * Two threads that each have a lock a third of the time, two processors with a load of 13 to 40, CPython 3.11: bare 21
 * of 30 children hang, with takeovers alone 39 of 60 see half-changed data, with this none of 60 (nor on 3.13 and
 * 3.14). More locks and threads, which are hardly ever all outside at once: 0 to 7 of 60.
 */
#pragma once

#include "python/interpreter.h"

/* Registers the drain. Context: under the GIL, where any Python code may run, once in an interpreter's life. */
void fsafe_python_drain_start(void);

/* The fork comes now. Context: parent, before fork; mostly under the GIL. */
void fsafe_python_drain_end(void);
