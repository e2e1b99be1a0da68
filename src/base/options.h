/*
 * base/options: the settings, read once from the environment the program was started with.
 * Owns fsafe_options; only the start-up code writes it, everyone may read it afterwards.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

/* In the order of the words of FORKSAFE_MODE. */
enum fsafe_mode { FSAFE_MODE_REPAIR, FSAFE_MODE_REPORT, FSAFE_MODE_ABORT, FSAFE_MODE_OFF };
/* Of FORKSAFE_FORMAT. */
enum fsafe_format { FSAFE_FORMAT_TEXT, FSAFE_FORMAT_JSON };

struct fsafe_options {
#define FSAFE_CHOICE(variable, field, words) int field;
#define FSAFE_NUMBER(variable, field, usual, most) unsigned field;
#define FSAFE_STRING(variable, field, bytes) char field[bytes];
#include "base/options.def"
    bool colors; /* the user's terminal has colours, and NO_COLOR is not set */
};

extern FSAFE_HIDDEN struct fsafe_options fsafe_options;

/* FORKSAFE_HANG_MS in nanoseconds; 0: no line about a wait. */
static inline uint64_t fsafe_options_hang_ns(void)
{
    return (uint64_t)fsafe_options.hang_ms * 1000000;
}

/* The value of `variable` in the vector `environment`, or NULL. Context: start-up. */
const char *fsafe_options_look_up(char *const *environment, const char *variable);

/*
 * Called for each value that cannot be used; the default is used instead. `expected` says in plain words what is
 * allowed, `usual` is the default. `expected` NULL: there is no setting of that name; `usual` is the nearest one.
 */
typedef void fsafe_options_complain(const char *variable, const char *value, const char *expected, const char *usual);

/*
 * Reads the settings from `environment` (the vector given to the process: libc's own `environ` is still empty in our
 * constructor). Strings are copied: programs write their title over that memory. A value that cannot be used is made
 * empty in `environment`, so that the programs which this one starts do not complain of it again. Context: start-up.
 */
void fsafe_options_read(char *const *environment, fsafe_options_complain *complain);
