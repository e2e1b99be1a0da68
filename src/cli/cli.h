/* cli: what the verbs of forksafe share. Nothing here is linked with the library. */
#ifndef FSAFE_CLI_CLI_H
#define FSAFE_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Ends with status 125 and a message. */
_Noreturn void fsafe_cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, and points to --help. `verb` "" for forksafe itself. */
_Noreturn void fsafe_cli_fail_usage(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints to stdout and ends: a --help into a full disk has failed. */
_Noreturn void fsafe_cli_print_and_exit(const char *text);

/* The verbs; each returns the exit status. `argv[0]` is the verb. */
int fsafe_cli_explain(int argc, char **argv);
int fsafe_cli_check(int argc, char **argv);

/*
 * Prints, one indented line each, what stands in the source at an address of a module's own tables: innermost first,
 * through inlined functions. Returns whether anything is known. Without elfutils nothing ever is.
 */
bool fsafe_cli_print_source(FILE *to, const char *indent, const char *path, uint64_t address);

/* The C++ name of a symbol, or the symbol itself; valid until the next call. */
const char *fsafe_cli_demangle(const char *symbol);

#endif
