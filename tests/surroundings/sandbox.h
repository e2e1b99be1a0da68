/*
 * A filter for system calls, as sandboxes put one around a program or a program around itself.
 *
 *     sandbox_install("kill:unshare,membarrier")      whoever makes one of these calls dies of SIGSYS
 *     sandbox_install("EPERM:openat")                  or gets this error; ENOSYS as well
 *     sandbox_install("trap:openat")                   or SIGSYS, which a handler may answer
 *
 * Several filters may be installed one after the other. Returns 0, or -1 when the kernel has no filters or the rule
 * names what is not known here.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS SECCOMP_RET_KILL
#endif

static inline long sandbox_number(const char *name, size_t length)
{
    static const struct {
        const char *name;
        long number;
    } calls[] = {
#define CALL(name) {#name, SYS_##name},
        CALL(clock_nanosleep) CALL(close) CALL(fcntl) CALL(getcwd) CALL(getpid) CALL(getrusage) CALL(gettid)
        CALL(madvise) CALL(membarrier) CALL(mprotect) CALL(mremap) CALL(openat) CALL(pipe2) CALL(ppoll) CALL(prctl)
        CALL(process_vm_readv) CALL(pselect6) CALL(rt_sigpending) CALL(rt_sigtimedwait) CALL(sched_yield)
        CALL(signalfd4) CALL(tgkill) CALL(unshare)
#ifdef SYS_newfstatat
        CALL(newfstatat)
#elif defined(SYS_fstatat64)
        {"newfstatat", SYS_fstatat64}, /* 32 bits */
#endif
#undef CALL
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (strlen(calls[i].name) == length && strncmp(calls[i].name, name, length) == 0)
            return calls[i].number;
    return -1;
}

static inline int sandbox_install(const char *rule)
{
    enum { MOST = 64 };
    struct sock_filter filter[MOST + 3] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned length = 1;
    unsigned verdict;
    const char *names = strchr(rule, ':');
    if (names++ == NULL)
        return -1;
    if (strncmp(rule, "kill:", 5) == 0)
        verdict = SECCOMP_RET_KILL_PROCESS;
    else if (strncmp(rule, "trap:", 5) == 0)
        verdict = SECCOMP_RET_TRAP;
    else if (strncmp(rule, "EPERM:", 6) == 0)
        verdict = SECCOMP_RET_ERRNO | EPERM;
    else if (strncmp(rule, "ENOSYS:", 7) == 0)
        verdict = SECCOMP_RET_ERRNO | ENOSYS;
    else
        return -1;
    while (*names != '\0') {
        size_t name = strcspn(names, ",");
        long number = sandbox_number(names, name);
        if (number < 0 || length + 4 > MOST)
            return -1;
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
        names += name + (names[name] == ',');
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0 ? 0 : -1;
}

#endif
