/*
 * repair/idle: whether all other threads of this process are where nobody has a lock of libc's that does not say who
 * has it: they sleep, in a system call that libc makes without one, in no call that takes one, in no signal handler.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fsafe_idle {
    unsigned waiting; /* those that wait for the caller's word, without a limit: these are in such a call, too */
    uint64_t mark;    /* of all others; equal in two looks: none of them has woken in between, and released a lock */
};

/* Finds out where the kernel's own code lies. Context: start-up. */
void fsafe_idle_start(void);

/*
 * One look at all other threads; false: some thread may have a lock of libc's, or the kernel does not tell. `is_libcs`:
 * whether an address is in libc. Context: child.
 */
bool fsafe_idle_look(uintptr_t word, bool (*is_libcs)(uintptr_t address), struct fsafe_idle *found);
