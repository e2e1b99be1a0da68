/*
 * libc/symbol: finds the definition that the program would have called without us.
 */
#ifndef FSAFE_LIBC_SYMBOL_H
#define FSAFE_LIBC_SYMBOL_H

#include <stdint.h>

/*
 * Returns the next definition of `name` after ours in the search order, or NULL when there is none.
 * Takes the loader's lock and may allocate: start-up only, or before it when a lock is wanted that early.
 */
void *fsafe_symbol_next(const char *name);

/*
 * Where the library lies whose `name`, not one of ours, is the program's: from *from up to, not including, *to. Both 0
 * when there is none, or when it is the program itself. Context: start-up.
 */
void fsafe_symbol_library(const char *name, uintptr_t *from, uintptr_t *to);

#endif
