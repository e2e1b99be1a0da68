/*
 * repair/standin: whether a child does a libc call's work by a stand-in, because a thread that vanished may hold the
 * lock inside that call for ever. Tells the user, once for each kind of call and process.
 */
#ifndef FSAFE_REPAIR_STANDIN_H
#define FSAFE_REPAIR_STANDIN_H

#include "track/gate.h"

/*
 * `what` names the call in the line, `site` the place that makes it. In mode report always false, and mode abort
 * ends the process. errno kept. Context: any thread.
 */
bool fsafe_standin_is_needed(enum fsafe_region region, const char *what, uintptr_t site);

#endif
