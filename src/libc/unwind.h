/*
 * libc/unwind: who called whom: return addresses, by the call frame information that compilers put into every module
 * (.eh_frame), or by frame pointers where a place has none. Takes no lock of the loader's, reads memory by copies only,
 * and takes a bounded time. x86-64 and i386; elsewhere it finds nothing. Context: any thread, also in a signal handler.
 */
#pragma once

#include "libc/callframe.h"

/*
 * The callers of the place that `site` returns to, on the calling thread's stack: the nearest first. Returns how many
 * of `most` were found.
 */
unsigned fsafe_unwind_here(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t *frames, unsigned most);

/*
 * The same for a thread that vanished in a fork, from what its stack still holds: `near` is an address in it. Only a
 * chain that leads to the thread's beginning counts; 0 when there is none, for instance because the stack was reused.
 * Where functions have returned since the place was passed, it is those that have not.
 */
unsigned fsafe_unwind_vanished(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t near, uintptr_t *frames,
                               unsigned most);
