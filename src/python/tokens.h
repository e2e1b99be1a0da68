/*
 * python/tokens: tokens of a threading.Semaphore that vanished threads had, inside a with statement. The semaphore is
 * a number in Python's data, which names no owner; but as long as a thread is in the body of `with semaphore:` its
 * stack of values has the method that gives the token back. A child gives the token back for a vanished thread; so it
 * does for a class made from Semaphore, if the class inherits what a with statement calls. Tokens that threads had in
 * another way cannot be seen.
 */
#pragma once

#include <stdbool.h>

/* Finds what threading's Semaphore is made of, if that is loaded. Context: has the GIL, once in its life. */
void fsafe_python_tokens_start(void);

/* Finds it, if it was not found so far. Context: has the GIL. */
void fsafe_python_tokens_find(void);

/* Whether some thread may have such a token, by one look. Context: parent, before fork, has the GIL. */
bool fsafe_python_tokens_are_out(void);

/*
 * Gives vanished threads' tokens back; in other modes than repair only a line names them. Context: child, alone;
 * the forking thread has the GIL; places are noted.
 */
void fsafe_python_tokens_return(void);
