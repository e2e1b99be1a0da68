#include "config.h"

#include "base/compiler.h"
#include "cli/exit.h"
#include "cli/source.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBIBERTY
#include <libiberty/demangle.h>
#endif

const char *fsafe_source_demangle(const char *symbol)
{
#ifdef HAVE_LIBIBERTY
    static char *name;
    free(name);
    name = cplus_demangle(symbol, DMGL_PARAMS | DMGL_ANSI);
    return name != NULL ? name : symbol;
#else
    return symbol;
#endif
}

#ifdef HAVE_LIBDW

#include <dwarf.h>
#include <elfutils/libdwfl.h>

static char *debuginfo_path;
static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = dwfl_offline_section_address,
    .debuginfo_path = &debuginfo_path,
};

/* The modules that are open: never many. */
static struct module {
    struct module *next;
    char *path;
    Dwfl_Module *module;
} *modules;

Dwfl_Module *fsafe_source_open(const char *path)
{
    for (struct module *module = modules; module != NULL; module = module->next)
        if (strcmp(module->path, path) == 0)
            return module->module;
    struct module *module = calloc(1, sizeof *module);
    if (module == NULL || (module->path = strdup(path)) == NULL)
        fsafe_exit_failing("out of memory");
    module->next = modules;
    modules = module;
    Dwfl *dwfl = dwfl_begin(&callbacks);
    if (dwfl != NULL) {
        dwfl_report_begin(dwfl);
        module->module = dwfl_report_offline(dwfl, path, path, -1);
        dwfl_report_end(dwfl, NULL, NULL);
    }
    return module->module;
}

/* The name of a function's entry, the linkage name first. */
static const char *name_of(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute) != NULL)
        return dwarf_formstring(&attribute);
    return dwarf_diename(die);
}

/* Calls `see` for the chain of inlined functions at `address`. False: there is none. */
static bool each_scope(Dwfl_Module *module, Dwarf_Addr address, const char *file, int line, fsafe_source_see *see,
                       void *context)
{
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(module, address, &bias), *scopes = NULL, *nested = NULL;
    int count = unit == NULL ? 0 : dwarf_getscopes(unit, address - bias, &scopes);
    if (count <= 0)
        return false;
    int depth = dwarf_getscopes_die(&scopes[0], &nested);
    bool seen = false;
    for (int i = 0; i < depth; i++) {
        int tag = dwarf_tag(&nested[i]);
        if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram)
            continue;
        const char *name = name_of(&nested[i]);
        seen = true;
        if (!see(name != NULL ? name : "?", file, line, context) || tag == DW_TAG_subprogram)
            break;
        Dwarf_Attribute attribute;
        Dwarf_Word number;
        Dwarf_Files *files;
        if (dwarf_formudata(dwarf_attr(&nested[i], DW_AT_call_file, &attribute), &number) != 0 ||
            dwarf_getsrcfiles(unit, &files, NULL) != 0)
            break;
        file = dwarf_filesrc(files, number, NULL, NULL);
        if (dwarf_formudata(dwarf_attr(&nested[i], DW_AT_call_line, &attribute), &number) != 0 || file == NULL)
            break;
        line = (int)number;
    }
    free(nested);
    free(scopes);
    return seen;
}

bool fsafe_source_each_in(struct Dwfl_Module *module, uint64_t address, fsafe_source_see *see, void *context)
{
    Dwfl_Line *line = dwfl_module_getsrc(module, address);
    int number = 0;
    const char *file = line == NULL ? NULL : dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);
    const char *symbol = dwfl_module_addrname(module, address);
    if (file != NULL && each_scope(module, address, file, number, see, context))
        return true;
    if (file != NULL || symbol != NULL)
        see(symbol != NULL ? symbol : "?", file, number, context);
    return file != NULL || symbol != NULL;
}

bool fsafe_source_each(const char *path, uint64_t address, fsafe_source_see *see, void *context)
{
    Dwfl_Module *module = fsafe_source_open(path);
    GElf_Addr bias;
    return module != NULL && dwfl_module_getelf(module, &bias) != NULL &&
           fsafe_source_each_in(module, address + bias, see, context);
}

const char *fsafe_source_variable(const char *path, uint64_t address, uint64_t *offset)
{
    Dwfl_Module *module = fsafe_source_open(path);
    GElf_Addr bias, within;
    GElf_Sym symbol;
    if (module == NULL || dwfl_module_getelf(module, &bias) == NULL)
        return NULL;
    const char *name = dwfl_module_addrinfo(module, address + bias, &within, &symbol, NULL, NULL, NULL);
    if (name == NULL || GELF_ST_TYPE(symbol.st_info) != STT_OBJECT || within >= symbol.st_size)
        return NULL;
    *offset = within;
    return name;
}

static bool read_build_id(const char *path, char text[FSAFE_SOURCE_BUILD_ID])
{
    Dwfl_Module *module = fsafe_source_open(path);
    const unsigned char *bits;
    GElf_Addr at;
    bool open = module != NULL && dwfl_module_getelf(module, &at) != NULL;
    int bytes = open ? dwfl_module_build_id(module, &bits, &at) : 0;
    text[0] = '\0';
    for (int i = 0; i < bytes && i < FSAFE_SOURCE_BUILD_ID / 2 - 1; i++)
        sprintf(text + 2 * i, "%02x", bits[i]);
    return bytes > 0;
}

bool fsafe_source_has_build_id(const char *path, const char *build_id)
{
    char found[FSAFE_SOURCE_BUILD_ID];
    return read_build_id(path, found) && build_id != NULL && strcmp(found, build_id) == 0;
}

#else

FSAFE_BEGIN_ANSWERS
const char *fsafe_source_variable(const char *path, uint64_t address, uint64_t *offset) { return NULL; }
bool fsafe_source_each(const char *path, uint64_t address, fsafe_source_see *see, void *context) { return false; }
bool fsafe_source_has_build_id(const char *path, const char *build_id) { return true; /* not known to be another */ }
FSAFE_END_ANSWERS

#endif

bool fsafe_source_is_system_file(const char *file)
{
    static const char *const parts[] = {"/usr/include/", "/include/c++/", "/usr/lib/", "../sysdeps/", "./nptl/",
                                        "./libio/", "/usr/src/"};
    for (size_t i = 0; file != NULL && i < sizeof parts / sizeof *parts; i++)
        if (strncmp(file, parts[i], strlen(parts[i])) == 0 || (parts[i][0] == '/' && strstr(file, parts[i]) != NULL))
            return true;
    return false;
}

bool fsafe_source_is_system_module(const char *path)
{
    static const char *const names[] = {"libc.so", "libc-2", "libpthread", "libstdc++", "libgcc_s", "ld-linux",
                                        "libforksafe", "libc++"};
    const char *slash = path == NULL ? NULL : strrchr(path, '/');
    for (size_t i = 0; slash != NULL && i < sizeof names / sizeof *names; i++)
        if (strncmp(slash + 1, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}
