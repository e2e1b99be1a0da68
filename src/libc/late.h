/*
 * libc/late: what we call of libc and an older glibc has elsewhere, under another name or not at all. Found in its
 * tables (libc/symbol) when first needed, so that one object, built here, loads with every glibc from 2.17 on.
 *
 * late.c also defines, for this object alone, the functions of threads that were in a library of their own before 2.34:
 * their callers here see no difference.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>

/* Whether the process certainly has one thread; points to libc's own variable, if there is one (2.32). */
extern FSAFE_HIDDEN const char *fsafe_late_single_threaded;
#define FSAFE_SINGLE_THREADED() (*fsafe_late_single_threaded != 0)

/* Whether there is such a variable. */
bool fsafe_late_knows_threads(void);

/* Context: start-up. */
void fsafe_late_start(void);

/* The words for an error number, not translated, or NULL. */
const char *fsafe_late_error_text(int error);
