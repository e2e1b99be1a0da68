/* cli: what the verbs of forksafe share. Nothing here is linked with the library. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Ends with status 125 and a message. */
_Noreturn void fsafe_cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, and points to --help. `verb` "" for forksafe itself. */
_Noreturn void fsafe_cli_fail_usage(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same where getopt_long() has said what is wrong. */
_Noreturn void fsafe_cli_fail_option(const char *verb);

/* Prints to stdout and ends: a --help into a full disk has failed. */
_Noreturn void fsafe_cli_print_and_exit(const char *text);

/* For a verb whose one option is --help. Returns the index of its first argument, or ends. */
int fsafe_cli_skip_help(int argc, char **argv, const char *help);

/*
 * The library that belongs to this launcher: the build tree's, then the one of the tree the launcher was installed
 * or moved to, then the one of the configured prefix. Ends with a message when there is none.
 */
void fsafe_cli_find_library(char path[PATH_MAX]);

/* The verbs; each returns the exit status. `argv[0]` is the verb. */
int fsafe_cli_explain(int argc, char **argv);
int fsafe_cli_check(int argc, char **argv);
int fsafe_cli_status(int argc, char **argv);

/* One function at an address. `file` NULL: only the function is known. Returns whether to go on to its caller. */
typedef bool fsafe_cli_see_source(const char *function, const char *file, int line, void *context);

/*
 * Shows what stands in the source at an address of a module's own tables: innermost first, through inlined functions.
 * Returns whether anything is known. Without elfutils nothing ever is.
 */
bool fsafe_cli_each_source(const char *path, uint64_t address, fsafe_cli_see_source *see, void *context);

/* The variable at an address of a module's own tables, and how far inside it the address lies; NULL: unknown. */
const char *fsafe_cli_variable(const char *path, uint64_t address, uint64_t *offset);

/*
 * The line of the function at `address` that calls the one at `inner`, itself or by way of the system's own functions.
 * Returns false where there is no such line, or several.
 */
bool fsafe_cli_find_call(const char *path, uint64_t address, uint64_t inner, char **file, int *line);

/* elfutils' view of a file, made once and kept; NULL where it is none. */
struct Dwfl_Module;
struct Dwfl_Module *fsafe_cli_open_module(const char *path);

/* fsafe_cli_each_source() for a module of a process. */
bool fsafe_cli_each_source_in(struct Dwfl_Module *module, uint64_t address, fsafe_cli_see_source *see, void *context);

/* Whether the file has that build-id, in hexadecimal digits. */
enum { FSAFE_CLI_BUILD_ID = 66 };
bool fsafe_cli_is_module(const char *path, const char *build_id);

/* Whether source, or module, belong to the system's libraries: then the function that called them is the culprit. */
bool fsafe_cli_is_system_file(const char *file);
bool fsafe_cli_is_system_module(const char *path);

/* The C++ name of a symbol, or the symbol itself; valid until the next call. */
const char *fsafe_cli_demangle(const char *symbol);
