/*
 * libc/late: functions of libc's that we call and that an older glibc has in another library, under another name or not
 * at all. libc/symbol finds them when they are first needed, so that one object loads with every glibc from 2.17 on.
 *
 * late.c defines, hidden in this object, the functions of threads that were in a library of their own before 2.34: code
 * of ours calls them by their names.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>

/* libc's variable that is not 0 while the process certainly has one thread; a 0 of ours before glibc 2.32. */
extern FSAFE_HIDDEN const char *fsafe_late_single_threaded;
#define FSAFE_SINGLE_THREADED() (*fsafe_late_single_threaded != 0)

/* Whether this libc has that variable. */
bool fsafe_late_knows_threads(void);

/* Context: start-up. */
void fsafe_late_start(void);

/* dlsym, which the library exports, too. The answer depends on the caller, which is this object. */
void *fsafe_late_dlsym(void *object, const char *name);

/* The words for an error number, not translated, or NULL. */
const char *fsafe_late_error_text(int error);
