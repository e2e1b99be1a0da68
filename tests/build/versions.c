/*
 * Each row of symbols.def: what the library binds against what a program linked here gets, which is the default version
 * of what the C library has. Speaks TAP.
 */
#include "config.h"

#include "libc/symbol.h"
#include "wrap/next.h"

#include <stdio.h>
#include <string.h>

/* A row may be one of another release of the C library's. */
#define FSAFE_SYMBOL(name) extern __typeof__(name) name __attribute__((weak));
#include "wrap/symbols.def"

static unsigned count, failed, absent;

static void compare(const char *name, const void *linked)
{
    const void *bound = fsafe_symbol_next(name);
    count++;
    absent += linked == NULL;
    failed += bound != linked;
    printf("%sok %u - %s\n", bound == linked ? "" : "not ", count, name);
    if (bound != linked)
        printf("# linked %p, bound %p\n", linked, bound);
}

/* Not compared as functions: a compiler knows of most that they are there. */
#define FSAFE_SYMBOL(name)                                      \
    {                                                           \
        __typeof__(name) *linked = name;                        \
        const void *address;                                    \
        __asm__("" : "+r"(linked));                             \
        memcpy(&address, &linked, sizeof address);              \
        compare(#name, address);                                \
    }

int main(void)
{
    fsafe_symbol_start();
#include "wrap/symbols.def"
    count++;
    printf("%sok %u - most of them are there\n", absent * 2 < count ? "" : "not ", count);
    printf("1..%u\n", count);
    return failed != 0;
}
