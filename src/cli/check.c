/*
 * cli/check: looks at a process that hangs, whether the library is in it or not: which lock each of its threads sleeps
 * on, who has that lock, and whether that thread was left behind by a fork.
 */
#include "config.h"

#include "cli/cli.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char help[] =
    "Usage: forksafe check PID\n"
    "Look at a process that hangs, with libforksafe in it or without: which lock each thread\n"
    "waits for, who has it, and whether that thread was left behind by a fork.\n"
    "\n"
    "  -h, --help   display this help and exit\n"
    "\n"
    "Needs the right to trace the process: its user's, and where the kernel restricts that\n"
    "(kernel.yama.ptrace_scope), root's. Stops the process for a moment.\n"
    "\n"
    "Example:\n"
    "  forksafe check $(pgrep -n worker)\n"
    "\n"
    "Exit status: 0 if it hangs because of a fork, 1 if it does not, 2 if that cannot be told.\n";

enum verdict { BECAUSE_OF_FORK, NOT_BECAUSE, CANNOT_TELL };

/* A word of a status file, as a number; 0 when it is not there. */
static long status_of(long pid, const char *word)
{
    char path[64], line[256];
    long value = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, word, strlen(word)) == 0 && line[strlen(word)] == ':')
            value = strtol(line + strlen(word) + 1, NULL, 10);
    if (file != NULL)
        fclose(file);
    return value;
}

static bool is_thread(long pid, long tid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task/%ld", pid, tid);
    return tid > 0 && access(path, F_OK) == 0;
}

static void name_of(long pid, long tid, char name[64])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/comm", pid, tid);
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(name, 64, file) == NULL)
        strcpy(name, "?");
    name[strcspn(name, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
}

static bool peek(long pid, uint64_t from, void *into, size_t bytes)
{
    struct iovec local = {.iov_base = into, .iov_len = bytes};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
    return process_vm_readv((pid_t)pid, &local, 1, &remote, 1, 0) == (ssize_t)bytes;
}

#ifdef HAVE_LIBDW

#include <elfutils/libdwfl.h>

enum { FRAMES = 24 };
struct stack {
    Dwfl *dwfl;
    uint64_t pc[FRAMES];
    bool exact[FRAMES]; /* the instruction itself; else one that a call returns to */
    size_t count;
};

static int see_frame(Dwfl_Frame *frame, void *context)
{
    struct stack *stack = context;
    Dwarf_Addr pc;
    bool exact;
    if (stack->count == FRAMES || !dwfl_frame_pc(frame, &pc, &exact))
        return DWARF_CB_ABORT;
    stack->exact[stack->count] = exact;
    stack->pc[stack->count++] = pc;
    return DWARF_CB_OK;
}

/* Fills in the stack of a thread. The process is let go at once. */
static void read_stack(struct stack *stack, long pid, long tid)
{
    static char *debuginfo_path;
    static const Dwfl_Callbacks callbacks = {
        .find_elf = dwfl_linux_proc_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .debuginfo_path = &debuginfo_path,
    };
    stack->count = 0;
    stack->dwfl = dwfl_begin(&callbacks);
    if (stack->dwfl == NULL || dwfl_linux_proc_report(stack->dwfl, (pid_t)pid) != 0 ||
        dwfl_report_end(stack->dwfl, NULL, NULL) != 0 || dwfl_linux_proc_attach(stack->dwfl, (pid_t)pid, false) != 0)
        return;
    dwfl_getthread_frames(stack->dwfl, (pid_t)tid, see_frame, stack);
}

static void end_stack(struct stack *stack)
{
    if (stack->dwfl != NULL)
        dwfl_end(stack->dwfl);
}

static const char *symbol_at(const struct stack *stack, size_t i)
{
    uint64_t at = stack->pc[i] - !stack->exact[i];
    Dwfl_Module *module = dwfl_addrmodule(stack->dwfl, at);
    const char *name = module != NULL ? dwfl_module_addrname(module, at) : NULL;
    return name != NULL ? name : "?";
}

static void print_stack(const struct stack *stack)
{
    for (size_t i = 0; i < stack->count; i++) {
        uint64_t at = stack->pc[i] - !stack->exact[i];
        Dwfl_Module *module = dwfl_addrmodule(stack->dwfl, at);
        Dwfl_Line *line = module != NULL ? dwfl_module_getsrc(module, at) : NULL;
        int number = 0;
        const char *file = line != NULL ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
        const char *path = NULL;
        if (module != NULL)
            dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, &path, NULL);
        printf("        %s", fsafe_cli_demangle(symbol_at(stack, i)));
        if (file != NULL)
            printf(" at %s:%d\n", file, number);
        else
            printf(" in %s\n", path != NULL ? path : "?");
    }
}

#else

struct stack {
    size_t count;
};

static void read_stack(struct stack *stack, long pid, long tid)
{
    (void)pid, (void)tid;
    stack->count = 0;
}

static void end_stack(struct stack *stack)
{
    (void)stack;
}

static const char *symbol_at(const struct stack *stack, size_t i)
{
    (void)stack, (void)i;
    return "?";
}

static void print_stack(const struct stack *stack)
{
    (void)stack;
}

#endif

/* Which kind of lock the innermost functions wait for. */
static const char *find_call(const struct stack *stack, const char *const *parts)
{
    for (size_t i = 0; i < stack->count && i < 6; i++)
        for (const char *const *part = parts; *part != NULL; part++)
            if (strstr(symbol_at(stack, i), *part) != NULL)
                return symbol_at(stack, i);
    return NULL;
}

/* The thread that a lock's bytes name: is it here, or only in the parent? */
static enum verdict judge_owner(long pid, long owner)
{
    long parent = status_of(pid, "PPid");
    char name[64];
    struct stack stack;
    if (is_thread(pid, owner)) {
        name_of(pid, owner, name);
        printf("    held by thread %ld \"%s\" of the same process:\n", owner, name);
        read_stack(&stack, pid, owner);
        print_stack(&stack);
        end_stack(&stack);
        return NOT_BECAUSE;
    }
    if (!is_thread(parent, owner)) {
        printf("    held by thread %ld, which exists neither here nor in the parent %ld\n", owner, parent);
        return BECAUSE_OF_FORK;
    }
    name_of(parent, owner, name);
    printf("    held by thread %ld \"%s\", which only the parent %ld has; there it is now in:\n", owner, name, parent);
    read_stack(&stack, parent, owner);
    print_stack(&stack);
    end_stack(&stack);
    return BECAUSE_OF_FORK;
}

/* A lock that names nobody: does its twin in the parent say more? */
static enum verdict judge_nameless(long pid, uint64_t address, uint32_t value)
{
    long parent = status_of(pid, "PPid");
    uint32_t there;
    if (peek(parent, address, &there, sizeof there))
        printf("    it names no owner; its value is %u here, and %u at the same address in the parent %ld\n", value,
               there, parent);
    else
        printf("    it names no owner; its value is %u\n", value);
    if (status_of(pid, "Threads") == 1) {
        puts("    this process has one thread: nobody here can release it");
        return BECAUSE_OF_FORK;
    }
    return CANNOT_TELL;
}

static enum verdict judge_wait(long pid, const struct stack *stack, uint64_t word)
{
    static const char *const mutexes[] = {"pthread_mutex_", "__lll_lock_wait", "lll_mutex_lock", NULL};
    static const char *const rwlocks[] = {"pthread_rwlock_", NULL}, *const semaphores[] = {"sem_wait", "sem_timedwait",
                                                                                         "sem_clockwait", NULL};
    static const char *const conditions[] = {"pthread_cond_", NULL};
    static const char *const kinds[] = {"normal", "recursive", "errorcheck", "adaptive"};
    uint32_t bytes[14];
    if (find_call(stack, conditions) != NULL) {
        printf("    waits for a signal on the condition variable of word 0x%lx\n", (unsigned long)word);
        return CANNOT_TELL;
    }
    if (find_call(stack, rwlocks) != NULL) {
        /* It sleeps on one of two words; the writer's id follows behind both. */
        for (uint64_t lock = word - 12; lock <= word - 8; lock += 4) {
            if (lock % 8 != 0 || !peek(pid, lock, bytes, sizeof bytes))
                continue;
            printf("    waits for rwlock 0x%lx (%u readers%s)\n", (unsigned long)lock, bytes[0] >> 3,
                   (bytes[0] & 3) == 3 ? ", written" : "");
            return bytes[6] != 0 ? judge_owner(pid, bytes[6]) : judge_nameless(pid, lock, bytes[0]);
        }
        return CANNOT_TELL;
    }
    if (find_call(stack, semaphores) != NULL) {
        bool pythons = find_call(stack, (const char *const[]){"PyThread_acquire_lock", NULL}) != NULL;
        printf("    waits for semaphore 0x%lx%s\n", (unsigned long)word, pythons ? " (a lock of Python's)" : "");
        return peek(pid, word, bytes, 4) ? judge_nameless(pid, word, bytes[0]) : CANNOT_TELL;
    }
    if (find_call(stack, mutexes) != NULL && peek(pid, word, bytes, 20)) {
        printf("    waits for mutex 0x%lx (%s%s%s)\n", (unsigned long)word, kinds[bytes[4] & 3],
               (bytes[4] & 0x10) != 0 ? ", robust" : "", (bytes[4] & 0x20) != 0 ? ", priority inheritance" : "");
        return bytes[2] != 0 ? judge_owner(pid, bytes[2]) : judge_nameless(pid, word, bytes[0]);
    }
    printf("    sleeps on a futex at 0x%lx that no known call waits for\n", (unsigned long)word);
    return peek(pid, word, bytes, 4) ? judge_nameless(pid, word, bytes[0]) : CANNOT_TELL;
}

/* One thread: the system call it is in, its stack, the lock. */
static enum verdict check_thread(long pid, long tid)
{
    char path[64], name[64];
    long call = -1;
    unsigned long word = 0, operation = 0;
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/syscall", pid, tid);
    FILE *file = fopen(path, "re");
    int fields = file == NULL ? 0 : fscanf(file, "%ld %lx %lx", &call, &word, &operation);
    if (file != NULL)
        fclose(file);
    name_of(pid, tid, name);
    operation &= 0x7f;
    if (fields < 3 || call != SYS_futex ||
        (operation != FUTEX_WAIT && operation != FUTEX_WAIT_BITSET && operation != FUTEX_LOCK_PI)) {
        printf("thread %ld \"%s\": waits for no lock\n", tid, name);
        return fields < 1 ? CANNOT_TELL : NOT_BECAUSE;
    }
    struct stack stack;
    printf("thread %ld \"%s\" sleeps in:\n", tid, name);
    read_stack(&stack, pid, tid);
    print_stack(&stack);
    enum verdict verdict = judge_wait(pid, &stack, word);
    end_stack(&stack);
    return verdict;
}

int fsafe_cli_check(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char *const words[] = {"yes", "no", "cannot tell"};
    for (int option; (option = getopt_long(argc, argv, "+h", options, NULL)) != -1;) {
        if (option == 'h')
            fsafe_cli_print_and_exit(help);
        fsafe_cli_fail_usage("check", "see above");
    }
    if (argc - optind != 1)
        fsafe_cli_fail_usage("check", "which process?");
    char *end;
    long pid = strtol(argv[optind], &end, 10);
    if (*end != '\0' || pid <= 0)
        fsafe_cli_fail_usage("check", "'%s' is no process id", argv[optind]);
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        fsafe_cli_fail("process %ld: %s", pid, strerror(errno));
    enum verdict all = NOT_BECAUSE;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        enum verdict one = check_thread(pid, strtol(entry->d_name, NULL, 10));
        if (one == BECAUSE_OF_FORK || (one == CANNOT_TELL && all != BECAUSE_OF_FORK))
            all = one;
    }
    closedir(tasks);
    printf("hangs because of a fork: %s\n", words[all]);
    return fflush(stdout) == EOF ? 125 : (int)all;
}
