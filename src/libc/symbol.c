/* libc/symbol: see symbol.h. */
#include "config.h"

#include "libc/symbol.h"

#include <dlfcn.h>
#include <errno.h>

void *fsafe_symbol_next(const char *name)
{
    int saved = errno;
    void *next = dlsym(RTLD_NEXT, name);
    errno = saved;
    return next;
}
