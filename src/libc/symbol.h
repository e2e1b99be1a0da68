/*
 * libc/symbol: finds the definition that the program would have called without us.
 *
 * glibc: read from the symbol tables of the objects that the program started with, which never go away: without the
 * loader, its locks, an allocation or a system call, so that a function may be bound when it is first called, in a
 * child as well. dlsym is asked elsewhere, and about what only a function of the table knows (an indirect function). Of
 * several versions the default one, to which a program that is linked now would be bound; dlsym(RTLD_NEXT) hands out
 * the oldest before glibc 2.36.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Returns whether the process has libc's threads. Before glibc 2.34 they were a library of their own, and libc has
 * stand-ins that do nothing as long as that is not loaded. It cannot be loaded here: the loader would initialise libc
 * before its turn, without arguments and environment (Debian 11's sh ended so). Context: start-up, once.
 */
bool fsafe_symbol_start(void);

/* Whether this is glibc and older than `version`, which is of four characters. */
bool fsafe_symbol_is_older(const char *version);

/*
 * Returns the next definition of `name` after ours in the search order, or NULL when there is none. Context: any
 * thread, with glibc; elsewhere start-up, because it takes the loader's lock and may allocate.
 */
void *fsafe_symbol_next(const char *name);

/*
 * Returns the definition of `name` in a part of libc that nobody has loaded, and loads that, or NULL. A program that
 * asks the loader whether there is a timer_create finds ours where glibc before 2.34 has it in librt. Context: any
 * thread; takes the loader's lock and may allocate.
 */
void *fsafe_symbol_load(const char *name);

/* libc's own definition of `name`, a function, whoever stands in front of libc, or NULL. Context: as above. */
void *fsafe_symbol_of_libc(const char *name);

/*
 * Where the program's `name`, a variable or a function, is, or NULL, and how long (NULL: not asked; 0: not known, of
 * another libc than glibc). Context: as above.
 */
void *fsafe_symbol_variable(const char *name, size_t *bytes);

/*
 * Where the library lies whose `name`, not one of ours, is the program's: from *from up to, not including, *to. Both 0
 * when there is none, or when it is the program itself. Context: start-up.
 */
void fsafe_symbol_library(const char *name, uintptr_t *from, uintptr_t *to);
