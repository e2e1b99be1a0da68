#include "config.h"

#include "wrap/c11.h"

#ifdef FSAFE_C11
#include <errno.h>

FSAFE_COLD int fsafe_c11_error(int error)
{
    return error == ENOMEM ? thrd_nomem : error == ETIMEDOUT ? thrd_timedout : error == EBUSY ? thrd_busy : thrd_error;
}
#endif
