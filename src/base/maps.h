/*
 * base/maps: what the kernel says is mapped at an address of this process.
 * Owns nothing. Asks /proc/self/maps with raw calls; context: any thread, slow paths only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FSAFE_PATH_BYTES = 512 };

struct fsafe_mapping {
    uintptr_t address; /* in: what is asked for; 0 asks nothing */
    char *path;        /* in: where its file's path goes, up to FSAFE_PATH_BYTES, cut at its end; NULL: not asked for */
    bool found;        /* out: whether anything is mapped there; the rest holds only then */
    bool writable;     /* out */
    bool shared;       /* out: MAP_SHARED: another process may see and hold what lies there */
    uintptr_t base;    /* out: where the file of this mapping begins in memory: its module's base */
    char module[64];   /* out: last part of the file's path, cut to fit; "" for memory without a file */
};

/*
 * Fills in `count` mappings in one pass. Returns whether the kernel answered at all: false without /proc
 * or without a free descriptor, and then nothing is known.
 */
bool fsafe_maps_find(struct fsafe_mapping *mappings, size_t count);

/* Of one that was found or not: whether it is memory that this process alone writes to. */
static inline bool fsafe_maps_is_exclusive(const struct fsafe_mapping *mapping)
{
    return mapping->found && mapping->writable && !mapping->shared;
}

/* The same of the page at `address`; false as well when the kernel does not tell. */
static inline bool fsafe_maps_find_exclusive(uintptr_t address)
{
    struct fsafe_mapping mapping = {.address = address};
    return fsafe_maps_find(&mapping, 1) && fsafe_maps_is_exclusive(&mapping);
}

/* One mapping of the process. */
struct fsafe_maps_line {
    uintptr_t start, end;
    uintptr_t base;    /* where the file it belongs to begins in memory */
    bool writable, executable, shared;
    const char *path;   /* "" when there is none; cut where it is very long */
    const char *module; /* its last part, cut to fit struct fsafe_mapping; "" when it belongs to no file */
};

/* Called for each mapping, from low to high addresses, until it returns false. */
typedef bool fsafe_maps_see(const struct fsafe_maps_line *line, void *context);

/* Shows all mappings. Returns whether the kernel answered at all. */
bool fsafe_maps_each(fsafe_maps_see *see, void *context);

/*
 * Whether the page at `address` is mapped MAP_SHARED: 1, 0 for a private page, -1 when the kernel does not tell or
 * nothing is mapped there. The quick way to ask that alone (Linux 6.11), else as long as find.
 */
int fsafe_maps_is_shared(uintptr_t address);

/*
 * Whether the page at `address` may be mapped MAP_SHARED, asked without /proc, for when find knows nothing. True as
 * well when the kernel does not tell.
 * (Linux 4.14 and later write one line to the kernel's log, once, when the answer is no.)
 */
bool fsafe_maps_probe_shared(uintptr_t address);
