/* libc/symbol for glibc: see symbol.h. */
#include "config.h"

#include "libc/gnuhash.h"
#include "libc/late.h"
#include "libc/symbol.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { HIDDEN = 0x8000, LOCAL = 0 }; /* version indices: a flag: not the default version; not for other objects */

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden"))); /* this object's */

/*
 * Our object and the last of those that the program started with. Set when the first function is bound; threads that do
 * so at the same time set the same values.
 */
static const struct link_map *own, *last;
/* Before 2.34: libpthread and libc; NULL from then on. */
static const struct link_map *threads, *libc;

/* An object's tables. */
struct tables {
    const ElfW(Sym) *symbols;
    const char *names;
    const ElfW(Versym) *versions;
    const uint32_t *gnu_hash;
    const Elf_Symndx *hash;
};

/* The tables of the first objects in the loader's list, usually also libc's. Filled in at start-up. */
static struct tables known[12];
static unsigned known_count, own_place;

/* The loader has added the object's base to these addresses, but not in every object and not on every processor. */
static const void *address(const struct link_map *object, ElfW(Addr) value)
{
    return (const void *)(value < object->l_addr ? value + object->l_addr : value);
}

static struct tables tables_of(const struct link_map *object)
{
    struct tables tables = {0};
    for (const ElfW(Dyn) *entry = object->l_ld; entry->d_tag != DT_NULL; entry++) {
        const void *at = address(object, entry->d_un.d_ptr);
        switch (entry->d_tag) {
        case DT_SYMTAB: tables.symbols = at; break;
        case DT_STRTAB: tables.names = at; break;
        case DT_VERSYM: tables.versions = at; break;
        case DT_GNU_HASH: tables.gnu_hash = at; break;
        case DT_HASH: tables.hash = at; break;
        default: break;
        }
    }
    return tables;
}

static bool is_definition(const void *context, size_t index, const char *name)
{
    const struct tables *tables = context;
    const ElfW(Sym) *symbol = &tables->symbols[index];
    if (symbol->st_shndx == SHN_UNDEF || symbol->st_value == 0 ||
        (tables->versions != NULL &&
         ((tables->versions[index] & HIDDEN) != 0 || tables->versions[index] == LOCAL)))
        return false;
    return strcmp(tables->names + symbol->st_name, name) == 0;
}

/* For an old object without a GNU hash table: looks at all symbols. */
static const ElfW(Sym) *search_all(const struct tables *tables, const char *name)
{
    for (Elf_Symndx index = 1; tables->hash != NULL && index < tables->hash[1]; index++)
        if (is_definition(tables, index, name))
            return &tables->symbols[index];
    return NULL;
}

static const ElfW(Sym) *search_in(const struct tables *tables, const char *name, uint32_t hash)
{
    if (tables->symbols == NULL || tables->names == NULL)
        return NULL;
    if (tables->gnu_hash == NULL)
        return search_all(tables, name);
    uint32_t index = fsafe_gnuhash_find(tables->gnu_hash, hash, is_definition, tables, name);
    return index != 0 ? &tables->symbols[index] : NULL;
}

static const ElfW(Sym) *search(const struct link_map *object, const char *name, uint32_t hash)
{
    struct tables tables = tables_of(object);
    return search_in(&tables, name, hash);
}

/* The loader's list has the objects that the program started with in the order in which they are searched. */
static void find_self(void)
{
    if (own != NULL)
        return;
    const struct link_map *end = NULL, *self = NULL;
    unsigned place = 0;
    for (const struct link_map *object = _r_debug.r_map; object != NULL; object = object->l_next, place++) {
        end = object;
        if (object->l_ld == _DYNAMIC) {
            self = object;
            own_place = place;
        }
    }
    last = end;
    own = self;
}

/* Searches `object` and those behind it; sets *where to the object that has the symbol. */
static const ElfW(Sym) *search_from(const struct link_map *object, const char *name, const struct link_map **where)
{
    uint32_t hash = fsafe_gnuhash_of(name);
    unsigned place = object == own ? own_place : object == _r_debug.r_map ? 0 : known_count;
    for (; object != NULL; object = object->l_next, place++) {
        const ElfW(Sym) *found = NULL;
        if (object != own)
            found = place < known_count ? search_in(&known[place], name, hash) : search(object, name, hash);
        if (found != NULL) {
            *where = object;
            return found;
        }
        if (object == last)
            break;
    }
    return NULL;
}

/* The symbol's address; of an indirect function the variant that the loader has chosen. */
static void *value(const struct link_map *where, const ElfW(Sym) *symbol, const char *name)
{
    if ((symbol->st_info & 0xf) == STT_GNU_IFUNC)
        return fsafe_late_dlsym(RTLD_NEXT, name);
    return (void *)(where->l_addr + symbol->st_value);
}

enum { IF_LOADED = RTLD_NOW | RTLD_NOLOAD };

/* A library that is part of libc, before 2.34. */
static const struct link_map *find_part(const char *file, int how)
{
    enum { AS_LIBC_ITSELF = (int)0x80000000 };
    typedef const struct link_map *opens(const char *file, int how);
    opens *open = (opens *)fsafe_symbol_next("__libc_dlopen_mode");
    return open != NULL ? open(file, how | AS_LIBC_ITSELF) : NULL;
}

static const ElfW(Sym) *search_parts(const char *name, int how, const struct link_map **where)
{
    static const char *const parts[] = {"libpthread.so.0", "libresolv.so.2", "libutil.so.1", "libdl.so.2",
                                        "librt.so.1"};
    const ElfW(Sym) *found = NULL;
    for (unsigned i = 0; found == NULL && libc != NULL && i < sizeof parts / sizeof parts[0]; i++) {
        *where = find_part(parts[i], how);
        found = *where != NULL ? search(*where, name, fsafe_gnuhash_of(name)) : NULL;
    }
    return found;
}

void *fsafe_symbol_next(const char *name)
{
    find_self();
    const struct link_map *where = NULL;
    const ElfW(Sym) *found = search_from(own, name, &where);
    /* Perhaps our object was loaded later than all others; but not a second copy of it, where libc lacks ours. */
    if (found == NULL && (libc == NULL || fsafe_symbol_ours(name) == NULL))
        found = search_from(_r_debug.r_map, name, &where);
    if (threads != NULL && (found == NULL || where == libc)) {
        const ElfW(Sym) *other = search(threads, name, fsafe_gnuhash_of(name));
        where = other != NULL ? threads : where;
        found = other != NULL ? other : found;
    }
    if (found == NULL) /* loads nothing: such a function's callers have loaded its library */
        found = search_parts(name, IF_LOADED, &where);
    return found != NULL ? value(where, found, name) : NULL;
}

void *fsafe_symbol_load(const char *name)
{
    const struct link_map *where = NULL;
    const ElfW(Sym) *found = search_parts(name, RTLD_NOW, &where);
    return found != NULL ? value(where, found, name) : NULL;
}

void *fsafe_symbol_of_libc(const char *name)
{
    find_self();
    const struct link_map *where = NULL;
    const ElfW(Sym) *found = NULL;
    if (search_from(_r_debug.r_map, "gnu_get_libc_version", &where) != NULL)
        found = search(where, name, fsafe_gnuhash_of(name));
    if (found == NULL)
        found = search_parts(name, IF_LOADED, &where);
    return found != NULL && (found->st_info & 0xf) == STT_FUNC ? (void *)(where->l_addr + found->st_value) : NULL;
}

void *fsafe_symbol_ours(const char *name)
{
    find_self();
    const ElfW(Sym) *found = own != NULL ? search(own, name, fsafe_gnuhash_of(name)) : NULL;
    return found != NULL && (found->st_info & 0xf) == STT_FUNC ? (void *)(own->l_addr + found->st_value) : NULL;
}

void *fsafe_symbol_variable(const char *name, size_t *bytes)
{
    find_self();
    const struct link_map *where = NULL;
    const ElfW(Sym) *found = search_from(_r_debug.r_map, name, &where);
    if (bytes != NULL)
        *bytes = found != NULL ? found->st_size : 0;
    return found != NULL ? value(where, found, name) : NULL;
}

bool fsafe_symbol_start(void)
{
    find_self();
    const struct link_map *object = _r_debug.r_map;
    for (unsigned i = 0; object != NULL && i < sizeof known / sizeof known[0]; i++) {
        known[i] = tables_of(object);
        known_count = i + 1;
        object = object != last ? object->l_next : NULL;
    }
    const struct link_map *where = NULL;
    if (search_from(own, "__libc_dlopen_mode", &where) == NULL)
        return true; /* 2.34 or later */
    libc = where;
    threads = find_part("libpthread.so.0", IF_LOADED);
    return threads != NULL;
}

bool fsafe_symbol_is_older(const char *version)
{
    const char *ours = gnu_get_libc_version();
    return strlen(ours) == 4 && strncmp(ours, version, 4) < 0;
}
