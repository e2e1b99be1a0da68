/*
 * standin/standin: what a child does about a call inside which a vanished thread may hold libc's lock for ever: has its
 * work done by a stand-in, or, where there is none, says that the call may hang, who was inside and since where.
 */
#pragma once

#include "base/compiler.h"
#include "repair/rescue.h"
#include "track/region.h"

/*
 * Whether a stand-in is to do the work. `what` names the call in the line, `site` the place that makes it. There is one
 * line for each region and process. In mode report always false, and mode abort ends the process. errno kept.
 */
bool fsafe_standin_is_needed(enum fsafe_region region, const char *what, uintptr_t site);

/*
 * For a call that has no stand-in and is about to be made. If a vanished thread may have the call's lock, and a rescue
 * is possible (repair/rescue), this begins one and returns true: the caller calls fsafe_rescue_end after the call. If
 * none is possible, a line warns, once for each region and family of processes, and mode abort ends the process, but
 * not for FSAFE_REGION_MOSTLY_FREE and those behind it. errno kept. Context: child.
 */
bool fsafe_standin_warn(enum fsafe_region region, const char *what, uintptr_t site, uintptr_t frame);
