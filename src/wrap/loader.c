/*
 * wrap/loader: dlopen and its like. A thread that is about to enter the loader stops at the gate while that is closed.
 * It makes no record: the loader's lock names the thread that is inside (fork/loading).
 *
 * libc's dlopen and dlmopen look at their caller, so our wrappers jump to them.
 *
 * dlsym and dlvsym with the handle of an object search that object alone, and for one of libc's find libc's own
 * functions: Free Pascal's threads come by all of pthread's so. Our wrappers answer with ours instead, but only where
 * libc's is the next definition: a library between would call itself. For RTLD_DEFAULT and RTLD_NEXT libc looks at the
 * caller, and there our wrappers jump.
 */
#include "config.h"

#include "base/arch.h"
#include "libc/symbol.h"
#include "python/room.h"
#include "wrap/call.h"

#if defined(FSAFE_ARCH_CHOOSE) && defined(FSAFE_LIBC_GLIBC) /* as the rows */

static void stop_at_gate(void)
{
    fsafe_region_enter(FSAFE_REGION_LOADER, FSAFE_FRAME(), 0);
    fsafe_region_leave(FSAFE_REGION_LOADER, FSAFE_FRAME());
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

static void *ours_for(void *found, const char *name)
{
    void *ours = found != NULL ? fsafe_symbol_ours(name) : NULL;
    return ours != NULL && found == fsafe_symbol_next(name) ? ours : found;
}

static void *dlsym_in_object(void *handle, const char *name)
{
    return ours_for(FSAFE_NEXT(dlsym)(handle, name), name);
}

static void *dlvsym_in_object(void *handle, const char *name, const char *version)
{
    return ours_for(FSAFE_NEXT(dlvsym)(handle, name, version), name);
}

#define FSAFE_FIND(name)                                                                                               \
    static __attribute__((used)) void *choose_##name(void *handle)                                                     \
    {                                                                                                                  \
        return handle == RTLD_DEFAULT || handle == RTLD_NEXT ? (void *)FSAFE_NEXT(name) : (void *)name##_in_object;    \
    }                                                                                                                  \
    FSAFE_ARCH_CHOOSE(name, choose_##name);

FSAFE_FIND(dlsym)
FSAFE_FIND(dlvsym)

#endif
