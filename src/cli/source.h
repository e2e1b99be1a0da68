/*
 * cli/source: what stands in the source at an address of a module, by elfutils, with debuginfod where that is set up.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Called with one function at an address. `file` NULL: not known. Returns whether to go on to its caller. */
typedef bool fsafe_source_see(const char *function, const char *file, int line, void *context);

/*
 * Calls `see` for the functions at an address by the module's own tables: innermost first, through inlined functions.
 * Returns whether anything is known. Without elfutils nothing is.
 */
bool fsafe_source_each(const char *path, uint64_t address, fsafe_source_see *see, void *context);

/* elfutils' view of a file, made once and kept; NULL: the file is no module. */
struct Dwfl_Module;
struct Dwfl_Module *fsafe_source_open(const char *path);

/* fsafe_source_each() for a module of a process. */
bool fsafe_source_each_in(struct Dwfl_Module *module, uint64_t address, fsafe_source_see *see, void *context);

/* The variable at an address by the module's own tables, and how far inside it the address lies; NULL: unknown. */
const char *fsafe_source_variable(const char *path, uint64_t address, uint64_t *offset);

/* Whether the file has that build-id, in hexadecimal digits. */
enum { FSAFE_SOURCE_BUILD_ID = 66 };
bool fsafe_source_has_build_id(const char *path, const char *build_id);

/* Whether the source, or the module, belongs to the system's libraries: then its caller is the culprit. */
bool fsafe_source_is_system_file(const char *file);
bool fsafe_source_is_system_module(const char *path);

/* The C++ name of a symbol, or the symbol itself; valid until the next call. */
const char *fsafe_source_demangle(const char *symbol);
