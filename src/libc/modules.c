/*
 * libc/modules: see modules.h. Follows the ELF specification: program headers -> dynamic section -> symbol table, whose
 * length only a hash table says. The module may be unmapped before any read, so all are fsafe_sys_peek's.
 */
#include "config.h"

#include "base/pages.h"
#include "base/sys.h"
#include "base/window.h"
#include "libc/gnuhash.h"
#include "libc/modules.h"

#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

struct tables {
    uintptr_t symbols, strings;
    size_t count;       /* of symbols */
    uintptr_t gnu_hash; /* 0: none */
};

/* glibc relocates the dynamic section's addresses in memory, musl and the kernel's vdso do not. */
static uintptr_t relocated(uintptr_t address, uintptr_t base)
{
    return address < base ? base + address : address;
}

/* The last symbol is the one at the end of the GNU hash table's last chain. */
static size_t count_by_gnu_hash(struct fsafe_window *window, uintptr_t table)
{
    struct {
        uint32_t buckets, first, bloom_words, shift;
    } header;
    if (!fsafe_window_read(window, table, &header, sizeof header))
        return 0;
    uintptr_t buckets = table + sizeof header + header.bloom_words * sizeof(ElfW(Addr));
    uintptr_t chains = buckets + header.buckets * sizeof(uint32_t);
    uint32_t last = 0;
    for (uint32_t i = 0; i < header.buckets; i++) {
        uint32_t first;
        if (!fsafe_window_read(window, buckets + i * sizeof first, &first, sizeof first))
            return 0;
        if (first > last)
            last = first;
    }
    if (last < header.first)
        return header.first;
    for (;; last++) {
        uint32_t hash;
        if (!fsafe_window_read(window, chains + (last - header.first) * sizeof hash, &hash, sizeof hash))
            return 0;
        if (hash & 1)
            return last + 1;
    }
}

bool fsafe_modules_headers(struct fsafe_window *window, uintptr_t base, struct fsafe_headers *headers)
{
    ElfW(Ehdr) elf;
    if (!fsafe_window_read(window, base, &elf, sizeof elf) || memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
        elf.e_phentsize != sizeof(ElfW(Phdr)))
        return false;
    memset(headers, 0, sizeof *headers);
    bool biased = false;
    for (unsigned i = 0; i < elf.e_phnum; i++) {
        ElfW(Phdr) segment;
        if (!fsafe_window_read(window, base + elf.e_phoff + i * sizeof segment, &segment, sizeof segment))
            return false;
        if (segment.p_type == PT_LOAD && !biased) {
            headers->bias = base - (segment.p_vaddr - segment.p_offset);
            biased = true;
        }
        if (segment.p_type == PT_LOAD) /* they are in order */
            headers->end = segment.p_vaddr + segment.p_memsz;
        if (segment.p_type == PT_DYNAMIC)
            headers->dynamic = segment.p_vaddr;
        if (segment.p_type == PT_GNU_EH_FRAME)
            headers->unwind = segment.p_vaddr;
        /* Any of several notes may be the build-id: linkers differ in where they put it. */
        if (segment.p_type == PT_NOTE && segment.p_align <= 4 &&
            headers->notes_count < sizeof headers->notes / sizeof headers->notes[0]) {
            headers->notes[headers->notes_count].from = segment.p_vaddr;
            headers->notes[headers->notes_count++].to = segment.p_vaddr + segment.p_memsz;
        }
    }
    return biased;
}

static bool find_tables(struct fsafe_window *window, uintptr_t base, uintptr_t *bias, struct tables *tables)
{
    struct fsafe_headers headers;
    if (!fsafe_modules_headers(window, base, &headers) || headers.dynamic == 0)
        return false;
    *bias = headers.bias;
    memset(tables, 0, sizeof *tables);
    uintptr_t hash = 0;
    for (uintptr_t at = headers.dynamic + headers.bias;; at += sizeof(ElfW(Dyn))) {
        ElfW(Dyn) entry;
        if (!fsafe_window_read(window, at, &entry, sizeof entry))
            return false;
        if (entry.d_tag == DT_NULL)
            break;
        uintptr_t address = relocated(entry.d_un.d_ptr, base);
        if (entry.d_tag == DT_SYMTAB)
            tables->symbols = address;
        else if (entry.d_tag == DT_STRTAB)
            tables->strings = address;
        else if (entry.d_tag == DT_GNU_HASH)
            tables->gnu_hash = address;
        else if (entry.d_tag == DT_HASH)
            hash = address;
    }
    uint32_t sizes[2]; /* of a SysV hash table: buckets, symbols */
    if (hash != 0 && fsafe_window_read(window, hash, sizes, sizeof sizes))
        tables->count = sizes[1];
    else if (tables->gnu_hash != 0)
        tables->count = count_by_gnu_hash(window, tables->gnu_hash);
    return tables->symbols != 0 && tables->strings != 0 && tables->count != 0;
}

static bool contains(const ElfW(Sym) *symbol, uintptr_t address)
{
    unsigned type = symbol->st_info & 0xf;
    return symbol->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_OBJECT || type == STT_GNU_IFUNC) &&
           address - symbol->st_value < symbol->st_size;
}

/* A table has thousands of symbols: copies large pieces, and where the kernel refuses that small ones. */
static bool find_symbol(struct fsafe_window *window, const struct tables *tables, uintptr_t wanted, ElfW(Sym) *found)
{
    enum { PIECE = 2048 };
    ElfW(Sym) *piece = fsafe_pages_map(PIECE * sizeof *piece), symbol = {0};
    bool hit = false, good = true;
    for (size_t i = 0, from = 0, copied = 0; !hit && good && i < tables->count; i++) {
        if (i - from >= copied) {
            from = i;
            copied = tables->count - i < PIECE ? tables->count - i : PIECE;
            if (piece == NULL || !fsafe_sys_peek(tables->symbols + i * sizeof *piece, piece, copied * sizeof *piece))
                copied = 0;
        }
        if (copied != 0)
            symbol = piece[i - from];
        else
            good = fsafe_window_read(window, tables->symbols + i * sizeof symbol, &symbol, sizeof symbol);
        hit = good && contains(&symbol, wanted);
    }
    if (piece != NULL)
        fsafe_pages_unmap(piece, PIECE * sizeof *piece);
    *found = symbol;
    return hit;
}

bool fsafe_modules_symbol(const struct fsafe_mapping *mapping, char *name, size_t bytes, uintptr_t *offset)
{
    uintptr_t bias = 0;
    struct tables tables;
    struct fsafe_window window = {.bytes = 0};
    if (mapping->module[0] == '\0' || !find_tables(&window, mapping->base, &bias, &tables))
        return false;
    uintptr_t wanted = mapping->address - bias;
    ElfW(Sym) symbol;
    if (!find_symbol(&window, &tables, wanted, &symbol))
        return false;
    *offset = wanted - symbol.st_value;
    /* Behind the name nothing may be mapped: reads less and less. */
    for (size_t most = bytes - 1; most > 0; most /= 2) {
        if (fsafe_sys_peek(tables.strings + symbol.st_name, name, most)) {
            name[most] = '\0';
            return true;
        }
    }
    return false;
}

/* A call from the module is under way, so its tables are mapped and are read in place. */
static bool is_definition(const void *context, size_t index, const char *name)
{
    const struct tables *tables = context;
    const ElfW(Sym) *symbol = (const ElfW(Sym) *)tables->symbols + index;
    return symbol->st_shndx != SHN_UNDEF && strcmp((const char *)tables->strings + symbol->st_name, name) == 0;
}

bool fsafe_modules_find(const struct fsafe_mapping *mapping, const char *const *names, size_t count, uintptr_t *found)
{
    uintptr_t bias = 0;
    struct tables tables;
    struct fsafe_window window = {.bytes = 0};
    if (!find_tables(&window, mapping->base, &bias, &tables) || tables.gnu_hash == 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        uint32_t index = fsafe_gnuhash_find((const uint32_t *)tables.gnu_hash, fsafe_gnuhash_of(names[i]),
                                            is_definition, &tables, names[i]);
        found[i] = index == 0 ? 0 : bias + ((const ElfW(Sym) *)tables.symbols)[index].st_value;
    }
    return true;
}

uintptr_t fsafe_modules_base(uintptr_t address)
{
    enum { PAGE = 4096, PAGES = 16384 };
    char start[SELFMAG];
    uintptr_t from, to;
    /* Measured: Chromium's code has 200 MB, and its filter makes each look at a page five system calls. */
    struct fsafe_mapping program = {.address = address, .base = getauxval(AT_PHDR) & ~(uintptr_t)(PAGE - 1)};
    if (fsafe_modules_text(&program, &from, &to))
        return program.base;
    uintptr_t page = address & ~(uintptr_t)(PAGE - 1);
    for (unsigned i = 0; i < PAGES && page > PAGE; i++, page -= PAGE)
        if (fsafe_sys_peek(page, start, sizeof start) && memcmp(start, ELFMAG, sizeof start) == 0)
            return page;
    return 0;
}

bool fsafe_modules_text(const struct fsafe_mapping *mapping, uintptr_t *from, uintptr_t *to)
{
    struct fsafe_window window = {.bytes = 0};
    struct fsafe_headers headers;
    if (!fsafe_modules_headers(&window, mapping->base, &headers))
        return false;
    const ElfW(Ehdr) *elf = (const ElfW(Ehdr) *)mapping->base;
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)(mapping->base + elf->e_phoff);
    for (unsigned i = 0; i < elf->e_phnum; i++) {
        if (segment[i].p_type != PT_LOAD)
            continue;
        *from = headers.bias + segment[i].p_vaddr;
        *to = *from + segment[i].p_memsz;
        if (mapping->address >= *from && mapping->address < *to)
            return (segment[i].p_flags & PF_X) != 0;
    }
    return false;
}

/*
 * Where the call instruction begins that returns to `address`. If its form is not known: one byte before `address`,
 * which lies in the instruction, and tools need no more.
 */
static uintptr_t call_before(uintptr_t address)
{
#if defined(__x86_64__) || defined(__i386__)
    unsigned char code[6];
    if (!fsafe_sys_peek(address - sizeof code, code, sizeof code))
        return address - 1;
    if (code[1] == 0xe8)
        return address - 5;
    if (code[0] == 0xff && code[1] == 0x15)
        return address - 6;
    if (code[4] == 0xff && (code[5] & 0xf8) == 0xd0)
        return address - 2;
    return address - 1;
#elif defined(__aarch64__)
    return address - 4;
#else
    return address - 1;
#endif
}

/*
 * Places that were looked up: a process names the same few again and again. A thread may write one while `version` is
 * even, and may use what it read if `version` was even and has not changed. In the child of a fork in the middle of a
 * write `version` stays odd, and this one unused.
 */
static struct kept {
    _Atomic uint32_t version;
    bool called;
    uintptr_t address;
    struct fsafe_place place;
} kept[32];

static struct kept *kept_for(const struct fsafe_mapping *mapping)
{
    return &kept[(mapping->address ^ mapping->address >> 8) % (sizeof kept / sizeof *kept)];
}

/* Whether the place is known, and of the module that is mapped there now. */
static bool recall(const struct fsafe_mapping *mapping, bool called, struct fsafe_place *place)
{
    struct kept *at = kept_for(mapping);
    uint32_t version = atomic_load_explicit(&at->version, memory_order_acquire);
    bool same = version % 2 == 0 && version != 0 && at->address == mapping->address && at->called == called;
    if (same)
        *place = at->place;
    atomic_thread_fence(memory_order_acquire);
    return same && atomic_load_explicit(&at->version, memory_order_relaxed) == version &&
           place->base == mapping->base && strncmp(place->module, mapping->module, sizeof place->module) == 0;
}

static void keep(const struct fsafe_mapping *mapping, bool called, const struct fsafe_place *place)
{
    struct kept *at = kept_for(mapping);
    uint32_t version = atomic_load_explicit(&at->version, memory_order_relaxed);
    if (version % 2 != 0 || !atomic_compare_exchange_strong(&at->version, &version, version + 1))
        return;
    at->address = mapping->address;
    at->called = called;
    at->place = *place;
    atomic_store_explicit(&at->version, version + 2, memory_order_release);
}

static void look_up(const struct fsafe_mapping *mapping, bool called, struct fsafe_place *place)
{
    struct fsafe_window window = {.bytes = 0};
    struct fsafe_headers headers;
    memset(place, 0, sizeof *place);
    if (mapping->address == 0)
        return;
    struct fsafe_mapping at = *mapping;
    if (called && at.found)
        at.address = call_before(at.address);
    place->address = at.address;
    if (!at.found || at.module[0] == '\0')
        return;
    bool is_elf = fsafe_modules_headers(&window, at.base, &headers);
    uintptr_t in_module = at.address - (is_elf ? headers.bias : at.base);
    /* In the kernel's map memory that the program has mapped right behind a segment looks like the segment's .bss. */
    if (is_elf && in_module >= headers.end)
        return;
    place->base = at.base;
    memcpy(place->module, at.module, sizeof place->module);
    place->in_module = in_module;
    if (!fsafe_modules_symbol(&at, place->symbol, sizeof place->symbol, &place->offset))
        place->symbol[0] = '\0';
}

void fsafe_modules_place(const struct fsafe_mapping *mapping, bool called, struct fsafe_place *place)
{
    bool has_name = mapping->address != 0 && mapping->found && mapping->module[0] != '\0';
    if (has_name && recall(mapping, called, place))
        return;
    look_up(mapping, called, place);
    if (has_name)
        keep(mapping, called, place);
}

static size_t find_build_id(struct fsafe_window *window, uintptr_t at, uintptr_t end,
                            unsigned char id[FSAFE_BUILD_ID_BYTES])
{
    while (at < end) {
        ElfW(Nhdr) note;
        char owner[4];
        if (!fsafe_window_read(window, at, &note, sizeof note))
            return 0;
        at += sizeof note;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof owner &&
            fsafe_window_read(window, at, owner, sizeof owner) && memcmp(owner, "GNU", sizeof owner) == 0) {
            size_t bytes = note.n_descsz < FSAFE_BUILD_ID_BYTES ? note.n_descsz : FSAFE_BUILD_ID_BYTES;
            return fsafe_window_read(window, at + sizeof owner, id, bytes) ? bytes : 0;
        }
        at += (note.n_namesz + 3u) / 4 * 4 + (note.n_descsz + 3u) / 4 * 4;
    }
    return 0;
}

size_t fsafe_modules_build_id(uintptr_t base, unsigned char id[FSAFE_BUILD_ID_BYTES])
{
    struct fsafe_window window = {.bytes = 0};
    struct fsafe_headers headers;
    size_t bytes = 0;
    if (!fsafe_modules_headers(&window, base, &headers))
        return 0;
    for (unsigned i = 0; bytes == 0 && i < headers.notes_count; i++)
        bytes = find_build_id(&window, headers.notes[i].from + headers.bias, headers.notes[i].to + headers.bias, id);
    return bytes;
}
