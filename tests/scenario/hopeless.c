/*
 * Waits in a child that nobody can end, because the thread that would have done it vanished and nothing says which it
 * was: named when they have lasted. And waits that somebody does end, however late: never a word, or one that is taken
 * back.
 */
#include "bare_futex.h"
#include "libc.h"
#include "scenario.h"

#include <dlfcn.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>

/*
 * All cases run with this limit, and what comes later than it comes after late_us. With HOPELESS_LATE_MS in the
 * environment the waits that somebody ends run alone, with that time and the limit that the library has by itself.
 */
#define LIMIT "FORKSAFE_HANG_MS=150"
#define REAL_LIMIT "FORKSAFE_HANG_MS=1000"
static useconds_t late_us = 700000;
static bool is_real;

static sem_t event;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condvar = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static mtx_t c11_mutex;
static cnd_t c11_condvar;
/* Made for several processes, in memory of one. */
static sem_t shared_event;
static pthread_mutex_t shared_mutex;
static pthread_cond_t shared_condvar;
static pthread_rwlock_t shared_rwlock;
static pthread_barrier_t shared_barrier;
static uint32_t word;
static void (*libcxx_wait)(const uint32_t *word, uint32_t value);
static atomic_int tids[2]; /* who is about to sleep */

static void init_shared_mutex(pthread_mutex_t *made)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(made, &attributes);
}

static void init_shared_rwlock(pthread_rwlock_t *made)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(made, &attributes);
}

static void begin(void)
{
    pthread_condattr_t of_condvar;
    pthread_barrierattr_t of_barrier;
    sem_init(&shared_event, 1, 0);
    init_shared_mutex(&shared_mutex);
    init_shared_rwlock(&shared_rwlock);
    pthread_condattr_init(&of_condvar);
    pthread_condattr_setpshared(&of_condvar, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&shared_condvar, &of_condvar);
    pthread_barrierattr_init(&of_barrier);
    pthread_barrierattr_setpshared(&of_barrier, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared_barrier, &of_barrier, 3);
    *(void **)&libcxx_wait = dlsym(dlopen(LIBCXX_MODULE, RTLD_NOW), "libcxx_wait");
    sem_init(&event, 0, 0);
    pthread_barrier_init(&barrier, NULL, 3);
    mtx_init(&c11_mutex, mtx_plain);
    cnd_init(&c11_condvar);
}

/* --- Waits without an end --------------------------------------------------------------------------------------- */

static void wait_semaphore(void) { sem_wait(&event); }
static void wait_mutex(void) { pthread_mutex_lock(&mutex), pthread_mutex_lock(&mutex); }
static void wait_condvar(void) { pthread_mutex_lock(&mutex), pthread_cond_wait(&condvar, &mutex); }
static void wait_reader(void) { pthread_rwlock_rdlock(&rwlock), pthread_rwlock_wrlock(&rwlock); }
static void wait_barrier(void) { pthread_barrier_wait(&barrier); }
static void wait_futex(void) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
static void wait_futex_bits(void) { syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 6); }
static void wait_libcxx(void) { libcxx_wait(&word, 0); }
static void wait_shared_semaphore(void) { sem_wait(&shared_event); }
static void wait_shared_mutex(void) { pthread_mutex_lock(&shared_mutex), pthread_mutex_lock(&shared_mutex); }
static void wait_shared_condvar(void)
{
    pthread_mutex_lock(&shared_mutex);
    pthread_cond_wait(&shared_condvar, &shared_mutex);
}
static void wait_shared_rwlock(void) { pthread_rwlock_rdlock(&shared_rwlock), pthread_rwlock_wrlock(&shared_rwlock); }
static void wait_shared_barrier(void) { pthread_barrier_wait(&shared_barrier); }
static void wait_c11(void) { mtx_lock(&c11_mutex), cnd_wait(&c11_condvar, &c11_mutex); }
static void wait_c11_mutex(void) { mtx_lock(&c11_mutex), mtx_lock(&c11_mutex); }

static void *sleeper(void *raw)
{
    atomic_store(&tids[0], (int)gettid());
    (*(void (*const *)(void))raw)();
    return raw;
}

static int c11_sleeper(void *raw)
{
    sleeper(raw);
    return 0;
}

static void (*const on_semaphore)(void) = wait_semaphore;

static void wait_join(void) { pthread_join(scn_start(sleeper, (void *)(uintptr_t)&on_semaphore), NULL); }
static void (*const at_barrier)(void) = wait_barrier;
static void wait_join_of_barrier(void) { pthread_join(scn_start(sleeper, (void *)(uintptr_t)&at_barrier), NULL); }

#ifdef HAVE_BARE_FUTEX
static void wait_unseen(void) { bare_futex(&word, FUTEX_WAIT_PRIVATE, 0); }
static void (*const on_unseen)(void) = wait_unseen;
static void wait_join_of_unseen(void) { pthread_join(scn_start(sleeper, (void *)(uintptr_t)&on_unseen), NULL); }
#endif

static void wait_c11_join(void)
{
    thrd_t thread;
    thrd_create(&thread, c11_sleeper, (void *)(uintptr_t)&on_semaphore);
    thrd_join(thread, NULL);
}

struct kind {
    const char *name, *says;
    void (*wait)(void);
    bool has_thread; /* it makes another one by itself */
    const char *as;  /* what kind of such a lock the line says it is */
};

static const struct kind kinds[] = {
    {"semaphore", "semaphore", wait_semaphore, false, ".*"},
    {"mutex", "mutex", wait_mutex, false, ".*"},
    {"condvar", "condition variable", wait_condvar, false, "private"},
    {"rwlock", "rwlock", wait_reader, false, ".*"},
    {"barrier", "barrier", wait_barrier, false, "private"},
    {"futex", "futex", wait_futex, false, ".*"},
    {"futex-bits", "futex", wait_futex_bits, false, ".*"},
    {"libcxx", "futex", wait_libcxx, false, "C\\+\\+ atomic wait"},
    {"shared-semaphore", "semaphore", wait_shared_semaphore, false, ".*"},
    {"shared-mutex", "mutex", wait_shared_mutex, false, ".*"},
    {"shared-condvar", "condition variable", wait_shared_condvar, false, "process-shared"},
    {"shared-rwlock", "rwlock", wait_shared_rwlock, false, ".*"},
    {"shared-barrier", "barrier", wait_shared_barrier, false, "process-shared"},
    {"join", "semaphore", wait_join, true, ".*"},
    {"join-of-barrier", "barrier", wait_join_of_barrier, true, "private"},
#ifdef HAVE_BARE_FUTEX
    {"join-of-unseen", "thread", wait_join_of_unseen, true, "to be joined"},
#endif
    {"c11-condvar", "condition variable", wait_c11, false, ".*"},
    {"c11-mutex", "mutex", wait_c11_mutex, false, ".*"},
    {"c11-join", "semaphore", wait_c11_join, true, ".*"},
};

/* Beside a thread that vanishes: the child is one of a process with threads. */
static pid_t fork_with_thread(pid_t (*door)(void))
{
    static int never;
    never = scn_bell();
    scn_start(scn_stay, &never);
    begin();
    return door();
}

static void alone(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    if (kind->has_thread)
        scn_needs_calls();
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        kind->wait();
        scn_wrong(SCN_WHERE, "a wait without an end is over");
    }
    scn_reap(child);
}

/* Then the process may not read in which calls its own threads sleep: as any server that began as root. */
enum { ANOTHER_USER = 32 };
static void become_another_user(void)
{
    enum { NOBODY = 65534 };
    if (geteuid() == 0)
        SCN_CHECK(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    else
        SCN_CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    if (access("/proc/self/syscall", R_OK) == 0)
        scn_skip("this system lets another user read /proc/self/syscall");
}

/* One more thread of the child sleeps on the semaphore, since before (1) or after (2). */
static void in_company(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    scn_needs_calls();
    if ((self->number & ANOTHER_USER) != 0)
        become_another_user();
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        void (*const waits[])(void) = {(self->number & 1) != 0 ? wait_semaphore : kind->wait};
        scn_start(sleeper, (void *)(uintptr_t)waits);
        while (atomic_load(&tids[0]) == 0)
            sched_yield();
        scn_await_asleep(atomic_load(&tids[0]), NULL);
        if ((self->number & 1) != 0)
            kind->wait();
        else
            wait_semaphore();
        scn_wrong(SCN_WHERE, "a wait without an end is over");
    }
    scn_reap(child);
}

/* One thread has nothing to do, the other waits for the signal that ends the process. */
static void ended_by_signal(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        scn_start(sleeper, (void *)(uintptr_t)&on_semaphore);
        for (;;)
            pause();
    }
    usleep(late_us);
    kill(child, SIGTERM);
    int status;
    SCN_CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* The child's first thread ends, long after the other went to sleep. */
static void other_ends(const struct scn_case *self)
{
    scn_needs_calls();
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        scn_start(sleeper, (void *)(uintptr_t)&on_semaphore);
        while (atomic_load(&tids[0]) == 0)
            sched_yield();
        usleep(late_us / 2);
        pthread_exit(NULL);
    }
    scn_reap(child);
}

static pid_t fork_raw(void)
{
    const pid_t child = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    if (child == 0)
        scn_arm();
    return child;
}

static pid_t fork_bare(void)
{
    const pid_t child = _Fork();
    if (child == 0)
        scn_arm();
    return child;
}

static void through_door(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(self->number == 1 ? fork_raw : fork_bare);
    if (child == 0)
        wait_condvar();
    scn_reap(child);
}

/* A vfork child of the child's, whose thread waits for it. */
static void vforked(const struct scn_case *self)
{
    scn_needs_calls();
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        const pid_t guest = vfork();
        if (guest == 0) {
            scn_arm();
            wait_semaphore();
            _exit(1);
        }
        scn_reap(guest);
        scn_fine();
    }
    scn_reap(child);
}

static void grandchild(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        const pid_t second = scn_fork();
        if (second == 0)
            wait_condvar();
        scn_reap(second);
        scn_fine();
    }
    scn_reap(child);
}

/* --- A monitor: who is in it is known to the program alone ------------------------------------------------------- */

static int inside;

static void enter_monitor(void)
{
    pthread_mutex_lock(&mutex);
    while (inside)
        pthread_cond_wait(&condvar, &mutex);
    inside = 1;
    pthread_mutex_unlock(&mutex);
}

static void *own_monitor(void *bell)
{
    enter_monitor();
    scn_ring(*(int *)bell);
    for (;;)
        pause();
    return NULL;
}

static void *want_monitor(void *unused)
{
    atomic_store(&tids[1], (int)gettid());
    enter_monitor();
    return unused;
}

/* With somebody who waited in it, too: that is said, and "forgot" is not, for it was no cure. */
static void monitor(const struct scn_case *self)
{
    int bell = scn_bell();
    scn_start(own_monitor, &bell);
    scn_await(bell);
    if (self->number == 1) {
        scn_start(want_monitor, NULL);
        while (atomic_load(&tids[1]) == 0)
            sched_yield();
        scn_await_asleep(atomic_load(&tids[1]), NULL);
    }
    SCN_IN_CHILD {
        enter_monitor();
    }
}

/* --- Signal handlers -------------------------------------------------------------------------------------------- */

static atomic_int handled;
static bool posts;

static void handle(int signal)
{
    atomic_fetch_add(&handled, 1);
    if (posts)
        sem_post(&event);
}

static void install(int signal, int flags)
{
    const struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}

/* Signals the process from a process of its own, before the limit or after it. */
static void signal_from_outside(int signal, bool late)
{
    const pid_t me = getpid();
    if (fork() == 0) {
        if (late)
            usleep(late_us);
        else
            scn_await_asleep(me, NULL);
        kill(me, signal);
        _exit(0);
    }
}

enum { LATE = 1, RESTARTS = 2, POSTS = 4, MIXED = 8 };

/* Exactly as bare: EINTR after a handler without SA_RESTART, and after one with it only what the handler did counts. */
static void semaphore_and_handler(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        const bool restarts = (self->number & RESTARTS) != 0;
        posts = (self->number & POSTS) != 0;
        install(SIGUSR1, restarts ? SA_RESTART : 0);
        if ((self->number & MIXED) != 0)
            install(SIGUSR2, restarts ? 0 : SA_RESTART);
        signal_from_outside(SIGUSR1, (self->number & LATE) != 0);
        errno = EDOM;
        const int result = sem_wait(&event);
        SCN_CHECK(atomic_load(&handled) == 1);
        if (restarts)
            SCN_CHECK(result == 0 && (errno == EDOM || !LIBC_KEEPS_ERRNO));
        else
            SCN_CHECK(result == -1 && errno == EINTR);
        scn_fine();
    }
    scn_reap(child);
}

static void *compute(void *raw)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    scn_await_asleep(getpid(), NULL);
    for (;;)
        atomic_fetch_add(&tids[1], 1);
    return raw;
}

/* The signal comes because another thread of the child has used processor time. */
static void semaphore_and_processor_time(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        const struct itimerval often = {{.tv_usec = 50000}, {.tv_usec = 50000}};
        install(self->number == ITIMER_PROF ? SIGPROF : SIGVTALRM, 0);
        setitimer((int)self->number, &often, NULL);
        scn_start(compute, NULL);
        SCN_CHECK(sem_wait(&event) == -1 && errno == EINTR);
        scn_fine();
    }
    scn_reap(child);
}

/* Handlers interrupt the wait more often than the limit comes, and each time the thread makes the wait again. */
static void interrupted_often(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        const pid_t me = getpid();
        install(SIGUSR1, 0);
        if (fork() == 0) {
            while (kill(me, SIGUSR1) == 0)
                usleep(20000);
            _exit(0);
        }
        while (self->number == 0 ? sem_wait(&event) != 0
                                 : syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) != 0)
            ;
    }
    scn_reap(child);
}

/* No handler ends this wait: only the signal that the other thread gives, because a handler told it to. */
static void *giver(void *unused)
{
    while (sem_wait(&event) != 0)
        ;
    pthread_mutex_lock(&mutex);
    inside = 1;
    pthread_cond_signal(&condvar);
    pthread_mutex_unlock(&mutex);
    return unused;
}

static void condvar_and_handler(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        posts = true;
        install(SIGUSR1, SA_RESTART);
        pthread_mutex_lock(&mutex);
        const pthread_t thread = scn_start(giver, NULL);
        signal_from_outside(SIGUSR1, (self->number & LATE) != 0);
        SCN_IS(pthread_cond_wait(&condvar, &mutex), 0);
        SCN_CHECK(inside == 1); /* not earlier, and for a reason */
        pthread_mutex_unlock(&mutex);
        scn_join(thread);
        scn_fine();
    }
    scn_reap(child);
}

/* --- Somebody else ends it --------------------------------------------------------------------------------------- */

static void *post_late(void *shared)
{
    usleep(late_us);
    sem_post(shared);
    return NULL;
}

static void *wake_libcxx(void *unused)
{
    SCN_IS(sem_wait(&event), 0);
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    return unused;
}

static void *signal_late(void *unused)
{
    usleep(late_us);
    pthread_mutex_lock(&mutex);
    inside = 1;
    pthread_mutex_unlock(&mutex);
    pthread_cond_signal(&condvar);
    return unused;
}

static void *read_late(void *pipe_end)
{
    char byte;
    SCN_CHECK(read(*(int *)pipe_end, &byte, 1) == 1);
    sem_post(&event);
    return NULL;
}

static void *wait_for_signal(void *unused)
{
    sigset_t set;
    int got;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigwait(&set, &got);
    sem_post(&event);
    return unused;
}

static void no_deed(int signal)
{
}

/* Until the handler has run. */
static void *pause_late(void *unused)
{
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGUSR2);
    signal(SIGUSR2, no_deed);
    sigsuspend(&set);
    sem_post(&event);
    return unused;
}

static void *poll_late(void *unused)
{
    poll(NULL, 0, (int)(late_us / 1000));
    sem_post(&event);
    return unused;
}

/* Another process, in the child's memory. */
static int post_from_guest(void *unused)
{
    usleep(late_us);
    sem_post(&event);
    return 0;
}

enum helper {
    BY_PARENT, BY_PARENTS_FUTEX, BY_ONE_OF_PARENTS, BY_PARENTS_MUTEX, BY_PARENTS_RWLOCK, BY_PIPE, BY_THREAD, BY_CONDVAR,
    BY_SIGWAIT, BY_POLL, BY_GUEST, BY_LIBCXX, BY_PAUSED
};

static void helped(const struct scn_case *self)
{
    sem_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t *shared_word = (uint32_t *)(void *)(shared + 1);
    pthread_mutex_t *parents_mutex = (void *)(shared + 2);
    pthread_rwlock_t *parents_rwlock = (void *)(shared + 4);
    int ends[2];
    SCN_CHECK(shared != MAP_FAILED && pipe(ends) == 0);
    sem_init(shared, 1, 0);
    init_shared_mutex(parents_mutex);
    init_shared_rwlock(parents_rwlock);
    SCN_IS(pthread_mutex_lock(parents_mutex), 0);
    SCN_IS(pthread_rwlock_wrlock(parents_rwlock), 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if ((self->number & ANOTHER_USER) != 0)
        become_another_user();
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        switch ((enum helper)(self->number & ~ANOTHER_USER)) {
        case BY_PARENT:
            SCN_IS(sem_wait(shared), 0);
            break;
        case BY_PARENTS_FUTEX:
            while (__atomic_load_n(shared_word, __ATOMIC_ACQUIRE) == 0)
                syscall(SYS_futex, shared_word, FUTEX_WAIT, 0, NULL, NULL, 0);
            break;
        case BY_ONE_OF_PARENTS:
            while (__atomic_load_n(shared_word, __ATOMIC_ACQUIRE) == 0) {
                const struct futex_waitv words[] = {
                    {.uaddr = (uintptr_t)&word, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG},
                    {.uaddr = (uintptr_t)shared_word, .flags = FUTEX_32},
                };
                errno = EDOM;
                const long which = syscall(SYS_futex_waitv, words, 2, 0, NULL, 0);
                SCN_CHECK((which == 1 && errno == EDOM) || (which == -1 && (errno == EAGAIN || errno == ENOSYS)));
            }
            break;
        case BY_PARENTS_MUTEX:
            SCN_IS(pthread_mutex_lock(parents_mutex), 0);
            break;
        case BY_PARENTS_RWLOCK:
            SCN_IS(pthread_rwlock_rdlock(parents_rwlock), 0);
            break;
        case BY_PIPE:
            scn_start(read_late, &ends[0]);
            SCN_IS(sem_wait(&event), 0);
            break;
        case BY_THREAD:
            scn_start(post_late, &event);
            SCN_IS(sem_wait(&event), 0);
            break;
        case BY_CONDVAR: /* without a loop: nothing may wake it early */
            pthread_mutex_lock(&mutex);
            scn_start(signal_late, NULL);
            SCN_IS(pthread_cond_wait(&condvar, &mutex), 0);
            SCN_CHECK(inside == 1);
            break;
        case BY_SIGWAIT:
            scn_start(wait_for_signal, NULL);
            SCN_IS(sem_wait(&event), 0);
            break;
        case BY_PAUSED:
            scn_start(pause_late, NULL);
            SCN_IS(sem_wait(&event), 0);
            break;
        case BY_POLL:
            scn_start(poll_late, NULL);
            SCN_IS(sem_wait(&event), 0);
            break;
        case BY_LIBCXX:
            scn_start(post_late, &event);
            scn_start(wake_libcxx, NULL);
            wait_libcxx();
            break;
        case BY_GUEST: {
            static _Alignas(16) char stack[1 << 16];
            SCN_CHECK(clone(post_from_guest, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) > 0);
            SCN_IS(sem_wait(&event), 0);
            break;
        }
        }
        scn_fine();
    }
    usleep(late_us);
    sem_post(shared);
    SCN_IS(pthread_mutex_unlock(parents_mutex), 0);
    SCN_IS(pthread_rwlock_unlock(parents_rwlock), 0);
    __atomic_store_n(shared_word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, shared_word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    SCN_CHECK(write(ends[1], "x", 1) == 1);
    kill(child, SIGUSR2);
    scn_reap(child);
}

/*
 * Somebody ends each wait just when its slice ends, of 10 and a sixteenth of 10 milliseconds. Then who is about to
 * signal may sleep for the mutex, which the waiter has between two slices, and a thread to be joined has ended.
 */
static void *nap(void *us)
{
    usleep(*(useconds_t *)us);
    return NULL;
}

static int tokens, taken;

static void *take_tokens(void *unused)
{
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (tokens == 0)
            pthread_cond_wait(&condvar, &mutex);
        tokens--;
        taken++;
        pthread_mutex_unlock(&mutex);
    }
    return unused;
}

static int count_taken(void)
{
    pthread_mutex_lock(&mutex);
    const int count = taken;
    pthread_mutex_unlock(&mutex);
    return count;
}

static void give_token(useconds_t after_us, int given)
{
    usleep(after_us);
    pthread_mutex_lock(&mutex);
    tokens++;
    pthread_mutex_unlock(&mutex);
    pthread_cond_signal(&condvar);
    while (count_taken() < given)
        usleep(50);
}

static void at_slices_ends(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        for (int i = 0; self->number == 0 && i < 3; i++)
            scn_start(take_tokens, NULL);
        for (int i = scn_often(300); i > 0; i--) {
            useconds_t us = 10625 - 20 * 20 + 20 * (useconds_t)(i % 41);
            if (self->number == 0)
                give_token(us, 1 + count_taken());
            else
                scn_join(scn_start(nap, &us));
        }
        scn_fine();
    }
    scn_reap(child);
}

/* A sleeper is cancelled, in its first slice or in a later one; its cleanup handler runs with the mutex held. */
static atomic_int cleaned;

static void clean(void *unused)
{
    atomic_fetch_add(&cleaned, 1);
    pthread_mutex_unlock(&mutex);
}

static void *cancelled_condvar(void *unused)
{
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(clean, NULL);
    atomic_store(&tids[0], (int)gettid());
    pthread_cond_wait(&condvar, &mutex);
    pthread_cleanup_pop(1);
    return unused;
}

static void cancel(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        pthread_t threads[2] = {scn_start(sleeper, (void *)(uintptr_t)&on_semaphore)};
        while (atomic_exchange(&tids[0], 0) == 0)
            sched_yield();
        threads[1] = scn_start(cancelled_condvar, NULL);
        while (atomic_load(&tids[0]) == 0)
            sched_yield();
        scn_await_asleep(atomic_load(&tids[0]), NULL);
        if ((self->number & LATE) != 0)
            usleep(late_us);
        for (int i = 0; i < 2; i++) {
            void *result;
            SCN_IS(pthread_cancel(threads[i]), 0);
            SCN_IS(pthread_join(threads[i], &result), 0);
            SCN_CHECK(result == PTHREAD_CANCELED);
        }
        SCN_CHECK(atomic_load(&cleaned) == 1);
        SCN_IS(pthread_mutex_trylock(&mutex), 0);
        scn_fine();
    }
    scn_reap(child);
}

/* What has a limit of its own keeps it. */
/* The only thread: a handler cancels it, and sem_wait acts upon that before it could return EINTR. */
static void cancel_me(int signal)
{
    pthread_cancel(pthread_self());
}

static void end_cancelled(void *unused)
{
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    SCN_CHECK(sigismember(&blocked, SIGTERM) == 0);
    scn_fine();
}

static void cancelled_by_handler(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        const struct sigaction action = {.sa_handler = cancel_me};
        sigaction(SIGUSR1, &action, NULL);
        signal_from_outside(SIGUSR1, (self->number & LATE) != 0);
        pthread_cleanup_push(end_cancelled, NULL);
        sem_wait(&event);
        pthread_cleanup_pop(0);
        scn_wrong(SCN_WHERE, "the wait ended without the cancellation");
    }
    scn_reap(child);
}

static void limited(const struct scn_case *self)
{
    const pid_t child = fork_with_thread(scn_fork);
    if (child == 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        SCN_CHECK(sem_timedwait(&event, &until) == -1 && errno == ETIMEDOUT);
        pthread_mutex_lock(&mutex);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        SCN_IS(pthread_cond_timedwait(&condvar, &mutex, &until), ETIMEDOUT);
        scn_fine();
    }
    scn_reap(child);
}

#define HANGS(kind) "once:child hangs in (" kind ") 0x[0-9a-f]+ ;; never:forgot|took over|went on|signal handler"
#define BY_HANDLER(kind) "once:only a signal handler can end the child's wait in " kind " 0x[0-9a-f]+"
#define WENT_ON "once:child went on after its wait in semaphore 0x"

/* Waits that somebody does end. */
static void add_ended(void)
{
    const char *repairs = is_real ? REAL_LIMIT : LIMIT;
    const char *aborts = is_real ? REAL_LIMIT " FORKSAFE_MODE=abort" : LIMIT " FORKSAFE_MODE=abort";
    const useconds_t limit_us = is_real ? 1000000 : 150000;
    for (long how = 0; how < 16; how++) {
        static const char *const said[] = {"never:child hangs", BY_HANDLER("semaphore") " ;; " WENT_ON};
        if ((how & (RESTARTS | POSTS)) == RESTARTS || (is_real && (how & LATE) == 0))
            continue; /* that wait has no end, or does not last */
        for (int abort = 0; abort < 2; abort++)
            scn_add(SCN_CASE(.bare = "fine", .says = said[(how & LATE) != 0 && late_us > limit_us],
                             .env = abort ? aborts : repairs, .run = semaphore_and_handler, .number = how),
                    "handler%s%s%s%s%s", how & LATE ? "-late" : "", how & RESTARTS ? "-restarts" : "",
                    how & POSTS ? "-posts" : "", how & MIXED ? "-mixed" : "", abort ? "-abort" : "");
    }
    for (long timer = ITIMER_VIRTUAL; timer <= ITIMER_PROF; timer++)
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = aborts, .run = semaphore_and_processor_time,
                         .number = timer), "handler-of-processor-time-%ld", timer);
    for (long of = 0; of < 2; of++)
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs",
                         .says = BY_HANDLER("(semaphore|futex)") " ;; never:child hangs|went on", .env = repairs,
                         .run = interrupted_often, .number = of),
                "interrupted-often-%s", of == 0 ? "semaphore" : "futex");
    for (long how = 0; how < 2; how++)
        scn_add(SCN_CASE(.bare = "fine", .says = "never:child hangs", .env = aborts, .run = condvar_and_handler,
                         .number = how), "condvar-and-handler%s", how ? "-late" : "");
    static const char *const helpers[] = {"parent",         "parents-futex", "one-of-parents", "parents-mutex",
                                          "parents-rwlock", "pipe",          "thread",         "condvar",
                                          "sigwait",        "poll",          "guest",          "libcxx",
                                          "paused"};
    for (long i = 0; i < (long)(sizeof helpers / sizeof *helpers); i++)
        for (long user = 0; user <= ANOTHER_USER; user += ANOTHER_USER)
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = aborts, .run = helped, .number = i | user),
                    "helped-by-%s%s", helpers[i], user == 0 ? "" : "-another-user");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = aborts, .run = cancel), "cancelled");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = aborts, .run = cancel, .number = LATE),
            "cancelled-late");
    for (long how = 0; how <= LATE; how++)
        scn_add(SCN_CASE(.bare = "fine", .says = "never:child hangs", .env = aborts, .run = cancelled_by_handler,
                         .number = how), "cancelled-by-handler%s", how ? "-late" : "");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = aborts, .run = limited), "limited");
}

void scn_cases(void)
{
    static char says[sizeof kinds / sizeof *kinds][200], in_two[sizeof kinds / sizeof *kinds][160];
    const char *late_ms = getenv("HOPELESS_LATE_MS");
    if (late_ms != NULL) {
        is_real = true;
        late_us = (useconds_t)atoi(late_ms) * 1000;
        add_ended();
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct kind *kind = &kinds[i];
        snprintf(says[i], sizeof says[i], HANGS("%s") " ;; once:hangs in .*\\(%s\\) for", kind->says, kind->as);
        snprintf(in_two[i], sizeof in_two[i], HANGS("%s"),
                 "semaphore|thread|mutex|condition variable|rwlock|barrier|futex");
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = says[i], .env = LIMIT, .run = alone,
                         .kind = kind), "%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = says[i], .env = LIMIT " FORKSAFE_MODE=report",
                         .run = alone, .kind = kind), "%s-report", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = says[i],
                         .env = LIMIT " FORKSAFE_MODE=abort", .run = alone, .kind = kind), "%s-abort", kind->name);
        for (long how = 0; how < 4 && !kind->has_thread; how++)
            scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = in_two[i],
                             .env = LIMIT " FORKSAFE_MODE=abort", .run = in_company, .kind = kind,
                             .number = (1 + how % 2) | (how < 2 ? 0 : ANOTHER_USER)),
                    "%s-in-company-%ld%s", kind->name, 1 + how % 2, how < 2 ? "" : "-another-user");
    }
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=0",
                     .run = alone, .kind = &kinds[0]), "switched-off");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = HANGS("semaphore"),
                     .env = LIMIT " FORKSAFE_MODE=abort", .run = other_ends), "other-thread-ends");
    for (long of = 0; of < 2; of++)
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=10 FORKSAFE_MODE=abort",
                         .run = at_slices_ends, .number = of), "at-slices-ends-%s", of == 0 ? "condvar" : "join");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = LIMIT " FORKSAFE_MODE=abort", .run = ended_by_signal),
            "ended-by-signal");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = HANGS("condition variable"),
                     .env = LIMIT " FORKSAFE_MODE=abort", .run = through_door, .number = 1), "raw-clone");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = HANGS("condition variable"),
                     .env = LIMIT " FORKSAFE_MODE=abort", .run = through_door), "_Fork");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = HANGS("condition variable"),
                     .env = LIMIT " FORKSAFE_MODE=abort", .run = grandchild), "grandchild");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = HANGS("semaphore"),
                     .env = LIMIT " FORKSAFE_MODE=abort", .run = vforked), "vforked");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = HANGS("condition variable"), .env = LIMIT,
                     .run = monitor), "monitor");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs",
                     .says = HANGS("condition variable") " ;; once:child hangs in .* in use at fork by \\d+",
                     .env = LIMIT, .run = monitor, .number = 1), "monitor-waited-for");
    add_ended();
}
