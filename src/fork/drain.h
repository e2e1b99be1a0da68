/*
 * fork/drain: before a fork, waits until other threads have left their critical sections, so that the child copies
 * consistent data and free locks. Fork and threads wait for a bounded time: see libforksafe(7), FORKSAFE_DRAIN_MS.
 */
#pragma once

#include "track/thread.h"

/* Closes the gate and waits; fsafe_gate_open ends the drain. Context: parent, before fork. */
void fsafe_drain_begin(struct fsafe_thread *self);
