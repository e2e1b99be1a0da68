/* Forks beside a dlopen or dlclose in another thread, and inside of one: the child must be able to use the loader. */
#include "libc.h"
#include "scenario.h"

#include <dlfcn.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

/* What the module's constructor and destructor do. */
__attribute__((visibility("default"))) void (*loader_hook)(void);

static int load(void)
{
    void *module = dlopen(LOADER_MODULE, RTLD_NOW);
    return module != NULL && dlclose(module) == 0 ? 0 : ENOEXEC;
}

static atomic_int loads;
static void *load_for_ever(void *unused)
{
    for (;;) {
        SCN_IS(load(), 0);
        atomic_fetch_add(&loads, 1);
    }
}

static void in_handlers(const struct scn_case *self);

/* The module's handlers come and go, its code as well. */
static void storm(const struct scn_case *self)
{
    const int before = 1;
    for (long i = 0; i < self->number; i++)
        scn_start(load_for_ever, NULL);
    while (atomic_load(&loads) < before)
        sched_yield();
    for (int i = 0; i < (self->run == in_handlers ? 30 : scn_often(200)); i++) {
        SCN_IN_CHILD {
            SCN_IS(load(), 0);
        }
    }
    scn_fine();
}

/* Constructors that take locks of the program's and of libc's on their way, past a gate that may be closed. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void take_locks(void)
{
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    setenv("LOADER", "yes", 1);
    const time_t moment = 0;
    struct tm tm;
    SCN_CHECK(localtime_r(&moment, &tm) != NULL);
}

static void storm_of_locks(const struct scn_case *self)
{
    loader_hook = take_locks;
    storm(self);
}

/* --- A constructor, or a callback, that forks ------------------------------------------------------------------ */

static const struct scn_case *forking;
static pid_t made;

static pid_t fork_by_syscall(void)
{
#ifdef SYS_fork
    return (pid_t)syscall(SYS_fork);
#else
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
#endif
}

static void fork_here(void)
{
    loader_hook = NULL;
    made = forking->number == 0 ? scn_fork() : forking->number == 1 ? _Fork() : fork_by_syscall();
    if (made == 0)
        scn_arm();
}

static int load_in_thread(void *unused)
{
    return load();
}

/* The child comes out of the dlopen that it was made in; then all of its threads can load. */
static void in_constructor(const struct scn_case *self)
{
    forking = self;
    loader_hook = fork_here;
    SCN_IS(load(), 0);
    if (made != 0)
        scn_reap(made);
    SCN_IS(load(), 0);
    SCN_IS(scn_elsewhere(load_in_thread, NULL), 0);
    scn_fine();
}

static int fork_in_callback(struct dl_phdr_info *info, size_t bytes, void *unused)
{
    (void)info, (void)bytes, (void)unused;
    fork_here();
    return 1;
}

static void in_callback(const struct scn_case *self)
{
    forking = self;
    SCN_IS(scn_elsewhere(load_in_thread, NULL), 0); /* so that there was a thread */
    SCN_CHECK(dl_iterate_phdr(fork_in_callback, NULL) == 1);
    if (made != 0)
        scn_reap(made);
    SCN_IS(load(), 0);
    SCN_IS(scn_elsewhere(load_in_thread, NULL), 0);
    scn_fine();
}

/*
 * A thread that vanishes in a callback of dl_iterate_phdr, in which it took more rwlocks than its first records have
 * room for: that it is in that call is still known.
 */
static int iterating, stops;
static int take_many(struct dl_phdr_info *info, size_t bytes, void *unused)
{
    static pthread_rwlock_t many[100];
    const int locks = (int)(sizeof many / sizeof *many);
    (void)info, (void)bytes, (void)unused;
    for (int i = 0; i < locks; i++) {
        SCN_IS(pthread_rwlock_init(&many[i], NULL), 0);
        SCN_IS(pthread_rwlock_wrlock(&many[i]), 0);
    }
    scn_ring(iterating);
    scn_await(stops);
    for (int i = 0; i < locks; i++)
        SCN_IS(pthread_rwlock_unlock(&many[i]), 0);
    return 1;
}

static void *iterate(void *unused)
{
    SCN_CHECK(dl_iterate_phdr(take_many, NULL) == 1);
    return unused;
}

static int look_at_one(struct dl_phdr_info *info, size_t bytes, void *unused)
{
    (void)info, (void)bytes, (void)unused;
    return 1;
}

static void callback_with_rwlocks(const struct scn_case *self)
{
    iterating = scn_bell();
    stops = scn_bell();
    const pthread_t thread = scn_start(iterate, NULL);
    scn_await(iterating);
    SCN_IN_CHILD {
        SCN_CHECK(dl_iterate_phdr(look_at_one, NULL) == 1);
    }
    scn_ring(stops);
    scn_join(thread);
}

/* --- A constructor that takes its time --------------------------------------------------------------------------- */

static int inside, leave;
static void stay(void)
{
    loader_hook = NULL;
    scn_ring(inside);
    scn_await(leave);
}

static void *load_once(void *unused)
{
    SCN_IS(load(), 0);
    return unused;
}

/* The fork does not wait for it to end: only after the fork is it told to. */
static void slow_constructor(const struct scn_case *self)
{
    inside = scn_bell();
    leave = scn_bell();
    loader_hook = stay;
    const pthread_t loader = scn_start(load_once, NULL);
    scn_await(inside);
    for (int i = 0; i < 3; i++) {
        SCN_IN_CHILD {
            SCN_CHECK(dlsym(RTLD_DEFAULT, "no such thing") == NULL);
        }
    }
    scn_ring(leave);
    scn_join(loader);
    SCN_IS(load(), 0);
}

/* A constructor that waits for a thread that forks. */
static void *fork_and_reap(void *unused)
{
    SCN_IN_CHILD {
        SCN_CHECK(dlsym(RTLD_DEFAULT, "no such thing") == NULL);
    }
    return unused;
}

static void wait_for_fork(void)
{
    loader_hook = NULL;
    scn_join(scn_start(fork_and_reap, NULL));
}

static void constructor_awaits_fork(const struct scn_case *self)
{
    loader_hook = wait_for_fork;
    SCN_IS(load(), 0);
}

/*
 * A constructor that runs until a thread that has nothing to do with the fork has taken a lock, while the fork waits
 * for the constructor: that thread is not stopped for as long as the fork's patience lasts.
 */
static atomic_int forker_tid, fork_over, lock_taken;
static void *take_lock_during_fork(void *unused)
{
    scn_await_asleep(atomic_load(&forker_tid), &fork_over);
    take_locks();
    atomic_store(&lock_taken, 1);
    return unused;
}

static void run_until_taken(void)
{
    loader_hook = NULL;
    scn_ring(inside);
    while (!atomic_load(&lock_taken))
        sched_yield();
}

static void bystander(const struct scn_case *self)
{
    scn_needs_calls(); /* qemu-user's /proc says that this process runs whatever it does */
    inside = scn_bell();
    atomic_store(&forker_tid, (int)syscall(SYS_gettid));
    for (int i = 0; i < 5; i++) {
        atomic_store(&fork_over, 0);
        atomic_store(&lock_taken, 0);
        loader_hook = run_until_taken;
        const pthread_t loader = scn_start(load_once, NULL);
        scn_await(inside);
        const pthread_t taker = scn_start(take_lock_during_fork, NULL);
        const pid_t child = scn_fork();
        if (child == 0)
            scn_fine();
        atomic_store(&fork_over, 1);
        scn_reap(child);
        scn_join(taker);
        scn_join(loader);
    }
}

/*
 * A thread that loads while it holds a mutex, as ALSA does: the fork waits for it as for any thread in the loader, and
 * not for the milliseconds alone that it waits for a mutex.
 */
static atomic_int constructed;
static void work_for_long(void)
{
    enum { LONGER_THAN_FOR_A_MUTEX_NS = 60000000 };
    struct timespec now, begin;
    loader_hook = NULL;
    scn_ring(inside);
    SCN_IS(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin), 0);
    do
        SCN_IS(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    while ((now.tv_sec - begin.tv_sec) * 1000000000LL + now.tv_nsec - begin.tv_nsec < LONGER_THAN_FOR_A_MUTEX_NS);
    atomic_store(&constructed, 1);
}

static void *load_with_mutex(void *unused)
{
    SCN_IS(pthread_mutex_lock(&mutex), 0);
    SCN_IS(load(), 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    return unused;
}

static void constructor_with_mutex(const struct scn_case *self)
{
    inside = scn_bell();
    loader_hook = work_for_long;
    const pthread_t loader = scn_start(load_with_mutex, NULL);
    scn_await(inside);
    SCN_IN_CHILD {
        SCN_CHECK(atomic_load(&constructed) == 1);
        take_locks();
        SCN_IS(load(), 0);
    }
    scn_join(loader);
}

/* --- Handlers that load ------------------------------------------------------------------------------------------- */

static void load_in_handler(void)
{
    SCN_IS(load(), 0);
}

/* The first of the child's handlers: from here on its alarm bounds it. */
static void load_in_child(void)
{
    scn_arm();
    load_in_handler();
}

static void in_handlers(const struct scn_case *self)
{
    SCN_IS(pthread_atfork(load_in_handler, load_in_handler, load_in_child), 0);
    storm(self);
}

void scn_cases(void)
{
    static const char *const doors[] = {"fork", "_Fork", "SYS_fork"};
    /* Bare the program itself died in 8 of 80 storms of three. On i386 such a storm went well in 2 of 6 runs. */
    const char *const breaks = "fine|hangs|dies SIGSEGV|dies SIGABRT|fails ENOEXEC|wrong|victim dies SIGSEGV";
    for (long threads = 1; threads <= 3; threads += 2)
        scn_add((struct scn_case){.bare = breaks, .run = storm, .number = threads, .says = SCN_SILENT,
                                  .env = "FORKSAFE_DRAIN_MS=60000"}, "storm-%ld", threads);
    scn_add((struct scn_case){.bare = breaks, .run = storm_of_locks, .number = 2,
                              .env = "FORKSAFE_DRAIN_MS=60000"}, "storm-of-locks");
    if (scn_handlers_may_fork())
        scn_add((struct scn_case){.bare = breaks, .run = in_handlers, .number = 1}, "in-handlers");
    for (long door = 0; door < 3; door++) {
        if (door == 1 && !LIBC_HAS_BARE_FORK)
            continue;
        scn_add((struct scn_case){.bare = door == 1 ? "hangs" : "fine", .run = in_constructor, .number = door,
                                  .says = SCN_SILENT},
                "in-constructor-%s", doors[door]);
        scn_add((struct scn_case){.bare = door == 2 ? "fine" : "hangs", .run = in_callback, .number = door,
                                  .says = SCN_SILENT},
                "in-callback-%s", doors[door]);
    }
    scn_add((struct scn_case){.bare = "hangs", .run = callback_with_rwlocks, .says = SCN_SILENT,
                              .env = "FORKSAFE_DRAIN_MS=20"},
            "in-callback-with-rwlocks");
    scn_add((struct scn_case){.bare = "fine", .run = slow_constructor, .says = SCN_SILENT}, "slow-constructor");
    scn_add((struct scn_case){.bare = "fine", .run = bystander, .says = SCN_SILENT, .env = "FORKSAFE_DRAIN_MS=60000"},
            "bystander-of-constructor");
    scn_add((struct scn_case){.bare = "wrong", .run = constructor_with_mutex, .says = SCN_SILENT,
                              .env = "FORKSAFE_DRAIN_MS=60000"},
            "constructor-with-mutex");
    scn_add((struct scn_case){.bare = "fine", .run = constructor_awaits_fork, .says = SCN_SILENT},
            "constructor-awaits-fork");
}
