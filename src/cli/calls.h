/*
 * cli/calls: the line of a call that has returned. Without optimization std::lock_guard takes its lock by functions
 * that have returned when the process forks. The stack has only the place where their caller was at the fork. But the
 * call is still in the caller's code.
 *
 * Knows direct calls of x86-64 and i386 only, which look the same. A call may begin at any byte; bytes count as a call
 * if they lead to the beginning of a function, as other bytes hardly do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The line of the function at `address` that calls the function at `inner`, directly or by functions of the system's
 * libraries. False: there is no such line, or there are several.
 */
bool fsafe_calls_find(const char *path, uint64_t address, uint64_t inner, char **file, int *line);
