/*
 * standin/zone: the local time of day without libc's time zone lock, which a vanished thread may hold.
 *
 * While libc may be asked, it is asked for the offset from UTC and for the changes of the offset in the coming year; a
 * child in which the lock may be orphaned computes from these. The result is approximate where libc was not asked in
 * time: without any answer UTC, after that year the last known offset, and after a change of TZ in the child the zone
 * of before.
 */
#pragma once

#include "base/compiler.h"

/* Asks libc, once a second at most. Takes the time zone's lock, as the call that the caller makes next. errno kept. */
void fsafe_zone_sample(void);

enum { FSAFE_STAMP_BYTES = sizeof "Mmm dd hh:mm:ss " };

/* Writes the present moment as RFC 3164 does, with a blank behind it. Takes no lock of libc's. */
void fsafe_zone_stamp(char stamp[FSAFE_STAMP_BYTES]);

/* Makes these usable whatever a vanished thread left. Context: child, alone. */
FSAFE_AT_FORK void fsafe_zone_adopt(void);
