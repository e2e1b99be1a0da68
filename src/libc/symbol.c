/* libc/symbol: the part for every C library: see symbol.h. */
#include "config.h"

#include "libc/symbol.h"

#include <link.h>

struct search {
    uintptr_t address, from, to;
};

static int see(struct dl_phdr_info *object, size_t bytes, void *context)
{
    (void)bytes;
    struct search *search = context;
    uintptr_t from = UINTPTR_MAX, to = 0;
    for (unsigned i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + segment->p_vaddr;
        if (segment->p_type != PT_LOAD)
            continue;
        from = start < from ? start : from;
        to = start + segment->p_memsz > to ? start + segment->p_memsz : to;
    }
    if (search->address < from || search->address >= to)
        return 0;
    if (object->dlpi_name[0] != '\0') { /* the program has no name */
        search->from = from;
        search->to = to;
    }
    return 1;
}

void fsafe_symbol_library(const char *name, uintptr_t *from, uintptr_t *to)
{
    struct search search = {.address = (uintptr_t)fsafe_symbol_variable(name, NULL)};
    dl_iterate_phdr(see, &search);
    *from = search.from;
    *to = search.to;
}
