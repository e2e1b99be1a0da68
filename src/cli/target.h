/* cli/target: whether the library can be in a program, and which of its locks the library cannot see. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

/* What is to be said of a program. */
struct fsafe_target {
    const char *objection; /* why the library cannot be in it; NULL: it can */
    bool refuses;          /* its loader would end it for naming the library: it must not be named */
    const char *unseen[8]; /* locks that it uses, perhaps, and the library cannot see */
    unsigned unseen_count;
};

/*
 * Looks at `command`, searched for as execvp does, for `library`; of a script at its interpreter, and of env(1) there
 * at what that is to start. A file that is no program is no objection: the attempt to run it will say so. Where the
 * program's loader would refuse the library and there is one for it beside that, `library` becomes that one:
 * libforksafe-musl.so, libforksafe-gnu.so, for 32 bits libforksafe-musl32.so, libforksafe-gnu32.so.
 */
void fsafe_target_look(struct fsafe_target *target, const char *command, char library[PATH_MAX]);

/*
 * forksafe check COMMAND: prints all of it. Returns the exit status: 0 the library can be in it, 1 it cannot, 2 it can,
 * and does not see some of the locks.
 */
int fsafe_target_check(const char *command);

/* What is to be said of the command, one line each; nothing if all is well. */
void fsafe_target_print(FILE *to, const struct fsafe_target *target, const char *command);
