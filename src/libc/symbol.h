/*
 * libc/symbol: finds the definition that the program would have called without us.
 *
 * With glibc by reading the symbol tables of the objects that the program started with, which stay mapped: without the
 * loader, its locks, an allocation or a system call, so that a function may be bound when it is first called, also in a
 * child. dlsym is asked with other C libraries, and for indirect functions. Of several versions the default one is
 * found, to which a program is bound that is linked now; before glibc 2.36 dlsym(RTLD_NEXT) finds the oldest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Returns whether the process has libc's functions for threads. Before glibc 2.34 they are in libpthread, and while
 * that is not loaded libc's own functions of these names do nothing. We must not load libpthread: the loader would
 * initialise libc too early, without arguments and environment (Debian 11's sh ended so). Context: start-up, once.
 */
bool fsafe_symbol_start(void);

/* Whether this is glibc and older than `version`, a string of four characters. */
bool fsafe_symbol_is_older(const char *version);

/*
 * Returns the next definition of `name` after ours in the search order, or NULL when there is none. Context: any
 * thread, with glibc; elsewhere start-up, because it takes the loader's lock and may allocate.
 */
void *fsafe_symbol_next(const char *name);

/*
 * Loads the part of libc that defines `name`, if it is not loaded, and returns the definition, or NULL. Before glibc
 * 2.34 a program without librt that asks the loader for timer_create finds our wrapper. Context: any thread; takes the
 * loader's lock and may allocate.
 */
void *fsafe_symbol_load(const char *name);

/*
 * libc's definition of the function `name`, whichever library stands in front of libc; or NULL, also where the part of
 * libc that has it is not loaded. Context: as next.
 */
void *fsafe_symbol_of_libc(const char *name);

/* The function of this name that we export, or NULL. With glibc. Context: any thread. */
void *fsafe_symbol_ours(const char *name);

/*
 * Where the program's variable or function `name` is, or NULL. Sets *bytes (if not NULL) to its length; 0, with other
 * libraries than glibc: not known. Context: as next.
 */
void *fsafe_symbol_variable(const char *name, size_t *bytes);

/*
 * Where the library lies that defines the program's `name`, which we do not define: from *from up to, not including,
 * *to. Both 0 when there is none, or when the program itself defines it. Context: start-up.
 */
void fsafe_symbol_library(const char *name, uintptr_t *from, uintptr_t *to);
