#include "config.h"

#include "base/sys.h"
#include "base/window.h"

#include <string.h>

bool fsafe_window_read(struct fsafe_window *window, uintptr_t from, void *into, size_t bytes)
{
    if (from - window->from > window->bytes || window->bytes - (from - window->from) < bytes) {
        window->from = from;
        /* What is asked for may be the end of what is mapped: take less and less. */
        for (window->bytes = sizeof window->copy; !fsafe_sys_peek(from, window->copy, window->bytes);) {
            if (window->bytes == bytes) {
                window->bytes = 0;
                return false;
            }
            window->bytes = window->bytes / 2 > bytes ? window->bytes / 2 : bytes;
        }
    }
    memcpy(into, window->copy + (from - window->from), bytes);
    return true;
}
