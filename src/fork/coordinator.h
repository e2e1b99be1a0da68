/*
 * fork/coordinator: what happens to our own state around a fork, in one order.
 *
 *     prepare   last of all prepare handlers: number the fork, note who makes it and which streams that thread holds;
 *               close the gate and drain
 *     child     first of all child handlers: reset latch and gate, begin a generation, move its one thread into it, give
 *               it back its streams and the loader's lock
 *     parent    first of all parent handlers: open the gate, forget the notes
 *
 * The handlers are registered once, when the library is loaded: before everybody else's, because glibc runs
 * prepare handlers last registered first and the others first registered first.
 */
#ifndef FSAFE_FORK_COORDINATOR_H
#define FSAFE_FORK_COORDINATOR_H

#include "track/thread.h"

#include <stdbool.h>

/* Registers the handlers. Returns whether libc took them. Context: start-up. */
bool fsafe_fork_start(void);

/* A fork is about to be made from `site`, which the handlers cannot see. Context: the forking thread. */
void fsafe_fork_announce(uintptr_t site);

/* The three moments of a fork that runs no handlers. Async-signal-safe. Context: the forking thread. */
void fsafe_fork_begin(uintptr_t site);
void fsafe_fork_in_parent(void);
void fsafe_fork_in_child(void);

/*
 * Adopts this process if it is a new one that no handler and no wrapper told us of (a raw system call).
 * One load otherwise. Context: any thread, before it may wait.
 */
void fsafe_fork_notice(void);

#endif
