/*
 * libc/modules: names an address: module, address in the module's file, exported symbol.
 * Owns nothing. Reads the kernel's map of the process and the module's own tables, without the loader's
 * lock: dladdr could wait for a thread that vanished. Slow paths only; context: any thread.
 */
#pragma once

#include "base/maps.h"
#include "base/window.h"

enum { FSAFE_BUILD_ID_BYTES = 32, FSAFE_SYMBOL_BYTES = 64 };

/* Where an address lies. */
struct fsafe_place {
    uintptr_t address;      /* of the instruction, or of the lock; 0: unknown, and then all else is empty */
    uintptr_t base;         /* where the module's file begins in memory */
    char module[sizeof((struct fsafe_mapping *)0)->module]; /* "" for memory without a file */
    /* Its address in the module's symbol tables, which tools ask for; for a file that is no ELF its offset in it. */
    uintptr_t in_module;
    char symbol[FSAFE_SYMBOL_BYTES]; /* the exported symbol that contains it, cut to fit; "" none */
    uintptr_t offset;                /* how far inside the symbol it lies */
};

/* Fills in `place` from a mapping that was found. `called`: the address is where a call returns to; the call counts. */
void fsafe_modules_place(const struct fsafe_mapping *mapping, bool called, struct fsafe_place *place);

/*
 * Writes the name of the exported symbol that contains `mapping->address` to `name` (cut to fit) and how far
 * inside it the address lies to `offset`. False when the module exports none there.
 */
bool fsafe_modules_symbol(const struct fsafe_mapping *mapping, char *name, size_t bytes, uintptr_t *offset);

/* What the program headers of the file that is mapped at some base say, in the file's own addresses; 0: none. */
struct fsafe_headers {
    uintptr_t bias;    /* what to add to such an address */
    uintptr_t end;     /* of its last segment in memory */
    uintptr_t dynamic;
    uintptr_t unwind;  /* .eh_frame_hdr */
    struct {
        uintptr_t from, to;
    } notes[4];
    unsigned notes_count;
};

/* False when no ELF file begins at `base`. */
bool fsafe_modules_headers(struct fsafe_window *window, uintptr_t base, struct fsafe_headers *headers);

/*
 * Looks up `count` names among those that the module at `mapping->base` exports; found[i] is 0 where it has none. By
 * its GNU hash table, without the loader. Returns false without such a table. Context: a call from that module is under
 * way, so that it stays where it is.
 */
bool fsafe_modules_find(const struct fsafe_mapping *mapping, const char *const *names, size_t count, uintptr_t *found);

/*
 * Where the file begins in memory that the code at `address` is from, found by looking at what lies before it: for when
 * fsafe_maps_find knows nothing. 0: nowhere. Slow.
 */
uintptr_t fsafe_modules_base(uintptr_t address);

/* Where the module's code around `mapping->address` begins and ends. False: that is no code. Context: as above. */
bool fsafe_modules_text(const struct fsafe_mapping *mapping, uintptr_t *from, uintptr_t *to);

/* Copies the build-id of the module at `base`. Returns how many bytes it has; 0: none. */
size_t fsafe_modules_build_id(uintptr_t base, unsigned char id[FSAFE_BUILD_ID_BYTES]);
