/* Who forks: another thread than main, several at once, a signal handler anywhere, a small stack, a fork that fails,
 * and everything that runs before main and after it.
 */
#include "mutex_kind.h"

#include <limits.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* One wait of so long outlasts the case: nobody may have to wait for the gate. */
#define NEVER_WAITS "FORKSAFE_DRAIN_MS=60000"

static pthread_mutex_t orphan = PTHREAD_MUTEX_INITIALIZER;
static struct scn_holder worker;

static void use(pthread_mutex_t *mutex)
{
    SCN_IS(pthread_mutex_lock(mutex), 0);
    SCN_IS(pthread_mutex_unlock(mutex), 0);
}

static void hold_orphan(void)
{
    scn_hold(&worker, mutex_lock, mutex_unlock, &orphan, 1);
}

/* A child that needs the worker's lock. */
static void fork_here(void)
{
    SCN_IN_CHILD {
        use(&orphan);
    }
}

#define ONLY(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

static void filter_calls(struct sock_filter *program, size_t steps)
{
    const struct sock_fprog filter = {(unsigned short)steps, program};
    SCN_IS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    SCN_IS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

/* --- Several threads fork at once, with handlers of the program --------------------------------------------------- */

static pthread_mutex_t handlers_lock = PTHREAD_MUTEX_INITIALIZER, other_lock = PTHREAD_MUTEX_INITIALIZER;

static void lock_both(void)
{
    SCN_IS(pthread_mutex_lock(&handlers_lock), 0);
    SCN_IS(pthread_mutex_lock(&other_lock), 0);
}

static void unlock_both(void)
{
    SCN_IS(pthread_mutex_unlock(&other_lock), 0);
    SCN_IS(pthread_mutex_unlock(&handlers_lock), 0);
}

static int ask, answer;
static pthread_mutex_t asking_lock = PTHREAD_MUTEX_INITIALIZER;

/* The worker has to get at a lock and into libc before the fork goes on. */
static void wait_for_worker(void)
{
    SCN_IS(pthread_mutex_lock(&asking_lock), 0);
    scn_ring(ask);
    scn_await(answer);
    SCN_IS(pthread_mutex_unlock(&asking_lock), 0);
}

static void *answering_body(void *unused)
{
    static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    for (;;) {
        scn_await(ask);
        const time_t moment = 1700000000;
        struct tm tm;
        SCN_IS(pthread_mutex_lock(&own), 0);
        SCN_CHECK(localtime_r(&moment, &tm) != NULL);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        scn_ring(answer);
    }
    return unused;
}

enum { FORKS = 60 };

static void *forking_body(void *needed)
{
    for (int i = 0; i < FORKS; i++) {
        SCN_IN_CHILD {
            lock_both();
            unlock_both();
            if (needed)
                use(needed);
        }
    }
    return NULL;
}

/* As a kernel before 4.14 does, and some sandboxes. */
static void refuse_membarrier(void)
{
    struct sock_filter program[] = {
        ONLY(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    filter_calls(program, sizeof program / sizeof program[0]);
}

enum { NO_HANDLERS, HANDLERS_LOCK, HANDLER_WAITS, NO_MEMBARRIER };
struct several {
    const char *name;
    int handlers;
    bool orphan; /* the children need a lock of the worker's */
};

static void several(const struct scn_case *self)
{
    pthread_t thread[8];
    const struct several *const how = self->entry;
    const int forkers = (int)self->number;
    if (how->handlers == HANDLERS_LOCK)
        SCN_IS(pthread_atfork(lock_both, unlock_both, unlock_both), 0);
    if (how->handlers == HANDLER_WAITS) {
        ask = scn_bell();
        answer = scn_bell();
        scn_start(answering_body, NULL);
        SCN_IS(pthread_atfork(wait_for_worker, NULL, NULL), 0);
    }
    if (how->handlers == NO_MEMBARRIER)
        refuse_membarrier();
    if (how->orphan)
        hold_orphan();
    for (int i = 0; i < forkers; i++)
        thread[i] = scn_start(forking_body, how->orphan ? &orphan : NULL);
    for (int i = 0; i < forkers; i++)
        scn_join(thread[i]);
    if (how->orphan)
        scn_let_go(&worker);
    lock_both();
    unlock_both();
}

/* --- In a signal handler, wherever the thread is ------------------------------------------------------------------ */

static int signals;
static atomic_int forks_made;
static int goes_on;
static pid_t (*signal_fork)(void);
static volatile sig_atomic_t is_child;
static pid_t victim_tid;

/* Not scn_fork: only _Fork may be used anywhere. */
static void fork_in_handler(int number)
{
    const int saved = errno;
    if (is_child || atomic_load(&forks_made) >= signals)
        return;
    const pid_t child = signal_fork();
    if (child == 0) {
        is_child = 1;
        scn_arm();
        if (!goes_on)
            _exit(0);
        errno = saved;
        return; /* into whatever was interrupted */
    }
    SCN_CHECK(child > 0);
    scn_reap(child);
    atomic_fetch_add(&forks_made, 1);
    errno = saved;
}

struct interrupted {
    const char *name;
    void (*does)(void);
    bool allocates;
};

static void use_mutexes(void)
{
    static pthread_mutex_t kinds[3] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
                                       PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP};
    for (int i = 0; i < 3; i++)
        SCN_IS(pthread_mutex_lock(&kinds[i]), 0);
    for (int i = 2; i >= 0; i--)
        SCN_IS(pthread_mutex_unlock(&kinds[i]), 0);
}

static void use_other_locks(void)
{
    static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    static pthread_spinlock_t spin;
    static sem_t semaphore;
    static bool is_made;
    if (!is_made) {
        is_made = true;
        sem_init(&semaphore, 0, 1);
        pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    }
    SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    SCN_IS(pthread_rwlock_rdlock(&rwlock), 0);
    SCN_IS(pthread_spin_lock(&spin), 0);
    SCN_IS(sem_wait(&semaphore), 0);
    SCN_IS(sem_post(&semaphore), 0);
    SCN_IS(pthread_spin_unlock(&spin), 0);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
}

static void use_libc(void)
{
    const time_t moment = 1700000000;
    struct tm tm;
    char text[64];
    SCN_CHECK(localtime_r(&moment, &tm) != NULL);
    SCN_CHECK(strftime(text, sizeof text, "%c %Z", &tm) > 0);
    SCN_IS(setenv("FORKERS", tm.tm_sec & 1 ? "odd" : "even", 1), 0);
    SCN_CHECK(random() >= 0);
    tzset();
}

static void use_malloc(void)
{
    void *volatile block[8];
    for (size_t i = 0; i < 8; i++)
        SCN_CHECK((block[i] = malloc(2000 * (i + 1))) != NULL);
    for (size_t i = 0; i < 8; i++)
        free(block[i]);
}

static void use_streams(void)
{
    static FILE *null;
    if (!null)
        null = fopen("/dev/null", "w");
    SCN_CHECK(null != NULL);
    flockfile(null);
    SCN_CHECK(fprintf(null, "%d", 1) == 1 && fflush(null) == 0);
    funlockfile(null);
}

/* A fork that a signal interrupts, and whose handler forks. Bare, a child that goes on from there may hang. */
static void use_fork(void)
{
    const pid_t parent = getpid();
    const pid_t child = fork();
    SCN_CHECK(child >= 0);
    if (child == 0)
        _exit(0);
    int status;
    while (waitpid(child, &status, 0) < 0)
        SCN_CHECK(errno == EINTR);
    SCN_CHECK(status == 0 && parent == getpid());
}

static const struct interrupted interrupted[] = {
    {"mutexes", use_mutexes, false}, {"other-locks", use_other_locks, false}, {"libc-calls", use_libc, true},
    {"malloc", use_malloc, true},    {"streams", use_streams, false},         {"fork", use_fork, true},
};

static void *shooting_body(void *unused)
{
    unsigned seed = 1;
    while (atomic_load(&forks_made) < signals) {
        for (volatile unsigned spin = rand_r(&seed) % 20000; spin > 0; spin--)
            continue;
        syscall(SYS_tgkill, getpid(), victim_tid, SIGUSR1);
        usleep(rand_r(&seed) % 200);
    }
    return unused;
}

static void *busy_body(void *unused)
{
    while (atomic_load(&forks_made) < signals) {
        use_libc();
        sched_yield();
    }
    return unused;
}

static void in_signal(const struct scn_case *self)
{
    const struct interrupted *const here = self->entry;
    goes_on = self->number & 1;
    signals = scn_often(150);
    signal_fork = _Fork;
    use_streams();
    use_other_locks();
    victim_tid = (pid_t)syscall(SYS_gettid);
    const struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    SCN_IS(sigaction(SIGUSR1, &action, NULL), 0);
    const pthread_t shooter = scn_start(shooting_body, NULL);
    pthread_t busy[2];
    /* Nothing that the interrupted thread needs is theirs, for that would hang as a plain fork does. */
    const bool company = !here->allocates;
    for (int i = 0; company && i < 2; i++)
        busy[i] = scn_start(busy_body, NULL);
    while (atomic_load(&forks_made) < signals && !is_child)
        here->does();
    if (is_child) {
        for (int i = 0; i < 100; i++)
            here->does();
        _exit(0);
    }
    scn_join(shooter);
    for (int i = 0; company && i < 2; i++)
        scn_join(busy[i]);
}

static int fork_begins;
static atomic_int inner_child;

static void begin_fork(void)
{
    if (!is_child)
        scn_ring(fork_begins);
}

static void fork_in_fork(int number)
{
    const pid_t child = _Fork();
    if (child == 0) {
        is_child = 1;
        scn_arm();
        return;
    }
    scn_ring(worker.leave);
    atomic_store(&inner_child, child);
}

static void *shooting_once_body(void *unused)
{
    scn_await(fork_begins);
    usleep(50000);
    syscall(SYS_tgkill, getpid(), victim_tid, SIGUSR1);
    return unused;
}

/*
 * While a fork waits for the worker to let go, a signal handler forks, and its child goes on with the first fork. All
 * have threads then, which nothing may stop.
 */
static void signal_in_drain(const struct scn_case *self)
{
    victim_tid = (pid_t)syscall(SYS_gettid);
    fork_begins = scn_bell();
    const struct sigaction action = {.sa_handler = fork_in_fork, .sa_flags = SA_RESTART};
    SCN_IS(sigaction(SIGUSR1, &action, NULL), 0);
    hold_orphan();
    SCN_IS(pthread_atfork(begin_fork, NULL, NULL), 0);
    const pthread_t shooter = scn_start(shooting_once_body, NULL);
    const pid_t child = fork();
    if (child == 0)
        scn_arm();
    while (child > 0 && !is_child && atomic_load(&inner_child) == 0)
        sched_yield();
    if (is_child && child > 0) /* bare it may be the parent's */
        waitpid(child, NULL, 0);
    else if (child > 0) {
        scn_reap(child);
        scn_reap(atomic_load(&inner_child));
        scn_join(shooter);
        scn_join(worker.thread);
    }
    scn_exclusion(mutex_lock, mutex_unlock, &other_lock, 3, 50);
    scn_fine();
}

/* --- A thread with the smallest stack ----------------------------------------------------------------------------- */

static sem_t token;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static int take_all(void *unused)
{
    SCN_IS(pthread_mutex_lock(&orphan), 0);
    SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    return sem_wait(&token);
}

static int give_all(void *unused)
{
    SCN_IS(sem_post(&token), 0);
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    return pthread_mutex_unlock(&orphan);
}

static void *small_body(void *unused)
{
    SCN_IN_CHILD {
        SCN_IS(take_all(NULL), 0);
        SCN_IS(give_all(NULL), 0);
    }
    return unused;
}

static void small_stack(const struct scn_case *self)
{
    pthread_attr_t attributes;
    pthread_t thread;
    SCN_IS(sem_init(&token, 0, 1), 0);
    scn_hold(&worker, take_all, give_all, NULL, 1);
    SCN_IS(pthread_attr_init(&attributes), 0);
    SCN_IS(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN), 0);
    for (int i = 0; i < 3; i++) {
        SCN_IS(pthread_create(&thread, &attributes, small_body, NULL), 0);
        scn_join(thread);
    }
    scn_let_go(&worker);
}

/* --- A fork that fails -------------------------------------------------------------------------------------------- */

static atomic_int stop_working;
static atomic_ulong rounds[3];

static void *working_body(void *raw)
{
    atomic_ulong *const count = raw;
    while (!atomic_load(&stop_working)) {
        use(&other_lock);
        use_libc();
        atomic_fetch_add(count, 1);
    }
    return NULL;
}

static void refuse_forks(int error)
{
    struct sock_filter program[] = {
        ONLY(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        ONLY(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_VM, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    filter_calls(program, sizeof program / sizeof program[0]);
}

static int prepares, parents;

static void count_prepare(void)
{
    prepares++;
}

static void count_parent(void)
{
    parents++;
}

/* Nothing has changed: errno tells why, the locks are whose they were, and the others go on at once. */
static void fails(const struct scn_case *self)
{
    const int error = (int)self->number;
    static pthread_mutex_t own = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    pid_t (*const forks)(void) = (pid_t (*)(void))self->entry;
    SCN_IN_CHILD {
        SCN_IS(pthread_atfork(count_prepare, count_parent, NULL), 0);
        pthread_t thread[3];
        for (int i = 0; i < 3; i++)
            thread[i] = scn_start(working_body, &rounds[i]);
        refuse_forks(error);
        SCN_IS(pthread_mutex_lock(&own), 0);
        for (int i = 1; i <= 100; i++) {
            errno = 0;
            SCN_IS(forks(), -1);
            SCN_CHECK(errno == error);
            SCN_CHECK(forks != fork || (prepares == i && parents == i));
            unsigned long before[3];
            for (int k = 0; k < 3; k++)
                before[k] = atomic_load(&rounds[k]);
            for (int k = 0; k < 3; k++)
                while (atomic_load(&rounds[k]) < before[k] + 3)
                    sched_yield();
        }
        SCN_IS(pthread_mutex_lock(&own), 0);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        atomic_store(&stop_working, 1);
        for (int i = 0; i < 3; i++)
            scn_join(thread[i]);
    }
}

/* --- Before main, after it, and in between ------------------------------------------------------------------------ */

static int from_constructor = -1;
static bool forks_at_end;

/* The harness is not there yet. */
__attribute__((constructor)) static void fork_before_main(void)
{
    if (!getenv("FORKERS_CONSTRUCTOR"))
        return;
    const char *seconds = getenv("SCENARIO_SECONDS");
    hold_orphan();
    const pid_t child = fork();
    if (child == 0) {
        alarm(seconds ? (unsigned)atoi(seconds) : 1);
        _exit(pthread_mutex_lock(&orphan));
    }
    waitpid(child, &from_constructor, 0);
    scn_let_go(&worker);
}

static void in_constructor(const struct scn_case *self)
{
    if (WIFSIGNALED(from_constructor) && WTERMSIG(from_constructor) == SIGALRM) {
        const pid_t child = scn_fork(); /* says it in the harness's words */
        if (child == 0)
            raise(SIGALRM);
        scn_reap(child);
    }
    SCN_IS(from_constructor, 0);
}

static void fork_at_end(void)
{
    if (!forks_at_end)
        return;
    fork_here();
    scn_fine();
}

__attribute__((destructor)) static void fork_in_destructor(void)
{
    fork_at_end();
}

static void at_end(const struct scn_case *self)
{
    const pid_t server = scn_fork();
    if (server == 0) {
        hold_orphan();
        forks_at_end = true;
        if (self->number)
            SCN_IS(atexit(fork_at_end), 0);
        exit(1);
    }
    scn_reap(server);
}

int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern void *__dso_handle;
static pthread_key_t key;
static int done;

static void fork_when_thread_ends(void *unused)
{
    fork_here();
    scn_ring(done);
}

/* In the last round of destructors, when we may have left already. */
static void fork_in_last_round(void *raw)
{
    const intptr_t round = (intptr_t)raw;
    if (round < PTHREAD_DESTRUCTOR_ITERATIONS)
        SCN_IS(pthread_setspecific(key, (void *)(round + 1)), 0);
    else
        fork_when_thread_ends(NULL);
}

static void *ending_body(void *raw)
{
    const struct scn_case *const self = raw;
    if (self->number == 0)
        SCN_IS(__cxa_thread_atexit_impl(fork_when_thread_ends, NULL, &__dso_handle), 0);
    else
        SCN_IS(pthread_setspecific(key, (void *)1), 0);
    return NULL;
}

static void in_thread_end(const struct scn_case *self)
{
    done = scn_bell();
    hold_orphan();
    SCN_IS(pthread_key_create(&key, self->number == 2 ? fork_in_last_round : fork_when_thread_ends), 0);
    scn_join(scn_start(ending_body, (void *)self));
    scn_await(done);
    scn_let_go(&worker);
}

static int in_phase = -1;

static void fork_in_handler_of(int phase)
{
    if (in_phase != phase)
        return;
    in_phase = -1;
    fork_here();
}

static void in_prepare(void)
{
    fork_in_handler_of(0);
}

static void in_parent(void)
{
    fork_in_handler_of(1);
}

static void in_child(void)
{
    scn_arm();
    fork_in_handler_of(2);
}

static void in_atfork(const struct scn_case *self)
{
    SCN_IS(pthread_atfork(in_prepare, in_parent, in_child), 0);
    hold_orphan();
    for (int i = 0; i < 3; i++) {
        in_phase = (int)self->number;
        fork_here();
        in_phase = -1;
    }
    scn_let_go(&worker);
}

static int fork_for_object(struct dl_phdr_info *info, size_t bytes, void *data)
{
    (void)info, (void)bytes, (void)data;
    fork_here();
    return 1;
}

static int fork_to_compare(const void *a, const void *b)
{
    (void)a, (void)b;
    fork_here();
    return 0;
}

static void in_callback(const struct scn_case *self)
{
    int numbers[2] = {1, 2};
    hold_orphan();
    if (self->number == 0)
        SCN_IS(dl_iterate_phdr(fork_for_object, NULL), 1);
    else if (self->number == 1)
        qsort(numbers, 2, sizeof numbers[0], fork_to_compare);
    else
        SCN_CHECK(bsearch(numbers, numbers, 2, sizeof numbers[0], fork_to_compare) != NULL);
    scn_let_go(&worker);
}

void scn_cases(void)
{
    static const char *const phases[] = {"prepare", "parent", "child"};
    static const char *const callbacks[] = {"dl_iterate_phdr", "qsort", "bsearch"};
    static const int counts[] = {1, 2, 4};
    static const struct several ways[] = {{"no-handlers", NO_HANDLERS, true},
                                          {"handlers-lock", HANDLERS_LOCK, true},
                                          {"handlers-lock-trap", HANDLERS_LOCK, false},
                                          {"handler-waits-trap", HANDLER_WAITS, false}};
    static const struct several without_membarrier = {"without-membarrier", NO_MEMBARRIER, false};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        for (int k = 0; k < 3; k++)
            scn_add(SCN_CASE(.bare = ways[i].orphan ? "hangs" : "fine",
                             .says = ways[i].orphan ? MUTEX_TAKEN : SCN_SILENT, .run = several, .entry = &ways[i],
                             .number = counts[k]), "%d-threads-%s", counts[k], ways[i].name);
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = several, .entry = &without_membarrier, .number = 8),
            "8-threads-without-membarrier");
    for (size_t i = 0; i < sizeof interrupted / sizeof interrupted[0]; i++)
        for (int k = 0; k < (interrupted[i].does == use_fork ? 1 : 2); k++)
            /*
             * Bare, a child that goes on has locks under another name than its own, if it was interrupted there.
             * (Nobody was drained, so it may be warned of calls that the other threads were in.)
             */
            scn_add(SCN_CASE(.bare = k ? "fine|fails EPERM|hangs|dies SIGABRT" : "fine",
                             .says = k ? SCN_NEVER_TAKES : SCN_SILENT, .run = in_signal, .entry = &interrupted[i],
                             .number = k), "signal-in-%s-%s", interrupted[i].name, k ? "goes-on" : "exits");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = signal_in_drain, .env = NEVER_WAITS),
            "signal-in-drain-goes-on");
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = small_stack), "small-stack");
    static const struct {
        const char *name;
        pid_t (*forks)(void);
    } doors[] = {{"fork", fork}, {"_Fork", _Fork}};
    for (int i = 0; i < (LIBC_HAS_BARE_FORK ? 2 : 1); i++)
        for (int k = 0; k < 2; k++)
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = fails, .env = NEVER_WAITS,
                             .entry = (void *)doors[i].forks, .number = k ? EAGAIN : ENOMEM),
                    "%s-fails-%s", doors[i].name, k ? "EAGAIN" : "ENOMEM");
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = in_constructor, .env = "FORKERS_CONSTRUCTOR=1"),
            "constructor");
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = at_end), "destructor");
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = at_end, .number = 1), "atexit");
    static const char *const ends[] = {"thread_local", "key", "key-last-round"};
    for (int i = 0; i < 3; i++) {
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = in_thread_end, .number = i),
                "thread-end-%s", ends[i]);
        /* Before glibc 2.36 the first two hang in the parent, bare, which has no alarm. */
        if (i == 2 || scn_handlers_may_fork())
            scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = in_atfork, .number = i),
                    "atfork-%s", phases[i]);
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = in_callback, .number = i),
                "callback-%s", callbacks[i]);
    }
}
