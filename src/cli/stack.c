/* cli/process: stacks, by elfutils. */
#include "config.h"

#include "base/compiler.h"
#include "cli/process.h"
#include "cli/source.h"

#include <string.h>

#ifdef HAVE_LIBDW

#include <elfutils/libdwfl.h>

static int see_frame(Dwfl_Frame *frame, void *context)
{
    struct fsafe_stack *stack = context;
    Dwarf_Addr pc;
    bool exact;
    if (stack->count == FSAFE_STACK_FRAMES || !dwfl_frame_pc(frame, &pc, &exact))
        return DWARF_CB_ABORT;
    stack->exact[stack->count] = exact;
    stack->pc[stack->count++] = pc;
    return DWARF_CB_OK;
}

/*
 * Stays open: to read the debugging information takes long, and a process may have hundreds of threads. A child and its
 * parent are looked at in turn. NULL: there is no memory.
 */
static Dwfl *open_process(long pid)
{
    static char *debuginfo_path;
    static struct {
        long pid;
        Dwfl *dwfl;
    } opened[2];
    static unsigned latest;
    static const Dwfl_Callbacks callbacks = {
        .find_elf = dwfl_linux_proc_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .debuginfo_path = &debuginfo_path,
    };
    if (opened[latest].pid == pid)
        return opened[latest].dwfl;
    latest = 1 - latest;
    if (opened[latest].pid == pid)
        return opened[latest].dwfl;
    dwfl_end(opened[latest].dwfl);
    Dwfl *dwfl = dwfl_begin(&callbacks);
    opened[latest].pid = pid;
    opened[latest].dwfl = dwfl;
    if (dwfl != NULL && dwfl_linux_proc_report(dwfl, (pid_t)pid) == 0 && dwfl_report_end(dwfl, NULL, NULL) == 0)
        dwfl_linux_proc_attach(dwfl, (pid_t)pid, false);
    return dwfl;
}

void fsafe_stack_read(struct fsafe_stack *stack, long pid, long tid)
{
    stack->count = 0;
    stack->dwfl = open_process(pid);
    if (stack->dwfl != NULL)
        dwfl_getthread_frames(stack->dwfl, (pid_t)tid, see_frame, stack);
}

static uint64_t place_of(const struct fsafe_stack *stack, size_t i)
{
    return stack->pc[i] - !stack->exact[i];
}

const char *fsafe_stack_symbol(const struct fsafe_stack *stack, size_t i)
{
    Dwfl_Module *module = dwfl_addrmodule(stack->dwfl, place_of(stack, i));
    const char *name = module != NULL ? dwfl_module_addrname(module, place_of(stack, i)) : NULL;
    return name != NULL ? name : "?";
}

struct line {
    const char *indent, *path;
};

static bool print_source(const char *function, const char *file, int number, void *context)
{
    const struct line *line = context;
    printf("%s%s", line->indent, fsafe_source_demangle(function));
    if (file != NULL)
        printf(" at %s:%d\n", file, number);
    else
        printf(" in %s\n", line->path);
    return true;
}

void fsafe_stack_print(const struct fsafe_stack *stack, const char *indent)
{
    for (size_t i = 0; i < stack->count; i++) {
        Dwfl_Module *module = dwfl_addrmodule(stack->dwfl, place_of(stack, i));
        const char *path = NULL;
        if (module != NULL)
            dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, &path, NULL);
        struct line line = {indent, path != NULL ? path : "?"};
        if (module == NULL || !fsafe_source_each_in(module, place_of(stack, i), print_source, &line))
            print_source("?", NULL, 0, &line);
    }
}

struct wanted {
    const char *module, *symbol, *path;
    uint64_t value;
};

static int see_module(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr start, void *context)
{
    (void)data, (void)start;
    struct wanted *wanted = context;
    int count = strstr(name, wanted->module) != NULL ? dwfl_module_getsymtab(module) : 0;
    for (int i = 0; i < count; i++) {
        GElf_Sym symbol;
        GElf_Addr value;
        const char *found = dwfl_module_getsym_info(module, i, &symbol, &value, NULL, NULL, NULL);
        if (found != NULL && symbol.st_shndx != 0 && strcmp(found, wanted->symbol) == 0) {
            wanted->value = value;
            wanted->path = name;
            return DWARF_CB_ABORT;
        }
    }
    return DWARF_CB_OK;
}

uint64_t fsafe_stack_find_symbol(const struct fsafe_stack *stack, const char *module, const char *symbol,
                                 const char **path)
{
    struct wanted wanted = {module, symbol, NULL, 0};
    if (stack->dwfl != NULL)
        dwfl_getmodules(stack->dwfl, see_module, &wanted, 0);
    *path = wanted.path;
    return wanted.value;
}

#else

FSAFE_BEGIN_ANSWERS
void fsafe_stack_read(struct fsafe_stack *stack, long pid, long tid) { memset(stack, 0, sizeof *stack); }
const char *fsafe_stack_symbol(const struct fsafe_stack *stack, size_t i) { return "?"; }
void fsafe_stack_print(const struct fsafe_stack *stack, const char *indent) { }
uint64_t fsafe_stack_find_symbol(const struct fsafe_stack *stack, const char *module, const char *symbol,
                                 const char **path)
{
    *path = NULL;
    return 0;
}
FSAFE_END_ANSWERS

#endif
