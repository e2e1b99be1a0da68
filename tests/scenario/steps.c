/*
 * A signal between any two instructions of a call. One thread is led through the call by single steps, to a point that
 * is another one each time, and gets the signal there; its handler does nothing, takes a lock, forks, or jumps out.
 * Afterwards the thread, its child, and the child of the handler must work as if nothing had been.
 *
 * Another thread takes a lock all the time, so that each fork has somebody to wait for. STEPS_POINTS: how many points.
 */
#include "scenario.h"

#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum { POINTS = 3, MOST_POINTS = 20000 };
/* Of a call before which something is done the first so many instructions. */
enum { OF_BEGINNING = 400, POINTS_OF_BEGINNING = 60 };

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, busy_one = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t kept = PTHREAD_MUTEX_INITIALIZER, in_handler = PTHREAD_MUTEX_INITIALIZER;
static sigjmp_buf out;
static volatile sig_atomic_t is_in_child, is_at_mark;

/* What a longjmp leaves behind is nobody's any more: each round has locks of its own. */
static struct {
    pthread_mutex_t mutex, recursive;
    pthread_rwlock_t rwlock;
    pthread_cond_t condvar;
    sem_t semaphore;
    pthread_spinlock_t spin;
} *own;

static void make_own(void)
{
    pthread_mutexattr_t kind;
    own = calloc(1, sizeof *own);
    SCN_CHECK(own != NULL);
    SCN_IS(pthread_mutexattr_init(&kind), 0);
    SCN_IS(pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE), 0);
    SCN_IS(pthread_mutex_init(&own->mutex, NULL), 0);
    SCN_IS(pthread_mutex_init(&own->recursive, &kind), 0);
    SCN_IS(pthread_rwlock_init(&own->rwlock, NULL), 0);
    SCN_IS(pthread_cond_init(&own->condvar, NULL), 0);
    SCN_IS(sem_init(&own->semaphore, 0, 1), 0);
    SCN_IS(pthread_spin_init(&own->spin, PTHREAD_PROCESS_PRIVATE), 0);
}

/* --- The calls ---------------------------------------------------------------------------------------------------- */

static struct timespec soon(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_nsec += 100000;
    now.tv_sec += now.tv_nsec / 1000000000;
    now.tv_nsec %= 1000000000;
    return now;
}

static void use_mutex(void)
{
    SCN_IS(pthread_mutex_lock(&own->mutex), 0);
    SCN_IS(pthread_mutex_unlock(&own->mutex), 0);
}

static void use_recursive(void)
{
    SCN_IS(pthread_mutex_lock(&own->recursive), 0);
    SCN_IS(pthread_mutex_lock(&own->recursive), 0);
    SCN_IS(pthread_mutex_unlock(&own->recursive), 0);
    SCN_IS(pthread_mutex_unlock(&own->recursive), 0);
}

static void wait_for_mutex(void)
{
    const struct timespec until = soon();
    const int got = pthread_mutex_timedlock(&kept, &until);
    SCN_CHECK(got == ETIMEDOUT || (got == 0 && is_in_child)); /* there it is an orphan's */
    if (got == 0)
        SCN_IS(pthread_mutex_unlock(&kept), 0);
}

static void wait_for_condition(void)
{
    const struct timespec until = soon();
    SCN_IS(pthread_mutex_lock(&own->mutex), 0);
    const int ended = pthread_cond_timedwait(&own->condvar, &own->mutex, &until);
    SCN_CHECK(ended == ETIMEDOUT || ended == 0);
    SCN_IS(pthread_mutex_unlock(&own->mutex), 0);
}

static void use_rwlock(void)
{
    SCN_IS(pthread_rwlock_rdlock(&own->rwlock), 0);
    SCN_IS(pthread_rwlock_unlock(&own->rwlock), 0);
    SCN_IS(pthread_rwlock_wrlock(&own->rwlock), 0);
    SCN_IS(pthread_rwlock_unlock(&own->rwlock), 0);
}

static void use_semaphore(void)
{
    while (sem_wait(&own->semaphore) != 0)
        SCN_CHECK(errno == EINTR);
    SCN_IS(sem_post(&own->semaphore), 0);
}

static void use_spin(void)
{
    SCN_IS(pthread_spin_lock(&own->spin), 0);
    SCN_IS(pthread_spin_unlock(&own->spin), 0);
}

static void use_stream(void)
{
    flockfile(stdin);
    funlockfile(stdin);
}

static void call_libc(void)
{
    const time_t moment = 1700000000;
    struct tm tm;
    SCN_CHECK(localtime_r(&moment, &tm) != NULL && tm.tm_year == 123);
}

static void reap(pid_t child)
{
    int status;
    pid_t got;
    while ((got = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        ;
    if (got < 0 && errno == ECHILD && is_in_child)
        return; /* made by the call in the middle of which this child was: its parent's */
    SCN_CHECK(got == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void make_fork(void)
{
    const pid_t child = fork();
    SCN_CHECK(child >= 0);
    if (child == 0) {
        scn_arm();
        use_mutex();
        _exit(0);
    }
    reap(child);
}

static void do_nothing_at_fork(void)
{
}

/* Leaves behind in the library what it notes of a fork, from a frame that lies below that of each handler. */
static void fork_below(void)
{
    enum { BELOW = 64 << 10 };
    static bool has_handlers;
    volatile char room[BELOW];
    if (!has_handlers)
        SCN_IS(pthread_atfork(do_nothing_at_fork, do_nothing_at_fork, do_nothing_at_fork), 0);
    has_handlers = true;
    room[0] = room[BELOW - 1] = 0;
    make_fork();
    room[1] = room[0];
}

/* --- The handlers ------------------------------------------------------------------------------------------------- */

static void do_nothing(int number)
{
}

static void lock_in_handler(int number)
{
    SCN_IS(pthread_mutex_lock(&in_handler), 0);
    SCN_IS(pthread_mutex_unlock(&in_handler), 0);
}

/* The child goes on with the call that was interrupted. */
static void fork_in_handler(int number)
{
    if (is_at_mark)
        return; /* the child would stop there, too, and nobody would lead it on */
    const int kept_errno = errno;
    const pid_t child = fork();
    SCN_CHECK(child >= 0);
    if (child == 0) {
        is_in_child = 1;
        scn_arm();
    } else {
        reap(child);
    }
    errno = kept_errno;
}

static void jump_out(int number)
{
    if (!is_at_mark)
        siglongjmp(out, 1);
}

/* --- The one that is led ------------------------------------------------------------------------------------------ */

/* Where the tracer begins to count, and where it stops. */
static void stop_here(void)
{
    is_at_mark = 1;
    if (!is_in_child)
        raise(SIGSTOP);
    is_at_mark = 0;
}

static void *keeping_body(void *bell)
{
    SCN_IS(pthread_mutex_lock(&kept), 0);
    scn_ring(*(int *)bell);
    for (;;) {
        SCN_IS(pthread_mutex_lock(&busy_one), 0);
        SCN_IS(pthread_mutex_unlock(&busy_one), 0);
        usleep(50);
    }
}

static _Noreturn void be_led(void (*before)(void), void (*call)(void), void (*handler)(int))
{
    const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    int bell = scn_bell();
    SCN_CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    if (before == NULL) { /* else with one thread: with more libc's fork() locks what a handler's fork() waits for */
        scn_start(keeping_body, &bell);
        scn_await(bell);
    }
    make_own();
    call(); /* what is done once is done */
    stop_here();
    stop_here();
    for (;;) {
        alarm(60);
        make_own();
        if (before != NULL)
            before();
        stop_here();
        const bool jumped = sigsetjmp(out, 1) != 0;
        if (!jumped)
            call();
        stop_here();
        if (!jumped)
            call(); /* on the same locks */
        /* All works as ever, here and in a child, which has no use for what a longjmp may have left locked. */
        make_own();
        use_mutex();
        use_recursive();
        use_rwlock();
        SCN_IS(pthread_mutex_lock(&one), 0);
        SCN_IS(pthread_mutex_unlock(&one), 0);
        make_fork();
        if (is_in_child)
            _exit(0);
    }
}

/* --- The one that leads ------------------------------------------------------------------------------------------- */

/* The next stop of `led` for which it was resumed so, with `number` as its signal. Returns the signal it stops for. */
static int resume(pid_t led, int how, int number)
{
    int status;
    SCN_CHECK(ptrace(how, led, NULL, (void *)(long)number) == 0 && waitpid(led, &status, 0) == led);
    if (!WIFSTOPPED(status))
        scn_wrong(SCN_WHERE, "the thread that was led has ended");
    return WSTOPSIG(status);
}

static void run_to_mark(pid_t led, int number)
{
    for (;;) {
        number = resume(led, PTRACE_CONT, number);
        if (number == SIGSTOP)
            return;
    }
}

/* Steps at most so many. Returns how many there were before the next mark. */
static long step(pid_t led, long most)
{
    int pending = 0;
    for (long steps = 0; steps < most; steps++) {
        const int stopped = resume(led, PTRACE_SINGLESTEP, pending);
        if (stopped == SIGSTOP)
            return steps;
        pending = stopped == SIGTRAP ? 0 : stopped;
    }
    return most;
}

static void lead(const struct scn_case *self)
{
    const char *setting = getenv("STEPS_POINTS");
    const long points = setting != NULL ? atol(setting) : scn_often((int)self->number);
    SCN_CHECK(points > 0 && points <= MOST_POINTS);
    if (ptrace(PTRACE_DETACH, getpid(), NULL, NULL) != 0 && errno == ENOSYS)
        scn_skip("the kernel has no ptrace");
    alarm(300);
    const pid_t led = scn_fork();
    if (led == 0)
        be_led(self->body, (void (*)(void))self->kind, (void (*)(int))self->entry);
    int status;
    SCN_CHECK(waitpid(led, &status, 0) == led && WIFSTOPPED(status));
    if (WSTOPSIG(status) != SIGSTOP)
        run_to_mark(led, WSTOPSIG(status));
    /* Without those between two marks: the child of a handler must not stop there. */
    const long nothing = step(led, 1000000);
    run_to_mark(led, 0);
    long all = step(led, 1000000) - nothing;
    SCN_CHECK(all > 10);
    if (self->body != NULL && all > OF_BEGINNING)
        all = OF_BEGINNING;
    for (long i = 0; i < points; i++) {
        run_to_mark(led, 0); /* the beginning of the next round */
        const long at = points < all ? (2 * i + 1) * all / (2 * points) : i % all;
        if (step(led, at) == at)
            run_to_mark(led, SIGUSR1);
    }
    kill(led, SIGKILL);
    waitpid(led, &status, 0);
}

void scn_cases(void)
{
    static const struct {
        const char *name;
        void (*call)(void);
        bool jumps; /* what a longjmp leaves of libc's own is undefined */
        long points;
    } calls[] = {
        {"mutex", use_mutex, true, POINTS},          {"recursive", use_recursive, true, POINTS},
        {"timedlock", wait_for_mutex, true, POINTS}, {"condition", wait_for_condition, true, POINTS},
        {"rwlock", use_rwlock, true, POINTS},        {"semaphore", use_semaphore, true, POINTS},
        {"spin", use_spin, true, POINTS},            {"stream", use_stream, false, POINTS},
        {"libc", call_libc, false, POINTS},
        {"fork", make_fork, false, POINTS / 3},
    };
    static const struct {
        const char *name;
        void (*handler)(int);
    } handlers[] = {
        {"plain", do_nothing}, {"locking", lock_in_handler}, {"forking", fork_in_handler}, {"jumping", jump_out}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        for (size_t k = 0; k < sizeof handlers / sizeof handlers[0]; k++)
            if (handlers[k].handler != jump_out || calls[i].jumps)
                /* Bare a child that goes on in the middle of a lock is wrong about its owner now and then. */
                scn_add(SCN_CASE(.run = lead,
                                 .bare = handlers[k].handler != fork_in_handler ? "fine" : "fine|wrong|fails EPERM",
                                 .says = calls[i].call == wait_for_mutex ? NULL : SCN_NEVER_TAKES,
                                 .kind = (const void *)calls[i].call, .entry = (const void *)handlers[k].handler,
                                 .number = calls[i].points, .env = "FORKSAFE_DRAIN_MS=5000"),
                        "%s-%s", calls[i].name, handlers[k].name);
    scn_add(SCN_CASE(.run = lead, .bare = "fine|wrong|fails EPERM", .says = SCN_NEVER_TAKES, .body = fork_below,
                     .kind = (const void *)make_fork, .entry = (const void *)fork_in_handler,
                     .number = POINTS_OF_BEGINNING, .env = "FORKSAFE_DRAIN_MS=5000"),
            "fork-below-before-forking");
}
