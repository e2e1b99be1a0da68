/*
 * wrap/descriptor: a program that gives itself another stderr says so with one of these calls. Whatever else becomes
 * descriptor 2 is a file of its own, and no line of ours goes there.
 */
#include "config.h"

#include "base/sys.h"
#include "report/report.h"
#include "track/lineage.h"
#include "wrap/next.h"

#include <stdio.h>
#include <unistd.h>

static void note(int descriptor)
{
    /* A vfork child, on its way to exec, has descriptors of its own and writes to our memory. */
    if (descriptor == STDERR_FILENO && fsafe_sys_getpid() == fsafe_lineage_pid())
        fsafe_report_know_stderr();
}

FSAFE_EXPORT int dup2(int from, int to)
{
    int result = FSAFE_NEXT(dup2)(from, to);
    note(result);
    return result;
}

FSAFE_EXPORT int dup3(int from, int to, int flags)
{
    int result = FSAFE_NEXT(dup3)(from, to, flags);
    note(result);
    return result;
}

FSAFE_EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
    FILE *result = FSAFE_NEXT(freopen)(path, mode, stream);
    note(result != NULL ? fileno(result) : -1);
    return result;
}

#ifdef HAVE_FREOPEN64
FSAFE_EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
    FILE *result = FSAFE_NEXT(freopen64)(path, mode, stream);
    note(result != NULL ? fileno(result) : -1);
    return result;
}
#endif
