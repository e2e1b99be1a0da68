/* cli/position: the place in the source that an event means, once, for all forms in which it is written. */
#pragma once

#include "cli/log.h"

/* A place in the source, as far as it is known. */
struct fsafe_position {
    char *function; /* or "MODULE+0xADDRESS" */
    char *file;     /* NULL: unknown */
    int line;
    const struct fsafe_log_place *at; /* NULL: an interpreter's, or unknown */
    bool has_gone_on; /* of a holder: the line is where the function that took the lock was at the fork */
    const char *without_lines; /* the module, if the place has no line because the module has none; else NULL */
};

/* The function that a user has to look at: not one of the system's libraries, if there is another. */
struct fsafe_position fsafe_position_find(const struct fsafe_log *log, const struct fsafe_log_stack *stack);

/* The same for the thread that took the lock. */
struct fsafe_position fsafe_position_find_holder(const struct fsafe_log *log, const struct fsafe_log_event *event);

/* The name of a place without source, "SYMBOL in MODULE+0xADDRESS", as far as it is known. The caller frees it. */
char *fsafe_position_name(const struct fsafe_log_place *place);

/* The module's file: as the log says, or one that was added and has the same build-id. NULL: unknown. */
const char *fsafe_position_file(const struct fsafe_log *log, const char *module);

/* Adds a file, for the module that has its build-id. Takes 64 at most. */
void fsafe_position_add_file(const char *path);

/* Complains of each added file that belongs to no module of the log. */
void fsafe_position_check_files(const struct fsafe_log *log);
