/*
 * libc/modules: names an address: module+offset and the exported symbol it lies in.
 * Owns nothing. Reads the kernel's map of the process and the module's own tables, without the loader's
 * lock: dladdr could wait for a thread that vanished. Slow paths only; context: any thread.
 */
#ifndef FSAFE_LIBC_MODULES_H
#define FSAFE_LIBC_MODULES_H

#include "base/maps.h"
#include "base/text.h"

/*
 * Writes the name of the exported symbol that contains `mapping->address` to `name` (cut to fit) and how far
 * inside it the address lies to `offset`. False when the module exports none there.
 */
bool fsafe_modules_symbol(const struct fsafe_mapping *mapping, char *name, size_t bytes, uintptr_t *offset);

/*
 * Looks up `count` names among those that the module at `mapping->base` exports; found[i] is 0 where it has none. By
 * its GNU hash table, without the loader. Returns false without such a table. Context: a call from that module is under
 * way, so that it stays where it is.
 */
bool fsafe_modules_find(const struct fsafe_mapping *mapping, const char *const *names, size_t count, uintptr_t *found);

/* Where the module's code around `mapping->address` begins and ends. False: that is no code. Context: as above. */
bool fsafe_modules_text(const struct fsafe_mapping *mapping, uintptr_t *from, uintptr_t *to);

#endif
