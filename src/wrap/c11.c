#include "config.h"

#include "wrap/c11.h"

#ifdef FSAFE_C11
#include "libc/symbol.h"
#include "wrap/next.h"

#include <errno.h>

enum fsafe_c11_owner fsafe_c11_owner;

static FSAFE_COLD void learn(void)
{
    bool is_libcs = (void *)FSAFE_NEXT(mtx_init) == fsafe_symbol_of_libc("mtx_init");
    for (unsigned row = FSAFE_ROW(mtx_init); !is_libcs && row <= FSAFE_ROW(thrd_detach); row++)
        fsafe_next_bind(row);
    fsafe_c11_owner = is_libcs ? FSAFE_C11_LIBC : FSAFE_C11_OTHER;
}

bool fsafe_c11_learn(void)
{
    if (FSAFE_UNLIKELY(fsafe_c11_owner == FSAFE_C11_UNKNOWN))
        learn();
    return fsafe_c11_is_other();
}

FSAFE_COLD int fsafe_c11_error(int error)
{
    return error == ENOMEM ? thrd_nomem : error == ETIMEDOUT ? thrd_timedout : error == EBUSY ? thrd_busy : thrd_error;
}
#endif
