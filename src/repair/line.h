/* repair/line: the lines about a wait that no thread can end: that it is one, and that it went on all the same. */
#pragma once

#include "track/thread.h"

/*
 * Writes the line about the caller's wait, unless its latest line was about the same object, or a line has said of this
 * place that only a handler ends a wait there (`by_handler`). `spins`: the wait is a loop that gives the processor up.
 * In mode abort it may not return. Context: child, no latch held.
 */
void fsafe_line_say(struct fsafe_thread *caller, bool by_handler, bool spins);

/*
 * The wait is over: if a line said that nothing can end that wait, writes a second line. Context: child, the thread
 * that waited.
 */
void fsafe_line_ended(struct fsafe_sleeping *sleeping);
