/*
 * repair/policy: which locks the user wants left alone, by FORKSAFE_EXCLUDE and FORKSAFE_ONLY. Context: child, slow
 * paths.
 */
#pragma once

#include "report/event.h"

/*
 * Why the lock of the event is to be left alone, in words that follow "because"; NULL: it is not. The patterns are
 * compared with the modules and exported symbols of the lock, of the place that wants it and of the place that took it.
 */
const char *fsafe_policy_objection(const struct fsafe_event *event);
