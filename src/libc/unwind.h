/*
 * libc/unwind: the callers of a place, by the call frame information that compilers put into every module (.eh_frame),
 * or by frame pointers where a function has none. Takes no lock of the loader's, reads memory by copies only, and takes
 * a bounded time. x86-64 and i386; elsewhere it finds nothing. Context: any thread, also in a signal handler.
 */
#pragma once

#include "libc/callframe.h"

/*
 * Fills in `frames` with the return addresses of the function that has `site`, on the calling thread's stack, the
 * nearest caller first. Returns how many it found, `most` at most.
 */
unsigned fsafe_unwind_here(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t *frames, unsigned most);

/*
 * The same for a vanished thread, from what is left of its stack: `near` is an address in it, `end` the one behind it
 * (0: unknown). Only a chain that leads to the thread's beginning counts; 0 when there is none, for instance because
 * another thread has got the stack. Of the callers, those that had returned before the fork are missing.
 */
unsigned fsafe_unwind_vanished(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t near, uintptr_t end,
                               uintptr_t *frames, unsigned most);
