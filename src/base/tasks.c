/*
 * Measured. `__libc_single_threaded` stays 0 in a forked child, also after it joined its last thread. The link count of
 * /proc/self/task (2 + threads), and `unshare(CLONE_THREAD)` where /proc is missing, are right.
 */
#include "config.h"

#include "base/sys.h"
#include "base/tasks.h"
#include "base/text.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>

/* The files that the thread has open here, or is about to open. An entry whose frame is 0 is free. */
enum { FILES = 4, PATH_BYTES = 64 };
static __thread struct file {
    uintptr_t frame;
    const char *name;
    pid_t pid, tid;
    int fd; /* -1: not known yet */
} files[FILES] __attribute__((tls_model("initial-exec")));

/* The file's path; with `as_link` as the kernel calls it. Returns its length. */
static size_t put_path(char path[PATH_BYTES], pid_t pid, pid_t tid, const char *name, bool as_link)
{
    struct fsafe_text text;
    fsafe_text_begin(&text, path, PATH_BYTES - 1);
    fsafe_text_put(&text, pid == 0 && !as_link ? "/proc/self" : "/proc/%d", pid != 0 ? pid : fsafe_sys_getpid());
    if (tid != 0)
        fsafe_text_put(&text, "/task/%d", tid);
    fsafe_text_put(&text, "/%s", name);
    path[text.length] = '\0';
    return text.length;
}

int fsafe_tasks_open(pid_t pid, pid_t tid, const char *name, int flags)
{
    char path[PATH_BYTES];
    struct file *file = files;
    while (file < files + FILES && file->frame != 0)
        file++;
    put_path(path, pid, tid, name, false);
    if (file == files + FILES)
        return fsafe_sys_open(path, O_RDONLY | flags, 0);
    *file = (struct file){.name = name, .pid = pid, .tid = tid, .fd = -1};
    atomic_signal_fence(memory_order_seq_cst);
    file->frame = (uintptr_t)__builtin_frame_address(0);
    atomic_signal_fence(memory_order_seq_cst);
    file->fd = fsafe_sys_open(path, O_RDONLY | flags, 0);
    if (file->fd < 0)
        file->frame = 0;
    return file->fd;
}

void fsafe_tasks_close(int fd)
{
    for (struct file *file = files; file < files + FILES; file++)
        if (file->fd == fd)
            file->frame = 0;
    fsafe_sys_close(fd);
}

bool fsafe_tasks_has_no_descriptor(void)
{
    int fd = fsafe_tasks_open(0, 0, "task", O_DIRECTORY);
    if (fd >= 0)
        fsafe_tasks_close(fd);
    return fd == -EMFILE;
}

/* Where the descriptor is unknown, because the signal came while the kernel opened the file, its path finds it. */
static void close_left(const struct file *file)
{
    enum { MOST = 1024 };
    char path[PATH_BYTES], name[PATH_BYTES], link[PATH_BYTES];
    size_t length = put_path(path, file->pid, file->tid, file->name, true);
    for (int fd = file->fd < 0 ? 0 : file->fd; fd < (file->fd < 0 ? MOST : file->fd + 1); fd++) {
        struct fsafe_text text;
        fsafe_text_begin(&text, name, sizeof name - 1);
        fsafe_text_put(&text, "/proc/self/fd/%d", fd);
        name[text.length] = '\0';
        long got = FSAFE_SYS(SYS_readlinkat, AT_FDCWD, name, link, sizeof link);
        if (got == (long)length && memcmp(link, path, length) == 0) {
            fsafe_sys_close(fd);
            return;
        }
    }
}

void fsafe_tasks_close_left(uintptr_t frame)
{
    for (struct file *file = files; file < files + FILES; file++)
        if (FSAFE_UNLIKELY(file->frame != 0) && file->frame < frame && fsafe_sys_signal_stack() == 0) {
            close_left(file);
            file->frame = 0;
        }
}

ssize_t fsafe_tasks_read(pid_t pid, pid_t tid, const char *name, char *into, size_t bytes)
{
    int fd = fsafe_tasks_open(pid, tid, name, 0);
    ssize_t got = fd >= 0 ? fsafe_sys_read(fd, into, bytes - 1) : fd;
    if (fd >= 0)
        fsafe_tasks_close(fd);
    into[got > 0 ? got : 0] = '\0';
    return got;
}

/* Whether thread `tid` of this process sleeps in one of the kernel's functions for futexes. */
static bool is_in_futex(pid_t tid)
{
    static const char begins[] = "futex_";
    char name[sizeof begins];
    fsafe_tasks_read(0, tid, "wchan", name, sizeof name);
    return strcmp(name, begins) == 0;
}

/* The file has "number, six arguments, stack pointer, instruction", or "running". */
static bool look_at_call(pid_t pid, pid_t tid, struct fsafe_task *task)
{
    enum { ARGUMENTS = 6 };
    char line[256];
    ssize_t got = fsafe_tasks_read(pid, tid, "syscall", line, sizeof line);
    if (got == -EACCES && pid == 0) {
        /* A process that has changed its user (a server that began as root) may not read this file of its own. */
        task->in_futex = is_in_futex(tid);
        return true;
    }
    task->call = -1;
    task->runs = line[0] == 'r';
    if (line[0] < '0' || line[0] > '9')
        return got > 0;
    const char *at = line;
    long argument[ARGUMENTS];
    task->call = (long)fsafe_text_read(&at, 10);
    for (unsigned i = 0; i < ARGUMENTS; i++)
        argument[i] = (long)fsafe_text_read(&at, 16);
    if (task->call == SYS_futex_wait && fsafe_sys_is_also_futex(argument))
        task->call = SYS_futex;
    memcpy(task->argument, argument, sizeof task->argument);
    task->stack = (uintptr_t)fsafe_text_read(&at, 16);
    task->at = (uintptr_t)fsafe_text_read(&at, 16);
    return true;
}

uintptr_t fsafe_tasks_place(pid_t pid, const struct fsafe_task *task)
{
#ifdef FSAFE_ARCH_GATE_BYTES
    unsigned char code[FSAFE_ARCH_GATE_BYTES];
    uintptr_t caller;
    if (fsafe_sys_peek_at(pid, task->at, code, sizeof code) == (long)sizeof code && fsafe_arch_is_gate(code) &&
        fsafe_sys_peek_at(pid, task->stack + FSAFE_ARCH_GATE_CALLER, &caller, sizeof caller) ==
            (long)sizeof caller)
        return caller;
#endif
    (void)pid;
    return task->at;
}

long fsafe_tasks_call(pid_t tid)
{
    struct fsafe_task task = {.call = -1};
    look_at_call(0, tid, &task);
    return task.in_futex ? FSAFE_SYS_FUTEX : task.call;
}

static const char *value_of(const char *line, const char *key)
{
    size_t length = strlen(key);
    return strncmp(line, key, length) == 0 ? line + length : NULL;
}

static bool parse(char *line, void *context)
{
    struct fsafe_task *task = context;
    const char *at;
    if ((at = value_of(line, "State:\t")) != NULL)
        task->ended = *at == 'Z' || *at == 'X';
    else if ((at = value_of(line, "NSpid:")) != NULL)
        while (*at == '\t')
            task->tid = (pid_t)fsafe_text_read(&at, 10);
    else if ((at = value_of(line, "SigBlk:")) != NULL)
        task->blocked = fsafe_text_read(&at, 16);
    else if ((at = value_of(line, "SigCgt:")) != NULL)
        task->caught = fsafe_text_read(&at, 16);
    else if ((at = value_of(line, "Seccomp:")) != NULL)
        task->filtered = fsafe_text_read(&at, 10) != 0;
    else if ((at = value_of(line, "voluntary_ctxt_switches:")) != NULL)
        task->switches = fsafe_text_read(&at, 10);
    return true;
}

static bool look_at_status(pid_t pid, pid_t tid, struct fsafe_task *task)
{
    char buffer[512];
    int fd = fsafe_tasks_open(pid, tid, "status", 0);
    ssize_t got = fd < 0 ? -1 : fsafe_sys_read(fd, buffer, sizeof buffer - 1);
    if (got > 0) {
        task->filtered = false; /* a kernel without seccomp has no such line */
        fsafe_sys_each_line(fd, buffer, sizeof buffer, (size_t)got, parse, task);
    }
    if (fd >= 0)
        fsafe_tasks_close(fd);
    return got > 0;
}

static bool look_at(pid_t pid, pid_t tid, struct fsafe_task *task)
{
    *task = (struct fsafe_task){.tid = tid, .call = -1, .filtered = true};
    return look_at_status(pid, tid, task) && (task->ended || look_at_call(pid, tid, task));
}

bool fsafe_tasks_look(pid_t tid, struct fsafe_task *task)
{
    return look_at(0, tid, task);
}

bool fsafe_tasks_waits_for_futex(const struct fsafe_task *task)
{
    unsigned operation = (unsigned)task->argument[1]; /* the register's other half may be anything */
    switch (fsafe_sys_is_futex(task->call) ? operation & (unsigned)FUTEX_CMD_MASK : UINT_MAX) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_WAIT_REQUEUE_PI:
#ifdef FUTEX_LOCK_PI2
    case FUTEX_LOCK_PI2:
#endif
        return true;
    default:
        return false;
    }
}

uint64_t fsafe_tasks_mark(uint64_t mark, const struct fsafe_task *task)
{
    return (mark ^ (uint64_t)task->tid ^ task->switches << 32) * 0x9e3779b97f4a7c15u;
}

bool fsafe_tasks_each(pid_t pid, bool (*each)(const struct fsafe_task *task, void *context), void *context)
{
    _Alignas(struct dirent64) char buffer[1024];
    long got = -1;
    bool go_on = true;
    int fd = fsafe_tasks_open(pid, 0, "task", O_DIRECTORY);
    if (fd < 0)
        return false;
    while (go_on && (got = FSAFE_SYS(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long offset = 0; go_on && offset < got;) {
            const struct dirent64 *entry = (const void *)(buffer + offset);
            struct fsafe_task task;
            const char *name = entry->d_name;
            offset += entry->d_reclen;
            if (*name != '.')
                go_on = look_at(pid, (pid_t)fsafe_text_read(&name, 10), &task) && each(&task, context);
        }
    }
    fsafe_tasks_close(fd);
    return go_on && got == 0;
}

/*
 * "id (name) state parent group session terminal its-group flags ..."; the name may contain anything. Reads it into
 * `line` and returns where the state is; NULL: the kernel does not tell.
 */
enum { LINE_BYTES = 512 };
static const char *read_state(pid_t pid, char *line)
{
    fsafe_tasks_read(pid, 0, "stat", line, LINE_BYTES);
    const char *at = strrchr(line, ')');
    return at == NULL || at[1] != ' ' || at[2] == '\0' || at[3] == '\0' ? NULL : at + 2;
}

/* `at` is a field, or the blank before it: returns the blank before the field that is `fields` later. */
static const char *skip(const char *at, unsigned fields)
{
    for (unsigned i = 0; i < fields; i++)
        for (at += *at != '\0'; *at != ' ' && *at != '\0'; at++)
            ;
    return at;
}

static bool has_one_thread(const char *state)
{
    enum { STATE_TO_THREADS = 17 };
    const char *threads = skip(state, STATE_TO_THREADS);
    return fsafe_text_read(&threads, 10) == 1;
}

bool fsafe_tasks_is_elsewhere(pid_t pid)
{
    struct fsafe_task task = {.runs = false};
    return look_at_call(pid, 0, &task) &&
           (task.runs || (task.call >= 0 && (task.argument[3] != 0 || !fsafe_tasks_waits_for_futex(&task))));
}

bool fsafe_tasks_are_of_namespace(void)
{
    char line[LINE_BYTES];
    const char *own = line;
    fsafe_tasks_read(0, 0, "stat", line, sizeof line);
    return (pid_t)fsafe_text_read(&own, 10) == fsafe_sys_getpid();
}

bool fsafe_tasks_is_fork(pid_t child)
{
    enum { STATE_TO_PARENT = 1, PARENT_TO_FLAGS = 5, FORKED_WITHOUT_EXEC = 0x40 };
    char line[LINE_BYTES];
    const char *at = read_state(child, line);
    if (at == NULL || (*at == 'Z' && has_one_thread(at))) /* its first thread alone may have ended */
        return false;
    const char *parent = skip(at, STATE_TO_PARENT), *flags = skip(parent, PARENT_TO_FLAGS);
    return (pid_t)fsafe_text_read(&parent, 10) == fsafe_sys_getpid() &&
           (fsafe_text_read(&flags, 10) & FORKED_WITHOUT_EXEC) != 0;
}

bool fsafe_tasks_waits_in_vfork(pid_t pid)
{
    char line[LINE_BYTES];
    const char *at = read_state(pid, line);
    return at != NULL && *at == 'D' && has_one_thread(at);
}

bool fsafe_tasks_parent_has(const char *file, const char *words, size_t bytes)
{
    char buffer[1024];
    ssize_t got;
    size_t matched = *words == '\0';
    pid_t parent = (pid_t)FSAFE_SYS(SYS_getppid);
    int fd = parent != 0 ? fsafe_tasks_open(parent, 0, file, 0) : -1; /* 0: it is outside of our namespace */
    if (fd < 0)
        return false;
    while (matched < bytes && (got = fsafe_sys_read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < got && matched < bytes; i++)
            matched = buffer[i] == words[matched] ? matched + 1 : buffer[i] == words[0];
    fsafe_tasks_close(fd);
    return matched == bytes;
}

static bool is_of_libc(int signal)
{
#ifdef FSAFE_LIBC_GLIBC
    enum { LAST = 33 };
#else
    enum { LAST = 34 };
#endif
    return signal >= 32 && signal <= LAST;
}

static bool is_own_doing(int signal)
{
    switch (signal) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGABRT:
    case SIGPIPE:
    case SIGXFSZ:
    case SIGXCPU:
    case SIGPROF:
    case SIGVTALRM:
        return true;
    default:
        return is_of_libc(signal);
    }
}

uint64_t fsafe_tasks_of_others(uint64_t signals)
{
    for (int signal = 1; signal <= 64; signal++)
        if (is_own_doing(signal))
            signals &= ~((uint64_t)1 << (signal - 1));
    return signals;
}

static void note_return(struct fsafe_handled *handled, uintptr_t place)
{
    for (unsigned i = 0; i < handled->places; i++)
        if (handled->returns[i] == place)
            return;
    if (handled->places < FSAFE_RETURNS)
        handled->returns[handled->places++] = place;
}

struct fsafe_handled fsafe_tasks_handled(void)
{
    enum { HAS_RETURN = 0x04000000 };
    struct fsafe_handled handled = {.places = 0};
    for (int signal = 1; signal <= 64; signal++) {
        /*
         * The kernel's struct sigaction: the handler, the flags, the place that the handler returns to, on machines
         * that have one. (On MIPS the first two change places.)
         */
        unsigned long action[8] = {0};
        if (is_of_libc(signal) || FSAFE_SYS(SYS_rt_sigaction, signal, 0, action, FSAFE_SIGSET_BYTES) != 0)
            continue;
        if (action[0] == (unsigned long)SIG_DFL || action[0] == (unsigned long)SIG_IGN)
            continue;
        uint64_t bit = (uint64_t)1 << (signal - 1);
        if ((action[1] & SA_RESTART) != 0)
            handled.restarting |= bit;
        else
            handled.interrupting |= bit;
        if ((action[1] & SA_NODEFER) != 0)
            handled.open |= bit;
        note_return(&handled, (action[1] & HAS_RETURN) != 0 ? action[2] : 0);
    }
    return handled;
}
