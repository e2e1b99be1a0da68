/*
 * repair/idle: whether no other thread of this process can have a lock of libc's whose bytes name no owner: all sleep
 * in system calls that libc makes without such a lock, outside of regions and signal handlers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fsafe_idle {
    unsigned waiting; /* how many threads wait for the caller's word, without a limit */
    uint64_t mark;    /* of all others; equal in two looks: none of them has woken in between */
};

/* Finds out where the kernel's own code lies. Context: start-up. */
void fsafe_idle_start(void);

/*
 * Looks at all other threads once. False: one may have a lock of libc's, or the kernel does not say. `is_libcs`:
 * whether an address lies in libc. Context: child.
 */
bool fsafe_idle_look(uintptr_t word, bool (*is_libcs)(uintptr_t address), struct fsafe_idle *found);
