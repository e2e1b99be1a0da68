/*
 * wrap/loader: dlopen and its like. A thread that is about to enter the loader stops at the gate while that is closed.
 * It makes no record: the loader's lock names the thread that is inside (fork/loading).
 *
 * libc's dlopen and dlmopen look at their caller, so our wrappers jump to them.
 */
#include "config.h"

#include "base/arch.h"
#include "python/room.h"
#include "track/region.h"
#include "wrap/next.h"

#ifdef FSAFE_ARCH_CHOOSE

static void stop_at_gate(void)
{
    fsafe_region_enter(FSAFE_REGION_LOADER, 0);
    fsafe_region_leave(FSAFE_REGION_LOADER);
}

#define FSAFE_PASS(name)                                 \
    static __attribute__((used)) void *pass_##name(void) \
    {                                                    \
        stop_at_gate();                                  \
        return (void *)FSAFE_NEXT(name);                 \
    }                                                    \
    FSAFE_ARCH_CHOOSE(name, pass_##name);

FSAFE_PASS(dlopen)
FSAFE_PASS(dlmopen)

FSAFE_EXPORT int dlclose(void *handle)
{
    stop_at_gate();
    int result = FSAFE_NEXT(dlclose)(handle);
    fsafe_python_after_unload();
    return result;
}

#endif
