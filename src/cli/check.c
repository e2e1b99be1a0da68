/*
 * cli/check: looks at a process that hangs, whether the library is in it or not, and at the processes that it has
 * forked. judge.c looks at each thread, target.c at programs.
 */
#include "config.h"

#include "cli/cli.h"
#include "cli/exit.h"
#include "cli/judge.h"
#include "cli/process.h"
#include "cli/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: forksafe check PID...\n"
    "  or:  forksafe check COMMAND\n"
    "Look at a process that hangs, with libforksafe in it or without: which lock each thread\n"
    "waits for, which thread has the lock, and whether only the parent has that thread. If the\n"
    "process does not hang because of a fork, look at its children, too. For Python, show the\n"
    "Python functions. Or look at a program: whether the library can be in it.\n"
    "\n"
    "  -h, --help   display this help and exit\n"
    "\n"
    "With PID the caller needs the right to trace the process: as the process's user or, where\n"
    "the kernel restricts that (kernel.yama.ptrace_scope), as root. Stops the process for a\n"
    "moment.\n"
    "\n"
    "Examples:\n"
    "  forksafe check $(pidof -s gunicorn)\n"
    "  forksafe check /usr/bin/server\n"
    "\n"
    "Exit status for PID: 0 if it hangs because of a fork, 1 if it does not, 2 if that is not\n"
    "known. For COMMAND: 0 if it can be protected, 1 if not, 2 if it may have locks that the\n"
    "library does not see.\n";

/* What was found about a process and the processes that it forked. */
struct whole {
    long pid;
    enum fsafe_judgement verdict;
    long culprit; /* the process that the verdict is about */
    bool waits;   /* a thread of this process may hang */
};

static void conclude(struct whole *whole, enum fsafe_judgement verdict, long culprit)
{
    if (verdict == FSAFE_BECAUSE_OF_FORK || (verdict == FSAFE_CANNOT_TELL && whole->verdict == FSAFE_NOT_BECAUSE)) {
        whole->verdict = verdict;
        whole->culprit = culprit;
    }
}

static bool see_thread(long tid, void *context)
{
    struct whole *whole = context;
    conclude(whole, fsafe_judge_thread(whole->pid, tid), whole->pid);
    return true;
}

static bool see_whether_it_waits(long tid, void *context)
{
    struct whole *whole = context;
    whole->waits |= fsafe_judge_may_hang(whole->pid, tid);
    return true;
}

/* A user who sees a service hang knows the service's first process; usually a child of that process hangs. */
static void see_process(long pid, void *context)
{
    struct whole *parent = context, child = {.pid = pid, .verdict = FSAFE_NOT_BECAUSE, .culprit = pid};
    if (parent->verdict == FSAFE_BECAUSE_OF_FORK || fsafe_process_status(pid, "PPid") != parent->pid)
        return;
    fsafe_process_each_thread(pid, see_whether_it_waits, &child);
    if (child.waits) {
        printf("process %ld, a child of %ld:\n", pid, parent->pid);
        fsafe_process_each_thread(pid, see_thread, &child);
    }
    if (child.verdict != FSAFE_BECAUSE_OF_FORK)
        fsafe_process_each(see_process, &child);
    conclude(parent, child.verdict, child.culprit);
}

static enum fsafe_judgement check_process(long pid)
{
    static const char *const words[] = {"yes", "no", "cannot tell"};
    struct whole whole = {.pid = pid, .verdict = FSAFE_NOT_BECAUSE, .culprit = pid};
    if (fsafe_process_address_bytes(pid) > sizeof(void *))
        fsafe_exit_failing("process %ld has 64 bits, this forksafe 32: take one for 64 bits", pid);
    if (!fsafe_process_each_thread(pid, see_thread, &whole))
        fsafe_exit_failing("process %ld: %s", pid, strerror(errno));
    if (whole.verdict != FSAFE_BECAUSE_OF_FORK)
        fsafe_process_each(see_process, &whole);
    printf("hangs because of a fork: %s", words[whole.verdict]);
    if (whole.culprit != pid)
        printf(" (process %ld)", whole.culprit);
    putchar('\n');
    return whole.verdict;
}

/* `word` as the id of a process; 0: it is none. */
static long read_pid(const char *word)
{
    char *end;
    long pid = strtol(word, &end, 10);
    return *end == '\0' && pid > 0 ? pid : 0;
}

int fsafe_cli_check(int argc, char **argv)
{
    int at = fsafe_exit_on_help(argc, argv, help);
    if (at == argc)
        fsafe_exit_misused("check", "which process, or which program?");
    if (read_pid(argv[at]) == 0)
        return fsafe_target_check(argv[at]);
    enum fsafe_judgement best = FSAFE_NOT_BECAUSE;
    for (bool several = at + 1 < argc; at < argc; at++) {
        if (read_pid(argv[at]) == 0)
            fsafe_exit_misused("check", "'%s' is no process id", argv[at]);
        if (several)
            printf("process %s:\n", argv[at]);
        enum fsafe_judgement one = check_process(read_pid(argv[at]));
        if (one == FSAFE_BECAUSE_OF_FORK || best == FSAFE_NOT_BECAUSE)
            best = one;
    }
    return fflush(stdout) == EOF ? FSAFE_EXIT_OURS : (int)best;
}
