#include "config.h"

#include "base/sys.h"
#include "libc/late.h"
#include "libc/symbol.h"
#include "report/report.h"
#include "wrap/next.h"

struct fsafe_next fsafe_next;

/* The rows' names, and where each begins: into a table of pointers the loader would write in every process. */
static const struct names {
#define FSAFE_SYMBOL(name) char name[sizeof #name];
#include "wrap/symbols.def"
} names = {
#define FSAFE_SYMBOL(name) #name,
#include "wrap/symbols.def"
};
static const uint16_t offsets[] = {
#define FSAFE_SYMBOL(name) offsetof(struct names, name),
#include "wrap/symbols.def"
};

const char *fsafe_next_name(unsigned row)
{
    return (const char *)&names + offsets[row];
}

static void *bind_row(unsigned row, void *next)
{
    if (next != NULL)
        __atomic_store_n((void **)&fsafe_next + row, next, __ATOMIC_RELAXED);
    return next;
}

bool fsafe_next_start(void)
{
    bool has_threads = fsafe_symbol_start();
    fsafe_late_start();
#ifndef FSAFE_LIBC_GLIBC /* now, because dlsym may allocate for its error text, and so take a lock */
    fsafe_next_bind_all();
#endif
    return has_threads;
}

FSAFE_COLD void *fsafe_next_bind(unsigned row)
{
    const char *name = fsafe_next_name(row);
    void *next = bind_row(row, fsafe_symbol_next(name));
    if (next == NULL)
        next = bind_row(row, fsafe_symbol_load(name));
    if (next == NULL) {
        fsafe_report_note("the C library lacks a function that this program calls and forksafe wraps:");
        fsafe_report_note(name);
        fsafe_sys_abort();
    }
    return next;
}

FSAFE_COLD void fsafe_next_bind_all(void)
{
    for (unsigned row = 0; row < sizeof offsets / sizeof *offsets; row++)
        if (((void **)&fsafe_next)[row] == NULL)
            bind_row(row, fsafe_symbol_next(fsafe_next_name(row)));
}
