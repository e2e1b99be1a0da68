/*
 * wrap/loader: dlopen and its like. They look at who called them, so libc is jumped to, with no frame of ours between;
 * before that, whoever is about to enter the loader stops at the gate while that is closed. Nothing is recorded: the
 * loader's lock says who is inside (fork/loading).
 */
#include "config.h"

#include "base/arch.h"
#include "track/region.h"
#include "wrap/next.h"

#ifdef FSAFE_ARCH_FIRST

static void *pass(void *next)
{
    fsafe_region_enter(FSAFE_REGION_LOADER, 0);
    fsafe_region_leave(FSAFE_REGION_LOADER);
    return next;
}

#define FSAFE_PASS(name)                                                         \
    static __attribute__((used)) void *pass_##name(void)                         \
    {                                                                            \
        return pass((void *)FSAFE_NEXT(name));                                   \
    }                                                                            \
    FSAFE_ARCH_FIRST(name, pass_##name);

FSAFE_PASS(dlopen)
FSAFE_PASS(dlmopen)
FSAFE_PASS(dlclose)

#endif
