#include "libc.h"
#include "scenario.h"
#include "../moment.h"
#include "../names.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MAX_CASES = 600, VICTIM_SECONDS = 90 };

/* How the case ended, seen by all its processes. */
struct board {
    atomic_int taken;
    char outcome[32];
    char detail[256];
};

static struct scn_case cases[MAX_CASES];
static int case_count;
static struct board *board;
static pid_t victim_pid;
static unsigned alarm_seconds = 10;

/* --- Ends ----------------------------------------------------------------------------------------------------- */

static _Noreturn void end(const char *outcome, const char *where, const char *what)
{
    if (!atomic_exchange(&board->taken, 1)) {
        snprintf(board->outcome, sizeof board->outcome, "%s", outcome);
        snprintf(board->detail, sizeof board->detail, "%s: %s", where, what);
    }
    if (getpid() == victim_pid)
        dprintf(STDOUT_FILENO, "%s\n# %s\n", board->outcome, board->detail);
    _exit(1);
}

_Noreturn void scn_fine(void)
{
    if (getpid() == victim_pid)
        dprintf(STDOUT_FILENO, "fine\n");
    _exit(0);
}

_Noreturn void scn_fails(int error, const char *where, const char *what)
{
    static const struct {
        int error;
        const char *name;
    } names[] = {{EPERM, "EPERM"},         {EBUSY, "EBUSY"},   {EAGAIN, "EAGAIN"}, {ETIMEDOUT, "ETIMEDOUT"},
                 {EDEADLK, "EDEADLK"},     {EINVAL, "EINVAL"}, {EINTR, "EINTR"},   {EOWNERDEAD, "EOWNERDEAD"},
                 {ENOTRECOVERABLE, "ENOTRECOVERABLE"}, {ENOEXEC, "ENOEXEC"}};
    char outcome[32];
    snprintf(outcome, sizeof outcome, "fails %d", error);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].error == error)
            snprintf(outcome, sizeof outcome, "fails %s", names[i].name);
    end(outcome, where, what);
}

_Noreturn void scn_wrong(const char *where, const char *what)
{
    end("wrong", where, what);
}

_Noreturn void scn_skip(const char *reason)
{
    dprintf(STDOUT_FILENO, "skipped: %s\n", reason);
    _exit(1);
}

/* For calls of the harness itself, which have no reason to fail. */
static void must(bool good, const char *what)
{
    if (!good)
        end("wrong", "harness", what);
}

/* --- Processes ------------------------------------------------------------------------------------------------ */

void scn_arm(void)
{
    signal(SIGALRM, SIG_DFL);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(alarm_seconds);
}

void scn_give_up_board(void)
{
    must(munmap(board, sizeof *board) == 0, "munmap");
}

pid_t scn_fork(void)
{
    const pid_t parent = getpid();
    const pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) {
        scn_arm();
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

void scn_reap(pid_t child)
{
    /* The child's alarm bounds this wait; ours would only end the wrong process first. */
    const unsigned left = alarm(0);
    int status;
    pid_t got;
    do
        got = waitpid(child, &status, 0);
    while (got < 0 && errno == EINTR);
    must(got == child, "waitpid");
    alarm(left);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (WIFEXITED(status)) /* it has told on the board */
        end("wrong", "reaped", "a child that exited without a word");
    if (WTERMSIG(status) == SIGALRM)
        end("hangs", "reaped", "a child that its alarm ended");
    char outcome[32];
    snprintf(outcome, sizeof outcome, "dies SIG%s", signal_name(WTERMSIG(status)));
    end(outcome, "reaped", "a child that a signal ended");
}

void scn_needs_calls(void)
{
    long call = -1;
    FILE *file = fopen("/proc/self/syscall", "re");
    if (file == NULL || fscanf(file, "%ld", &call) != 1 || call != SYS_read)
        scn_skip("/proc does not show the system calls of this program");
    fclose(file);
}

/* --- Threads -------------------------------------------------------------------------------------------------- */

pthread_t scn_start(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, body, argument) == 0, "pthread_create");
    return thread;
}

void scn_join(pthread_t thread)
{
    must(pthread_join(thread, NULL) == 0, "pthread_join");
}

struct errand {
    int (*body)(void *);
    void *argument;
    int result;
};

static void *errand_body(void *raw)
{
    struct errand *errand = raw;
    errand->result = errand->body(errand->argument);
    return NULL;
}

int scn_elsewhere(int (*body)(void *), void *argument)
{
    struct errand errand = {body, argument, 0};
    scn_join(scn_start(errand_body, &errand));
    return errand.result;
}

int scn_bell(void)
{
    const int bell = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
    must(bell >= 0, "eventfd");
    return bell;
}

void scn_ring(int bell)
{
    must(eventfd_write(bell, 1) == 0, "ring");
}

void scn_await(int bell)
{
    eventfd_t taken;
    while (eventfd_read(bell, &taken) != 0)
        must(errno == EINTR, "await");
}

void *scn_stay(void *bell)
{
    scn_await(*(int *)bell);
    return NULL;
}

/* '\0': it has ended. */
static char thread_state(pid_t tid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)tid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return '\0';
    const ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return '\0';
    text[length] = '\0';
    const char *name_end = strrchr(text, ')');
    must(name_end && name_end[1] == ' ', path);
    return name_end[2];
}

void scn_await_asleep(pid_t tid, const atomic_int *instead)
{
    char state;
    while (!(instead && atomic_load(instead)) && (state = thread_state(tid)) != 'S') {
        must(state != '\0' || (instead && atomic_load(instead)), "a thread ended that was to sleep");
        sched_yield();
    }
}

void scn_await_sleeper(const atomic_int *tid)
{
    while (!atomic_load(tid))
        sched_yield();
    scn_await_asleep(atomic_load(tid), NULL);
}

/* --- Locks ---------------------------------------------------------------------------------------------------- */

static void *holder_body(void *raw)
{
    struct scn_holder *holder = raw;
    pthread_setname_np(pthread_self(), "worker");
    for (int i = 0; i < holder->depth; i++)
        SCN_IS(holder->take(holder->lock), 0);
    const int leave = holder->leave; /* the one who waits for `held` may be gone from where *holder is */
    scn_ring(holder->held);
    scn_await(leave);
    for (int i = 0; i < holder->depth; i++)
        SCN_IS(holder->give(holder->lock), 0);
    return NULL;
}

void scn_hold(struct scn_holder *holder, scn_call *take, scn_call *give, void *lock, int depth)
{
    *holder = (struct scn_holder){
        .take = take, .give = give, .lock = lock, .depth = depth, .held = scn_bell(), .leave = scn_bell()};
    holder->thread = scn_start(holder_body, holder);
    scn_await(holder->held);
}

void scn_let_go(void *raw)
{
    struct scn_holder *holder = raw;
    scn_ring(holder->leave);
    scn_join(holder->thread);
    close(holder->held);
    close(holder->leave);
}

static void *waiter_body(void *raw)
{
    struct scn_waiter *waiter = raw;
    atomic_store(&waiter->tid, (int)syscall(SYS_gettid));
    SCN_IS(waiter->take(waiter->lock), 0);
    atomic_store(&waiter->got, 1);
    SCN_IS(waiter->give(waiter->lock), 0);
    return NULL;
}

void scn_want(struct scn_waiter *waiter, scn_call *take, scn_call *give, void *lock)
{
    waiter->take = take;
    waiter->give = give;
    waiter->lock = lock;
    atomic_init(&waiter->tid, 0);
    atomic_init(&waiter->got, 0);
    waiter->thread = scn_start(waiter_body, waiter);
    while (!atomic_load(&waiter->tid))
        sched_yield();
    scn_await_asleep(atomic_load(&waiter->tid), &waiter->got);
}

static void *hammer_body(void *raw)
{
    struct scn_hammer *hammer = raw;
    while (!atomic_load_explicit(&hammer->stop, memory_order_relaxed)) {
        SCN_IS(hammer->take(hammer->lock), 0);
        SCN_IS(hammer->give(hammer->lock), 0);
        atomic_store_explicit(&hammer->started, 1, memory_order_relaxed);
    }
    return NULL;
}

void scn_hammer_start(struct scn_hammer *hammer, scn_call *take, scn_call *give, void *lock, int threads)
{
    hammer->take = take;
    hammer->give = give;
    hammer->lock = lock;
    hammer->threads = threads;
    atomic_init(&hammer->stop, 0);
    atomic_init(&hammer->started, 0);
    for (int i = 0; i < threads; i++)
        hammer->thread[i] = scn_start(hammer_body, hammer);
    while (!atomic_load(&hammer->started))
        sched_yield();
}

void scn_hammer_stop(struct scn_hammer *hammer)
{
    atomic_store(&hammer->stop, 1);
    for (int i = 0; i < hammer->threads; i++)
        scn_join(hammer->thread[i]);
}

struct exclusion {
    scn_call *take, *give;
    void *lock;
    int rounds;
    /* Plain on purpose: only the lock under test keeps them right. volatile, so that each round really stores. */
    volatile int inside;
    volatile long count;
};

static void *exclusion_body(void *raw)
{
    struct exclusion *shared = raw;
    for (int i = 0; i < shared->rounds; i++) {
        SCN_IS(shared->take(shared->lock), 0);
        if (shared->inside)
            scn_wrong(SCN_WHERE, "two threads inside");
        shared->inside = 1;
        shared->count = shared->count + 1;
        shared->inside = 0;
        SCN_IS(shared->give(shared->lock), 0);
    }
    return NULL;
}

void scn_exclusion(scn_call *take, scn_call *give, void *lock, int threads, int rounds)
{
    struct exclusion shared = {take, give, lock, rounds, 0, 0};
    pthread_t thread[16];
    must(threads <= 16, "too many threads");
    for (int i = 0; i < threads; i++)
        thread[i] = scn_start(exclusion_body, &shared);
    for (int i = 0; i < threads; i++)
        scn_join(thread[i]);
    SCN_CHECK(shared.count == (long)threads * rounds);
}

void scn_must_wait(scn_call *take, scn_call *give, void *lock, void (*release)(void *), void *argument)
{
    struct scn_waiter waiter;
    scn_want(&waiter, take, give, lock);
    SCN_CHECK(!atomic_load(&waiter.got));
    release(argument);
    scn_join(waiter.thread);
    SCN_CHECK(atomic_load(&waiter.got));
}

/* --- Odds and ends ---------------------------------------------------------------------------------------------- */

/*
 * The function NAME of one object, by the object's own table: dlsym would find the library's. Of several versions the
 * one that programs are linked with today, which is not hidden.
 */
static void *function_of(const struct link_map *object, const char *name)
{
    enum { HIDDEN = 0x8000 };
    const char *names = NULL;
    const ElfW(Sym) *symbols = NULL;
    const ElfW(Half) *versions = NULL;
    for (const ElfW(Dyn) *entry = object->l_ld; entry->d_tag != DT_NULL; entry++) {
        /* The loader has made them addresses, except where it may not write there. */
        const ElfW(Addr) at = entry->d_un.d_ptr + (entry->d_un.d_ptr < object->l_addr ? object->l_addr : 0);
        if (entry->d_tag == DT_STRTAB)
            names = (const char *)at;
        else if (entry->d_tag == DT_SYMTAB)
            symbols = (const ElfW(Sym) *)at;
        else if (entry->d_tag == DT_VERSYM)
            versions = (const ElfW(Half) *)at;
    }
    /* Every linker puts the names right behind the symbols. */
    for (size_t i = 1; versions != NULL && (const char *)&symbols[i + 1] <= names; i++)
        if (symbols[i].st_shndx != SHN_UNDEF && (symbols[i].st_info & 0xf) == STT_FUNC &&
            (versions[i] & HIDDEN) == 0 && strcmp(&names[symbols[i].st_name], name) == 0)
            return (void *)(object->l_addr + symbols[i].st_value);
    return NULL;
}

void *scn_libc(const char *name)
{
    static const char *const parts[] = {"libc.so.6", "libpthread.so.0", "libresolv.so.2"}; /* one from 2.34 on */
    void *function = NULL;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && function == NULL; i++) {
        struct link_map *part = dlopen(parts[i], RTLD_NOLOAD | RTLD_NOW);
        must(part != NULL || i > 0, parts[i]);
        function = part != NULL ? function_of(part, name) : NULL;
    }
    must(function != NULL, name);
    return function;
}

bool scn_glibc_since(int minor)
{
    const char *version = gnu_get_libc_version();
    return strncmp(version, "2.", 2) == 0 && atoi(version + 2) >= minor;
}

bool scn_handlers_may_fork(void)
{
    return strncmp(gnu_get_libc_version(), "2.", 2) != 0 || scn_glibc_since(36);
}

struct timespec scn_in_ms(clockid_t clock, long ms)
{
    return moment_in_us(clock, ms * 1000LL);
}

long scn_resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    must(file && fscanf(file, "%*d %ld", &pages) == 1, "/proc/self/statm");
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* --- The victim ------------------------------------------------------------------------------------------------- */

void scn_add(struct scn_case added, const char *name_format, ...)
{
    if (case_count == MAX_CASES)
        abort();
    va_list values;
    va_start(values, name_format);
    vsnprintf(added.name, sizeof added.name, name_format, values);
    va_end(values);
    cases[case_count++] = added;
}

void scn_add_rows(const struct scn_row *rows, size_t count, struct scn_case rest, const char *suffix)
{
    for (const struct scn_row *row = rows; row < rows + count; row++) {
        struct scn_case added = rest;
        added.run = row->run;
        added.number = row->number;
        added.says = row->says != NULL ? row->says : rest.says;
        added.bare = row->bare != NULL ? row->bare : rest.bare;
        scn_add(added, "%s%s%s", row->name, suffix != NULL ? "-" : "", suffix != NULL ? suffix : "");
    }
}

int scn_often(int count)
{
    const char *percent = getenv("SCENARIO_PERCENT");
    const int often = percent ? (int)((long)count * atoi(percent) / 100) : count;
    return often > 0 ? often : 1;
}

static const char *or_dash(const char *text)
{
    return text ? text : "-";
}

int main(int argc, char **argv)
{
    scn_cases();
    if (argc != 2) {
        fprintf(stderr, "usage: %s --list | CASE\n", argv[0]);
        return 2;
    }
    if (strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < case_count; i++)
            printf("%s\t%s\t%s\t%s\t%s\n", cases[i].name, cases[i].bare,
                   cases[i].preloaded ? cases[i].preloaded : "fine", or_dash(cases[i].env), or_dash(cases[i].says));
        return 0;
    }

    const char *seconds = getenv("SCENARIO_SECONDS");
    if (seconds)
        alarm_seconds = (unsigned)atoi(seconds);
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    victim_pid = getpid();
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 2;
    alarm(VICTIM_SECONDS);
    for (int i = 0; i < case_count; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run(&cases[i]);
            scn_fine();
        }
    fprintf(stderr, "%s: no case %s\n", argv[0], argv[1]);
    return 2;
}
