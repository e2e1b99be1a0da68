/*
 * Children that share our memory, or exec at once: vfork, posix_spawn, popen, system. What they do works bare, and must
 * work the same; and what the library knows about their parent's threads must be as true afterwards as before.
 */
#include "mutex_kind.h"
#include "rwlock_kind.h"
#include "semaphore_kind.h"

#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>

extern char **environ;

/* --- A child by vfork --------------------------------------------------------------------------------------------- */

typedef void child_body(void);

/* Runs BODY in a child that shares everything, and waits for its end. */
static void vforked(child_body *body)
{
    const pid_t child = vfork();
    if (child == 0) {
        scn_arm();
        body();
        _exit(0);
    }
    SCN_CHECK(child > 0);
    scn_reap(child);
}

static pthread_mutex_t mutex, workers;
static pthread_rwlock_t rwlock;
static sem_t semaphore, workers_token;

/* A forked child of ours finds what we hold, what nobody holds, and what the worker holds. */
static void check_books(bool held)
{
    SCN_IN_CHILD {
        if (held) {
            mutex_check_held(&mutex);
            SCN_IS(pthread_mutex_unlock(&mutex), 0);
        }
        mutex_use(mutex_lock, &mutex);
        rwlock_use_in_threads(&rwlock);
        semaphore_use(semaphore_wait, &semaphore);
        semaphore_use(semaphore_wait, &workers_token);
        mutex_use(mutex_lock, &workers);
    }
}

/* "worker" has the mutex and the token to the end; so the lines of check_books are two, and name it. */
#define BOOKS "once:" MUTEX_TAKEN ".* held at fork by \\d+ \"worker\" ;; once:" SEMAPHORE_TAKEN_FROM_WORKER \
              " ;; never:rwlock"

static int worker_take(void *unused)
{
    SCN_IS(pthread_mutex_lock(&workers), 0);
    return semaphore_wait(&workers_token);
}

static int worker_give(void *unused)
{
    SCN_IS(semaphore_post(&workers_token), 0);
    return pthread_mutex_unlock(&workers);
}

/* RUN in the first process, or in a forked child of one with threads: there every wait is looked at. */
static void with_books(const struct scn_case *self, void (*run)(void), bool held)
{
    struct scn_holder worker, vanished;
    if (self->kind)
        mutex_make(self->kind, &mutex);
    else
        mutex_make(&mutex_kinds[0], &mutex);
    mutex_make(&mutex_kinds[0], &workers);
    rwlock_make(&rwlock_kinds[0], &rwlock);
    semaphore_make(&semaphore, 1);
    semaphore_make(&workers_token, 1);
    if (self->number == 0) {
        scn_hold(&worker, worker_take, worker_give, NULL, 1);
        run();
        check_books(held);
        scn_let_go(&worker);
        return;
    }
    scn_hold(&vanished, worker_take, worker_give, NULL, 1);
    SCN_IN_CHILD {
        run();
        check_books(held);
    }
    scn_let_go(&vanished);
}

/* --- Locks in the child ------------------------------------------------------------------------------------------- */

static void lock_and_unlock(void)
{
    for (int i = 0; i < MUTEX_ENTRIES; i++) {
        SCN_IS(mutex_entries[i].take(&mutex), 0);
        SCN_IS(pthread_mutex_unlock(&mutex), 0);
    }
    SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    SCN_IS(pthread_rwlock_rdlock(&rwlock), 0);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    for (int i = 0; i < SEMAPHORE_ENTRIES; i++) {
        SCN_IS(semaphore_entries[i].take(&semaphore), 0);
        SCN_IS(semaphore_post(&semaphore), 0);
    }
}

static void run_uses(void)
{
    for (int i = 0; i < 20; i++)
        vforked(lock_and_unlock);
}

static void uses(const struct scn_case *self)
{
    with_books(self, run_uses, false);
}

static void just_lock(void)
{
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    SCN_IS(semaphore_wait(&semaphore), 0);
}

/* It ends with the locks; they are the parent thread's, whose id they bear. */
static void run_keeps(void)
{
    vforked(just_lock);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    SCN_IS(semaphore_post(&semaphore), 0);
    mutex_check_held(&mutex);
}

static void keeps(const struct scn_case *self)
{
    with_books(self, run_keeps, true);
    SCN_IS(self->number == 0 ? pthread_mutex_unlock(&mutex) : 0, 0);
}

static void just_unlock(void)
{
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    SCN_IS(semaphore_post(&semaphore), 0);
}

/* It gives back what the parent's thread had taken. */
static void run_gives(void)
{
    just_lock();
    vforked(just_unlock);
    mutex_check_free(&mutex);
}

static void gives(const struct scn_case *self)
{
    with_books(self, run_gives, false);
}

/* Somebody in the parent has it; the child waits until he lets go. */
static struct scn_holder owner;
static atomic_int waiting_tid;

static void wait_for_owner(void)
{
    atomic_store(&waiting_tid, (int)syscall(SYS_gettid));
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
}

static void *let_owner_go(void *unused)
{
    scn_await_sleeper(&waiting_tid);
    scn_ring(owner.leave);
    return NULL;
}

static void run_waits(void)
{
    scn_hold(&owner, mutex_lock, mutex_unlock, &mutex, 1);
    atomic_store(&waiting_tid, 0);
    const pthread_t helper = scn_start(let_owner_go, NULL);
    vforked(wait_for_owner);
    scn_join(helper);
    scn_join(owner.thread);
    mutex_check_free(&mutex);
}

static void waits(const struct scn_case *self)
{
    with_books(self, run_waits, false);
}

/* Or it is killed in its wait: the mutex stays the owner's, and its parent's thread neither has it nor waits for it. */
static void *kill_waiter(void *unused)
{
    scn_await_sleeper(&waiting_tid);
    kill(atomic_load(&waiting_tid), SIGKILL);
    return NULL;
}

static void run_killed(void)
{
    int status;
    scn_hold(&owner, mutex_lock, mutex_unlock, &mutex, 1);
    atomic_store(&waiting_tid, 0);
    const pthread_t helper = scn_start(kill_waiter, NULL);
    const pid_t child = vfork();
    if (child == 0) {
        scn_arm();
        wait_for_owner();
        _exit(1);
    }
    SCN_CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    scn_join(helper);
    SCN_IS(pthread_mutex_trylock(&mutex), EBUSY);
    scn_let_go(&owner);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    mutex_check_free(&mutex);
}

static void killed(const struct scn_case *self)
{
    with_books(self, run_killed, false);
}

/* exec: one that fails, one that does not, with locks in hand and without. */
static void exec_fails(void)
{
    char *const arguments[] = {"nothing", NULL};
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_CHECK(execv("/nowhere/nothing", arguments) == -1 && errno == ENOENT);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    SCN_CHECK(execvp("no-such-program-as-this", arguments) == -1 && errno == ENOENT);
}

static void exec_true(void)
{
    char *const arguments[] = {"true", NULL};
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    execvp("true", arguments);
    scn_wrong(SCN_WHERE, "no true");
}

static void run_execs(void)
{
    vforked(exec_fails);
    vforked(exec_true);
    mutex_check_held(&mutex);
}

static void execs(const struct scn_case *self)
{
    with_books(self, run_execs, true);
    SCN_IS(self->number == 0 ? pthread_mutex_unlock(&mutex) : 0, 0);
}

/* What programs do between vfork and exec although they should not. */
static void call_libc(void)
{
    const time_t moment = 1000000000;
    struct tm tm;
    SCN_CHECK(localtime_r(&moment, &tm) != NULL);
    SCN_CHECK(setenv("FROM_THE_CHILD", "yes", 1) == 0);
    syslog(LOG_DEBUG, "a child by vfork");
    closelog();
    SCN_CHECK(getpwuid(0) != NULL);
    SCN_CHECK(random() >= 0);
    SCN_CHECK(fflush(NULL) == 0);
}

static void run_libc(void)
{
    for (int i = 0; i < 20; i++)
        vforked(call_libc);
    SCN_CHECK(strcmp(getenv("FROM_THE_CHILD"), "yes") == 0); /* it is our memory */
}

static void libc(const struct scn_case *self)
{
    with_books(self, run_libc, false);
}

/* A child by clone in our memory, on a stack of its own, is another such. */
static char stack[1 << 16] __attribute__((aligned(64)));

static int cloned_body(void *unused)
{
    scn_arm();
    lock_and_unlock();
    _exit(0);
}

static void run_cloned(void)
{
    for (int i = 0; i < 20; i++) {
        const pid_t child = clone(cloned_body, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
        SCN_CHECK(child > 0);
        scn_reap(child);
    }
}

static void cloned(const struct scn_case *self)
{
    with_books(self, run_cloned, false);
}

#ifdef __x86_64__
/* By syscall(): the child comes back from it on our stack, or on a prepared one whose first word it returns to. */
static void returned_body(void)
{
    cloned_body(NULL);
}

static void run_syscalls(void)
{
    for (int i = 0; i < 20; i++) {
        uintptr_t *const top = (uintptr_t *)(void *)(stack + sizeof stack - 64);
        *top = (uintptr_t)returned_body;
        top[1] = 0;
        pid_t child = (pid_t)syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, top, NULL, NULL, NULL);
        SCN_CHECK(child > 0);
        scn_reap(child);
        child = (pid_t)syscall(SYS_vfork);
        if (child == 0) /* a call would write where the parent is to return to */
            __asm__ volatile("syscall" : : "a"(SYS_exit_group), "D"(0));
        SCN_CHECK(child > 0);
        scn_reap(child);
    }
}

static void syscalls(const struct scn_case *self)
{
    with_books(self, run_syscalls, false);
}
#endif

/* --- Threads whose first lock is one that their vfork child takes ------------------------------------------------- */

enum { FRESH = 24, MORE = 40 };
static sem_t mine[FRESH], none;
static int ready, leave;

static void use_one(void)
{
    SCN_IS(semaphore_wait(&semaphore), 0);
    SCN_IS(semaphore_post(&semaphore), 0);
}

static void *fresh_body(void *token)
{
    vforked(use_one);
    SCN_IS(semaphore_wait(token), 0);
    scn_ring(ready);
    scn_await(leave);
    SCN_IS(semaphore_post(token), 0);
    return NULL;
}

static void *one_more(void *unused)
{
    SCN_IS(semaphore_wait(&none), 0);
    SCN_IS(semaphore_post(&none), 0);
    scn_ring(ready);
    scn_await(leave);
    return NULL;
}

/* Each has its token, and stays on record with it, however many threads come after. */
static void first_lock(const struct scn_case *self)
{
    pthread_t fresh[FRESH], more[MORE];
    semaphore_make(&semaphore, FRESH); /* no lock: the threads must not meet in it */
    semaphore_make(&none, 1);
    ready = scn_bell();
    leave = scn_bell();
    for (int i = 0; i < FRESH; i++) {
        semaphore_make(&mine[i], 1);
        fresh[i] = scn_start(fresh_body, &mine[i]);
        scn_await(ready);
    }
    for (int i = 0; i < MORE; i++) {
        more[i] = scn_start(one_more, NULL);
        scn_await(ready);
    }
    SCN_IN_CHILD {
        for (int i = 0; i < FRESH; i++)
            semaphore_use(semaphore_wait, &mine[i]);
    }
    for (int i = 0; i < FRESH + MORE; i++)
        scn_ring(leave);
    for (int i = 0; i < FRESH; i++)
        scn_join(fresh[i]);
    for (int i = 0; i < MORE; i++)
        scn_join(more[i]);
}

static void take_and_stay(void)
{
    SCN_IS(semaphore_wait(&semaphore), 0);
    scn_ring(ready);
    scn_await(leave);
    SCN_IS(semaphore_post(&semaphore), 0);
}

static void *vfork_once(void *unused)
{
    vforked(take_and_stay);
    return NULL;
}

/* What such a child holds is on record for its parent's thread, which vanishes. */
static void first_lock_held(const struct scn_case *self)
{
    semaphore_make(&semaphore, 1);
    ready = scn_bell();
    leave = scn_bell();
    const pthread_t thread = scn_start(vfork_once, NULL);
    scn_await(ready);
    SCN_IN_CHILD {
        semaphore_use(semaphore_wait, &semaphore);
    }
    scn_ring(leave);
    scn_join(thread);
    semaphore_use(semaphore_wait, &semaphore);
}

/* --- exit() where _exit() was meant ------------------------------------------------------------------------------- */

static atomic_int stop;

static void just_exit(void)
{
    exit(0);
}

/* One of them is enough, and all: from glibc 2.41 on exit() has a lock, which the vfork child keeps for this thread. */
static void *exit_and_storm(void *first)
{
    const time_t moment = 1000000000;
    struct tm tm;
    if (first != NULL)
        vforked(just_exit);
    scn_ring(ready);
    while (!atomic_load(&stop))
        SCN_CHECK(localtime_r(&moment, &tm) != NULL);
    return NULL;
}

/* The thread is not in exit() for ever after: the gate still stops it. */
static void exits(const struct scn_case *self)
{
    const time_t moment = 1000000000;
    struct tm tm;
    pthread_t thread[3];
    ready = scn_bell();
    for (int i = 0; i < 3; i++) {
        thread[i] = scn_start(exit_and_storm, i == 0 ? &stop : NULL);
        scn_await(ready);
    }
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            SCN_CHECK(localtime_r(&moment, &tm) != NULL);
        }
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        scn_join(thread[i]);
}

/* --- vfork, and fork inside --------------------------------------------------------------------------------------- */

static void fork_inside(void)
{
    check_books(false);
}

static void run_nothing(void)
{
    vforked(fork_inside);
}

static void forks_inside(const struct scn_case *self)
{
    mutex_make(&mutex_kinds[0], &mutex);
    mutex_make(&mutex_kinds[0], &workers);
    rwlock_make(&rwlock_kinds[0], &rwlock);
    semaphore_make(&semaphore, 1);
    semaphore_make(&workers_token, 1);
    SCN_WHILE_HELD(worker_take, worker_give, NULL)
        run_nothing();
}

/* --- Spawned programs --------------------------------------------------------------------------------------------- */

/* What the program writes to its standard output; its exit status. */
static int spawned(char *const *arguments, char *const *environment, const posix_spawnattr_t *attributes, char *text,
                   size_t most)
{
    int ends[2], status;
    pid_t child;
    size_t length = 0;
    ssize_t got;
    posix_spawn_file_actions_t actions;
    SCN_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    SCN_IS(posix_spawn_file_actions_init(&actions), 0);
    SCN_IS(posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO), 0);
    SCN_IS(posix_spawnp(&child, arguments[0], &actions, attributes, arguments, environment), 0);
    SCN_IS(posix_spawn_file_actions_destroy(&actions), 0);
    close(ends[1]);
    while ((got = read(ends[0], text + length, most - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    SCN_CHECK(waitpid(child, &status, 0) == child);
    return status;
}

/* An exec'd program has the environment that it was given, our open files and no more, and the attributes. */
static void run_spawn(void)
{
    static char text[1 << 16], expected[1 << 16];
    posix_spawnattr_t attributes;
    sigset_t blocked, defaults;
    char *const env[] = {"env", NULL};
    char *const list[] = {"ls", "/proc/self/fd", NULL};
    char *const status[] = {"cat", "/proc/self/stat", "/proc/self/status", NULL};
    expected[0] = '\0';
    for (char **variable = environ; *variable; variable++) {
        strcat(expected, *variable);
        strcat(expected, "\n");
    }
    SCN_CHECK(spawned(env, environ, NULL, text, sizeof text) == 0);
    SCN_CHECK(strcmp(text, expected) == 0);

    SCN_IS(posix_spawnattr_init(&attributes), 0);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigfillset(&defaults);
    SCN_IS(posix_spawnattr_setsigmask(&attributes, &blocked), 0);
    SCN_IS(posix_spawnattr_setsigdefault(&attributes, &defaults), 0);
    SCN_IS(posix_spawnattr_setpgroup(&attributes, 0), 0);
    SCN_IS(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                     POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_USEVFORK),
           0);
    SCN_CHECK(spawned(status, environ, &attributes, text, sizeof text) == 0);
    unsigned long long mask;
    int pid, group;
    SCN_CHECK(sscanf(text, "%d (cat) %*c %*d %d", &pid, &group) == 2 && pid == group);
    SCN_CHECK(strstr(text, "SigBlk:") && sscanf(strstr(text, "SigBlk:"), "SigBlk: %llx", &mask) == 1);
    SCN_CHECK(mask == 1ULL << (SIGUSR1 - 1));
    int missing = 1; /* ls has its directory open */
    SCN_CHECK(spawned(list, environ, &attributes, text, sizeof text) == 0);
    for (int fd = 0; fd < 1024; fd++) {
        const int flags = fcntl(fd, F_GETFD);
        missing += flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
    for (const char *line = text; (line = strchr(line, '\n')); line++)
        missing--;
    SCN_CHECK(missing == 0);
    SCN_IS(posix_spawnattr_destroy(&attributes), 0);

    char *const nothing[] = {"/nowhere/nothing", NULL};
    pid_t child = -4711;
    SCN_IS(posix_spawn(&child, nothing[0], NULL, NULL, nothing, environ), ENOENT);
    SCN_IS(posix_spawnp(&child, "no-such-program-as-this", NULL, NULL, nothing, environ), ENOENT);
}

static void spawn(const struct scn_case *self)
{
    with_books(self, run_spawn, false);
}

static void *read_from_commands(void *unused)
{
    for (int i = 0; i < 15; i++) {
        char text[16] = "";
        FILE *command = popen("echo said; exit 7", "re");
        SCN_CHECK(command != NULL);
        SCN_CHECK(fgets(text, sizeof text, command) != NULL && strcmp(text, "said\n") == 0);
        const int status = pclose(command);
        SCN_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    return NULL;
}

static void run_popen(void)
{
    const pthread_t one = scn_start(read_from_commands, NULL), two = scn_start(read_from_commands, NULL);
    for (int i = 0; i < 30; i++) {
        SCN_IN_CHILD {}
    }
    scn_join(one);
    scn_join(two);
}

static void popens(const struct scn_case *self)
{
    with_books(self, run_popen, false);
}

static volatile sig_atomic_t interrupts, ended_children;

static void count_interrupt(int number)
{
    interrupts++;
}

static void count_child(int number)
{
    ended_children++;
}

/* system() ignores SIGINT and SIGQUIT and blocks SIGCHLD while it waits, and answers with the command's status. */
static void run_system(void)
{
    struct sigaction interrupt = {.sa_handler = count_interrupt}, child = {.sa_handler = count_child}, now;
    SCN_CHECK(sigaction(SIGINT, &interrupt, NULL) == 0 && sigaction(SIGCHLD, &child, NULL) == 0);
    SCN_CHECK(system(NULL) != 0);
    int status = system("exit 3");
    SCN_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    status = system("kill -INT $PPID; exit 4");
    SCN_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4);
    SCN_CHECK(interrupts == 0);
    status = system("kill -TERM $$");
    SCN_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    status = system("exec /nowhere/nothing 2>/dev/null");
    SCN_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 127);
    SCN_CHECK(sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == count_interrupt);
    SCN_CHECK(raise(SIGINT) == 0 && interrupts == 1);
    sigset_t mask;
    SCN_CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 && !sigismember(&mask, SIGCHLD));
    signal(SIGCHLD, SIG_DFL);
    signal(SIGINT, SIG_DFL);
}

static void systems(const struct scn_case *self)
{
    with_books(self, run_system, false);
}

/* --- Everything at once ------------------------------------------------------------------------------------------- */

static void *vfork_on(void *unused)
{
    while (!atomic_load(&stop))
        vforked(use_one);
    return NULL;
}

static void run_storm(void)
{
    atomic_store(&stop, 0);
    const pthread_t one = scn_start(vfork_on, NULL), two = scn_start(read_from_commands, NULL);
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            const time_t moment = 1000000000;
            struct tm tm;
            SCN_CHECK(localtime_r(&moment, &tm) != NULL);
            semaphore_use(semaphore_wait, &semaphore);
        }
    }
    atomic_store(&stop, 1);
    scn_join(one);
    scn_join(two);
}

static void storm(const struct scn_case *self)
{
    with_books(self, run_storm, false);
}

void scn_cases(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct scn_case *);
        bool by_kind, held;
        bool of_glibc; /* its children execute this system's programs, or musl crashes or waits for ever bare */
    } traps[] = {
        {"uses", uses, true, false, false},
        {"keeps", keeps, true, true, false},
        {"gives", gives, true, false, false},
        {"waits", waits, true, false, false},
        {"killed", killed, true, false, false},
        {"execs", execs, true, true, true},
        {"libc", libc, false, false, false},
        {"cloned", cloned, false, false, false},
#ifdef __x86_64__
        {"syscall", syscalls, false, false, true},
#endif
        {"spawn", spawn, false, false, true},
        {"popen", popens, false, false, true},
        {"system", systems, false, false, true},
    };
    /* Bare only the books at the end fail: what the worker holds; before that what is held over a fork. */
    for (size_t t = 0; t < sizeof traps / sizeof traps[0]; t++)
        for (int k = 0; k < (traps[t].by_kind ? MUTEX_KINDS : 1); k++)
            for (int generation = 0; generation < 2; generation++)
                if ((!traps[t].by_kind || mutex_is_plain(&mutex_kinds[k])) &&
                    (!traps[t].of_glibc || scn_glibc_since(0)))
                    scn_add(SCN_CASE(.bare = traps[t].held && mutex_kinds[k].owned ? "fails EPERM" : "hangs",
                                     .says = BOOKS, .run = traps[t].run, .number = generation,
                                     .kind = traps[t].by_kind ? &mutex_kinds[k] : NULL),
                            "%s-%s%s", traps[t].name, traps[t].by_kind ? mutex_kinds[k].name : "all",
                            generation ? "-in-child" : "");
    if (scn_glibc_since(0)) {
        scn_add(SCN_CASE(.bare = "hangs", .run = storm, .number = 0), "storm");
        scn_add(SCN_CASE(.bare = "hangs", .run = exits, .says = SCN_SILENT, .env = "FORKSAFE_DRAIN_MS=8000"), "exits");
    }
    scn_add(SCN_CASE(.bare = "hangs", .run = first_lock, .says = SEMAPHORE_TAKEN), "first-lock");
    scn_add(SCN_CASE(.bare = "hangs", .run = first_lock_held, .says = "once:" SEMAPHORE_TAKEN), "first-lock-held");
    scn_add(SCN_CASE(.bare = "hangs", .run = forks_inside, .says = BOOKS), "forks-inside");
}
