/*
 * base/patterns: lists of names with * for any characters and ? for one, separated by commas or colons, as a user sets
 * them. Calls nothing of libc's. Context: any thread.
 */
#ifndef FSAFE_BASE_PATTERNS_H
#define FSAFE_BASE_PATTERNS_H

#include <stdbool.h>

/* Whether one of the patterns is the whole name. An empty name is none. */
bool fsafe_patterns_match(const char *patterns, const char *name);

#endif
