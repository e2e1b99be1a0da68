#include "config.h"

#include "cli/exit.h"
#include "cli/library.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef FSAFE_LIBDIR
#define FSAFE_LIBDIR "/usr/local/lib"
#endif

#define LIBRARY "libforksafe.so"

/* Cuts the last component off an absolute path; "/x" becomes "", so that "/name" can be appended. */
static void strip_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
}

/* Sets path to directory + suffix. Returns whether that is a file that we can read. */
static bool is_library(char path[PATH_MAX], const char *directory, const char *suffix)
{
    int length = snprintf(path, PATH_MAX, "%s%s", directory, suffix);
    return length > 0 && length < PATH_MAX && access(path, R_OK) == 0;
}

/* In this order two versions on one machine do not mix. */
void fsafe_library_find(char path[PATH_MAX])
{
    char directory[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", directory, sizeof directory);
    if (length > 0 && (size_t)length < sizeof directory) {
        directory[length] = '\0';
        strip_last(directory);
        if (is_library(path, directory, "/.libs/" LIBRARY))
            return;
        strip_last(directory);
        if (is_library(path, directory, "/lib/" LIBRARY))
            return;
    }
    if (!is_library(path, FSAFE_LIBDIR, "/" LIBRARY))
        fsafe_exit_failing("cannot read %s: %s", path, strerror(errno));
}

bool fsafe_library_is_named(const char *entry)
{
    const char *slash = strrchr(entry, '/');
    const char *name = slash != NULL ? slash + 1 : entry;
    return strcmp(name, LIBRARY) == 0 || strncmp(name, "libforksafe-", strlen("libforksafe-")) == 0;
}
