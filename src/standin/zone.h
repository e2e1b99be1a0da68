/*
 * standin/zone: the local time of day without libc's time zone lock, which a vanished thread may hold.
 *
 * While the lock is still ours to take, libc is asked once for the offset from UTC and its changes in the year to
 * come; a child that must not ask any more computes from that. Approximate where nobody asked in time: UTC if never,
 * the last known offset beyond that year, and the zone as it was if the child sets TZ anew.
 */
#pragma once

#include "base/compiler.h"

/* Asks libc, once a second at most. Takes the time zone's lock: for a caller that lets libc do so next. errno kept. */
void fsafe_zone_sample(void);

enum { FSAFE_STAMP_BYTES = sizeof "Mmm dd hh:mm:ss " };

/* Writes the present moment as RFC 3164 does, with a blank behind it. Waits for nobody. */
void fsafe_zone_stamp(char stamp[FSAFE_STAMP_BYTES]);

/* Makes the room ready whatever its state. Context: child, alone. */
FSAFE_AT_FORK void fsafe_zone_adopt(void);
