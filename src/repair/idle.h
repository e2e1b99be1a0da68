/*
 * repair/idle: whether all other threads of this process are where nobody has a lock of libc's: they sleep, in a
 * system call that libc makes without one, are in no call that takes one and in no signal handler, and have no stream
 * locked. Owns nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fsafe_idle {
    unsigned waiting; /* those that wait for the caller's word, without a limit: these are in such a call, too */
    uint64_t mark;    /* of all others; equal in two looks: none of them has woken in between, and released a lock */
};

/*
 * One look at all other threads; false: some thread may have a lock of libc's, or the kernel does not tell. `is_libcs`:
 * whether an address is in libc; `blocked`: the signals that the caller's thread blocks. Context: child.
 */
bool fsafe_idle_look(uintptr_t word, bool (*is_libcs)(uintptr_t address), uint64_t blocked, struct fsafe_idle *found);
