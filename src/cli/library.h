/* cli/library: where the library lies that the launcher names in LD_PRELOAD. */
#pragma once

#include <limits.h>
#include <stdbool.h>

/*
 * The library that belongs to this launcher: the build tree's, then the one of the tree the launcher was installed
 * or moved to, then the one of the configured prefix. Ends with a message when there is none.
 */
void fsafe_library_find(char path[PATH_MAX]);

/* Whether an entry of LD_PRELOAD is some libforksafe. Two of them in one process would both wrap the same calls. */
bool fsafe_library_is_named(const char *entry);
