/* cli/exit: how a verb ends before its work is done. */
#pragma once

enum { FSAFE_EXIT_OURS = 125 }; /* the launcher itself fails */

/* Ends with status 125 and a message. */
_Noreturn void fsafe_exit_failing(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, and mentions --help. `verb`: "" for forksafe itself. */
_Noreturn void fsafe_exit_misused(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same after getopt_long() has said what is wrong. */
_Noreturn void fsafe_exit_wrong_option(const char *verb);

/* Prints to stdout and ends, with status 125 if that fails. */
_Noreturn void fsafe_exit_printing(const char *text);

/* For a verb whose one option is --help. Returns the index of its first argument, or ends. */
int fsafe_exit_on_help(int argc, char **argv, const char *help);
