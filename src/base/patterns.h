/*
 * base/patterns: lists of names with * for any characters and ? for one, separated by commas or colons, as a user sets
 * them. Calls nothing of libc's.
 */
#pragma once

#include <stdbool.h>

/* Whether one of the patterns matches the whole name. None matches an empty name. */
bool fsafe_patterns_match(const char *patterns, const char *name);
