/* libc/symbol for C libraries other than glibc: asks the loader. See symbol.h. */
#include "config.h"

#include "libc/symbol.h"

#include <dlfcn.h>
#include <errno.h>

bool fsafe_symbol_start(void)
{
    return true;
}

void *fsafe_symbol_next(const char *name)
{
    int saved = errno;
    void *next = dlsym(RTLD_NEXT, name);
    errno = saved;
    return next;
}

void *fsafe_symbol_load(const char *name)
{
    (void)name; /* this libc has no other parts */
    return NULL;
}

/* The loader can only be asked for the next definition. */
void *fsafe_symbol_of_libc(const char *name)
{
    return fsafe_symbol_next(name);
}

/* The loader does not say how long a variable is. */
void *fsafe_symbol_variable(const char *name, size_t *bytes)
{
    if (bytes != NULL)
        *bytes = 0;
    return dlsym(RTLD_DEFAULT, name);
}

bool fsafe_symbol_is_older(const char *version)
{
    (void)version;
    return false;
}
