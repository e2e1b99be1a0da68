/*
 * track/gate: who is inside which libc call. A stand-in for the real one, which also drains; see DESIGN section 5.
 */
#ifndef FSAFE_TRACK_GATE_H
#define FSAFE_TRACK_GATE_H

#include <stdbool.h>
#include <stdint.h>

enum fsafe_region {
    FSAFE_REGION_SYSLOG,
    FSAFE_REGION_NSS,
    FSAFE_REGIONS,
};

struct fsafe_visit {
    enum fsafe_region region;
};

/* The calling thread is about to make a call that takes a lock of libc's, and has made it. errno kept. */
struct fsafe_visit fsafe_gate_enter(enum fsafe_region region, uintptr_t site);
void fsafe_gate_leave(const struct fsafe_visit *visit);

/*
 * Whether a thread that vanished at a fork of this lineage was inside such a call then, so that libc's lock may be
 * held for ever. Context: child.
 */
bool fsafe_gate_vanished_inside(enum fsafe_region region);

#endif
