/*
 * base/maps: what the kernel says is mapped at an address of this process.
 * Owns nothing. Asks /proc/self/maps with raw calls; context: any thread, slow paths only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { FSAFE_PATH_BYTES = 512 };

struct fsafe_mapping {
    uintptr_t address; /* in: which address is asked about; 0: none */
    char *path;        /* in: FSAFE_PATH_BYTES for the path of the mapped file, cut at its end; NULL: not asked for */
    bool found;        /* out: whether anything is mapped there; the rest holds only then */
    bool writable;     /* out */
    bool shared;       /* out: MAP_SHARED: another process may see what lies there and hold a lock in it */
    uintptr_t base;    /* out: where the first byte of the mapped file lies in memory: the module's base */
    char module[64];   /* out: last part of the file's path, cut to fit; "" for memory without a file */
};

/*
 * Fills in `count` mappings in one pass. Returns whether the kernel answered: it does not without /proc or without a
 * free descriptor, and then nothing is known.
 */
bool fsafe_maps_find(struct fsafe_mapping *mappings, size_t count);

/* Whether something is mapped there, and it is memory that this process alone writes to. */
static inline bool fsafe_maps_is_exclusive(const struct fsafe_mapping *mapping)
{
    return mapping->found && mapping->writable && !mapping->shared;
}

/* The same of the page at `address`; also false when the kernel does not say. */
static inline bool fsafe_maps_find_exclusive(uintptr_t address)
{
    struct fsafe_mapping mapping = {.address = address};
    return fsafe_maps_find(&mapping, 1) && fsafe_maps_is_exclusive(&mapping);
}

/* One mapping of the process. */
struct fsafe_maps_line {
    uintptr_t start, end;
    uintptr_t base;    /* as in struct fsafe_mapping */
    bool writable, executable, shared;
    const char *path;   /* "" when there is none; cut where it is very long */
    const char *module; /* as in struct fsafe_mapping */
};

/* Called for each mapping, from low to high addresses, until it returns false. */
typedef bool fsafe_maps_see(const struct fsafe_maps_line *line, void *context);

/* Calls `see` for all mappings. Returns whether the kernel answered. */
bool fsafe_maps_each(fsafe_maps_see *see, void *context);

/*
 * Whether the page at `address` is mapped MAP_SHARED: 1, 0 for a private page, -1 when the kernel does not say or
 * nothing is mapped there. Quick on Linux 6.11 and later; elsewhere it takes as long as fsafe_maps_find.
 */
int fsafe_maps_is_shared(uintptr_t address);

/* The same of the page at `address` of process `pid`, a child of this one. Takes as long as fsafe_maps_find. */
int fsafe_maps_is_shared_in(pid_t pid, uintptr_t address);

/*
 * Whether the page at `address` may be mapped MAP_SHARED, for when fsafe_maps_find knows nothing: asks without /proc.
 * Also true when the kernel does not say. (When the answer is no, Linux 4.14 and later write a line to the kernel's
 * log, once.)
 */
bool fsafe_maps_probe_shared(uintptr_t address);
