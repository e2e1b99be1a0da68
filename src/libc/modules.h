/*
 * libc/modules: names an address: module, address in the module's file, exported symbol. Reads the kernel's map of the
 * process and the module's own tables without the loader's lock: dladdr could wait for a vanished thread. Context: any
 * thread, slow paths only.
 */
#pragma once

#include "base/maps.h"
#include "base/window.h"

enum { FSAFE_BUILD_ID_BYTES = 32, FSAFE_SYMBOL_BYTES = 64 };

/* Where an address lies. */
struct fsafe_place {
    uintptr_t address;      /* of the instruction, or of the lock; 0: unknown, and then all else is empty */
    uintptr_t base;         /* where the first byte of the module's file lies in memory */
    char module[sizeof((struct fsafe_mapping *)0)->module]; /* "" for memory without a file */
    /* The address by the module's symbol tables, which tools ask for; in a file that is no ELF file the offset. */
    uintptr_t in_module;
    char symbol[FSAFE_SYMBOL_BYTES]; /* the exported symbol that contains it, cut to fit; "" none */
    uintptr_t offset;                /* how far inside the symbol it lies */
};

/* Fills in `place`. `called`: a call returns to the mapping's address, and `place` becomes the call's. */
void fsafe_modules_place(const struct fsafe_mapping *mapping, bool called, struct fsafe_place *place);

/*
 * Writes the name of the exported symbol that contains `mapping->address` to `name` (cut to fit) and how far
 * inside it the address lies to `offset`. False when the module exports none there.
 */
bool fsafe_modules_symbol(const struct fsafe_mapping *mapping, char *name, size_t bytes, uintptr_t *offset);

/* What the program headers of a mapped file say, in addresses by the file; 0: none. */
struct fsafe_headers {
    uintptr_t bias;    /* to be added to these addresses */
    uintptr_t end;     /* of the last segment */
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
 * Looks up `count` names in the GNU hash table of the module at `mapping->base`, without the loader; found[i] becomes 0
 * where the module exports no such name. False: it has no such table. Context: a call from that module is under way, so
 * that the module stays mapped.
 */
bool fsafe_modules_find(const struct fsafe_mapping *mapping, const char *const *names, size_t count, uintptr_t *found);

/*
 * Where the first byte of the file lies in memory that has the code at `address`, for when fsafe_maps_find knows
 * nothing: looks at each page before `address`. 0: not found. Slow.
 */
uintptr_t fsafe_modules_base(uintptr_t address);

/* Where the module's segment with `mapping->address` begins and ends. False: it has no code. Context: as for find. */
bool fsafe_modules_text(const struct fsafe_mapping *mapping, uintptr_t *from, uintptr_t *to);

/* Copies the build-id of the module at `base`. Returns how many bytes it has; 0: none. */
size_t fsafe_modules_build_id(uintptr_t base, unsigned char id[FSAFE_BUILD_ID_BYTES]);
