/*
 * libc/symbol: finds the definition that the program would have called without us.
 */
#ifndef FSAFE_LIBC_SYMBOL_H
#define FSAFE_LIBC_SYMBOL_H

/*
 * Returns the next definition of `name` after ours in the search order, or NULL when there is none.
 * Takes the loader's lock and may allocate: start-up only, or before it when a lock is wanted that early.
 */
void *fsafe_symbol_next(const char *name);

#endif
