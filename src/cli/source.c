/* cli/source: from an address in a module to file and line, by elfutils, with debuginfod where that is set up. */
#include "config.h"

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBIBERTY
#include <libiberty/demangle.h>
#endif

const char *fsafe_cli_demangle(const char *symbol)
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

/* Opened once each; there are never many. */
static struct module {
    struct module *next;
    char *path;
    Dwfl *dwfl;
    Dwfl_Module *module;
} *modules;

static struct module *open_module(const char *path)
{
    for (struct module *module = modules; module != NULL; module = module->next)
        if (strcmp(module->path, path) == 0)
            return module;
    struct module *module = calloc(1, sizeof *module);
    if (module == NULL || (module->path = strdup(path)) == NULL)
        fsafe_cli_fail("out of memory");
    module->next = modules;
    modules = module;
    module->dwfl = dwfl_begin(&callbacks);
    if (module->dwfl != NULL) {
        dwfl_report_begin(module->dwfl);
        module->module = dwfl_report_offline(module->dwfl, path, path, -1);
        dwfl_report_end(module->dwfl, NULL, NULL);
    }
    return module;
}

static void print_line(FILE *to, const char *indent, const char *function, const char *file, int line)
{
    fprintf(to, "%s%s at %s:%d\n", indent, fsafe_cli_demangle(function), file, line);
}

/* The name of a function's entry, the linkage name first. */
static const char *name_of(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute) != NULL)
        return dwarf_formstring(&attribute);
    return dwarf_diename(die);
}

/* Prints the chain of inlined functions at `address`; false when there is none to print. */
static bool print_scopes(FILE *to, const char *indent, Dwfl_Module *module, Dwarf_Addr address, const char *file,
                         int line)
{
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(module, address, &bias), *scopes = NULL, *nested = NULL;
    int count = unit == NULL ? 0 : dwarf_getscopes(unit, address - bias, &scopes);
    if (count <= 0)
        return false;
    int depth = dwarf_getscopes_die(&scopes[0], &nested);
    bool printed = false;
    for (int i = 0; i < depth; i++) {
        int tag = dwarf_tag(&nested[i]);
        if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram)
            continue;
        const char *name = name_of(&nested[i]);
        print_line(to, indent, name != NULL ? name : "?", file, line);
        printed = true;
        if (tag == DW_TAG_subprogram)
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
    return printed;
}

bool fsafe_cli_print_source(FILE *to, const char *indent, const char *path, uint64_t address)
{
    Dwfl_Module *module = open_module(path)->module;
    GElf_Addr bias;
    if (module == NULL || dwfl_module_getelf(module, &bias) == NULL)
        return false;
    address += bias;
    Dwfl_Line *line = dwfl_module_getsrc(module, address);
    int number = 0;
    const char *file = line == NULL ? NULL : dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL);
    const char *symbol = dwfl_module_addrname(module, address);
    if (file != NULL && print_scopes(to, indent, module, address, file, number))
        return true;
    if (file != NULL)
        print_line(to, indent, symbol != NULL ? symbol : "?", file, number);
    else if (symbol != NULL)
        fprintf(to, "%s%s\n", indent, fsafe_cli_demangle(symbol));
    return file != NULL || symbol != NULL;
}

#else

bool fsafe_cli_print_source(FILE *to, const char *indent, const char *path, uint64_t address)
{
    (void)to, (void)indent, (void)path, (void)address;
    return false;
}

#endif
