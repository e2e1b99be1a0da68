/* libc/late for a C library that is one file and no older than its headers: see late.h. */
#include "config.h"

#include "libc/late.h"

#include <dlfcn.h>
#include <string.h>

static const char not_known;
const char *fsafe_late_single_threaded = &not_known;

bool fsafe_late_knows_threads(void)
{
    return false;
}

void fsafe_late_start(void)
{
}

void *fsafe_late_dlsym(void *object, const char *name)
{
    return dlsym(object, name);
}

/* musl's strerror is a table; it translates only by a catalogue that the program has opened. */
const char *fsafe_late_error_text(int error)
{
    return strerror(error);
}
