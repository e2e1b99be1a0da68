/* The drain before a fork, and what it must leave alone. Run by ../scenario/run.
 *
 * No case asks how long anything took. Where a wait that must not be would only make things slow, the case sets a
 * drain budget of many seconds, so that waiting in each of its forks would outlast the victim's own alarm.
 */
#include "../scenario/scenario.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <ftw.h>
#include <link.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { ROUNDS = 3000, FORKS = 50 };

/* A wait now and then does no harm, one in each fork does. */
#define PATIENT "FORKSAFE_DRAIN_MS=5000"
/* No wait at all: one of them outlasts us. */
#define NEVER_WAITS "FORKSAFE_DRAIN_MS=60000"

static void hurry(const struct scn_case *self)
{
    if (self->env && strcmp(self->env, NEVER_WAITS) == 0)
        alarm(40);
}

static const time_t moment = 1700000000;
static pthread_mutex_t one_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t other_mutex = PTHREAD_MUTEX_INITIALIZER;

/* A little of everything that a drain knows. Nothing in it allocates, so it may run wherever fork() may. */
static void use_all(void)
{
    struct tm tm;
    SCN_IS(pthread_mutex_lock(&one_mutex), 0);
    SCN_CHECK(localtime_r(&moment, &tm) && tm.tm_hour == 23 && tm.tm_min == 13);
    SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
    SCN_CHECK(random() >= 0);
    tzset();
}

static void set_zone(void)
{
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
}

static void fork_and_use(void)
{
    SCN_IN_CHILD {
        use_all();
    }
}

static void fork_and_leave(void)
{
    SCN_IN_CHILD {}
}

static pid_t own_tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* --- The gate is bounded ------------------------------------------------------------------------------------------ */

static atomic_int worker_tid, stuck;
static int worker_go, worker_done;

static void *working_body(void *unused)
{
    atomic_store(&worker_tid, own_tid());
    scn_await(worker_go);
    for (int i = 0; i < ROUNDS; i++)
        use_all();
    scn_ring(worker_done);
    return NULL;
}

static void stick(void)
{
    atomic_store(&stuck, 1);
    scn_ring(worker_go);
    scn_await(worker_done);
}

/* The program's prepare handler waits for a thread that has yet to take locks. */
static void prepare_sticks(const struct scn_case *self)
{
    set_zone();
    worker_go = scn_bell();
    worker_done = scn_bell();
    SCN_IS(pthread_atfork(stick, NULL, NULL), 0);
    const pthread_t worker = scn_start(working_body, NULL);
    fork_and_use();
    scn_join(worker);
}

/* libc's own fork waits for its list of files, which a thread keeps that flushes into a full pipe. Only who is let
 * through the gate can free it: so the gate has to open by itself. Here fork() itself is slow, bare and saved. */
static int full_pipe[2];
static atomic_int flusher_tid, forker_tid, forker_done;

static void *flushing_body(void *unused)
{
    atomic_store(&flusher_tid, own_tid());
    fflush(NULL);
    return NULL;
}

static void *emptying_body(void *unused)
{
    char bytes[4096];
    scn_await_asleep(atomic_load(&forker_tid), &forker_done);
    for (int i = 0; i < ROUNDS; i++)
        use_all();
    while (!atomic_load(&forker_done)) {
        struct pollfd waiting = {.fd = full_pipe[0], .events = POLLIN};
        if (poll(&waiting, 1, 10) > 0 && read(full_pipe[0], bytes, sizeof bytes) < 0)
            scn_wrong(SCN_WHERE, "read");
    }
    return NULL;
}

static void fork_sticks(const struct scn_case *self)
{
    set_zone();
    SCN_CHECK(pipe2(full_pipe, O_CLOEXEC | O_NONBLOCK) == 0);
    char bytes[4096] = {0};
    while (write(full_pipe[1], bytes, sizeof bytes) > 0)
        ;
    SCN_CHECK(fcntl(full_pipe[1], F_SETFL, 0) == 0);
    FILE *file = fdopen(full_pipe[1], "w");
    SCN_CHECK(file && fputs("more", file) >= 0);
    const pthread_t flusher = scn_start(flushing_body, NULL);
    while (!atomic_load(&flusher_tid))
        sched_yield();
    scn_await_asleep(atomic_load(&flusher_tid), NULL);

    atomic_store(&forker_tid, own_tid());
    const pthread_t emptier = scn_start(emptying_body, NULL);
    const pid_t child = scn_fork();
    if (child == 0)
        scn_fine(); /* the child's stdio is what it is: not our matter */
    atomic_store(&forker_done, 1);
    scn_reap(child);
    scn_join(emptier);
    scn_join(flusher);
}

/* A handler that fork() runs in the parent waits for the workers: by then the gate must be open. */
static void parent_handler_waits(const struct scn_case *self)
{
    set_zone();
    worker_go = scn_bell();
    worker_done = scn_bell();
    SCN_IS(pthread_atfork(NULL, stick, NULL), 0);
    const pthread_t worker = scn_start(working_body, NULL);
    fork_and_use();
    scn_join(worker);
}

/* --- Who is not waited for ---------------------------------------------------------------------------------------- */

/* How a holder spends its time with the lock. */
static int keeper_in, keeper_out;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t event;
static int idle_pipe[2];
static atomic_int keeper_leaves, keeper_tid;
static pthread_rwlock_t one_rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t one_spin;

static void sleep_on_bell(void)
{
    scn_await(keeper_out);
}

static void sleep_on_semaphore(void)
{
    while (sem_wait(&event) != 0)
        ;
}

static void sleep_in_read(void)
{
    char byte;
    SCN_CHECK(read(idle_pipe[0], &byte, 1) == 1);
}

static void run_on(void)
{
    while (!atomic_load(&keeper_leaves))
        ;
}

static void sleep_on_other_mutex(void)
{
    SCN_IS(pthread_mutex_lock(&other_mutex), 0);
    SCN_IS(pthread_mutex_unlock(&other_mutex), 0);
}

/* A thread is inside libc when a fork begins, and works there for a while yet: the child finds it outside. */
static atomic_bool fork_begins, is_out;
static int worker_in_call;

static void tell_that_fork_begins(void)
{
    atomic_store(&fork_begins, true);
}

static int working_in_callback(struct dl_phdr_info *info, size_t size, void *unused)
{
    enum { WORK_MS = 50 };
    scn_ring(worker_in_call);
    while (!atomic_load(&fork_begins))
        sched_yield();
    for (const clock_t end = clock() + WORK_MS * (CLOCKS_PER_SEC / 1000); clock() < end;)
        ;
    atomic_store(&is_out, true);
    return 1;
}

static void *calling_body(void *unused)
{
    SCN_CHECK(dl_iterate_phdr(working_in_callback, NULL) == 1);
    return NULL;
}

static void waits_for_call(const struct scn_case *self)
{
    pthread_t worker;
    worker_in_call = scn_bell();
    SCN_IS(pthread_atfork(tell_that_fork_begins, NULL, NULL), 0);
    SCN_IS(pthread_create(&worker, NULL, calling_body, NULL), 0);
    scn_await(worker_in_call);
    SCN_IN_CHILD {
        SCN_CHECK(atomic_load(&is_out));
    }
    SCN_IS(pthread_join(worker, NULL), 0);
}

static void (*way_to_keep)(void);

/* Inside one of libc's own critical sections for as long as one likes. */
static int keeping_in_callback(struct dl_phdr_info *info, size_t size, void *unused)
{
    scn_ring(keeper_in);
    way_to_keep();
    return 1;
}

static void *keeping_body(void *raw)
{
    const struct scn_case *self = raw;
    atomic_store(&keeper_tid, own_tid());
    if (self->number == 'd') {
        SCN_CHECK(dl_iterate_phdr(keeping_in_callback, NULL) == 1);
        return NULL;
    }
    switch (self->number) {
    case 'm':
        SCN_IS(pthread_mutex_lock(&one_mutex), 0);
        break;
    case 'r':
        SCN_IS(pthread_rwlock_rdlock(&one_rwlock), 0);
        break;
    case 'w':
        SCN_IS(pthread_rwlock_wrlock(&one_rwlock), 0);
        break;
    case 's':
        SCN_IS(pthread_spin_lock(&one_spin), 0);
        break;
    }
    scn_ring(keeper_in);
    way_to_keep();
    switch (self->number) {
    case 'm':
        SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
        break;
    case 'r':
    case 'w':
        SCN_IS(pthread_rwlock_unlock(&one_rwlock), 0);
        break;
    case 's':
        SCN_IS(pthread_spin_unlock(&one_spin), 0);
        break;
    }
    return NULL;
}

/* A thread keeps a lock for as long as there are forks. The forks go on. */
static void kept(const struct scn_case *self)
{
    hurry(self);
    SCN_CHECK(sem_init(&event, 0, 0) == 0 && pipe2(idle_pipe, O_CLOEXEC) == 0);
    SCN_IS(pthread_spin_init(&one_spin, PTHREAD_PROCESS_PRIVATE), 0);
    keeper_in = scn_bell();
    keeper_out = scn_bell();
    way_to_keep = *(void (*const *)(void))self->entry;
    const bool forker_holds = way_to_keep == sleep_on_other_mutex;
    if (forker_holds)
        SCN_IS(pthread_mutex_lock(&other_mutex), 0);
    const pthread_t keeper = scn_start(keeping_body, (void *)self);
    scn_await(keeper_in);
    if (way_to_keep != run_on)
        scn_await_asleep(atomic_load(&keeper_tid), NULL);
    for (int i = 0; i < FORKS; i++) {
        SCN_IN_CHILD {
            if (forker_holds)
                SCN_IS(pthread_mutex_unlock(&other_mutex), 0);
        }
    }
    atomic_store(&keeper_leaves, 1);
    scn_ring(keeper_out);
    SCN_CHECK(sem_post(&event) == 0 && write(idle_pipe[1], "", 1) == 1);
    if (forker_holds)
        SCN_IS(pthread_mutex_unlock(&other_mutex), 0);
    scn_join(keeper);
}

/* The same thread takes its lock anew for each fork, so that remembering "it outlasted a fork" is no help: whoever
 * sleeps in a futex has to be told from whoever runs. */
static void *retaking_body(void *unused)
{
    for (int i = 0; i < FORKS; i++) {
        SCN_IS(pthread_mutex_lock(&one_mutex), 0);
        scn_ring(keeper_in);
        sleep_on_semaphore();
        SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
    }
    return NULL;
}

static void kept_anew(const struct scn_case *self)
{
    SCN_CHECK(sem_init(&event, 0, 0) == 0);
    keeper_in = scn_bell();
    const pthread_t keeper = scn_start(retaking_body, NULL);
    for (int i = 0; i < FORKS; i++) {
        scn_await(keeper_in);
        fork_and_leave();
        SCN_CHECK(sem_post(&event) == 0);
    }
    scn_join(keeper);
}

/* A thread that sleeps in pthread_cond_wait has left its mutex, though it took it. */
static atomic_int waiting_over;

static void *waiting_body(void *unused)
{
    SCN_IS(pthread_mutex_lock(&one_mutex), 0);
    scn_ring(keeper_in);
    while (!atomic_load(&waiting_over))
        SCN_IS(pthread_cond_wait(&condition, &one_mutex), 0);
    SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
    return NULL;
}

static void waits_for_condition(const struct scn_case *self)
{
    set_zone();
    keeper_in = scn_bell();
    pthread_t waiter[4];
    for (int i = 0; i < 4; i++) {
        waiter[i] = scn_start(waiting_body, NULL);
        scn_await(keeper_in);
    }
    for (int i = 0; i < FORKS; i++) {
        SCN_IS(pthread_mutex_lock(&one_mutex), 0); /* so all of them are asleep, or will be after us */
        SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
        fork_and_use();
        SCN_IS(pthread_cond_broadcast(&condition), 0); /* they come back and sleep again */
    }
    atomic_store(&waiting_over, 1);
    SCN_IS(pthread_mutex_lock(&one_mutex), 0);
    SCN_IS(pthread_cond_broadcast(&condition), 0);
    SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
    for (int i = 0; i < 4; i++)
        scn_join(waiter[i]);
}

/* A Python-like program: a lock that is a semaphore, and one thread has the interpreter's for most of the time. */
static sem_t interpreter;
static atomic_int python_ends, python_tid;

static void *python_body(void *unused)
{
    while (!atomic_load(&python_ends)) {
        while (sem_wait(&interpreter) != 0)
            ;
        use_all();
        SCN_CHECK(sem_post(&interpreter) == 0);
        sched_yield();
    }
    return NULL;
}

/* A worker with a mutex waits for the interpreter that the forking thread has. */
static void *python_inner_body(void *unused)
{
    atomic_store(&python_tid, own_tid());
    while (!atomic_load(&python_ends)) {
        SCN_IS(pthread_mutex_lock(&other_mutex), 0);
        while (sem_wait(&interpreter) != 0)
            ;
        SCN_CHECK(sem_post(&interpreter) == 0);
        SCN_IS(pthread_mutex_unlock(&other_mutex), 0);
        sched_yield();
    }
    return NULL;
}

static void python_like(const struct scn_case *self)
{
    set_zone();
    SCN_CHECK(sem_init(&interpreter, 0, 1) == 0);
    const pthread_t first = scn_start(python_body, NULL), second = scn_start(python_inner_body, NULL);
    while (!atomic_load(&python_tid))
        sched_yield();
    for (int i = 0; i < FORKS; i++) {
        while (sem_wait(&interpreter) != 0)
            ;
        scn_await_asleep(atomic_load(&python_tid), NULL); /* only ever in sem_wait */
        SCN_IN_CHILD {
            use_all();
            SCN_IS(pthread_mutex_lock(&other_mutex), 0);
            SCN_IS(pthread_mutex_unlock(&other_mutex), 0);
        }
        SCN_CHECK(sem_post(&interpreter) == 0);
        sched_yield();
    }
    atomic_store(&python_ends, 1);
    scn_join(first);
    scn_join(second);
}

/* --- The loader's lock -------------------------------------------------------------------------------------------- */

/* A thread is inside dl_iterate_phdr for as long as there are forks; each child needs the loader. */
static int visiting_only(struct dl_phdr_info *info, size_t size, void *count)
{
    ++*(int *)count;
    return 0;
}

static void *never_leaving_body(void *unused)
{
    atomic_store(&keeper_tid, own_tid());
    dl_iterate_phdr(keeping_in_callback, NULL);
    return NULL;
}

static void end_well(void *unused)
{
    scn_fine();
}

static void loader_kept(const struct scn_case *self)
{
    keeper_in = scn_bell();
    keeper_out = scn_bell();
    way_to_keep = sleep_on_bell;
    const pthread_t keeper = scn_start(never_leaving_body, NULL);
    scn_await(keeper_in);
    for (int i = 0; i < 5; i++) {
        SCN_IN_CHILD {
            int count = 0;
            switch (self->number) {
            case 'i':
                SCN_CHECK(dl_iterate_phdr(visiting_only, &count) == 0 && count > 1);
                break;
            case 'o': {
                void *handle = dlopen("libm.so.6", RTLD_NOW);
                SCN_CHECK(handle && dlsym(handle, "cos") && dlclose(handle) == 0);
                break;
            }
            case 'b': {
                void *frames[4]; /* the first call loads the unwinder */
                SCN_CHECK(backtrace(frames, 4) > 0);
                break;
            }
            case 'e':
                pthread_cleanup_push(end_well, NULL);
                pthread_exit(NULL); /* loads it, too */
                pthread_cleanup_pop(0);
            }
        }
    }
    scn_ring(keeper_out);
    scn_join(keeper);
}

/* --- Prepare handlers that wait for the program's own workers ----------------------------------------------------- */

/* As a thread pool does that quiesces: the handler raises a flag, each worker parks when it has finished its job, the
 * handler goes on when all are parked. Workers need locks and regions to finish. */
enum { WORKERS = 4 };
static pthread_mutex_t pool_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_changed = PTHREAD_COND_INITIALIZER;
static bool pool_pauses, pool_ends;
static int pool_parked, pool_running;

static void *pool_body(void *unused)
{
    for (;;) {
        for (int i = 0; i < 20; i++)
            use_all();
        SCN_IS(pthread_mutex_lock(&pool_mutex), 0);
        if (pool_pauses) {
            pool_parked++;
            SCN_IS(pthread_cond_broadcast(&pool_changed), 0);
            while (pool_pauses)
                SCN_IS(pthread_cond_wait(&pool_changed, &pool_mutex), 0);
            pool_parked--;
        }
        const bool ends = pool_ends;
        SCN_IS(pthread_mutex_unlock(&pool_mutex), 0);
        if (ends)
            return NULL;
    }
}

static void pool_prepare(void)
{
    SCN_IS(pthread_mutex_lock(&pool_mutex), 0);
    pool_pauses = true;
    while (pool_parked < pool_running)
        SCN_IS(pthread_cond_wait(&pool_changed, &pool_mutex), 0);
}

static void pool_parent(void)
{
    pool_pauses = false;
    SCN_IS(pthread_cond_broadcast(&pool_changed), 0);
    SCN_IS(pthread_mutex_unlock(&pool_mutex), 0);
}

static void pool_child(void)
{
    pool_running = pool_parked = 0;
    pool_pauses = false;
    SCN_IS(pthread_cond_init(&pool_changed, NULL), 0);
    SCN_IS(pthread_mutex_unlock(&pool_mutex), 0);
}

static void pool_quiesces(const struct scn_case *self)
{
    set_zone();
    SCN_IS(pthread_atfork(pool_prepare, pool_parent, pool_child), 0);
    pthread_t worker[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        worker[i] = scn_start(pool_body, NULL);
    pool_running = WORKERS;
    for (int i = 0; i < self->number; i++) {
        SCN_IN_CHILD {
            use_all();
            SCN_IS(pthread_mutex_lock(&pool_mutex), 0);
            SCN_IS(pthread_mutex_unlock(&pool_mutex), 0);
        }
    }
    SCN_IS(pthread_mutex_lock(&pool_mutex), 0);
    pool_ends = true;
    SCN_IS(pthread_mutex_unlock(&pool_mutex), 0);
    for (int i = 0; i < WORKERS; i++)
        scn_join(worker[i]);
}

/* --- Forks from inside something ---------------------------------------------------------------------------------- */

/* Another thread works all the time, so that the drain has something to do. */
static atomic_int busy_ends;

static void *busy_body(void *unused)
{
    while (!atomic_load(&busy_ends)) {
        SCN_IS(pthread_mutex_lock(&other_mutex), 0);
        SCN_IS(pthread_mutex_unlock(&other_mutex), 0);
    }
    return NULL;
}

static int forks_left;

static void fork_in_passing(void)
{
    if (forks_left > 0) {
        forks_left--;
        fork_and_use();
    }
}

static int comparing(const void *left, const void *right)
{
    fork_in_passing();
    return *(const int *)left - *(const int *)right;
}

static void in_qsort(void)
{
    int values[] = {5, 3, 9, 1, 7, 8, 2, 6, 4, 0};
    qsort(values, 10, sizeof values[0], comparing);
    for (int i = 0; i < 10; i++)
        SCN_CHECK(values[i] == i);
}

static int visiting_object(struct dl_phdr_info *info, size_t size, void *unused)
{
    fork_in_passing();
    return 0;
}

static void in_dl_iterate_phdr(void)
{
    SCN_CHECK(dl_iterate_phdr(visiting_object, NULL) == 0);
}

static int visiting_file(const char *path, const struct stat *stat, int flag, struct FTW *place)
{
    fork_in_passing();
    return 1;
}

static void in_nftw(void)
{
    SCN_CHECK(nftw("/proc/self/fdinfo", visiting_file, 4, FTW_PHYS) == 1);
}

static void once_body(void)
{
    fork_in_passing();
}

static void in_once(void)
{
    static pthread_once_t once;
    const pthread_once_t fresh = PTHREAD_ONCE_INIT;
    once = fresh;
    SCN_IS(pthread_once(&once, once_body), 0);
}

static void leaving_child(void *unused)
{
    fork_in_passing();
}

/* In a key's destructor, at the end of a thread. */
static void *keyed_body(void *key)
{
    SCN_IS(pthread_setspecific(*(pthread_key_t *)key, key), 0);
    return NULL;
}

static void in_key_destructor(void)
{
    pthread_key_t key;
    SCN_IS(pthread_key_create(&key, leaving_child), 0);
    scn_join(scn_start(keyed_body, &key));
    SCN_IS(pthread_key_delete(key), 0);
}

/* In the destructor of a C++ thread_local. */
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern void *__dso_handle;

static void *thread_local_body(void *object)
{
    SCN_IS(__cxa_thread_atexit_impl(leaving_child, object, &__dso_handle), 0);
    return NULL;
}

static void in_thread_local_destructor(void)
{
    int object = 0;
    scn_join(scn_start(thread_local_body, &object));
}

static void in_cleanup_body(void)
{
    pthread_cleanup_push(leaving_child, NULL);
    pthread_cleanup_pop(1);
}

static void in_mutex(void)
{
    static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    SCN_IS(pthread_mutex_lock(&held), 0);
    fork_in_passing();
    SCN_IS(pthread_mutex_unlock(&held), 0);
}

static void from_inside(const struct scn_case *self)
{
    set_zone();
    void (*const place)(void) = *(void (*const *)(void))self->entry;
    const pthread_t busy = scn_start(busy_body, NULL);
    forks_left = 20;
    while (forks_left > 0)
        place();
    use_all();
    atomic_store(&busy_ends, 1);
    scn_join(busy);
}

/* The child comes back out of the callback and goes on with its life. */
static bool is_child_now;

static int visiting_and_staying(struct dl_phdr_info *info, size_t size, void *child)
{
    if (*(pid_t *)child == -1) {
        *(pid_t *)child = scn_fork();
        is_child_now = *(pid_t *)child == 0;
    }
    return 0;
}

static void returns_from_callback(const struct scn_case *self)
{
    set_zone();
    const pthread_t busy = scn_start(busy_body, NULL);
    for (int i = 0; i < 20; i++) {
        pid_t child = -1;
        SCN_CHECK(dl_iterate_phdr(visiting_and_staying, &child) == 0 && child >= 0);
        if (is_child_now) {
            int count = 0;
            use_all();
            if (self->number) /* libc's lock of this is recursive and names the parent's thread */
                SCN_CHECK(dl_iterate_phdr(visiting_only, &count) == 0 && count > 1);
            scn_fine();
        }
        scn_reap(child);
    }
    atomic_store(&busy_ends, 1);
    scn_join(busy);
}

/* A child that returns from a callback and forks again: the next generation. */
static int comparing_and_staying(const void *left, const void *right)
{
    static int generation;
    if (generation < 3) {
        generation++;
        const pid_t child = scn_fork();
        if (child == 0)
            is_child_now = true;
        else
            scn_reap(child);
    }
    return *(const int *)left - *(const int *)right;
}

static void generations_in_callback(const struct scn_case *self)
{
    set_zone();
    const pthread_t busy = scn_start(busy_body, NULL);
    int values[] = {2, 1, 4, 3};
    qsort(values, 4, sizeof values[0], comparing_and_staying);
    for (int i = 0; i < 4; i++)
        SCN_CHECK(values[i] == i + 1);
    use_all();
    if (is_child_now)
        scn_fine();
    atomic_store(&busy_ends, 1);
    scn_join(busy);
}

/* In an atexit handler; a thread is still at work, as in most programs that call exit(). */
static void at_the_end(void)
{
    forks_left = 5;
    while (forks_left > 0)
        fork_in_passing();
    scn_fine();
}

static void in_atexit(const struct scn_case *self)
{
    set_zone();
    const pid_t child = scn_fork();
    if (child == 0) {
        scn_start(busy_body, NULL);
        SCN_IS(atexit(at_the_end), 0);
        exit(1); /* the handler says 0 */
    }
    scn_reap(child);
}

/* A child of an atexit handler calls exit() itself: the rest of the handlers run in it. */
static void exit_in_child(void)
{
    static bool is_over;
    if (is_over)
        return;
    is_over = true;
    const pid_t child = scn_fork();
    if (child == 0)
        exit(0);
    scn_reap(child);
}

static void in_atexit_exits(const struct scn_case *self)
{
    set_zone();
    const pid_t child = scn_fork();
    if (child == 0) {
        scn_start(busy_body, NULL);
        SCN_IS(atexit(use_all), 0);
        SCN_IS(atexit(exit_in_child), 0);
        exit(0);
    }
    scn_reap(child);
}

/* --- Forks in signal handlers ------------------------------------------------------------------------------------- */

static volatile sig_atomic_t handler_forks, is_in_child;
static pthread_t interrupted;
static atomic_int interrupting_ends;

static void fork_in_handler(int number)
{
    const int kept_errno = errno;
    if (!is_in_child && handler_forks < FORKS) {
        handler_forks++;
        const pid_t child = fork();
        if (child == 0) {
            is_in_child = 1;
            scn_arm();
        } else {
            int status;
            while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
            if (WIFSIGNALED(status))
                scn_wrong(SCN_WHERE, WTERMSIG(status) == SIGALRM ? "a child hung" : "a child died");
            if (WEXITSTATUS(status) != 0)
                scn_wrong(SCN_WHERE, "a child failed");
        }
    }
    errno = kept_errno;
}

static void *interrupting_body(void *unused)
{
    const struct timespec pause = {0, 300 * 1000};
    while (!atomic_load(&interrupting_ends)) {
        nanosleep(&pause, NULL);
        pthread_kill(interrupted, SIGUSR1);
    }
    return NULL;
}

/* The forking thread was anywhere: in a region, between two stores of a wrapper. The child goes on from there. */
static void in_handler(const struct scn_case *self)
{
    set_zone();
    interrupted = pthread_self();
    const struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    const pthread_t busy = self->number ? scn_start(busy_body, NULL) : interrupted;
    const pthread_t interrupting = scn_start(interrupting_body, NULL);
    while (handler_forks < FORKS && !is_in_child)
        use_all();
    for (int i = 0; i < 10; i++)
        use_all();
    if (is_in_child)
        scn_fine();
    atomic_store(&interrupting_ends, 1);
    scn_join(interrupting);
    if (self->number) {
        atomic_store(&busy_ends, 1);
        scn_join(busy);
    }
}

/* --- A fork that is interrupted by another ------------------------------------------------------------------------ */

/*
 * The drain of one fork waits for a thread that runs on with a mutex; meanwhile a handler of the forking thread forks.
 * Its child comes back from the handler into the first fork and makes it, and goes on with threads of its own. (Bare,
 * nobody waits in a fork, so nobody is interrupted there.)
 */
static atomic_int outer_begun, outer_over, helper_ended;
static pid_t inner_child = -1;

static void fork_inside(int number)
{
    if (!atomic_load(&outer_over) && inner_child == -1) {
        inner_child = fork();
        is_in_child = inner_child == 0;
        if (is_in_child)
            scn_arm();
    }
}

/* Not scn_fork: it is not made to be interrupted by itself. */
static void reap_plainly(pid_t child)
{
    int status;
    SCN_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void begin_outer(void)
{
    atomic_store(&outer_begun, 1);
}

static void end_outer(void)
{
    atomic_store(&outer_over, 1);
}

static void *running_on_body(void *unused)
{
    SCN_IS(pthread_mutex_lock(&other_mutex), 0);
    scn_ring(keeper_in);
    run_on();
    SCN_IS(pthread_mutex_unlock(&other_mutex), 0);
    return NULL;
}

static void *interrupting_outer_body(void *unused)
{
    sigset_t all;
    sigfillset(&all);
    SCN_IS(pthread_sigmask(SIG_BLOCK, &all, NULL), 0);
    while (!atomic_load(&outer_begun))
        sched_yield();
    scn_await_asleep(atomic_load(&forker_tid), &outer_over);
    if (!atomic_load(&outer_over))
        SCN_IS(pthread_kill(interrupted, SIGUSR1), 0);
    while (!atomic_load(&outer_over))
        sched_yield();
    atomic_store(&helper_ended, 1);
    return NULL;
}

static void *using_body(void *unused)
{
    for (int i = 0; i < ROUNDS; i++)
        use_all();
    return NULL;
}

static void fork_in_fork(const struct scn_case *self)
{
    set_zone();
    interrupted = pthread_self();
    atomic_store(&forker_tid, own_tid());
    keeper_in = scn_bell();
    const struct sigaction action = {.sa_handler = fork_inside, .sa_flags = SA_RESTART};
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    SCN_IS(pthread_atfork(begin_outer, end_outer, end_outer), 0);
    const pthread_t keeper = scn_start(running_on_body, NULL);
    scn_await(keeper_in);
    const pthread_t helper = scn_start(interrupting_outer_body, NULL);
    const pid_t child = fork();
    SCN_CHECK(child >= 0);
    atomic_store(&outer_over, 1);
    if (child == 0)
        scn_arm();
    /* The parent, its child, the handler's child, that one's child: nobody's threads may be stopped at every turn. */
    pthread_t users[2] = {scn_start(using_body, NULL), scn_start(using_body, NULL)};
    scn_join(users[0]);
    scn_join(users[1]);
    const pid_t last = fork();
    if (last == 0)
        _exit(0);
    reap_plainly(last);
    if (child == 0)
        _exit(0);
    /* The signal may come when the outer fork is just made: then its child is not that of the handler's child. */
    siginfo_t info;
    if (!is_in_child || waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD)
        reap_plainly(child);
    if (is_in_child)
        _exit(0);
    if (inner_child > 0)
        reap_plainly(inner_child);
    atomic_store(&keeper_leaves, 1);
    scn_join(helper);
    scn_join(keeper);
}

/* Whoever holds one kind of lock and takes another while the gate is closed is not stopped: he has to get out. */
static void *nesting_body(void *raw)
{
    const long kind = (long)raw;
    for (int i = 0; i < FORKS; i++) {
        if (kind == 's')
            SCN_IS(pthread_spin_lock(&one_spin), 0);
        else
            SCN_IS(pthread_mutex_lock(&one_mutex), 0);
        atomic_store(&outer_over, 0);
        scn_ring(keeper_in);
        scn_await_asleep(atomic_load(&forker_tid), &outer_over); /* in its drain, waiting for us */
        if (kind == 's') {
            SCN_IS(pthread_mutex_lock(&one_mutex), 0);
            SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
            SCN_IS(pthread_spin_unlock(&one_spin), 0);
        } else {
            SCN_IS(pthread_spin_lock(&one_spin), 0);
            SCN_IS(pthread_spin_unlock(&one_spin), 0);
            SCN_IS(pthread_mutex_unlock(&one_mutex), 0);
        }
        scn_ring(worker_done);
    }
    return NULL;
}

static void nested_kinds(const struct scn_case *self)
{
    SCN_IS(pthread_spin_init(&one_spin, PTHREAD_PROCESS_PRIVATE), 0);
    atomic_store(&forker_tid, own_tid());
    keeper_in = scn_bell();
    worker_done = scn_bell();
    const pthread_t worker = scn_start(nesting_body, (void *)self->number);
    for (int i = 0; i < FORKS; i++) {
        scn_await(keeper_in);
        const pid_t child = scn_fork();
        atomic_store(&outer_over, 1);
        if (child == 0)
            scn_fine();
        scn_reap(child);
        scn_await(worker_done);
    }
    scn_join(worker);
}

/* A lock that another thread gives back is not held any more, whatever the first one's records say. */
static void *lending_body(void *raw)
{
    const long kind = (long)raw;
    if (kind == 'r')
        SCN_IS(pthread_rwlock_rdlock(&one_rwlock), 0);
    else
        SCN_IS(pthread_spin_lock(&one_spin), 0);
    scn_ring(keeper_in);
    run_on();
    return NULL;
}

static void handed_over(const struct scn_case *self)
{
    hurry(self);
    SCN_IS(pthread_spin_init(&one_spin, PTHREAD_PROCESS_PRIVATE), 0);
    keeper_in = scn_bell();
    const pthread_t lender = scn_start(lending_body, (void *)self->number);
    scn_await(keeper_in);
    if (self->number == 'r')
        SCN_IS(pthread_rwlock_unlock(&one_rwlock), 0);
    else
        SCN_IS(pthread_spin_unlock(&one_spin), 0);
    for (int i = 0; i < FORKS; i++)
        fork_and_leave();
    atomic_store(&keeper_leaves, 1);
    scn_join(lender);
}

/* A call that is left by siglongjmp is over; this one holds no lock while it waits. */
static sigjmp_buf out_of_call;

static void jump_out(int number)
{
    siglongjmp(out_of_call, 1);
}

static void *jumping_body(void *unused)
{
    FILE *command = popen("read line < /proc/self/fd/3", "r");
    SCN_CHECK(command != NULL);
    if (sigsetjmp(out_of_call, 1) == 0) {
        atomic_store(&keeper_tid, own_tid());
        pclose(command);
    }
    tzset(); /* another call: it is certain now that the first one is over */
    scn_ring(keeper_in);
    run_on();
    return NULL;
}

static void jumped(const struct scn_case *self)
{
    hurry(self);
    set_zone();
    int ends[2];
    SCN_CHECK(pipe(ends) == 0 && dup2(ends[0], 3) == 3);
    keeper_in = scn_bell();
    const struct sigaction action = {.sa_handler = jump_out};
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    const pthread_t jumper = scn_start(jumping_body, NULL);
    while (!atomic_load(&keeper_tid))
        sched_yield();
    scn_await_asleep(atomic_load(&keeper_tid), NULL);
    SCN_IS(pthread_kill(jumper, SIGUSR1), 0);
    scn_await(keeper_in);
    for (int i = 0; i < FORKS; i++)
        fork_and_use();
    atomic_store(&keeper_leaves, 1);
    scn_join(jumper);
    SCN_CHECK(write(ends[1], "\n", 1) == 1); /* who waits for all that writes to our stderr waits for the command */
}

/* A thread that waits for a process in system() is not waited for. */
static void *commanding_body(void *unused)
{
    atomic_store(&keeper_tid, own_tid());
    const int status = system("read line < /proc/self/fd/3");
    SCN_CHECK(WIFEXITED(status));
    return NULL;
}

static void commands(const struct scn_case *self)
{
    hurry(self);
    set_zone();
    int ends[2];
    SCN_CHECK(pipe(ends) == 0 && dup2(ends[0], 3) == 3);
    const pthread_t commander = scn_start(commanding_body, NULL);
    while (!atomic_load(&keeper_tid))
        sched_yield();
    scn_await_asleep(atomic_load(&keeper_tid), NULL);
    for (int i = 0; i < FORKS; i++)
        fork_and_use();
    SCN_CHECK(write(ends[1], "\n", 1) == 1);
    scn_join(commander);
}

/* --- Signals, masks and timers are what they were ----------------------------------------------------------------- */

static volatile sig_atomic_t real_time_seen, usr2_seen;

static void count_real_time(int number)
{
    real_time_seen++;
}

static void count_usr2(int number)
{
    usr2_seen++;
}

static bool same_set(const sigset_t *left, const sigset_t *right)
{
    for (int i = 1; i < NSIG; i++)
        if (sigismember(left, i) != sigismember(right, i))
            return false;
    return true;
}

static void signals_stay(const struct scn_case *self)
{
    set_zone();
    const struct sigaction real_time = {.sa_handler = count_real_time}, usr2 = {.sa_handler = count_usr2};
    SCN_CHECK(sigaction(SIGRTMIN, &real_time, NULL) == 0 && sigaction(SIGUSR2, &usr2, NULL) == 0);
    const pthread_t busy = scn_start(busy_body, NULL);

    sigset_t blocked, before, after, pending;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGVTALRM);
    SCN_IS(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
    SCN_IS(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
    for (int i = 0; i < 5; i++)
        SCN_IS(pthread_sigqueue(pthread_self(), SIGRTMIN, (union sigval){.sival_int = i}), 0);
    SCN_IS(pthread_kill(pthread_self(), SIGUSR2), 0);
    const struct itimerval long_timer = {.it_value = {3000, 0}};
    SCN_CHECK(setitimer(ITIMER_PROF, &long_timer, NULL) == 0);

    for (int i = 0; i < FORKS; i++) {
        const pid_t child = fork();
        SCN_CHECK(child >= 0);
        if (child == 0) {
            SCN_CHECK(alarm(0) == 0); /* the victim has one: it is not inherited */
            scn_arm();
            struct itimerval left;
            SCN_CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_usec == 0);
            SCN_IS(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
            SCN_CHECK(same_set(&before, &after));
            SCN_CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGRTMIN) && !sigismember(&pending, SIGUSR2));
            struct sigaction now;
            SCN_CHECK(sigaction(SIGRTMIN, NULL, &now) == 0 && now.sa_handler == count_real_time);
            for (int number = 1; number < NSIG; number++) /* nobody has brought handlers of his own */
                if (number != SIGRTMIN && number != SIGUSR2 && sigaction(number, NULL, &now) == 0)
                    SCN_CHECK(now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN);
            SCN_IS(pthread_sigmask(SIG_UNBLOCK, &blocked, NULL), 0);
            SCN_CHECK(real_time_seen == 0 && usr2_seen == 0);
            use_all();
            scn_fine();
        }
        scn_reap(child);
        SCN_IS(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
        SCN_CHECK(same_set(&before, &after));
        SCN_CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGRTMIN) && sigismember(&pending, SIGUSR2));
        SCN_CHECK(real_time_seen == 0 && usr2_seen == 0);
    }
    struct itimerval left;
    SCN_CHECK(getitimer(ITIMER_PROF, &left) == 0 && left.it_value.tv_sec > 2800);
    SCN_CHECK(alarm(60) > 0);
    SCN_IS(pthread_sigmask(SIG_UNBLOCK, &blocked, NULL), 0);
    SCN_CHECK(real_time_seen == 5 && usr2_seen == 1);
    atomic_store(&busy_ends, 1);
    scn_join(busy);
}

/* Real-time signals are queued to a thread that forks: each arrives once, in the parent. */
static atomic_int sent;
enum { QUEUED = 500 };

static void *sending_body(void *unused)
{
    for (int i = 0; i < QUEUED; i++) {
        while (sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}) != 0)
            sched_yield();
        atomic_fetch_add(&sent, 1);
        const struct timespec pause = {0, 100 * 1000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void *sending_blocked_body(void *unused)
{
    sigset_t all;
    sigfillset(&all);
    SCN_IS(pthread_sigmask(SIG_BLOCK, &all, NULL), 0); /* so it is the forking thread that gets them */
    return sending_body(unused);
}

static void real_time_arrives(const struct scn_case *self)
{
    set_zone();
    const struct sigaction action = {.sa_handler = count_real_time, .sa_flags = SA_RESTART};
    SCN_CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);
    const pthread_t sender = scn_start(sending_blocked_body, NULL);
    while (atomic_load(&sent) < QUEUED)
        fork_and_use();
    scn_join(sender);
    SCN_CHECK(real_time_seen == QUEUED);
}

/* Threads that sleep in system calls notice nothing of a fork. */
static atomic_int sleepers;

static void *sleeping_body(void *raw)
{
    char byte;
    struct pollfd waiting = {.fd = idle_pipe[0], .events = POLLIN};
    int result = 0;
    atomic_fetch_add(&sleepers, 1);
    errno = 0;
    switch ((long)raw) {
    case 0:
        result = (int)read(idle_pipe[0], &byte, 1) == 1 ? 0 : -1;
        break;
    case 1:
        result = sem_wait(&event);
        break;
    case 2:
        result = poll(&waiting, 1, -1) == 1 ? 0 : -1;
        break;
    case 3:
        result = nanosleep(&(struct timespec){0, 400 * 1000 * 1000}, NULL);
        break;
    }
    SCN_CHECK(result == 0 && errno == 0);
    return NULL;
}

static void sleepers_sleep(const struct scn_case *self)
{
    hurry(self);
    set_zone();
    SCN_CHECK(sem_init(&event, 0, 0) == 0 && pipe2(idle_pipe, O_CLOEXEC) == 0);
    pthread_t sleeper[4];
    for (long i = 0; i < 4; i++)
        sleeper[i] = scn_start(sleeping_body, (void *)i);
    while (atomic_load(&sleepers) < 4)
        sched_yield();
    for (int i = 0; i < FORKS; i++)
        fork_and_use();
    SCN_CHECK(sem_post(&event) == 0 && write(idle_pipe[1], "ab", 2) == 2);
    for (int i = 0; i < 4; i++)
        scn_join(sleeper[i]);
}

/* A handler without SA_RESTART interrupts a thread that sleeps, as ever, while others fork. */
static atomic_int interruptions;

static void *interruptible_body(void *unused)
{
    char byte;
    while (atomic_load(&interruptions) < 20) {
        if (read(idle_pipe[0], &byte, 1) < 0 && errno == EINTR)
            atomic_fetch_add(&interruptions, 1);
        if (sem_wait(&event) < 0 && errno == EINTR)
            atomic_fetch_add(&interruptions, 1);
    }
    return NULL;
}

static void eintr_stays(const struct scn_case *self)
{
    hurry(self);
    set_zone();
    SCN_CHECK(sem_init(&event, 0, 0) == 0 && pipe2(idle_pipe, O_CLOEXEC) == 0);
    const struct sigaction action = {.sa_handler = count_usr2};
    SCN_CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    const pthread_t sleeper = scn_start(interruptible_body, NULL);
    while (atomic_load(&interruptions) < 20) {
        SCN_IS(pthread_kill(sleeper, SIGUSR2), 0);
        fork_and_use();
    }
    scn_join(sleeper);
}

/* An alarm rings in a program that forks all the time, at its hour and once. */
static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
    alarms++;
}

static void alarm_rings(const struct scn_case *self)
{
    set_zone();
    const unsigned left = alarm(0);
    const struct sigaction action = {.sa_handler = count_alarm, .sa_flags = SA_RESTART};
    struct sigaction old;
    SCN_CHECK(sigaction(SIGALRM, &action, &old) == 0);
    const pthread_t busy = scn_start(busy_body, NULL);
    const struct itimerval soon = {.it_value = {0, 50 * 1000}};
    for (int i = 1; i <= 5; i++) {
        SCN_CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
        while (alarms < i) {
            const pid_t child = fork();
            SCN_CHECK(child >= 0);
            if (child == 0) {
                scn_arm();
                use_all();
                scn_fine();
            }
            int status;
            while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
            SCN_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        SCN_CHECK(alarms == i);
    }
    SCN_CHECK(sigaction(SIGALRM, &old, NULL) == 0);
    alarm(left);
    atomic_store(&busy_ends, 1);
    scn_join(busy);
}

/* --- Threads that end in the middle ------------------------------------------------------------------------------- */

/* Cancelled in a callback of libc's, or while they hold a lock: nobody is left inside for the next fork to wait for. */
static void release(void *mutex)
{
    SCN_IS(pthread_mutex_unlock(mutex), 0);
}

static int waiting_in_callback(struct dl_phdr_info *info, size_t size, void *ends)
{
    if (*(bool *)ends)
        pthread_exit(NULL);
    sem_wait(&event);
    return 0;
}

static void *ending_body(void *raw)
{
    bool ends = (long)raw == 'e';
    scn_ring(keeper_in);
    for (;;) {
        if ((long)raw == 'm') {
            SCN_IS(pthread_mutex_lock(&one_mutex), 0);
            pthread_cleanup_push(release, &one_mutex);
            sem_wait(&event);
            pthread_cleanup_pop(1);
        } else {
            dl_iterate_phdr(waiting_in_callback, &ends); /* whose lock libc gives back when the thread ends */
        }
    }
    return NULL;
}

static void *exiting_body(void *unused)
{
    pthread_exit(NULL);
}

static void ended(const struct scn_case *self)
{
    hurry(self);
    scn_join(scn_start(exiting_body, NULL)); /* loads the unwinder, for which the loader's lock must be free */
    set_zone();
    SCN_CHECK(sem_init(&event, 0, 0) == 0);
    keeper_in = scn_bell();
    for (int i = 0; i < FORKS; i++) {
        const pthread_t thread = scn_start(ending_body, (void *)self->number);
        scn_await(keeper_in);
        if (i % 2)
            usleep(2000); /* it is in the call now */
        pthread_cancel(thread); /* it may have ended by itself */
        scn_join(thread);
        SCN_IN_CHILD {
            int count = 0;
            use_all();
            SCN_CHECK(dl_iterate_phdr(visiting_only, &count) == 0 && count > 1);
        }
    }
}

void scn_cases(void)
{
    struct scn_case one;

#define ADD(body, title, ...)                                                                                          \
    do {                                                                                                               \
        one = (struct scn_case){.bare = "fine", .says = SCN_NEVER_TAKES, .run = (body), ##__VA_ARGS__};                \
        scn_add(one, "%s", title);                                                                                     \
    } while (0)

    ADD(prepare_sticks, "bounded-prepare-sticks", .env = PATIENT);
    ADD(fork_sticks, "bounded-fork-sticks");
    ADD(parent_handler_waits, "bounded-parent-handler-waits", .env = PATIENT);

    static const struct {
        const char *name;
        void (*keep)(void);
        const char *env;
    } ways[] = {
        {"futex", sleep_on_semaphore, NEVER_WAITS}, {"forkers-lock", sleep_on_other_mutex, NEVER_WAITS},
        {"bell", sleep_on_bell, PATIENT},           {"read", sleep_in_read, PATIENT},
        {"running", run_on, PATIENT},
    };
    static const struct {
        const char *name;
        char kind;
    } locks[] = {{"mutex", 'm'}, {"rdlock", 'r'}, {"wrlock", 'w'}, {"spin", 's'}, {"region", 'd'}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        for (size_t k = 0; k < sizeof locks / sizeof locks[0]; k++) {
            one = (struct scn_case){.bare = "fine",
                                    .says = SCN_NEVER_TAKES,
                                    .env = ways[i].env,
                                    .run = kept,
                                    .entry = &ways[i].keep,
                                    .number = locks[k].kind};
            scn_add(one, "kept-%s-%s", locks[k].name, ways[i].name);
        }
    ADD(kept_anew, "kept-anew-futex", .env = PATIENT);
    /* One that comes back while the fork is made has the mutex, and stops with it at the gate: no reason for a line. */
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = PATIENT " FORKSAFE_DRAIN_LOCKS_MS=5000",
                     .run = waits_for_condition), "condition-waiters");
    scn_add(SCN_CASE(.bare = "wrong", .says = SCN_SILENT, .env = PATIENT, .run = waits_for_call), "call");
    scn_add(SCN_CASE(.bare = "hangs", .env = PATIENT, .run = python_like), "python-like");

    static const struct {
        const char *name;
        char call;
    } loads[] = {{"dl_iterate_phdr", 'i'}, {"dlopen", 'o'}, {"backtrace", 'b'}, {"pthread_exit", 'e'}};
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++)
        scn_add(SCN_CASE(.bare = "hangs", .says = SCN_NEVER_TAKES, .env = "FORKSAFE_DRAIN_MS=20", .run = loader_kept,
                         .number = loads[i].call), "loader-%s", loads[i].name);

    ADD(pool_quiesces, "pool-quiesces", .env = PATIENT, .number = FORKS);

    static const struct {
        const char *name;
        void (*place)(void);
    } places[] = {
        {"qsort", in_qsort},
        {"dl_iterate_phdr", in_dl_iterate_phdr},
        {"nftw", in_nftw},
        {"once", in_once},
        {"key-destructor", in_key_destructor},
        {"thread_local-destructor", in_thread_local_destructor},
        {"cleanup", in_cleanup_body},
        {"mutex", in_mutex},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        one = (struct scn_case){
            .bare = "fine", .says = SCN_NEVER_TAKES, .env = PATIENT, .run = from_inside, .entry = &places[i].place};
        scn_add(one, "inside-%s", places[i].name);
    }
    ADD(returns_from_callback, "inside-and-back", .env = PATIENT);
    /* The loader's lock is recursive and names the id that the thread had before the fork. */
    scn_add(SCN_CASE(.bare = "hangs", .env = PATIENT, .run = returns_from_callback, .number = 1),
            "inside-and-back-and-in-again");
    ADD(generations_in_callback, "inside-generations", .env = PATIENT);
    ADD(in_atexit, "inside-atexit", .env = PATIENT);
    ADD(in_atexit_exits, "inside-atexit-exits", .env = PATIENT);
    ADD(in_handler, "handler", .env = PATIENT, .number = 0);
    ADD(in_handler, "handler-busy", .env = PATIENT, .number = 1);

    ADD(fork_in_fork, "handler-in-drain", .env = "FORKSAFE_DRAIN_MS=1000");
    ADD(nested_kinds, "nested-spin-in-mutex", .env = PATIENT, .number = 'm');
    ADD(nested_kinds, "nested-mutex-in-spin", .env = PATIENT, .number = 's');
    ADD(handed_over, "handed-over-rdlock", .env = NEVER_WAITS, .number = 'r');
    ADD(handed_over, "handed-over-spin", .env = NEVER_WAITS, .number = 's');
    /* In 32 bits a call's record has no frame: one fork waits, until the thread has run for a tenth of the budget. */
    ADD(jumped, "left-by-siglongjmp", .env = sizeof(void *) > 4 ? NEVER_WAITS : PATIENT);
    ADD(commands, "waits-for-process", .env = NEVER_WAITS);

    ADD(signals_stay, "signals-stay", .env = PATIENT);
    ADD(real_time_arrives, "signals-real-time", .env = PATIENT);
    ADD(sleepers_sleep, "signals-sleepers", .env = NEVER_WAITS);
    ADD(eintr_stays, "signals-eintr", .env = NEVER_WAITS);
    ADD(alarm_rings, "signals-alarm", .env = PATIENT);

    ADD(ended, "cancelled-in-mutex", .env = NEVER_WAITS, .number = 'm');
    if (scn_glibc_since(34)) { /* 2.31 does not give the loader's lock back: such a child hangs and is named */
        ADD(ended, "cancelled-in-region", .env = NEVER_WAITS, .number = 'd');
        ADD(ended, "exits-in-region", .env = NEVER_WAITS, .number = 'e');
    }
#undef ADD
}
