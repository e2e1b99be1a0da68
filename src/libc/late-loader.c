/* libc/late, of a C library that is one file and as old as its headers: see late.h. */
#include "config.h"

#include "libc/late.h"

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

/* musl's is a table; it would translate only by a catalogue that the program opens. */
const char *fsafe_late_error_text(int error)
{
    return strerror(error);
}
