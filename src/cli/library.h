/* cli/library: where the library lies that the launcher names in LD_PRELOAD. */
#pragma once

#include <limits.h>
#include <stdbool.h>

/*
 * Finds the library of this launcher: in its build tree, then in ../lib as seen from the launcher's directory, then in
 * the configured library directory. Ends with a message when there is none.
 */
void fsafe_library_find(char path[PATH_MAX]);

/* Whether this entry of LD_PRELOAD is a libforksafe: two of them in one process would both wrap the same calls. */
bool fsafe_library_is_named(const char *entry);
