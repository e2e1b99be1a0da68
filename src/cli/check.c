/*
 * cli/check: looks at a process that hangs, whether the library is in it or not: which lock each of its threads sleeps
 * on, which thread has that lock, and whether only the parent has that thread. target.c looks at programs.
 */
#include "config.h"

#include "cli/cli.h"
#include "cli/exit.h"
#include "cli/process.h"
#include "cli/target.h"

#include <errno.h>
#include <linux/futex.h>
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

enum verdict { BECAUSE_OF_FORK, NOT_BECAUSE, CANNOT_TELL };

/* Whether one of the eight innermost functions has one of `parts` in its name. */
static bool is_in(const struct fsafe_stack *stack, const char *const *parts)
{
    for (size_t i = 0; i < stack->count && i < 8; i++)
        for (const char *const *part = parts; *part != NULL; part++)
            if (strstr(fsafe_stack_symbol(stack, i), *part) != NULL)
                return true;
    return false;
}

/* Prints the functions that a thread runs; in an interpreter those of its program. */
static void print_functions(const struct fsafe_stack *stack, long pid, long tid)
{
    if (fsafe_python_print(stack, pid, tid, "        ") == 0)
        fsafe_stack_print(stack, "        ");
}

static void print_thread(long pid, long tid)
{
    struct fsafe_stack stack;
    fsafe_stack_read(&stack, pid, tid);
    print_functions(&stack, pid, tid);
    fsafe_stack_end(&stack);
}

/* Whether this process has the lock's owner, or only the parent has. `how`: "held", and how sure that is. */
static enum verdict judge_owner(long pid, long owner, const char *how)
{
    long parent = fsafe_process_status(pid, "PPid");
    char name[64];
    if (fsafe_process_has_thread(pid, owner)) {
        fsafe_process_thread_name(pid, owner, name);
        printf("    %s by thread %ld \"%s\" of the same process:\n", how, owner, name);
        print_thread(pid, owner);
        return NOT_BECAUSE;
    }
    if (!fsafe_process_has_thread(parent, owner)) {
        printf("    %s by thread %ld, which exists neither here nor in the parent %ld\n", how, owner, parent);
        return BECAUSE_OF_FORK;
    }
    fsafe_process_thread_name(parent, owner, name);
    printf("    %s by thread %ld \"%s\", which only the parent %ld has; there it is now in:\n", how, owner, name,
           parent);
    print_thread(parent, owner);
    return BECAUSE_OF_FORK;
}

/* The parent's threads that may be the holder of a lock that does not name its owner. */
struct suspects {
    long parent, tids[64];
    bool mentions[64]; /* whether the thread's stack has the lock's address */
    unsigned count, mentioning;
    uint64_t address;
};

static bool mentions(long pid, long tid, uint64_t address)
{
    enum { WORDS = 2048 };
    static union {
        uint64_t words[WORDS];
        uint32_t halves[2 * WORDS];
    } stack;
    struct fsafe_process_call call;
    size_t many = WORDS;
    bool narrow = fsafe_process_address_bytes(pid) == 4;
    if (!fsafe_process_call(pid, tid, &call) || call.number < 0)
        return false;
    while (many > 1 && !fsafe_process_peek(pid, call.stack, &stack, many * sizeof *stack.words))
        many /= 2;
    /* A thread that waits for the same lock does not hold it. */
    bool waits = fsafe_process_is_futex(pid, &call) && call.arguments[0] - address < 64;
    for (size_t i = 0; i < many * (narrow ? 2 : 1) && !waits; i++)
        if ((narrow ? stack.halves[i] : stack.words[i]) == address)
            return true;
    return false;
}

static bool see_suspect(long tid, void *context)
{
    struct suspects *suspects = context;
    bool named = mentions(suspects->parent, tid, suspects->address);
    /* Usually the main thread forked the child. */
    if (tid == suspects->parent && !named)
        return true;
    suspects->tids[suspects->count] = tid;
    suspects->mentions[suspects->count++] = named;
    suspects->mentioning += named;
    return suspects->count < sizeof suspects->tids / sizeof *suspects->tids;
}

static enum verdict judge_suspects(long pid, uint64_t address)
{
    struct suspects suspects = {.parent = fsafe_process_status(pid, "PPid"), .address = address};
    fsafe_process_each_thread(suspects.parent, see_suspect, &suspects);
    for (unsigned i = 0; i < suspects.count; i++)
        if (suspects.mentioning == 1 ? suspects.mentions[i] : suspects.count == 1)
            return judge_owner(pid, suspects.tids[i], "held, it seems,");
    for (unsigned i = 0; i < suspects.count; i++) {
        char name[64];
        if (suspects.mentioning != 0 && !suspects.mentions[i])
            continue;
        fsafe_process_thread_name(suspects.parent, suspects.tids[i], name);
        printf("    perhaps held by thread %ld \"%s\" of the parent %ld, which is now in:\n", suspects.tids[i], name,
               suspects.parent);
        print_thread(suspects.parent, suspects.tids[i]);
    }
    return suspects.count == 0 ? CANNOT_TELL : BECAUSE_OF_FORK;
}

/* A lock whose bytes name no owner: prints its value here and in the parent, and the threads that may have it. */
static enum verdict judge_nameless(long pid, uint64_t address, uint32_t value)
{
    long parent = fsafe_process_status(pid, "PPid");
    uint32_t there;
    if (fsafe_process_peek(parent, address, &there, sizeof there))
        printf("    it names no owner; its value is %u here, and %u at the same address in the parent %ld\n", value,
               there, parent);
    else
        printf("    it names no owner; its value is %u\n", value);
    if (fsafe_process_status(pid, "Threads") != 1) {
        judge_suspects(pid, address);
        return CANNOT_TELL;
    }
    puts("    this process has one thread: nobody here can release it");
    judge_suspects(pid, address);
    return BECAUSE_OF_FORK;
}

/*
 * The thread sleeps on one of two words, each with a bit that says so: until the phase is the thread's, or, as a
 * writer, until it is the first of the writers. The present writer's id comes after both words.
 */
static enum verdict judge_rwlock(long pid, const struct fsafe_stack *stack, const struct fsafe_process_call *call)
{
    enum { SOMEBODY_SLEEPS = 2, NOT_FIRST = SOMEBODY_SLEEPS | 1, PHASE = 8, WRITERS = 12 };
    uint32_t bytes[8];
    bool writes = is_in(stack, (const char *const[]){"wrlock", NULL});
    uint64_t lock = call->arguments[0] - (writes && call->arguments[2] == NOT_FIRST ? WRITERS : PHASE);
    if (!fsafe_process_peek(pid, lock, bytes, sizeof bytes))
        return CANNOT_TELL;
    uint32_t writer = bytes[fsafe_process_address_bytes(pid) == 4 ? 7 : 6];
    printf("    waits for rwlock 0x%lx (%u readers%s)\n", (unsigned long)lock, bytes[0] >> 3,
           (bytes[0] & 3) == 3 ? ", written" : "");
    return writer != 0 ? judge_owner(pid, writer, "held") : judge_nameless(pid, lock, bytes[0]);
}

static enum verdict judge_semaphore(long pid, long tid, const struct fsafe_stack *stack, uint64_t word)
{
    const char *kind = NULL;
    uint32_t value;
    bool pythons = is_in(stack, (const char *const[]){"PyThread_acquire_lock", "PySemaphore_Wait", NULL});
    long owner = pythons ? fsafe_python_owner(stack, pid, tid, fsafe_process_status(pid, "PPid"), word, &kind) : 0;
    if (pythons)
        printf("    waits for semaphore 0x%lx: Python's %s\n", (unsigned long)word, kind != NULL ? kind : "own lock");
    else
        printf("    waits for semaphore 0x%lx\n", (unsigned long)word);
    if (owner != 0)
        return judge_owner(pid, owner, "held");
    return fsafe_process_peek(pid, word, &value, sizeof value) ? judge_nameless(pid, word, value) : CANNOT_TELL;
}

/*
 * If libc's symbols are stripped the stack does not have the name of sem_wait(), which jumps to another function. But a
 * thread that waits for a semaphore sleeps on a word that is 0, the value, beside the number of waiters and a word that
 * says whether the semaphore is shared. With addresses of 4 bytes the value has a bit for waiters, counted last.
 */
static bool is_semaphore(long pid, const struct fsafe_process_call *call)
{
    enum { WAITERS_MOST = 100000, SHARED = 0x80 };
    uint32_t words[4];
    bool narrow = fsafe_process_address_bytes(pid) == 4;
    unsigned value = narrow ? 1 : 0, waiters = narrow ? 3 : 1, shared = narrow ? 1 : 2;
    return call->arguments[2] == value && fsafe_process_peek(pid, call->arguments[0], words, sizeof words) &&
           words[0] == value && words[waiters] != 0 && words[waiters] < WAITERS_MOST &&
           (words[shared] == 0 || words[shared] == SHARED);
}

static enum verdict judge_wait(long pid, long tid, const struct fsafe_stack *stack,
                               const struct fsafe_process_call *call)
{
    uint64_t word = call->arguments[0];
    static const char *const mutexes[] = {"pthread_mutex_", "__lll_lock_wait", "lll_mutex_lock", NULL};
    static const char *const rwlocks[] = {"pthread_rwlock_", NULL}, *const conditions[] = {"pthread_cond_", NULL};
    static const char *const semaphores[] = {"sem_wait", "sem_timedwait", "sem_clockwait", NULL};
    static const char *const kinds[] = {"normal", "recursive", "errorcheck", "adaptive"};
    uint32_t bytes[5];
    if (is_in(stack, conditions)) {
        printf("    waits for a signal on the condition variable of word 0x%lx\n", (unsigned long)word);
        return CANNOT_TELL;
    }
    if (is_in(stack, rwlocks))
        return judge_rwlock(pid, stack, call);
    if (is_in(stack, semaphores))
        return judge_semaphore(pid, tid, stack, word);
    if (is_in(stack, mutexes) && fsafe_process_peek(pid, word, bytes, sizeof bytes)) {
        uint32_t kind = bytes[fsafe_process_address_bytes(pid) == 4 ? 3 : 4];
        printf("    waits for mutex 0x%lx (%s%s%s)\n", (unsigned long)word, kinds[kind & 3],
               (kind & 0x10) != 0 ? ", robust" : "", (kind & 0x20) != 0 ? ", priority inheritance" : "");
        return bytes[2] != 0 ? judge_owner(pid, bytes[2], "held") : judge_nameless(pid, word, bytes[0]);
    }
    if (is_semaphore(pid, call))
        return judge_semaphore(pid, tid, stack, word);
    printf("    sleeps on a futex at 0x%lx that no known call waits for\n", (unsigned long)word);
    return fsafe_process_peek(pid, word, bytes, 4) ? judge_nameless(pid, word, bytes[0]) : CANNOT_TELL;
}

static bool is_in_lock(long pid, const struct fsafe_process_call *call)
{
    unsigned long operation = call->arguments[1] & 0x7f;
    return fsafe_process_is_futex(pid, call) &&
           (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET || operation == FUTEX_LOCK_PI);
}

/* Looks at one thread: its system call, its stack, the lock. */
static enum verdict check_thread(long pid, long tid)
{
    char name[64];
    struct fsafe_process_call call;
    bool known = fsafe_process_call(pid, tid, &call);
    fsafe_process_thread_name(pid, tid, name);
    if (!known || !is_in_lock(pid, &call)) {
        printf("thread %ld \"%s\": waits for no lock\n", tid, name);
        return known ? NOT_BECAUSE : CANNOT_TELL;
    }
    struct fsafe_stack stack;
    printf("thread %ld \"%s\" sleeps in:\n", tid, name);
    fsafe_stack_read(&stack, pid, tid);
    print_functions(&stack, pid, tid);
    enum verdict verdict = judge_wait(pid, tid, &stack, &call);
    fsafe_stack_end(&stack);
    return verdict;
}

/* What was found about a process and the processes that it forked. */
struct whole {
    long pid;
    enum verdict verdict;
    long culprit; /* the process that the verdict is about */
    bool waits;   /* a thread of this process waits for a lock */
};

static void conclude(struct whole *whole, enum verdict verdict, long culprit)
{
    if (verdict == BECAUSE_OF_FORK || (verdict == CANNOT_TELL && whole->verdict == NOT_BECAUSE)) {
        whole->verdict = verdict;
        whole->culprit = culprit;
    }
}

static bool see_thread(long tid, void *context)
{
    struct whole *whole = context;
    conclude(whole, check_thread(whole->pid, tid), whole->pid);
    return true;
}

static bool see_lock(long tid, void *context)
{
    struct whole *whole = context;
    struct fsafe_process_call call;
    whole->waits |= fsafe_process_call(whole->pid, tid, &call) && is_in_lock(whole->pid, &call);
    return true;
}

/* A user who sees a service hang knows the service's first process; usually a child of that process hangs. */
static void see_process(long pid, void *context)
{
    struct whole *parent = context, child = {.pid = pid, .verdict = NOT_BECAUSE, .culprit = pid};
    if (parent->verdict == BECAUSE_OF_FORK || fsafe_process_status(pid, "PPid") != parent->pid)
        return;
    fsafe_process_each_thread(pid, see_lock, &child);
    if (child.waits) {
        printf("process %ld, a child of %ld:\n", pid, parent->pid);
        fsafe_process_each_thread(pid, see_thread, &child);
    }
    if (child.verdict != BECAUSE_OF_FORK)
        fsafe_process_each(see_process, &child);
    conclude(parent, child.verdict, child.culprit);
}

static enum verdict check_process(long pid)
{
    static const char *const words[] = {"yes", "no", "cannot tell"};
    struct whole whole = {.pid = pid, .verdict = NOT_BECAUSE, .culprit = pid};
    if (fsafe_process_address_bytes(pid) > sizeof(void *))
        fsafe_exit_failing("process %ld has 64 bits, this forksafe 32: take one for 64 bits", pid);
    if (!fsafe_process_each_thread(pid, see_thread, &whole))
        fsafe_exit_failing("process %ld: %s", pid, strerror(errno));
    if (whole.verdict != BECAUSE_OF_FORK)
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
    enum verdict best = NOT_BECAUSE;
    for (bool several = at + 1 < argc; at < argc; at++) {
        if (read_pid(argv[at]) == 0)
            fsafe_exit_misused("check", "'%s' is no process id", argv[at]);
        if (several)
            printf("process %s:\n", argv[at]);
        enum verdict one = check_process(read_pid(argv[at]));
        if (one == BECAUSE_OF_FORK || best == NOT_BECAUSE)
            best = one;
    }
    return fflush(stdout) == EOF ? FSAFE_EXIT_OURS : (int)best;
}
