/*
 * cli/calls: the line that made a call which has returned. Without optimization std::lock_guard takes its lock by way
 * of functions that have returned when the process forks. Of the function that called them the stack has only the place
 * where it was at the fork. But the call is still in that function's code.
 *
 * Only direct calls of x86-64 and i386 are known, which look the same. A call may begin at any byte; bytes count as a
 * call if they lead to the beginning of a function, which other bytes do not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The line of the function at `address` that calls the one at `inner`, itself or by way of the system's own functions.
 * Returns false where there is no such line, or several.
 */
bool fsafe_calls_find(const char *path, uint64_t address, uint64_t inner, char **file, int *line);
