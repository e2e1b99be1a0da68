/*
 * Children that hang where nobody sees it: by a system call of their own, in a lock of libc's, in asynchronous input.
 * Their parent, which waits for them, says so. And children that do not hang, and parents whose waits must be as bare.
 */
#include "bare_futex.h"
#include "scenario.h"

#include <aio.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* All cases run with this limit, and what comes later than it comes after LATE_US. */
#define LIMIT "FORKSAFE_HANG_MS=150"
enum { LATE_US = 700000 };

#ifdef HAVE_BARE_FUTEX

static uint32_t word;

static void have_thread(void)
{
    static int never;
    never = scn_bell();
    scn_start(scn_stay, &never);
}

/* --- Waits without an end ----------------------------------------------------------------------------------------- */

static void wait_unseen(void)
{
    for (;;)
        bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
}

/* Of the kind that processes may share, in memory that they do not. */
static void wait_not_private(void)
{
    for (;;)
        bare_futex(&word, FUTEX_WAIT, 0);
}

static void *wait_unseen_too(void *unused)
{
    wait_unseen();
    return unused;
}

static void wait_in_two(void)
{
    scn_start(wait_unseen_too, NULL);
    wait_unseen();
}

static void leave_to_thread(void)
{
    scn_start(wait_unseen_too, NULL);
    pthread_exit(NULL);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void nothing(void) {}
static void again(void) { pthread_once(&once, nothing); }
static void wait_once(void) { pthread_once(&once, again); }

/* libc's helper thread is idle when the parent forks, and so it is handed what the child asks for. */
static int input[2];
static char byte;

static void read_ahead(void)
{
    static struct aiocb block;
    SCN_CHECK(pipe(input) == 0 && write(input[1], "xy", 2) == 2);
    block = (struct aiocb){.aio_fildes = input[0], .aio_buf = &byte, .aio_nbytes = 1};
    SCN_CHECK(aio_read(&block) == 0);
    while (aio_error(&block) == EINPROGRESS)
        sched_yield();
}

static void wait_aio(void)
{
    static struct aiocb block;
    const struct aiocb *list[] = {&block};
    block = (struct aiocb){.aio_fildes = input[0], .aio_buf = &byte, .aio_nbytes = 1};
    SCN_CHECK(aio_read(&block) == 0);
    while (aio_error(&block) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
}

static void wait_lio(void)
{
    static struct aiocb block;
    struct aiocb *list[] = {&block};
    block = (struct aiocb){.aio_fildes = input[0], .aio_buf = &byte, .aio_nbytes = 1, .aio_lio_opcode = LIO_READ};
    lio_listio(LIO_WAIT, list, 1, NULL);
}

/* Two threads that wait in sight, where no file shows each of them that the other sleeps. */
static sem_t never_posted;

static void *wait_for_event(void *unused)
{
    for (;;)
        sem_wait(&never_posted);
    return unused;
}

static void wait_without_descriptor(void)
{
    SCN_CHECK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0}) == 0);
    scn_start(wait_for_event, NULL);
    wait_for_event(NULL);
}

struct kind {
    const char *name;
    void (*before)(void);
    void (*wait)(void);
    const char *says;
};

#define HANGS_IN(what) "once:child hangs in " what " 0x[0-9a-f]+ ;; never:went on|signal handler|took over"
#define HANGS HANGS_IN("futex")

static const struct kind kinds[] = {
    {"alone", have_thread, wait_unseen, HANGS},
    {"not-private", have_thread, wait_not_private, HANGS},
    {"two-threads", have_thread, wait_in_two, HANGS},
    {"first-ended", have_thread, leave_to_thread, HANGS},
    {"once", have_thread, wait_once, HANGS},
    {"no-descriptor", have_thread, wait_without_descriptor, HANGS},
    {"aio", read_ahead, wait_aio, HANGS_IN("asynchronous input or output")},
    {"lio", read_ahead, wait_lio, HANGS},
};

static void hang(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    if (kind->wait != wait_aio)
        scn_needs_calls();
    kind->before();
    const pid_t child = scn_fork();
    if (child == 0) {
        kind->wait();
        scn_wrong(SCN_WHERE, "a wait without an end is over");
    }
    scn_reap(child);
}

/* The alarm of a child that may hang in a case that ends fine: long after the parent looked at it. */
enum { BOUND_S = 5 };

/* --- Ways to wait for it: each must see it end by its own alarm --------------------------------------------------- */

static pid_t by_wait(pid_t child, int *status) { (void)child; return wait(status); }
static pid_t by_any(pid_t child, int *status) { (void)child; return waitpid(-1, status, 0); }
static pid_t by_wait3(pid_t child, int *status) { (void)child; return wait3(status, 0, NULL); }
static pid_t by_wait4(pid_t child, int *status)
{
    struct rusage usage;
    return wait4(child, status, WUNTRACED, &usage);
}

static pid_t by_waitid(pid_t child, int *status)
{
    siginfo_t info = {.si_pid = 0};
    SCN_CHECK(waitid(P_PID, (id_t)child, &info, WEXITED) == 0 && info.si_code == CLD_KILLED);
    *status = info.si_status;
    return info.si_pid;
}

static pid_t by_asking(pid_t child, int *status)
{
    pid_t got;
    while ((got = waitpid(child, status, WNOHANG)) == 0)
        usleep(20000);
    return got;
}

static pid_t by_asking_waitid(pid_t child, int *status)
{
    siginfo_t info = {.si_pid = 0};
    while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
        usleep(20000);
    *status = info.si_status;
    return info.si_pid;
}

static const struct way {
    const char *name;
    pid_t (*wait)(pid_t child, int *status);
} ways[] = {
    {"wait", by_wait}, {"any", by_any}, {"wait3", by_wait3}, {"wait4", by_wait4},
    {"waitid", by_waitid}, {"asking", by_asking}, {"asking-waitid", by_asking_waitid},
};

static void wait_by(const struct scn_case *self)
{
    const struct way *way = self->kind;
    int status = 0;
    scn_needs_calls();
    have_thread();
    alarm(0); /* the child's bounds this */
    const pid_t child = scn_fork();
    if (child == 0) {
        alarm(BOUND_S);
        wait_unseen();
    }
    errno = EDOM;
    SCN_CHECK(way->wait(child, &status) == child && errno == EDOM);
    SCN_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    scn_fine();
}

/* Two that hang, one that does not, in one wait for any. */
static void several(const struct scn_case *self)
{
    scn_needs_calls();
    have_thread();
    alarm(0);
    for (int i = 0; i < 3; i++)
        if (scn_fork() == 0) {
            alarm(BOUND_S);
            if (i < 2)
                wait_unseen();
            usleep(LATE_US);
            _exit(0);
        }
    for (int i = 0; i < 3; i++)
        SCN_CHECK(wait(NULL) > 0);
    SCN_CHECK(wait(NULL) == -1 && errno == ECHILD);
    scn_fine();
}

/* No wait is as long as the limit: each is for one of many that end soon. The one that hangs is seen all the same. */
static void short_waits(const struct scn_case *self)
{
    enum { OTHERS = 20 };
    scn_needs_calls();
    have_thread();
    const pid_t hung = scn_fork();
    if (hung == 0)
        wait_unseen();
    for (int i = 0; i < OTHERS; i++)
        if (scn_fork() == 0) {
            usleep((useconds_t)(LATE_US / OTHERS * (i + 1)));
            _exit(0);
        }
    for (int i = 0; i < OTHERS; i++)
        SCN_CHECK(wait(NULL) > 0);
    SCN_CHECK(kill(hung, SIGKILL) == 0 && wait(NULL) == hung);
    scn_fine();
}

/* Nobody waits for any of them, as where SIGCHLD is ignored: the parent looks whenever it forks. */
static void by_forking(const struct scn_case *self)
{
    scn_needs_calls();
    have_thread();
    signal(SIGCHLD, SIG_IGN);
    const pid_t hung = scn_fork();
    if (hung == 0)
        wait_unseen();
    for (int i = 0; i < 20; i++) {
        errno = EDOM;
        const pid_t child = fork();
        if (child == 0)
            _exit(0);
        SCN_CHECK(child > 0 && errno == EDOM);
        usleep(LATE_US / 10);
    }
    SCN_CHECK(kill(hung, SIGKILL) == 0);
    scn_fine();
}

/* More children than one neighbourhood of the list has room for, and many that come and go: each keeps its place. */
static void crowded(const struct scn_case *self)
{
    enum { IDLE = 20, BRIEF = 600 };
    pid_t idle[IDLE];
    scn_needs_calls();
    have_thread();
    static int go;
    go = scn_bell();
    const pid_t hung = scn_fork();
    if (hung == 0) {
        scn_await(go);
        wait_unseen();
    }
    for (int i = 0; i < IDLE; i++)
        if ((idle[i] = scn_fork()) == 0)
            for (;;)
                pause();
    for (int i = 0; i < BRIEF; i++) {
        const pid_t child = fork();
        if (child == 0)
            _exit(0);
        SCN_CHECK(waitpid(child, NULL, 0) == child);
    }
    scn_ring(go);
    alarm(0);
    int status;
    SCN_CHECK(waitpid(hung, &status, 0) == hung && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    for (int i = 0; i < IDLE; i++)
        SCN_CHECK(kill(idle[i], SIGKILL) == 0 && waitpid(idle[i], NULL, 0) == idle[i]);
    scn_fine();
}

/* Daemons, say: the parent of each has ended, and nobody in this tree sees the daemon end. */
static void leave_daemons(void)
{
    enum { TIMES = 5, DAEMONS = 240 }; /* quicker than a look, at which a daemon that has ended would be struck */
    for (int i = 0; i < TIMES; i++) {
        const pid_t between = scn_fork();
        if (between == 0) {
            signal(SIGCHLD, SIG_IGN);
            for (int daemon = 0; daemon < DAEMONS; daemon++)
                if (fork() == 0)
                    _exit(0);
            scn_fine();
        }
        scn_reap(between);
    }
}

static void after_daemons(const struct scn_case *self)
{
    static int go;
    int status;
    scn_needs_calls();
    have_thread();
    go = scn_bell();
    leave_daemons();
    const pid_t hung = scn_fork();
    if (hung == 0) {
        scn_await(go);
        alarm(BOUND_S / 2);
        wait_unseen();
    }
    leave_daemons();
    scn_ring(go);
    alarm(0);
    SCN_CHECK(waitpid(hung, &status, 0) == hung && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    scn_fine();
}

static void compute(void)
{
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000000 + (now.tv_nsec - begun.tv_nsec) / 1000 < LATE_US);
}

/* A handler runs in the middle of the wait, which goes on afterwards: the child is seen all the same. */
static volatile sig_atomic_t handled;

static void wait_for_one(int signal)
{
    handled += wait(NULL) > 0;
}

static void compute_in_handler(int signal)
{
    compute();
    handled++;
}

static void handled_meanwhile(const struct scn_case *self)
{
    const bool waits = self->kind != NULL;
    const int signal = waits ? SIGCHLD : SIGUSR1;
    const struct sigaction action = {.sa_handler = waits ? wait_for_one : compute_in_handler, .sa_flags = SA_RESTART};
    const pid_t me = getpid();
    int status;
    scn_needs_calls();
    have_thread();
    alarm(0);
    const pid_t hung = scn_fork();
    if (hung == 0) {
        alarm(BOUND_S);
        wait_unseen();
    }
    SCN_CHECK(sigaction(signal, &action, NULL) == 0);
    const pid_t brief = scn_fork();
    if (brief == 0) {
        usleep(20000); /* before the first look */
        if (!waits)
            kill(me, SIGUSR1);
        _exit(0);
    }
    SCN_CHECK(waitpid(hung, &status, 0) == hung && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM && handled == 1);
    scn_fine();
}

static void handle(int signal)
{
}

static void install(int signal, int flags)
{
    const struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}

static void with_handler(const struct scn_case *self)
{
    scn_needs_calls();
    have_thread();
    install(SIGUSR1, 0);
    const pid_t child = scn_fork();
    if (child == 0)
        wait_unseen();
    scn_reap(child);
}

/* A handler could end the wait of each: each is named, by a line of its own, as children without a handler are. */
static void two_with_handler(const struct scn_case *self)
{
    scn_needs_calls();
    have_thread();
    install(SIGUSR1, 0);
    alarm(0);
    for (int i = 0; i < 2; i++)
        if (scn_fork() == 0) {
            alarm(BOUND_S);
            wait_unseen();
        }
    for (int i = 0; i < 2; i++)
        SCN_CHECK(wait(NULL) > 0);
    FILE *log = fopen(getenv("FORKSAFE_LOG"), "r");
    char line[512];
    int named = 0;
    while (log != NULL && fgets(line, sizeof line, log) != NULL)
        named += strstr(line, "only a signal handler can end the child's wait in futex") != NULL;
    SCN_CHECK(named == (getenv("LD_PRELOAD") != NULL ? 2 : 0));
    scn_fine();
}

/* --- Children that do not hang ------------------------------------------------------------------------------------ */

static void *wake_late(void *unused)
{
    usleep(LATE_US);
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    return unused;
}

static void sleep_long(void) { usleep(LATE_US); }
static void poll_long(void) { poll(NULL, 0, LATE_US / 1000); }

static void wait_with_limit(void)
{
    const struct timespec limit = {.tv_nsec = LATE_US * 1000L};
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &limit, NULL, 0);
}

static void wait_for_thread(void)
{
    scn_start(wake_late, NULL);
    while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == 0)
        bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
}

static uint32_t *shared;

static void wait_for_parent(void)
{
    while (__atomic_load_n(shared, __ATOMIC_ACQUIRE) == 0)
        bare_futex(shared, FUTEX_WAIT, 0);
}

/* Sleeps again and again, never long. */
static void *wake_often(void *unused)
{
    for (int i = 0; i < LATE_US / 10000; i++) {
        usleep(10000);
        __atomic_fetch_add(&word, 1, __ATOMIC_RELEASE);
        syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    }
    return unused;
}

static void wait_often(void)
{
    const pthread_t thread = scn_start(wake_often, NULL);
    for (uint32_t seen = 0; seen < LATE_US / 10000; seen = __atomic_load_n(&word, __ATOMIC_ACQUIRE))
        bare_futex(&word, FUTEX_WAIT_PRIVATE, (int)seen);
    scn_join(thread);
}

static const struct busy {
    const char *name;
    void (*run)(void);
} busy[] = {
    {"computes", compute}, {"sleeps", sleep_long}, {"polls", poll_long}, {"has-limit", wait_with_limit},
    {"helped-by-thread", wait_for_thread}, {"helped-by-parent", wait_for_parent}, {"sleeps-often", wait_often},
};

static void *wake_shared(void *unused)
{
    usleep(LATE_US);
    __atomic_store_n(shared, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, shared, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return unused;
}

static void wait_for_busy(const struct scn_case *self)
{
    const struct busy *kind = self->kind;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(shared != MAP_FAILED);
    have_thread();
    const pthread_t thread = scn_start(wake_shared, NULL);
    SCN_IN_CHILD {
        kind->run();
    }
    scn_join(thread);
}

/* Where nobody vanished a hang is the program's own affair; so is that of another program. */
static void of_one_thread(const struct scn_case *self)
{
    if (getenv("EXECUTED") != NULL)
        wait_unseen();
    const pid_t child = scn_fork();
    if (child == 0)
        wait_unseen();
    scn_reap(child);
}

static void executes(const struct scn_case *self)
{
    int status;
    have_thread();
    const pid_t child = scn_fork();
    if (child == 0) {
        putenv("EXECUTED=1");
        execl("/proc/self/exe", "children", "of-one-thread", (char *)NULL);
        _exit(1);
    }
    const pid_t killer = fork();
    if (killer == 0) {
        usleep(LATE_US);
        kill(child, SIGTERM);
        _exit(0);
    }
    SCN_CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    SCN_CHECK(waitpid(killer, NULL, 0) == killer);
    scn_fine();
}

/* --- The parent's wait, as it would be bare ----------------------------------------------------------------------- */

enum { RESTARTS = 1, BOTH = 2, MOST = 4 };

/* A signal comes after several looks. */
static void interrupted(const struct scn_case *self)
{
    const pid_t me = getpid();
    const bool restarts = (self->number & RESTARTS) != 0;
    have_thread();
    install(SIGUSR1, restarts ? SA_RESTART : 0);
    if ((self->number & BOTH) != 0)
        install(SIGUSR2, restarts ? 0 : SA_RESTART);
    const pid_t child = scn_fork();
    if (child == 0) {
        usleep(LATE_US);
        kill(me, SIGUSR1);
        usleep(LATE_US / 4);
        scn_fine();
    }
    errno = EDOM;
    const pid_t got = waitpid(child, NULL, 0);
    if (restarts)
        SCN_CHECK(got == child && errno == EDOM);
    else
        SCN_CHECK(got == -1 && errno == EINTR);
    if (!restarts)
        scn_reap(child);
    scn_fine();
}

static void *wait_there(void *child)
{
    waitpid(*(pid_t *)child, NULL, 0);
    return child;
}

/* Cancelled after several looks; the timer is gone with it. */
static void cancelled(const struct scn_case *self)
{
    void *result;
    have_thread();
    static pid_t child;
    child = scn_fork();
    if (child == 0) {
        usleep(LATE_US * 2);
        scn_fine();
    }
    const pthread_t thread = scn_start(wait_there, &child);
    usleep(LATE_US);
    SCN_IS(pthread_cancel(thread), 0);
    SCN_IS(pthread_join(thread, &result), 0);
    SCN_CHECK(result == PTHREAD_CANCELED);
    scn_reap(child);
}

/* Forty threads, each for a child of its own, which is more than there are timers for. */
static void *fork_and_wait(void *unused)
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        usleep(LATE_US);
        _exit(7);
    }
    SCN_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return unused;
}

static void many(const struct scn_case *self)
{
    pthread_t threads[40];
    for (int i = 0; i < 40; i++)
        threads[i] = scn_start(fork_and_wait, NULL);
    for (int i = 0; i < 40; i++)
        scn_join(threads[i]);
    scn_fine();
}

/* What sleeps after a wait that has seen several looks is not woken by a late one. */
static void undisturbed(const struct scn_case *self)
{
    have_thread();
    SCN_IN_CHILD {
        usleep(LATE_US);
    }
    const struct timespec span = {.tv_nsec = LATE_US * 1000L};
    SCN_CHECK(nanosleep(&span, NULL) == 0);
    scn_fine();
}

void scn_cases(void)
{
    static const char *const modes[] = {"repair", "report", "abort"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        /* musl's child forgets what the parent had asked for, and reads by itself. */
        for (int mode = kinds[i].before == read_ahead && !scn_glibc_since(0) ? 3 : 0; mode < 3; mode++) {
            static const char *const settings[] = {LIMIT, LIMIT " FORKSAFE_MODE=report", LIMIT " FORKSAFE_MODE=abort"};
            scn_add((struct scn_case){.bare = "hangs",
                                      .preloaded = mode == 2 ? "dies SIGABRT" : "hangs",
                                      .says = kinds[i].says,
                                      .env = settings[mode],
                                      .run = hang,
                                      .kind = &kinds[i]},
                    "%s-%s", kinds[i].name, modes[mode]);
        }
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        scn_add((struct scn_case){.bare = "fine", .says = HANGS, .env = LIMIT, .run = wait_by, .kind = &ways[i]},
                "by-%s", ways[i].name);
    scn_add((struct scn_case){.bare = "fine", .says = "child hangs in futex .*for.* ;; never:went on", .env = LIMIT,
                              .run = several},
            "several");
    scn_add((struct scn_case){.bare = "fine", .says = HANGS, .env = LIMIT, .run = short_waits}, "short-waits");
    scn_add((struct scn_case){.bare = "fine", .says = HANGS, .env = LIMIT, .run = by_forking}, "by-forking");
    scn_add((struct scn_case){.bare = "fine", .says = HANGS, .env = LIMIT, .run = crowded}, "crowded");
    scn_add((struct scn_case){.bare = "fine", .says = HANGS, .env = LIMIT, .run = after_daemons}, "after-daemons");
    scn_add((struct scn_case){.bare = "fine", .says = HANGS, .env = LIMIT, .run = handled_meanwhile,
                              .kind = wait_for_one},
            "handler-waits");
    scn_add((struct scn_case){.bare = "fine", .says = HANGS, .env = LIMIT, .run = handled_meanwhile},
            "handler-computes");
    scn_add(
        (struct scn_case){.bare = "hangs",
                          .preloaded = "hangs",
                          .says = "once:only a signal handler can end the child's wait in futex ;; never:child hangs",
                          .env = LIMIT " FORKSAFE_MODE=abort",
                          .run = with_handler},
        "with-handler");
    scn_add((struct scn_case){.bare = "fine", .env = LIMIT " FORKSAFE_LOG=@TMP@/log", .run = two_with_handler},
            "two-with-handler");
    for (size_t i = 0; i < sizeof busy / sizeof *busy; i++)
        scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT " FORKSAFE_MODE=abort",
                                  .run = wait_for_busy, .kind = &busy[i]},
                "%s", busy[i].name);
    scn_add(
        (struct scn_case){
            .bare = "hangs", .preloaded = "hangs", .says = SCN_SILENT, .env = LIMIT, .run = of_one_thread},
        "of-one-thread");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT " FORKSAFE_MODE=abort", .run = executes},
            "executes");
    for (long how = 0; how < MOST; how++)
        scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = interrupted, .number = how},
                "interrupted%s%s", how & RESTARTS ? "-restarts" : "", how & BOTH ? "-both" : "");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = cancelled}, "cancelled");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = many}, "many");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = undisturbed}, "undisturbed");
    scn_add((struct scn_case){.bare = "hangs", .preloaded = "hangs", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=0",
                              .run = hang, .kind = &kinds[0]},
            "switched-off");
}

#else
void scn_cases(void) {}
#endif
