/* Names of signals and errors, without a lock: libc has such functions from glibc 2.32 on only. */
#ifndef TESTS_NAMES_H
#define TESTS_NAMES_H

#include <errno.h>
#include <signal.h>

static inline const char *signal_name(int number)
{
    switch (number) {
#define NAME(name) case SIG##name: return #name;
    NAME(ABRT) NAME(ALRM) NAME(BUS) NAME(FPE) NAME(HUP) NAME(ILL) NAME(INT) NAME(KILL) NAME(PIPE) NAME(QUIT)
    NAME(SEGV) NAME(SYS) NAME(TERM) NAME(TRAP) NAME(USR1) NAME(USR2) NAME(XCPU) NAME(XFSZ)
#undef NAME
    default: return "NAL";
    }
}

static inline const char *error_name(int number)
{
    switch (number) {
#define NAME(name) case name: return #name;
    NAME(EACCES) NAME(EAGAIN) NAME(EBADF) NAME(EBUSY) NAME(EDEADLK) NAME(EEXIST) NAME(EFAULT) NAME(EINTR) NAME(EINVAL)
    NAME(EIO) NAME(EMFILE) NAME(ENOENT) NAME(ENOMEM) NAME(ENOSPC) NAME(ENOSYS) NAME(EOWNERDEAD) NAME(EPERM)
    NAME(EPIPE) NAME(ERANGE) NAME(ESRCH) NAME(ETIMEDOUT)
#undef NAME
    default: return number == 0 ? "0" : "another error";
    }
}

#endif
