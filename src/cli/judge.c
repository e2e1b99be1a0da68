#include "config.h"

#include "cli/judge.h"
#include "cli/process.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

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
}

/*
 * Whether this process has the lock's owner, or only the parent has. `owner` is the id that the lock has. `how`:
 * "held", and how sure that is.
 */
static enum fsafe_judgement judge_owner(long pid, long owner, const char *how)
{
    long parent = fsafe_process_status(pid, "PPid");
    long here = fsafe_process_find_thread(pid, owner), there = fsafe_process_find_thread(parent, owner);
    char name[64];
    if (here != 0) {
        fsafe_process_thread_name(pid, here, name);
        printf("    %s by thread %ld \"%s\" of the same process:\n", how, here, name);
        print_thread(pid, here);
        return FSAFE_NOT_BECAUSE;
    }
    if (there == 0) {
        printf("    %s by thread %ld, which exists neither here nor in the parent %ld\n", how, owner, parent);
        return FSAFE_BECAUSE_OF_FORK;
    }
    fsafe_process_thread_name(parent, there, name);
    printf("    %s by thread %ld \"%s\", which only the parent %ld has; there it is now in:\n", how, there, name,
           parent);
    print_thread(parent, there);
    return FSAFE_BECAUSE_OF_FORK;
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

static void print_suspects(long pid, uint64_t address)
{
    struct suspects suspects = {.parent = fsafe_process_status(pid, "PPid"), .address = address};
    fsafe_process_each_thread(suspects.parent, see_suspect, &suspects);
    for (unsigned i = 0; i < suspects.count; i++)
        if (suspects.mentioning == 1 ? suspects.mentions[i] : suspects.count == 1) {
            judge_owner(pid, fsafe_process_own_id(suspects.parent, suspects.tids[i]), "held, it seems,");
            return;
        }
    for (unsigned i = 0; i < suspects.count; i++) {
        char name[64];
        if (suspects.mentioning != 0 && !suspects.mentions[i])
            continue;
        fsafe_process_thread_name(suspects.parent, suspects.tids[i], name);
        printf("    perhaps held by thread %ld \"%s\" of the parent %ld, which is now in:\n", suspects.tids[i], name,
               suspects.parent);
        print_thread(suspects.parent, suspects.tids[i]);
    }
}

/* Whether only the process's one thread could end the wait, and that thread is the one that waits. */
static enum fsafe_judgement judge_lone(const struct fsafe_process_call *call, const char *nobody_can)
{
    bool has_limit = call->arguments[3] != 0;
    printf("    this process has one thread: nobody here can %s%s\n", nobody_can,
           has_limit ? ", but the wait has a limit" : "");
    return has_limit ? FSAFE_CANNOT_TELL : FSAFE_BECAUSE_OF_FORK;
}

/* A lock whose bytes name no owner: prints its value here and in the parent, and the threads that may have it. */
static enum fsafe_judgement judge_nameless(long pid, const struct fsafe_process_call *call, uint64_t address,
                                           uint32_t value)
{
    long parent = fsafe_process_status(pid, "PPid");
    uint32_t there;
    if (fsafe_process_peek(parent, address, &there, sizeof there))
        printf("    it names no owner; its value is %u here, and %u at the same address in the parent %ld\n", value,
               there, parent);
    else
        printf("    it names no owner; its value is %u\n", value);
    enum fsafe_judgement verdict =
        fsafe_process_status(pid, "Threads") == 1 ? judge_lone(call, "release it") : FSAFE_CANNOT_TELL;
    print_suspects(pid, address);
    return verdict;
}

/*
 * The thread sleeps on one of two words, each with a bit that says so: until the phase is the thread's, or, as a
 * writer, until it is the first of the writers. The present writer's id comes after both words.
 */
static enum fsafe_judgement judge_rwlock(long pid, const struct fsafe_stack *stack,
                                         const struct fsafe_process_call *call)
{
    enum { SOMEBODY_SLEEPS = 2, NOT_FIRST = SOMEBODY_SLEEPS | 1, PHASE = 8, WRITERS = 12 };
    uint32_t bytes[8];
    bool writes = is_in(stack, (const char *const[]){"wrlock", NULL});
    uint64_t lock = call->arguments[0] - (writes && call->arguments[2] == NOT_FIRST ? WRITERS : PHASE);
    if (!fsafe_process_peek(pid, lock, bytes, sizeof bytes))
        return FSAFE_CANNOT_TELL;
    uint32_t writer = bytes[fsafe_process_address_bytes(pid) == 4 ? 7 : 6];
    printf("    waits for rwlock 0x%lx (%u readers%s)\n", (unsigned long)lock, bytes[0] >> 3,
           (bytes[0] & 3) == 3 ? ", written" : "");
    return writer != 0 ? judge_owner(pid, writer, "held") : judge_nameless(pid, call, lock, bytes[0]);
}

static enum fsafe_judgement judge_semaphore(long pid, long tid, const struct fsafe_stack *stack,
                                            const struct fsafe_process_call *call)
{
    uint64_t word = call->arguments[0];
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
    if (kind != NULL && strcmp(kind, FSAFE_PYTHON_CONDITION) == 0)
        return fsafe_process_status(pid, "Threads") == 1 ? judge_lone(call, "notify it") : FSAFE_CANNOT_TELL;
    if (!fsafe_process_peek(pid, word, &value, sizeof value))
        return FSAFE_CANNOT_TELL;
    return judge_nameless(pid, call, word, value);
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

static enum fsafe_judgement judge_wait(long pid, long tid, const struct fsafe_stack *stack,
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
        return (call->arguments[1] & FUTEX_PRIVATE_FLAG) != 0 && fsafe_process_status(pid, "Threads") == 1
                   ? judge_lone(call, "signal it")
                   : FSAFE_CANNOT_TELL;
    }
    if (is_in(stack, rwlocks))
        return judge_rwlock(pid, stack, call);
    if (is_in(stack, semaphores))
        return judge_semaphore(pid, tid, stack, call);
    if (is_in(stack, mutexes) && fsafe_process_peek(pid, word, bytes, sizeof bytes)) {
        uint32_t kind = bytes[fsafe_process_address_bytes(pid) == 4 ? 3 : 4];
        printf("    waits for mutex 0x%lx (%s%s%s)\n", (unsigned long)word, kinds[kind & 3],
               (kind & 0x10) != 0 ? ", robust" : "", (kind & 0x20) != 0 ? ", priority inheritance" : "");
        return bytes[2] != 0 ? judge_owner(pid, bytes[2], "held") : judge_nameless(pid, call, word, bytes[0]);
    }
    if (is_semaphore(pid, call))
        return judge_semaphore(pid, tid, stack, call);
    printf("    sleeps on a futex at 0x%lx that no known call waits for\n", (unsigned long)word);
    return fsafe_process_peek(pid, word, bytes, 4) ? judge_nameless(pid, call, word, bytes[0]) : FSAFE_CANNOT_TELL;
}

static bool is_in_lock(long pid, const struct fsafe_process_call *call)
{
    unsigned long operation = call->arguments[1] & 0x7f;
    return fsafe_process_is_futex(pid, call) &&
           (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET || operation == FUTEX_LOCK_PI);
}

/*
 * Whether the process may wait, by other means than a lock, for a thread that only its parent has: to set a flag at
 * which the process looks again and again, or to write to a pipe.
 */
static bool may_miss_a_thread(long pid)
{
    return fsafe_process_is_fork(pid) && fsafe_process_status(pid, "Threads") == 1 &&
           fsafe_process_status(fsafe_process_status(pid, "PPid"), "Threads") > 1;
}

/*
 * Whether a thread that runs, or sleeps outside of locks, goes on after the stop in which its stack is read as if there
 * had been none. The kernel ends other calls with EINTR, epoll_wait among them: see signal(7).
 */
static bool bears_a_stop(long pid, const struct fsafe_process_call *call)
{
    switch (call->number) {
    case -1:
        return true;
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
    case SYS_read:
#ifdef SYS_nanosleep
    case SYS_nanosleep:
#endif
#ifdef SYS_clock_nanosleep
    case SYS_clock_nanosleep:
#endif
        return fsafe_process_address_bytes(pid) == sizeof(void *);
    default:
        return false;
    }
}

/* What the wait is, by its system call. */
static void print_call(long pid, long number)
{
    static const struct {
        long number;
        const char *name;
    } calls[] = {
#ifdef SYS_epoll_wait
        {SYS_epoll_wait, "epoll_wait"},
#endif
#ifdef SYS_select
        {SYS_select, "select"},
#endif
#ifdef SYS_accept
        {SYS_accept, "accept"},
#endif
        {SYS_epoll_pwait, "epoll_pwait"}, {SYS_pselect6, "pselect6"}, {SYS_wait4, "wait4"}, {SYS_waitid, "waitid"},
        {SYS_accept4, "accept4"}, {SYS_connect, "connect"}, {SYS_recvfrom, "recvfrom"},
        {SYS_recvmsg, "recvmsg"}, {SYS_sendto, "sendto"}, {SYS_sendmsg, "sendmsg"}, {SYS_write, "write"},
        {SYS_flock, "flock"}, {SYS_fcntl, "fcntl"}, {SYS_rt_sigtimedwait, "rt_sigtimedwait"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i].number == number && fsafe_process_address_bytes(pid) == sizeof(void *)) {
            printf("%s\n", calls[i].name);
            return;
        }
    printf("%ld\n", number);
}

static enum fsafe_judgement judge_other(long pid, const struct fsafe_process_call *call)
{
    switch (fsafe_pipes_look(pid, call, true)) {
    case FSAFE_PIPES_OF_SELF:
        if (fsafe_process_has_handler(pid)) {
            puts("    this process has one thread: nobody can write, unless a signal handler does");
            return FSAFE_CANNOT_TELL;
        }
        puts("    this process has one thread: nobody can write");
        return FSAFE_BECAUSE_OF_FORK;
    case FSAFE_PIPES_OF_OTHERS:
        return FSAFE_NOT_BECAUSE;
    default:
        return FSAFE_CANNOT_TELL;
    }
}

enum fsafe_judgement fsafe_judge_thread(long pid, long tid)
{
    char name[64];
    struct fsafe_process_call call;
    struct fsafe_stack stack;
    bool known = fsafe_process_call(pid, tid, &call);
    int why = errno;
    bool locks = known && is_in_lock(pid, &call);
    fsafe_process_thread_name(pid, tid, name);
    if (!known) {
        printf("thread %ld \"%s\" cannot be looked at: %s\n", tid, name,
               why == EACCES || why == EPERM ? "only the process's user may do that, or root" : strerror(why));
        return FSAFE_CANNOT_TELL;
    }
    if (!locks && !may_miss_a_thread(pid)) {
        printf("thread %ld \"%s\": waits for no lock\n", tid, name);
        return FSAFE_NOT_BECAUSE;
    }
    if (!locks && !bears_a_stop(pid, &call)) {
        printf("thread %ld \"%s\" waits for no lock, is in system call ", tid, name);
        print_call(pid, call.number);
        return judge_other(pid, &call);
    }
    printf("thread %ld \"%s\" %s in:\n", tid, name, locks ? "sleeps" : "waits for no lock, is");
    fsafe_stack_read(&stack, pid, tid);
    print_functions(&stack, pid, tid);
    enum fsafe_judgement verdict = locks ? judge_wait(pid, tid, &stack, &call) : judge_other(pid, &call);
    if (verdict == FSAFE_NOT_BECAUSE || fsafe_process_is_fork(pid))
        return verdict;
    puts("    but this process has executed a program since it was forked");
    return FSAFE_NOT_BECAUSE;
}

bool fsafe_judge_may_hang(long pid, long tid)
{
    struct fsafe_process_call call;
    return fsafe_process_call(pid, tid, &call) &&
           (is_in_lock(pid, &call) ||
            (may_miss_a_thread(pid) && fsafe_pipes_look(pid, &call, false) == FSAFE_PIPES_OF_SELF));
}
