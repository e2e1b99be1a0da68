/*
 * libc/gnuhash: a module's GNU hash table (DT_GNU_HASH): a filter that says of most names that the table lacks them,
 * buckets, and chains of hashes, sorted by bucket. The module has to stay loaded meanwhile.
 */
#pragma once

#include "base/compiler.h"

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

static inline uint32_t fsafe_gnuhash_of(const char *name)
{
    uint32_t hash = 5381;
    for (; *name != '\0'; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

/* The index of the symbol that has this hash and for which `is_it` returns true; 0: there is none. */
static FSAFE_INLINE uint32_t fsafe_gnuhash_find(const uint32_t *table, uint32_t hash,
                                                bool (*is_it)(const void *context, size_t index, const char *name),
                                                const void *context, const char *name)
{
    enum { BITS = 8 * sizeof(ElfW(Addr)) };
    uint32_t buckets = table[0], first = table[1], words = table[2], shift = table[3];
    const ElfW(Addr) *filter = (const ElfW(Addr) *)(table + 4);
    const uint32_t *bucket = (const uint32_t *)(filter + words), *chain = bucket + buckets;
    ElfW(Addr) word = filter[hash / BITS % words];
    if ((word >> hash % BITS & word >> (hash >> shift) % BITS & 1) == 0 || buckets == 0)
        return 0;
    uint32_t index = bucket[hash % buckets];
    if (index < first)
        return 0;
    for (;; index++) {
        uint32_t other = chain[index - first];
        if ((other | 1) == (hash | 1) && is_it(context, index, name))
            return index;
        if ((other & 1) != 0)
            return 0;
    }
}
