/* wrap/descriptor: see descriptor.h. freopen is in wide.c; forkpty, which calls libc's own dup2, in process.c. */
#include "config.h"

#include "base/sys.h"
#include "report/report.h"
#include "track/lineage.h"
#include "wrap/descriptor.h"
#include "wrap/next.h"

#include <unistd.h>

void fsafe_descriptor_note(int descriptor)
{
    /* Not for a vfork child: it has its own descriptors, and its parent's memory. */
    if (descriptor == STDERR_FILENO && fsafe_sys_getpid() == fsafe_lineage_pid())
        fsafe_report_know_stderr();
}

FSAFE_EXPORT int dup2(int from, int to)
{
    int result = FSAFE_NEXT(dup2)(from, to);
    fsafe_descriptor_note(result);
    return result;
}

#ifdef HAVE_LOGIN_TTY
/* Makes the terminal descriptors 0, 1 and 2, by libc's own dup2. */
FSAFE_EXPORT int login_tty(int terminal)
{
    int result = FSAFE_NEXT(login_tty)(terminal);
    if (result == 0)
        fsafe_descriptor_note(STDERR_FILENO);
    return result;
}
#endif

FSAFE_EXPORT int dup3(int from, int to, int flags)
{
    int result = FSAFE_NEXT(dup3)(from, to, flags);
    fsafe_descriptor_note(result);
    return result;
}
