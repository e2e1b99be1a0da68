/*
 * cli/target: which library goes into a program, whether it can be in there, and which of the program's locks it cannot
 * see.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

/* What forksafe says of a program. */
struct fsafe_target {
    const char *objection; /* why the library cannot be in it; NULL: it can */
    bool refuses;          /* its loader would end it if LD_PRELOAD named the library */
    const char *unseen[8]; /* locks that it perhaps uses and the library cannot see */
    unsigned unseen_count;
};

/*
 * Finds the library of this launcher: in its build tree, then in ../lib as seen from the launcher's directory, then in
 * the configured library directory. Ends with a message when there is none.
 */
void fsafe_target_find_library(char path[PATH_MAX]);

/* Whether this entry of LD_PRELOAD is a libforksafe: two of them in one process would both wrap the same calls. */
bool fsafe_target_is_library(const char *entry);

/*
 * Finds out whether `library` can be in `command`, which it looks for as execvp does. For a script it looks at the
 * interpreter, and if that is env(1) at the command that env starts. There is no objection to a file that is no
 * program: the attempt to run it will fail. If the program's loader would refuse the library, and a library for the
 * program is beside it, `library` becomes that one: libforksafe-musl.so, libforksafe-gnu.so, for 32 bits
 * libforksafe-musl32.so, libforksafe-gnu32.so.
 */
void fsafe_target_look(struct fsafe_target *target, const char *command, char library[PATH_MAX]);

/*
 * forksafe check COMMAND: prints what there is to say. Returns the exit status: 0 the library can be in the command, 1
 * it cannot, 2 it can, but may not see some of the command's locks.
 */
int fsafe_target_check(const char *command);

/* Prints the objection, or the unseen locks one line each; nothing if there are none. */
void fsafe_target_print(FILE *to, const struct fsafe_target *target, const char *command);
