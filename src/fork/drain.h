/*
 * fork/drain: before a fork, lets other threads get out of what they are in, so that the child copies consistent data
 * and free locks. Bounded on both sides: see libforksafe(7), FORKSAFE_DRAIN_MS.
 */
#ifndef FSAFE_FORK_DRAIN_H
#define FSAFE_FORK_DRAIN_H

#include "track/thread.h"

#include <stdbool.h>

/* Closes the gate and waits; fsafe_gate_open ends it. Context: parent, before fork. */
void fsafe_drain_begin(struct fsafe_thread *self);

#endif
