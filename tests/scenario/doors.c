/*
 * A fork is a fork through whichever door the process is made: what the child gets behind each is one table here (and
 * in libforksafe(7)), door by lock.
 */
#include "mutex_kind.h"
#include "rwlock_kind.h"
#include "semaphore_kind.h"
#include "spin_kind.h"

#include <dlfcn.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* --- Doors -------------------------------------------------------------------------------------------------------- */

typedef void child_body(void);

struct door {
    const char *name;
    /* Makes a child that runs BODY, which does not return. Returns its id, or -1 with errno. */
    pid_t (*open)(child_body *body);
    bool handlers; /* the handlers of pthread_atfork run, and libc puts its own locks in order */
    bool drains;   /* other threads are let out of what they are in first */
    bool new_id;   /* libc knows the child's thread by its new id */
    bool unseen;   /* nobody tells the library: it notices when a lock is about to wait */
};

static pid_t by_fork(child_body *body)
{
    const pid_t pid = fork();
    if (pid == 0)
        body();
    return pid;
}

/* In a namespace, for which /proc shows other ids than its processes know: see one_case. */
static pid_t by_fork_apart(child_body *body)
{
    return by_fork(body);
}

static pid_t by_alias(child_body *body)
{
    pid_t (*const alias)(void) = (pid_t (*)(void))(uintptr_t)dlsym(RTLD_DEFAULT, "__fork");
    SCN_CHECK(alias != NULL);
    const pid_t pid = alias();
    if (pid == 0)
        body();
    return pid;
}

static pid_t by_bare_fork(child_body *body)
{
    const pid_t pid = _Fork();
    if (pid == 0)
        body();
    return pid;
}

/* The daemon's parent must end: a process between, which makes the threads, is one_case's business. */
static pid_t by_daemon(child_body *body)
{
    const pid_t parent = getpid();
    if (daemon(1, 1) != 0)
        return -1;
    while (getppid() == parent) /* while it ends the kernel still knows its threads, or passes on what they held */
        ;
    body();
    return -1;
}

/* What the child says to its terminal is passed on. */
static pid_t by_forkpty(child_body *body)
{
    int master;
    char text[512];
    ssize_t got;
    const pid_t pid = forkpty(&master, NULL, NULL, NULL);
    if (pid == 0)
        body();
    while (pid > 0 && (got = read(master, text, sizeof text)) > 0)
        SCN_CHECK(write(STDERR_FILENO, text, (size_t)got) == got);
    return pid;
}

static int run_body(void *body)
{
    ((child_body *)(uintptr_t)body)();
    return 1;
}

enum { STACK = 1 << 16 };
static char stack[STACK] __attribute__((aligned(64)));

typedef int clone_call(int (*)(void *), void *, int, void *, ...);

static pid_t cloned(clone_call *call, child_body *body, int flags)
{
    pid_t parent_tid = 0, child_tid = 0;
    const pid_t pid =
        call(run_body, stack + STACK, flags | SIGCHLD, (void *)(uintptr_t)body, &parent_tid, NULL, &child_tid);
    SCN_CHECK(pid < 0 || parent_tid == ((flags & CLONE_PARENT_SETTID) != 0 ? pid : 0));
    SCN_CHECK(child_tid == 0); /* that is written in the child's copy */
    return pid;
}

static pid_t by_clone(child_body *body)
{
    return cloned(clone, body, 0);
}

static pid_t by_clone_alias(child_body *body)
{
    clone_call *const alias = (clone_call *)(uintptr_t)dlsym(RTLD_DEFAULT, "__clone");
    SCN_CHECK(alias != NULL);
    return cloned(alias, body, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID);
}

static pid_t by_clone_vfork(child_body *body)
{
    return cloned(clone, body, CLONE_VFORK);
}

static pid_t by_sys_clone(child_body *body)
{
    pid_t child_tid = 0;
    /* In both places, of which processors use the one or the other for what is no concern here: the thread pointer. */
    const pid_t pid = (pid_t)syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, NULL, NULL, &child_tid, &child_tid);
    if (pid == 0) {
        SCN_CHECK(child_tid == getpid());
        body();
    }
    return pid;
}

/* As the kernel has it, with what was added for CLONE_INTO_CGROUP. */
struct clone3_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static pid_t by_sys_clone3(child_body *body)
{
    int pidfd = -1;
    struct clone3_arguments arguments = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    const pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0)
        body();
    SCN_CHECK(pid < 0 || pidfd >= 0);
    if (pidfd >= 0)
        close(pidfd);
    return pid;
}

#ifdef __x86_64__
static pid_t by_sys_fork(child_body *body)
{
    const pid_t pid = (pid_t)syscall(SYS_fork);
    if (pid == 0)
        body();
    return pid;
}

/* The child begins, by libc's own return from syscall(), at the address that its stack begins with. */
static pid_t by_sys_clone_stack(child_body *body)
{
    uintptr_t *const top = (uintptr_t *)(void *)(stack + STACK - 64); /* as a call leaves it for BODY */
    *top = (uintptr_t)body;
    top[1] = 0;
    return (pid_t)syscall(SYS_clone, SIGCHLD, top, NULL, NULL, NULL);
}

static pid_t by_instruction(child_body *body)
{
    long answer;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(SYS_fork) : "rcx", "r11", "memory");
    if (answer == 0)
        body();
    if (answer < 0) {
        errno = (int)-answer;
        return -1;
    }
    return (pid_t)answer;
}
#endif

static const struct door doors[] = {
    /*                              handlers drains new_id unseen */
    {"fork", by_fork,                   true, true, true, false},
    {"namespace", by_fork_apart,        true, true, true, false},
    {"__fork", by_alias,                true, true, true, false},
    {"daemon", by_daemon,               true, true, true, false},
    {"forkpty", by_forkpty,             true, true, true, false},
    {"_Fork", by_bare_fork,             false, false, true, false},
    {"clone", by_clone,                 false, true, false, false},
    {"__clone", by_clone_alias,         false, true, false, false},
    {"clone-vfork", by_clone_vfork,     false, false, false, false},
    {"SYS_clone", by_sys_clone,         false, true, false, false},
    {"SYS_clone3", by_sys_clone3,       false, true, false, false},
#ifdef __x86_64__
    {"SYS_fork", by_sys_fork,           false, true, false, false},
    {"SYS_clone-stack", by_sys_clone_stack, false, false, false, true},
    {"instruction", by_instruction,     false, false, false, true},
#endif
};
enum { DOORS = sizeof doors / sizeof doors[0] };

/* --- What is on the other side ------------------------------------------------------------------------------------ */

static const struct scn_case *current;
static child_body *behind;
static bool orphaned; /* the child's parent ends by itself */
static pid_t parent;

static _Noreturn void begin_child(void)
{
    scn_arm();
    if (orphaned)
        prctl(PR_SET_PDEATHSIG, 0);
    SCN_CHECK(getpid() != parent);
    behind();
    scn_fine();
}

/* Through the door of the case; BODY runs in the child and must end well. */
static void pass(child_body *body)
{
    const struct door *door = current->entry;
    behind = body;
    parent = getpid();
    const pid_t child = door->open((child_body *)(uintptr_t)begin_child);
    SCN_CHECK(child > 0);
    scn_reap(child);
}

/* daemon() ends its caller: that is a child then, which makes the threads, and the daemon comes to us. */
static void one_case(const struct scn_case *self)
{
    const struct door *door = self->entry;
    current = self;
    if (door->open == by_fork_apart) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
            scn_skip("no namespace can be made here");
        const pid_t first = fork();
        if (first == 0) {
            self->body();
            scn_fine();
        }
        scn_reap(first);
        return;
    }
    if (door->open != by_daemon) {
        self->body();
        return;
    }
    SCN_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    orphaned = true;
    const pid_t between = scn_fork();
    if (between == 0) {
        self->body();
        scn_wrong(SCN_WHERE, "the daemon's parent goes on");
    }
    scn_reap(between);
    siginfo_t daemon = {0};
    SCN_CHECK(waitid(P_ALL, 0, &daemon, WEXITED | WNOWAIT) == 0);
    scn_reap(daemon.si_pid);
}

/* --- Mutexes of all kinds ----------------------------------------------------------------------------------------- */

struct kind {
    const char *name;
    int type, protocol, robust;
    bool owned; /* libc compares its owner */
};

enum { NORMAL, RECURSIVE, ERRORCHECK, ADAPTIVE, ROBUST, INHERIT, KINDS };
static const struct kind kinds[KINDS + 1] = {
    {"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, false},
    {"recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, true},
    {"errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, true},
    {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, false},
    {"robust", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, true},
    {"inherit", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, true},
    {"robust-inherit", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST, true},
};

static pthread_mutex_t mutex, spare;

static void make(const struct kind *kind, pthread_mutex_t *made)
{
    pthread_mutexattr_t attributes;
    SCN_IS(pthread_mutexattr_init(&attributes), 0);
    SCN_IS(pthread_mutexattr_settype(&attributes, kind->type), 0);
    SCN_IS(pthread_mutexattr_setprotocol(&attributes, kind->protocol), 0);
    SCN_IS(pthread_mutexattr_setrobust(&attributes, kind->robust), 0);
    SCN_IS(pthread_mutex_init(made, &attributes), 0);
}

/* The first call that has to do with the vanished thread. */
static int take(void *taken)
{
    const struct kind *kind = current->kind;
    const int error = pthread_mutex_lock(taken);
    if (kind->robust != PTHREAD_MUTEX_ROBUST)
        return error;
    SCN_IS(error, EOWNERDEAD);
    return pthread_mutex_consistent(taken);
}

static void use_vanished(void)
{
    SCN_IS(take(&mutex), 0);
    mutex_check_held(&mutex);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    mutex_check_free(&mutex);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    SCN_IS(pthread_mutex_destroy(&mutex), 0);
}

static void run_vanished(void)
{
    make(current->kind, &mutex);
    SCN_WHILE_HELD(mutex_lock, mutex_unlock, &mutex)
        pass(use_vanished);
}

static void *pass_there(void *unused)
{
    pass(use_vanished);
    return unused;
}

/* The holder is thread 1 of its namespace; /proc has another thread 1. */
static void run_first(void)
{
    make(current->kind, &mutex);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    scn_join(scn_start(pass_there, NULL));
}

/* The child is threaded, and forks on; its own child finds the locks of both generations' vanished threads. */
static void use_in_grandchild(void)
{
    SCN_IS(take(&mutex), 0);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &spare) {
        mutex_check_held(&mutex); /* by this very thread */
        SCN_IS(pthread_mutex_unlock(&mutex), 0);
        mutex_check_free(&mutex);
        SCN_IS(pthread_mutex_lock(&spare), 0);
        SCN_IS(pthread_mutex_unlock(&spare), 0);
        scn_exclusion(mutex_lock, mutex_unlock, &spare, 2, 1000);
    }
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    scn_exclusion(mutex_lock, mutex_unlock, &mutex, 2, 1000);
}

static void run_grandchild(void)
{
    make(current->kind, &mutex);
    make(&kinds[NORMAL], &spare);
    SCN_WHILE_HELD(mutex_lock, mutex_unlock, &mutex)
        pass(use_in_grandchild);
}

/* The grandchild is the first to ask for anything: what the first fork was is noticed at the second. */
static void fork_at_once(void)
{
    SCN_IN_CHILD {
        use_vanished();
    }
}

static void run_fork_at_once(void)
{
    make(current->kind, &mutex);
    SCN_WHILE_HELD(mutex_lock, mutex_unlock, &mutex)
        pass(fork_at_once);
}

/* --- The forking thread's own ------------------------------------------------------------------------------------- */

/* After the child's unlock it is as new. */
static void use_free(void)
{
    mutex_check_free(&mutex);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    mutex_check_held(&mutex);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    mutex_check_free(&mutex);
    SCN_IS(pthread_mutex_destroy(&mutex), 0);
}

static void unlock_own(void)
{
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    use_free();
}

static void relock_own(void)
{
    const struct kind *kind = current->kind;
    mutex_check_held(&mutex);
    if (kind->type == PTHREAD_MUTEX_RECURSIVE) {
        SCN_IS(pthread_mutex_lock(&mutex), 0);
        SCN_IS(pthread_mutex_unlock(&mutex), 0);
        mutex_check_held(&mutex);
    } else if (kind->type == PTHREAD_MUTEX_ERRORCHECK) {
        SCN_IS(pthread_mutex_lock(&mutex), EDEADLK);
    } else {
        SCN_IS(pthread_mutex_trylock(&mutex), EBUSY);
    }
    unlock_own();
}

/* A thread of the child sleeps until its main thread, who had it at fork, lets go. */
static void give_mutex(void *given)
{
    SCN_IS(pthread_mutex_unlock(given), 0);
}

static void contend_own(void)
{
    scn_must_wait(mutex_lock, mutex_unlock, &mutex, give_mutex, &mutex);
    use_free();
}

enum { UNLOCK, RELOCK, CONTEND, OWN_BODIES };
static child_body *const own_bodies[OWN_BODIES] = {unlock_own, relock_own, contend_own};
static const char *const own_names[OWN_BODIES] = {"unlock", "relock", "contend"};

static void run_own(void)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    /* An emulator hands the kernel the word of an inheriting mutex in the program's byte order. */
    if (current->number == CONTEND && ((const struct kind *)current->kind)->protocol == PTHREAD_PRIO_INHERIT)
        scn_needs_calls();
#endif
    make(current->kind, &mutex);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    pass(own_bodies[current->number]);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
}

/* --- Other locks -------------------------------------------------------------------------------------------------- */

static pthread_rwlock_t rwlock;

static void use_rwlock(void)
{
    SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    rwlock_check_written(&rwlock);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    rwlock_use(&rwlock);
    rwlock_check_free(&rwlock);
}

static void run_rwlock(void)
{
    rwlock_make(&rwlock_kinds[0], &rwlock);
    SCN_WHILE_HELD(current->number ? rwlock_wrlock : rwlock_rdlock, rwlock_unlock, &rwlock)
        pass(use_rwlock);
}

static void unlock_rwlock(void)
{
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    rwlock_check_free(&rwlock);
    use_rwlock();
}

static void run_own_rwlock(void)
{
    rwlock_make(&rwlock_kinds[0], &rwlock);
    SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    pass(unlock_rwlock);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
}

/*
 * Chromium's zygote: behind a door where libc goes on with the old id its child writes the new one into libc's thread
 * descriptor, found by its value, and looks at what libc then calls the owner of a recursive mutex.
 */
static int owner_of_recursive(void)
{
    pthread_mutex_t looked_at = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    SCN_IS(pthread_mutex_lock(&looked_at), 0);
    const int owner = looked_at.__data.__owner;
    SCN_IS(pthread_mutex_unlock(&looked_at), 0);
    SCN_IS(pthread_mutex_destroy(&looked_at), 0);
    return owner;
}

static void rename_and_use(void)
{
    enum { WORDS = 256 };
    const int real = (int)syscall(SYS_gettid), old = owner_of_recursive();
    int *word = (int *)(uintptr_t)pthread_self(), *const end = word + WORDS;
    SCN_CHECK(old == parent && old != real);
    while (word < end && *word != old)
        word++;
    SCN_CHECK(word < end);
    *word = real;
    SCN_CHECK(owner_of_recursive() == real);
    make(&kinds[RECURSIVE], &mutex);
    scn_exclusion(mutex_lock, mutex_unlock, &mutex, 2, 1000);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(scn_elsewhere(mutex_trylock, &mutex), EBUSY);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), EPERM);
}

static void run_renamed(void)
{
    pass(rename_and_use);
}

static sem_t semaphore;

static void use_semaphore(void)
{
    semaphore_use(semaphore_wait, &semaphore);
}

static void run_semaphore(void)
{
    semaphore_make(&semaphore, 1);
    SCN_WHILE_HELD(semaphore_wait, semaphore_post, &semaphore)
        pass(use_semaphore);
}

/* The child's first call is a try, and the lock is one that had been given back before: it is had by the fast path. */
static void try_semaphore(void)
{
    semaphore_use(semaphore_trywait, &semaphore);
}

static void run_semaphore_try(void)
{
    semaphore_make_used(&semaphore);
    SCN_WHILE_HELD(semaphore_wait, semaphore_post, &semaphore)
        pass(try_semaphore);
}

static pthread_spinlock_t spin;

static void use_spin(void)
{
    SCN_IS(pthread_spin_lock(&spin), 0);
    SCN_IS(pthread_spin_trylock(&spin), EBUSY);
    SCN_IS(pthread_spin_unlock(&spin), 0);
}

static void run_spin(void)
{
    SCN_IS(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE), 0);
    SCN_WHILE_HELD(spin_lock, spin_unlock, (void *)&spin)
        pass(use_spin);
}

static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static atomic_int waiter_tid, over;
static pthread_t waiter;

static void *wait_for_it(void *unused)
{
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    atomic_store(&waiter_tid, (int)gettid());
    while (!atomic_load(&over))
        SCN_IS(pthread_cond_wait(&condition, &mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    return NULL;
}

static void use_condition(void)
{
    SCN_IS(pthread_cond_destroy(&condition), 0);
    SCN_IS(pthread_mutex_destroy(&mutex), 0);
}

static void begin_waiter(void)
{
    make(&kinds[NORMAL], &mutex);
    waiter = scn_start(wait_for_it, NULL);
    scn_await_sleeper(&waiter_tid);
}

static void end_waiter(void)
{
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    atomic_store(&over, 1);
    SCN_IS(pthread_cond_signal(&condition), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    scn_join(waiter);
}

static void run_condition(void)
{
    begin_waiter();
    pass(use_condition);
    end_waiter();
}

/* A thread of the child is joined as ever, a vanished one at once. */
static void join_vanished(void)
{
    mutex_make(&mutex_kinds[0], &spare);
    SCN_IS(pthread_join(waiter, NULL), 0);
    mutex_use(mutex_lock, &spare);
}

static void run_join(void)
{
    begin_waiter();
    pass(join_vanished);
    end_waiter();
}

/* --- libc's ------------------------------------------------------------------------------------------------------- */

static const time_t moment = 1000000000;
static atomic_int stop;
static int begun;

static void *read_the_clock(void *unused)
{
    struct tm tm;
    scn_ring(begun);
    while (!atomic_load(&stop))
        SCN_CHECK(localtime_r(&moment, &tm) != NULL);
    return NULL;
}

static void use_clock(void)
{
    struct tm tm;
    SCN_CHECK(localtime_r(&moment, &tm) != NULL);
}

enum { FORKS = 60 };

static void run_clock(void)
{
    pthread_t thread[3];
    begun = scn_bell();
    for (int i = 0; i < 3; i++)
        thread[i] = scn_start(read_the_clock, NULL);
    for (int i = 0; i < 3; i++)
        scn_await(begun);
    for (int i = 0; i < FORKS; i++)
        pass(use_clock);
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        scn_join(thread[i]);
}

/* --- Handlers ----------------------------------------------------------------------------------------------------- */

static int ran;

static void count_run(void)
{
    ran++;
}

static void see_handlers(void)
{
    const struct door *door = current->entry;
    SCN_CHECK(ran == (door->handlers ? 2 : 0));
}

static void run_handlers(void)
{
    SCN_IS(pthread_atfork(count_run, NULL, count_run), 0);
    pass(see_handlers);
}

/* --- Doors that stay shut ----------------------------------------------------------------------------------------- */

static void never(void)
{
    scn_wrong(SCN_WHERE, "a child of a fork that failed");
}

/* No process more for this user: the parent goes on as before, locks, threads and all. */
static void run_refused(void)
{
    const struct door *door = current->entry;
    struct scn_holder worker;
    const struct rlimit none = {0, 0};
    make(&kinds[RECURSIVE], &mutex);
    make(&kinds[NORMAL], &spare);
    scn_hold(&worker, mutex_lock, mutex_unlock, &spare, 1);
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
    if (getuid() == 0) /* to whom no limit applies */
        SCN_CHECK(syscall(SYS_setresuid, 65534, 65534, 65534) == 0);
    for (int i = 0; i < 20; i++) {
        errno = 0;
        SCN_CHECK(door->open((child_body *)(uintptr_t)never) == -1);
        SCN_CHECK(errno == EAGAIN);
    }
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    SCN_IS(pthread_mutex_trylock(&spare), EBUSY);
    scn_let_go(&worker);
    SCN_IS(pthread_mutex_lock(&spare), 0);
    SCN_IS(pthread_mutex_unlock(&spare), 0);
    use_clock();
}

static void refused(const struct scn_case *self)
{
    current = self;
    const pid_t child = scn_fork(); /* the victim keeps its rights */
    if (child == 0) {
        run_refused();
        scn_fine();
    }
    scn_reap(child);
}

static int nothing(void *unused)
{
    return 0;
}

/* What the kernel or libc refuses, it refuses with the same words. */
static void invalid(const struct scn_case *self)
{
    struct clone3_arguments arguments = {.flags = CLONE_SIGHAND, .exit_signal = SIGCHLD};
#define REFUSED(call, error)        \
    do {                            \
        errno = 0;                  \
        SCN_CHECK((call) == -1);    \
        SCN_CHECK(errno == (error)); \
    } while (0)
    REFUSED(clone(nothing, stack + STACK, CLONE_SIGHAND | SIGCHLD, NULL), EINVAL);
    REFUSED(clone(NULL, stack + STACK, SIGCHLD, NULL), EINVAL);
    REFUSED(clone(nothing, NULL, SIGCHLD, NULL), EINVAL);
    REFUSED(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, NULL, NULL, NULL, NULL), EINVAL);
    REFUSED(syscall(SYS_clone3, &arguments, sizeof arguments), EINVAL);
    arguments.flags = 0;
    REFUSED(syscall(SYS_clone3, &arguments, (size_t)8), EINVAL);
    REFUSED(syscall(SYS_clone3, NULL, sizeof arguments), EFAULT);
    REFUSED(syscall(SYS_clone3, (void *)16, sizeof arguments), EFAULT);
    REFUSED(syscall(SYS_clone3, (void *)16, (size_t)0), EINVAL);
    REFUSED(syscall(SYS_futex, (void *)16, 0, 0, NULL, NULL, 0), EFAULT);
    REFUSED(syscall(-1), ENOSYS);
    errno = 4711;
    SCN_CHECK(syscall(SYS_gettid) == getpid() && errno == 4711);
#undef REFUSED
}

/* --- The table ---------------------------------------------------------------------------------------------------- */

/* How a child ends bare that asks for a mutex of a vanished thread. */
static const char *bare_vanished(const struct door *door, const struct kind *kind)
{
    if (kind->protocol != PTHREAD_PRIO_INHERIT)
        return "hangs";
    return door->open == by_daemon ? "hangs" : "dies SIGABRT"; /* the kernel knows the owner no more */
}

/*
 * And one that has a mutex of its own. To libc the child's thread has its old id or its new one, and the mutex the old
 * one. The kernel, who is asked when a thread waits for an inheriting mutex, knows the new one only.
 */
static struct scn_case own_ends(const struct door *door, const struct kind *kind, int body)
{
    if (!door->new_id && kind->protocol == PTHREAD_PRIO_INHERIT && body == CONTEND)
        return (struct scn_case){.bare = "dies SIGABRT", .preloaded = "dies SIGABRT"};
    if (!door->new_id || !kind->owned)
        return (struct scn_case){.bare = "fine"};
    /* daemon()'s parent has ended: to the kernel the old id is nobody's. */
    if (body == CONTEND && kind->protocol == PTHREAD_PRIO_INHERIT && door->open != by_daemon)
        return (struct scn_case){.bare = "dies SIGABRT|fails EPERM"}; /* the waiting thread aborts beside the unlock */
    const bool asks =
        body == RELOCK && (kind->type == PTHREAD_MUTEX_RECURSIVE || kind->type == PTHREAD_MUTEX_ERRORCHECK);
    return (struct scn_case){.bare = asks ? "hangs" : "fails EPERM"};
}

#define TAKEN_FROM_WORKER MUTEX_TAKEN ".* held at fork by \\d+ \"worker\""

static void *open_cancelled(void *unused)
{
    int master;
    pthread_cancel(pthread_self());
    const pid_t pid = forkpty(&master, NULL, NULL, NULL); /* where it opens the terminal, the thread may end */
    if (pid == 0)
        _exit(0);
    pthread_testcancel();
    return unused;
}

static atomic_long turns;

static void *take_turns(void *unused)
{
    static pthread_mutex_t any = PTHREAD_MUTEX_INITIALIZER;
    for (;; atomic_fetch_add(&turns, 1)) {
        pthread_mutex_lock(&any);
        pthread_mutex_unlock(&any);
        SCN_IS(setenv("DOORS", "open", 1), 0);
    }
}

/* The thread that is left goes on each time. */
static void cancelled_forkpty(const struct scn_case *self)
{
    scn_start(take_turns, NULL);
    for (int i = 0; i < 3; i++) {
        scn_join(scn_start(open_cancelled, NULL));
        for (const long before = atomic_load(&turns); atomic_load(&turns) < before + 2;)
            usleep(1000);
    }
    scn_fine();
}

/* --- A stack in the maker's frame --------------------------------------------------------------------------------- */

#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || (defined(__riscv) && __riscv_xlen == 64)
#define HAS_SHORT_STACK

static int add_up(void *numbers)
{
    int sum = 0;
    for (const int *number = numbers; number < (const int *)numbers + 64; number++)
        sum += *number;
    return sum;
}

/* As D's collector does it: what the child's function reads lies below the few bytes that it has as a stack. */
static void short_stack(const struct scn_case *self)
{
    (void)self;
    struct {
        int numbers[64];
        char stack[256];
    } frame = {.numbers = {7}};
    static pthread_mutex_t other = PTHREAD_MUTEX_INITIALIZER;
    int status;
    SCN_WHILE_HELD(mutex_lock, mutex_unlock, &other) {
        const pid_t child = clone(add_up, frame.stack + sizeof frame.stack, SIGCHLD, frame.numbers);
        SCN_CHECK(child > 0 && waitpid(child, &status, 0) == child);
        SCN_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    scn_fine();
}

#endif

void scn_cases(void)
{
    for (int d = 0; d < DOORS; d++) {
        const struct door *door = &doors[d];
        if (door->open == by_bare_fork && !LIBC_HAS_BARE_FORK)
            continue;
#define ONE_CASE(...) (struct scn_case){.entry = door, .run = one_case, __VA_ARGS__}
#define CASE(how, made, ...) scn_add(ONE_CASE(.bare = how, .body = made, __VA_ARGS__), "%s-%s"
        CASE("fine", run_handlers, .says = SCN_SILENT), door->name, "handlers");
        for (int k = 0; k < KINDS; k++) {
            const struct kind *kind = &kinds[k];
            scn_add(ONE_CASE(.kind = kind, .bare = bare_vanished(door, kind), .body = run_vanished,
                             .says = door->unseen
                                         ? "once:" TAKEN_FROM_WORKER " ;; never: fork \\d"
                                         : "once:" TAKEN_FROM_WORKER ".* fork \\d+ by \\d+ in .*(doors|libutil)"),
                    "%s-vanished-%s", door->name, kind->name);
            for (int b = 0; b < OWN_BODIES; b++) {
                const struct scn_case ends = own_ends(door, kind, b);
                scn_add(ONE_CASE(.kind = kind, .number = b, .bare = ends.bare, .preloaded = ends.preloaded,
                                 .body = run_own, .says = SCN_NEVER_TAKES),
                        "%s-%s-%s", door->name, own_names[b], kind->name);
            }
        }
        CASE(door->open == by_daemon ? "dies SIGABRT" : "hangs", run_vanished, .kind = &kinds[KINDS],
             .says = "once:" TAKEN_FROM_WORKER), door->name, "vanished-robust-inherit");
        if (door->open == by_fork_apart)
            CASE("hangs", run_first, .kind = &kinds[NORMAL],
                 .says = "once:" MUTEX_TAKEN ".* held at fork by 1 \"doors"), door->name, "first");
        CASE("hangs", run_grandchild, .kind = &kinds[NORMAL]), door->name, "grandchild-normal");
        CASE("hangs", run_grandchild, .kind = &kinds[RECURSIVE]), door->name, "grandchild-recursive");
        /* Behind a door that nobody sees the next fork has to notice first that the worker is not there to wait for. */
        CASE("hangs", run_fork_at_once, .kind = &kinds[ERRORCHECK],
             .env = door->unseen ? "FORKSAFE_DRAIN_MS=60000 FORKSAFE_DRAIN_LOCKS_MS=60000" : NULL),
            door->name, "at-once-errorcheck");
        CASE("hangs", run_rwlock, .number = 0, .says = "once:" RWLOCK_TAKEN), door->name, "vanished-reader");
        CASE("hangs", run_rwlock, .number = 1, .says = "once:" RWLOCK_TAKEN), door->name, "vanished-writer");
        CASE(door->new_id ? "fails EBUSY" : "fine", run_own_rwlock, .says = SCN_NEVER_TAKES), door->name,
             "unlock-rwlock");
        if (!door->new_id && !door->unseen)
            CASE("fine", run_renamed, .says = SCN_SILENT), door->name, "renamed");
        CASE("hangs", run_semaphore, .says = "once:" SEMAPHORE_TAKEN), door->name, "semaphore");
        CASE("fails EAGAIN", run_semaphore_try, .says = "once:" SEMAPHORE_TAKEN), door->name, "semaphore-try");
        CASE("hangs", run_spin, .says = "once:took over spin lock"), door->name, "spin");
        CASE("hangs", run_condition, .says = "once:forgot 1 vanished thread in"), door->name, "condition");
        CASE(door->handlers && !scn_glibc_since(43) ? "fine" : "hangs", run_join, .says = SCN_SILENT), door->name,
             "join");
        if (door->drains && door->open != by_daemon)
            /* However loaded the machine is. */
            CASE("hangs", run_clock, .says = SCN_SILENT, .env = "FORKSAFE_DRAIN_MS=8000"), door->name, "localtime");
        scn_add(SCN_CASE(.entry = door, .bare = "fine", .says = SCN_SILENT, .run = refused), "%s-refused", door->name);
    }
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = invalid), "invalid");
#ifdef HAS_SHORT_STACK
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = short_stack), "clone-short-stack");
#endif
    /* A thread that a fork stops for ever goes on after that time. */
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = cancelled_forkpty, .env = "FORKSAFE_DRAIN_MS=60000"),
            "forkpty-cancelled");
}
