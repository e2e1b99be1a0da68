/*
 * standin/standin: what a child does about a call that needs a lock of libc's which a vanished thread may hold: a
 * stand-in does the call's work; where there is none the call gets a net, or a line says that it may hang.
 */
#pragma once

#include "repair/rescue.h"
#include "track/region.h"

/*
 * Whether a stand-in has to do the work. `what`: the call's name in the line; `site`: the place that makes it. Writes
 * one line for each region and process. In mode report false; mode abort ends the process. errno kept.
 */
bool fsafe_standin_is_needed(enum fsafe_region region, const char *what, uintptr_t site);

/*
 * A thread is about to make a call that has no stand-in. If a vanished thread may have the call's lock, the call gets a
 * net (repair/rescue). If it cannot have one, a line warns, once for each region and process tree, and mode abort ends
 * the process, except for FSAFE_REGION_MOSTLY_FREE and the regions behind it. errno kept. Context: child.
 */
void fsafe_standin_warn(enum fsafe_region region, const char *what, uintptr_t site, uintptr_t frame);
