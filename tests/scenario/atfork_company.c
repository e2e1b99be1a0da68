/* Fork handlers that come and go while somebody forks, and those of modules. */
#include "scenario.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* What pthread_atfork calls and what an unloaded object calls; OBJECT stands for one. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);
void __cxa_finalize(void *object);

static int lock_mutex(void *mutex)
{
    return pthread_mutex_lock(mutex);
}

static int unlock_mutex(void *mutex)
{
    return pthread_mutex_unlock(mutex);
}

/* --- Objects whose handlers go in the middle of a fork ------------------------------------------------------------ */

enum { MANY = 5 };
static char staying, going;
static int calls_of_going, calls_of_staying;

static void count_staying(void)
{
    calls_of_staying++;
}

static void count_going(void)
{
    calls_of_going++;
}

static void unload(void)
{
    __cxa_finalize(&going);
    calls_of_going = 0;
}

static int unload_elsewhere(void *unused)
{
    unload();
    return 0;
}

static void have_unloaded(void)
{
    scn_elsewhere(unload_elsewhere, NULL);
}

static void register_many(void)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(__register_atfork(count_going, count_going, count_going, &going), 0);
}

static void have_unloaded_once(void)
{
    static _Thread_local int is_done;
    if (is_done++ == 0)
        have_unloaded();
}

static void unload_once(void)
{
    static _Thread_local int is_done;
    if (is_done++ == 0)
        unload();
}

/*
 * The handlers of one object go while a handler of another runs: each that stays is called once, those that went never.
 */
static void goes(const struct scn_case *self)
{
    void (*const does)(void) = self->entry;
    SCN_IN_CHILD {
        int leave = scn_bell();
        const pthread_t sleeper = scn_start(scn_stay, &leave);
        SCN_IS(__register_atfork(count_staying, count_staying, count_staying, &staying), 0);
        register_many();
        SCN_IS(__register_atfork(self->number == 0 ? does : NULL, self->number == 1 ? does : NULL,
                                 self->number == 2 ? does : NULL, &staying), 0);
        register_many();
        SCN_IS(__register_atfork(count_staying, count_staying, count_staying, &staying), 0);
        for (int i = 0; i < 2; i++) {
            const int before = calls_of_staying;
            const pid_t child = scn_fork();
            SCN_CHECK(calls_of_staying == before + 4);
            if (self->number != 2 || i > 0 || child == 0)
                SCN_CHECK(calls_of_going == 0 || i == 0);
            if (child == 0)
                scn_fine();
            scn_reap(child);
            if (self->number == 2) /* only the child's are gone */
                unload();
        }
        SCN_CHECK(calls_of_going == 0);
        scn_ring(leave);
        scn_join(sleeper);
    }
}

/* --- Handlers that leave their fork by longjmp ------------------------------------------------------------------ */

static sigjmp_buf out_of_fork;
static int jumps_left;

static void jump_out(void)
{
    if (jumps_left-- > 0)
        siglongjmp(out_of_fork, 1);
}

/* Never inlined: a fork from a deeper place in the stack than the one that was left could be one inside it. */
static __attribute__((noinline)) void fork_and_reap(void)
{
    SCN_IN_CHILD {}
}

/* A fork that was left is over: whoever unloads the handler's object need not wait for it. */
static void left(const struct scn_case *self)
{
    SCN_IN_CHILD {
        int leave = scn_bell();
        const pthread_t sleeper = scn_start(scn_stay, &leave);
        SCN_IS(__register_atfork(jump_out, NULL, NULL, &going), 0);
        SCN_IS(__register_atfork(NULL, count_staying, count_staying, &staying), 0);
        for (int i = 0; i < 20; i++) { /* more than any thread has forks within forks */
            jumps_left = 1;
            if (sigsetjmp(out_of_fork, 1) == 0)
                fork_and_reap();
        }
        fork_and_reap();
        SCN_CHECK(calls_of_staying == 1);
        have_unloaded();
        fork_and_reap();
        SCN_CHECK(calls_of_staying == 2);
        scn_ring(leave);
        scn_join(sleeper);
    }
}

/* --- Handlers that come ---------------------------------------------------------------------------------------- */

static int latecomers[3], registering;

static void late_prepare(void)
{
    latecomers[0]++;
}

static void late_parent(void)
{
    latecomers[1]++;
}

static void late_child(void)
{
    latecomers[2]++;
}

static void register_late(void)
{
    if (registering)
        SCN_IS(pthread_atfork(late_prepare, late_parent, late_child), 0);
}

/* One registered by a handler is for the next fork. */
static void comes_in_handler(const struct scn_case *self)
{
    SCN_IS(pthread_atfork(self->number == 0 ? register_late : NULL, self->number == 1 ? register_late : NULL,
                          self->number == 2 ? register_late : NULL), 0);
    registering = 1;
    pid_t child = scn_fork();
    registering = 0;
    if (child == 0)
        SCN_CHECK(latecomers[0] == 0 && latecomers[2] == 0);
    else
        scn_reap(child);
    SCN_CHECK(latecomers[0] == 0 && latecomers[1] == 0);
    const int expected = self->number == 0 || (self->number == 1) == (child != 0);
    SCN_IN_CHILD {
        SCN_CHECK(latecomers[0] == expected && latecomers[1] == 0 && latecomers[2] == expected);
    }
    SCN_CHECK(latecomers[0] == expected && latecomers[1] == expected && latecomers[2] == 0);
    if (child == 0)
        scn_fine();
}

/* --- Both, all the time, with many forks at once ------------------------------------------------------------------ */

enum { ANCHORS = 20, STORM_FORKS = 200, FORKERS = 2, DAEMONS = 40 };
static _Thread_local int prepared, ended;
static atomic_int forkers_left;
static pthread_mutex_t held_through = PTHREAD_MUTEX_INITIALIZER;

static void anchor_prepare(void)
{
    prepared++;
}

static void anchor_end(void)
{
    ended++;
}

static void lock_through(void)
{
    SCN_IS(pthread_mutex_lock(&held_through), 0);
}

static void unlock_through(void)
{
    SCN_IS(pthread_mutex_unlock(&held_through), 0);
}

static void do_nothing(void)
{
}

static void *coming_body(void *object)
{
    for (int i = 0; atomic_load(&forkers_left) > 0; i++) {
        SCN_IS(__register_atfork(do_nothing, do_nothing, do_nothing, object), 0);
        if (i % 50 == 49)
            __cxa_finalize(object);
        if (i % 10 == 9)
            sched_yield();
    }
    return NULL;
}

static void *forking_body(void *unused)
{
    for (int i = 0; i < STORM_FORKS; i++) {
        prepared = ended = 0;
        const pid_t child = scn_fork();
        SCN_CHECK(prepared == ANCHORS && ended == ANCHORS);
        if (child == 0) {
            SCN_IS(pthread_mutex_lock(&held_through), 0);
            SCN_IS(pthread_mutex_unlock(&held_through), 0);
            SCN_IN_CHILD {}
            scn_fine();
        }
        scn_reap(child);
    }
    atomic_fetch_sub(&forkers_left, 1);
    return unused;
}

static void come_and_go(const struct scn_case *self)
{
    static char objects[2];
    SCN_IN_CHILD {
        pthread_t thread[FORKERS + 2];
        for (int i = 0; i < ANCHORS; i++) {
            SCN_IS(pthread_atfork(anchor_prepare, anchor_end, anchor_end), 0);
            if (i == ANCHORS / 2)
                SCN_IS(pthread_atfork(lock_through, unlock_through, unlock_through), 0);
        }
        alarm(60);
        atomic_store(&forkers_left, FORKERS);
        for (int i = 0; i < 2; i++)
            thread[i] = scn_start(coming_body, &objects[i]);
        for (int i = 2; i < FORKERS + 2; i++)
            thread[i] = scn_start(forking_body, NULL);
        for (int i = 0; i < FORKERS + 2; i++)
            scn_join(thread[i]);
    }
}

/* --- By daemon() ------------------------------------------------------------------------------------------------- */

static void *finalizing_body(void *object)
{
    for (;;)
        __cxa_finalize(object);
    return NULL;
}

/* No daemon may find locked what such a thread locks: exit takes the same lock. The daemons become this process's. */
static void daemons(const struct scn_case *self)
{
    static char ours, daemons_own;
    SCN_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    for (int i = scn_often(DAEMONS); i > 0; i--) {
        SCN_IN_CHILD {
            const pid_t between_id = getpid();
            scn_start(finalizing_body, &ours);
            usleep(1000);
            SCN_CHECK(daemon(1, 1) == 0);
            while (getppid() == between_id)
                sched_yield();
            scn_arm(); /* it dies with its parent, and has the last one now */
            __cxa_finalize(&daemons_own);
        }
        siginfo_t daemon_ended = {0};
        SCN_CHECK(waitid(P_ALL, 0, &daemon_ended, WEXITED | WNOWAIT) == 0);
        scn_reap(daemon_ended.si_pid);
    }
}

/* --- Modules ---------------------------------------------------------------------------------------------------- */

static void *load(void)
{
    void *module = dlopen(ATFORK_MODULE, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        scn_wrong(SCN_WHERE, dlerror());
    return module;
}

static void *symbol_of(void *module, const char *name)
{
    void *found = dlsym(module, name);
    SCN_CHECK(found != NULL);
    return found;
}

/* scn_fork arms the child after the handlers have run: these hang before. */
static pid_t fork_armed(void)
{
    const pid_t child = fork();
    SCN_CHECK(child >= 0);
    if (child == 0)
        scn_arm();
    return child;
}

/* The module is loaded late; its handler locks in the child what a thread of the parent holds. */
static void module_locks(const struct scn_case *self)
{
    SCN_IS(pthread_atfork(NULL, NULL, scn_arm), 0);
    void *module = load();
    pthread_mutex_t *(*const lock_of)(void) = (pthread_mutex_t * (*)(void)) symbol_of(module, "module_lock");
    int (*const count_in_child)(void) = (int (*)(void))symbol_of(module, "module_count_in_child");
    struct scn_holder worker;
    scn_hold(&worker, lock_mutex, unlock_mutex, lock_of(), 1);
    const pid_t child = fork_armed();
    if (child == 0) {
        SCN_CHECK(count_in_child() == 1);
        scn_fine();
    }
    scn_reap(child);
    scn_let_go(&worker);
    SCN_IS(dlclose(module), 0);
    const pid_t next = scn_fork(); /* would run code that is gone */
    if (next == 0)
        scn_fine();
    scn_reap(next);
}

static void *loading_body(void *unused)
{
    while (atomic_load(&forkers_left) > 0)
        SCN_IS(dlclose(load()), 0);
    return unused;
}

static void *forking_only_body(void *unused)
{
    for (int i = scn_often(STORM_FORKS); i > 0; i--) {
        const pid_t child = fork();
        SCN_CHECK(child >= 0);
        if (child == 0)
            _exit(0);
        scn_reap(child);
    }
    atomic_fetch_sub(&forkers_left, 1);
    return unused;
}

/* Loaded and unloaded without pause while two threads fork. The children end: a dlclose in them may find ld.so torn. */
static void modules_come_and_go(const struct scn_case *self)
{
    SCN_IN_CHILD {
        pthread_t thread[FORKERS];
        alarm(60);
        atomic_store(&forkers_left, FORKERS);
        const pthread_t loader = scn_start(loading_body, NULL);
        for (int i = 0; i < FORKERS; i++)
            thread[i] = scn_start(forking_only_body, NULL);
        for (int i = 0; i < FORKERS; i++)
            scn_join(thread[i]);
        scn_join(loader);
    }
}

#ifdef __GLIBC__
/* --- An allocator's handlers, which come after the drain ---------------------------------------------------------- */

static void run_with_allocator(const struct scn_case *self)
{
    const char *const before = getenv("LD_PRELOAD");
    if (getenv("HAS_ALLOCATOR") == NULL) {
        char preload[8192];
        snprintf(preload, sizeof preload, "%s:" ALLOCATOR_MODULE, before != NULL ? before : "");
        SCN_CHECK(setenv("LD_PRELOAD", preload, 1) == 0 && setenv("HAS_ALLOCATOR", "1", 1) == 0);
        execl("/proc/self/exe", "atfork_company", self->name, (char *)NULL);
        scn_wrong(SCN_WHERE, "exec");
    }
}

/* Has the allocator's lock for longer than a fork waits for it, and needs another one meanwhile. */
static void *allocate(void *bell)
{
    static pthread_mutex_t another = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_t *(*allocator_lock)(void) = (pthread_mutex_t * (*)(void)) dlsym(RTLD_DEFAULT, "allocator_lock");
    SCN_CHECK(allocator_lock != NULL);
    SCN_IS(pthread_mutex_lock(allocator_lock()), 0);
    scn_ring(*(int *)bell);
    usleep(50000);
    SCN_IS(pthread_mutex_lock(&another), 0);
    SCN_IS(pthread_mutex_unlock(&another), 0);
    SCN_IS(pthread_mutex_unlock(allocator_lock()), 0);
    return NULL;
}

/* The fork waits, in the handler, for the thread that the gate has stopped at the other lock. */
static void handler_waits(const struct scn_case *self)
{
    run_with_allocator(self);
    int bell = scn_bell();
    scn_start(allocate, &bell);
    scn_await(bell);
    alarm(20);
    SCN_IN_CHILD {
        free(malloc(1));
    }
}

/* In the middle of the fork: the child has ended, and stays to be waited for. */
static void await_end(void)
{
    siginfo_t info;
    SCN_IS(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
}

static int ends;

static void *wait_for_end(void *tid)
{
    struct epoll_event event;
    const int set = epoll_create1(0);
    SCN_IS(epoll_ctl(set, EPOLL_CTL_ADD, ends, &(struct epoll_event){.events = EPOLLIN}), 0);
    atomic_store((atomic_int *)tid, gettid());
    SCN_IS(epoll_wait(set, &event, 1, 60000), 1);
    return NULL;
}

/* A thread's wait goes on when the child of another one ends before fork has returned. */
static void child_ends_at_once(const struct scn_case *self)
{
    static atomic_int tid;
    run_with_allocator(self);
    ends = eventfd(0, 0);
    const pthread_t thread = scn_start(wait_for_end, &tid);
    scn_await_sleeper(&tid);
    *(void (**)(void))dlsym(RTLD_DEFAULT, "allocator_in_parent") = await_end;
    for (int i = 0; i < 3; i++) {
        const pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        SCN_IS(waitpid(pid, NULL, 0), pid);
    }
    SCN_IS(eventfd_write(ends, 1), 0);
    scn_join(thread);
}
#endif

void scn_cases(void)
{
    static const char *const phases[] = {"prepare", "parent", "child"};
    const bool old = !scn_handlers_may_fork(); /* nor come and go in one: libc holds its lock of them */
    for (int i = 0; i < (old ? 2 : 3); i++) { /* bare, a child hangs in its handler before it has an alarm */
        const char *const bare = old      ? "hangs"
                                 : i == 0 ? "dies SIGABRT"
                                          : "fine"; /* glibc walks down only in prepare */
        scn_add(SCN_CASE(.bare = bare, .says = SCN_SILENT, .run = goes, .entry = (void *)unload_once, .number = i),
                "goes-in-%s", phases[i]);
        scn_add(SCN_CASE(.bare = bare, .says = SCN_SILENT, .run = goes, .entry = (void *)have_unloaded_once,
                         .number = i), "goes-elsewhere-during-%s", phases[i]);
        scn_add(SCN_CASE(.bare = old ? "wrong|fine" : "fine", .says = SCN_SILENT, .run = comes_in_handler, .number = i),
                "comes-in-%s", phases[i]);
    }
    scn_add(SCN_CASE(.bare = old ? "hangs" : "fine", .says = SCN_SILENT, .env = "FORKSAFE_DRAIN_MS=60000", .run = left),
            "left-by-longjmp");
#ifdef __GLIBC__
    /* After that time the stopped thread would go on in any case. */
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_DRAIN_MS=60000", .run = handler_waits),
            "handler-waits-for-stopped");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = child_ends_at_once), "child-ends-at-once");
#endif
    scn_add(SCN_CASE(.bare = old ? "fine" : "dies SIGABRT|dies SIGSEGV|wrong|hangs|fine", .says = SCN_SILENT,
                     .run = come_and_go), "come-and-go");
    scn_add(SCN_CASE(.bare = "hangs|fine", .says = SCN_SILENT, .run = daemons), "daemons");
    scn_add(SCN_CASE(.bare = "hangs", .says = "once:took over mutex", .run = module_locks), "module-locks");
    scn_add(SCN_CASE(.bare = "dies SIGABRT|dies SIGSEGV|fine", .says = SCN_SILENT, .run = modules_come_and_go),
            "modules-come-and-go");
}
