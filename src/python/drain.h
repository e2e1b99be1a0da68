/*
 * python/drain: before os.fork, lets other threads of the interpreter get out of what they do under Python locks, so
 * that the child copies whole data. The drain of fork/ cannot: its thread holds the GIL, without which nobody gets out.
 *
 * It is a function that os.register_at_fork calls before a fork, so all that happens in it may happen in Python code.
 * Other ways to fork (a fork inside a C module) get takeovers, and no drain.
 *
 * Bounded by a twentieth of FORKSAFE_DRAIN_MS. A thread for whom forks waited in vain is waited for half as long by
 * each next one, until it is seen outside of all locks.
 */
#ifndef FSAFE_PYTHON_DRAIN_H
#define FSAFE_PYTHON_DRAIN_H

#include "python/interpreter.h"

/* Registers it. Context: under the GIL, where any Python code may run. */
void fsafe_python_drain_start(void);

#endif
