/* wrap/process: the doors of fork. What happens behind them is fork/coordinator's. */
#include "config.h"

#include "fork/coordinator.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <stdint.h>

FSAFE_EXPORT pid_t fork(void)
{
    fsafe_fork_announce(FSAFE_CALLER());
    return FSAFE_NEXT(fork)();
}

#ifdef HAVE___FORK
FSAFE_DEFINE_ALIAS(__fork, fork);
#endif

#ifdef HAVE__FORK
/* Runs no handlers and must stay async-signal-safe. */
FSAFE_EXPORT pid_t _Fork(void)
{
    fsafe_fork_begin(FSAFE_CALLER());
    pid_t pid = FSAFE_NEXT(_Fork)();
    if (pid == 0)
        fsafe_fork_in_child();
    else
        fsafe_fork_in_parent();
    return pid;
}
#endif
