#include "config.h"

#include "base/sys.h"
#include "libc/late.h"
#include "libc/symbol.h"
#include "report/report.h"
#include "wrap/next.h"

struct fsafe_next fsafe_next;

static void *bind_row(void *row, void *next)
{
    if (next != NULL)
        __atomic_store_n((void **)row, next, __ATOMIC_RELAXED);
    return next;
}

bool fsafe_next_start(void)
{
    bool has_threads = fsafe_symbol_start();
    fsafe_late_start();
#ifndef FSAFE_LIBC_GLIBC
    /* A row without a definition stays NULL. Now, because dlsym may allocate for its error text, and so take a lock. */
#define FSAFE_SYMBOL(name) \
    if (fsafe_next.name == NULL) \
        bind_row(&fsafe_next.name, fsafe_symbol_next(#name));
#include "wrap/symbols.def"
#endif
    return has_threads;
}

FSAFE_COLD void *fsafe_next_bind(void *row, const char *name)
{
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
