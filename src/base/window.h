/*
 * base/window: reads memory that may be unmapped. Each copy is a system call, so a window copies more than its caller
 * asks for and answers later reads from that copy. A window begins all zero. Context: any thread, slow paths only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fsafe_window {
    uintptr_t from;
    size_t bytes;
    char copy[1024];
};

/* Copies `bytes`, a window's size at most, from `from`. Returns whether all arrived: never faults. */
bool fsafe_window_read(struct fsafe_window *window, uintptr_t from, void *into, size_t bytes);
