/*
 * Waits that nobody ends, behind each door: however the child was made, it is named there, and ended in mode abort. A
 * child that is told of a fork only when it waits is one of them.
 */
#include "libc.h"
#include "scenario.h"

#include <linux/futex.h>
#include <pty.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* --- Waits -------------------------------------------------------------------------------------------------------- */

static sem_t event;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condvar = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static uint32_t word;

static void wait_event(void) { sem_wait(&event); }
static void wait_condvar(void) { pthread_mutex_lock(&mutex), pthread_cond_wait(&condvar, &mutex); }
static void wait_rwlock(void) { pthread_rwlock_rdlock(&rwlock), pthread_rwlock_wrlock(&rwlock); }
static void wait_futex(void) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }

static void *wait_there(void *unused)
{
    wait_event();
    return unused;
}

static void wait_join(void) { scn_join(scn_start(wait_there, NULL)); }

static const struct {
    const char *name, *says;
    void (*wait)(void);
} waits[] = {
    {"event", "semaphore", wait_event},   {"condition", "condition variable", wait_condvar},
    {"rwlock", "rwlock", wait_rwlock},    {"futex", "futex", wait_futex},
    {"join", "semaphore|thread", wait_join},
};

/* --- Doors: each makes one child that calls `behind` -------------------------------------------------------------- */

static void (*behind)(void);

static void hang(void)
{
    scn_arm();
    behind();
    scn_wrong(SCN_WHERE, "a wait without an end is over");
}

static pid_t hang_in(pid_t child)
{
    if (child == 0)
        hang();
    return child;
}

static pid_t by_fork(void) { return hang_in(fork()); }
static pid_t by_bare_fork(void) { return hang_in(_Fork()); }
static pid_t by_sys_clone(void) { return hang_in((pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L)); }

#ifdef SYS_fork
static pid_t by_sys_fork(void) { return hang_in((pid_t)syscall(SYS_fork)); }
#endif

#ifdef SYS_clone3
static pid_t by_sys_clone3(void)
{
    uint64_t arguments[8] = {[4] = SIGCHLD};
    return hang_in((pid_t)syscall(SYS_clone3, arguments, sizeof arguments));
}
#endif

static int hang_on_stack(void *unused)
{
    hang();
    return 0;
}

static pid_t by_clone(void)
{
    static _Alignas(16) char stack[1 << 18];
    return clone(hang_on_stack, stack + sizeof stack, SIGCHLD, NULL);
}

/* The child's lines would go to the terminal. */
static pid_t by_forkpty(void)
{
    int terminal, lines = dup(STDERR_FILENO);
    const pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    if (child == 0)
        dup2(lines, STDERR_FILENO);
    return hang_in(child);
}

static pid_t made;

static void fork_in_handler(int signal)
{
    made = by_fork();
}

static pid_t in_handler(void)
{
    struct sigaction before;
    const struct sigaction action = {.sa_handler = fork_in_handler};
    sigaction(SIGUSR1, &action, &before);
    raise(SIGUSR1);
    sigaction(SIGUSR1, &before, NULL);
    return made;
}

/* The child of a fork forks in its atfork handler. */
static bool forks_again;

static void fork_in_child_handler(void)
{
    if (!forks_again)
        return;
    forks_again = false;
    scn_arm();
    scn_reap(by_fork());
    scn_fine();
}

static pid_t in_atfork(void)
{
    pthread_atfork(NULL, NULL, fork_in_child_handler);
    forks_again = true;
    return hang_in(fork());
}

static int never;

/* It stays: its child dies with it. */
static void *fork_there(void *bell)
{
    made = by_fork();
    scn_ring(*(int *)bell);
    scn_await(never);
    return NULL;
}

static pid_t in_thread(void)
{
    int forked = scn_bell();
    scn_start(fork_there, &forked);
    scn_await(forked);
    return made;
}

/* /proc shows other ids than the ones that the child knows. Its first process takes no signal that has no handler. */
static pid_t of_namespace(void)
{
    const pid_t first = (pid_t)syscall(SYS_clone, (long)(CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD), 0L, 0L, 0L, 0L);
    if (first < 0)
        scn_skip("no namespace can be made here");
    if (first == 0) {
        scn_reap(by_fork());
        scn_fine();
    }
    return first;
}

/* From a child that has a thread of its own again. */
static pid_t of_grandchild(void)
{
    const pid_t child = fork();
    if (child == 0) {
        scn_arm();
        scn_start(scn_stay, &never);
        scn_reap(by_fork());
        scn_fine();
    }
    return child;
}

/* Who calls daemon ends in it, so a child with a thread does; this process becomes the daemon's parent. */
static pid_t by_daemon(void)
{
    pid_t whose = 0;
    int ids[2];
    SCN_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && pipe(ids) == 0);
    const pid_t caller = fork();
    if (caller == 0) {
        const pid_t me = getpid();
        scn_arm();
        scn_start(scn_stay, &never);
        SCN_CHECK(daemon(1, 1) == 0);
        while (getppid() == me) /* with its death this one would die */
            sched_yield();
        whose = getpid();
        SCN_CHECK(write(ids[1], &whose, sizeof whose) == sizeof whose);
        hang();
    }
    scn_reap(caller);
    SCN_CHECK(read(ids[0], &whose, sizeof whose) == sizeof whose);
    return whose;
}

static const struct {
    const char *name;
    pid_t (*make)(void);
} doors[] = {
    {"fork", by_fork},           {"_Fork", by_bare_fork}, {"SYS_clone", by_sys_clone},
#ifdef SYS_clone3
    {"SYS_clone3", by_sys_clone3},
#endif
#ifdef SYS_fork
    {"SYS_fork", by_sys_fork},
#endif
    {"forkpty", by_forkpty},     {"daemon", by_daemon},
    {"clone", by_clone},         {"handler", in_handler}, {"atfork", in_atfork},
    {"thread", in_thread},       {"grandchild", of_grandchild}, {"namespace", of_namespace},
};

enum { WAITS = sizeof waits / sizeof *waits, DOORS = sizeof doors / sizeof *doors };

static void through(const struct scn_case *self)
{
    if (waits[self->number % WAITS].wait == wait_join) /* where two threads of the child's wait */
        scn_needs_calls();
    never = scn_bell();
    scn_start(scn_stay, &never);
    sem_init(&event, 0, 0);
    behind = waits[self->number % WAITS].wait;
    scn_reap(doors[self->number / WAITS].make());
    scn_fine();
}

void scn_cases(void)
{
    static char says[WAITS][160];
    for (long i = 0; i < WAITS; i++)
        snprintf(says[i], sizeof says[i], "once:child hangs in (%s) 0x[0-9a-f]+ ;; never:took over|went on",
                 waits[i].says);
    for (long i = 0; i < WAITS * DOORS; i++)
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = says[i % WAITS],
                         .env = "FORKSAFE_HANG_MS=150 FORKSAFE_MODE=abort", .run = through, .number = i),
                "%s-%s", doors[i / WAITS].name, waits[i % WAITS].name);
}
