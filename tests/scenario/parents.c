/*
 * Parents that wait for what a child sends, for a descriptor or for a signal, and not for the child's end: they, too,
 * say that the child hangs. And such waits, in a process that has children, are as bare: what they return, when, which
 * signals interrupt them.
 */
#include "config.h"

#include "bare_futex.h"
#include "scenario.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

/* All cases run with a limit of 150 or 20 ms, and what comes late comes after several looks. */
#define LIMIT "FORKSAFE_HANG_MS=150"
enum { LATE_US = 500000, BOUND_S = 2 };

#ifdef HAVE_BARE_FUTEX

static int channel[2]; /* the child writes to the second */
static sem_t *posted;  /* what the child posts */
static char bytes[4];

static void handle(int signal) {}

static void install(int signal, int flags)
{
    const struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
    SCN_CHECK(sigaction(signal, &action, NULL) == 0);
}

/* Without libc, because a parent that sleeps there would look at its children, and a wait of another thread never. */
static void let_pass(long us)
{
    long left[] = {us / 1000000, us % 1000000 * 1000}; /* a timespec, which the kernel brings up to date */
    while (syscall(SYS_ppoll, NULL, 0, left, NULL, 8) != 0)
        SCN_CHECK(errno == EINTR);
}

static sigset_t only(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

/* --- Ways to wait: each returns above 0 when something has come, as the channel's end has when the child has ended  */

static int by_read(const sigset_t *mask) { return 1 + (int)read(channel[0], bytes, 1); }
static int by_recv(const sigset_t *mask) { return 1 + (int)recv(channel[0], bytes, 1, 0); }
static int by_recvfrom(const sigset_t *mask) { return 1 + (int)recvfrom(channel[0], bytes, 1, 0, NULL, NULL); }

static int by_recvmsg(const sigset_t *mask)
{
    struct iovec into = {.iov_base = bytes, .iov_len = 1};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1};
    return 1 + (int)recvmsg(channel[0], &message, 0);
}

/* For a wait that must end when the channel's does: reads there, and connects to `listener` if there is one. */
static int listener = -1;

static void *await_end(void *unused)
{
    struct sockaddr_un to;
    socklen_t size = sizeof to;
    const sigset_t waiters = only(SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &waiters, NULL);
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);
    const long got = syscall(SYS_read, channel[0], bytes, 1);
    if (listener >= 0)
        SCN_CHECK(getsockname(listener, (struct sockaddr *)&to, &size) == 0 &&
                  connect(client, (struct sockaddr *)&to, size) == 0);
    return (void *)got;
}

static int accepted(int got)
{
    return got < 0 ? got : bytes[0] == 'x' ? 2 : 1;
}

static void listen_there(void)
{
    const struct sockaddr_un any = {.sun_family = AF_UNIX};
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    SCN_CHECK(bind(listener, (const struct sockaddr *)&any, sizeof any.sun_family) == 0 && listen(listener, 1) == 0);
    scn_start(await_end, NULL);
}

static int by_accept(const sigset_t *mask)
{
    listen_there();
    return accepted(accept(listener, NULL, NULL));
}

static int by_accept4(const sigset_t *mask)
{
    listen_there();
    return accepted(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static int by_join(const sigset_t *mask)
{
    void *got;
    SCN_CHECK(pthread_join(scn_start(await_end, NULL), &got) == 0);
    return 1 + (int)(intptr_t)got;
}

static int by_poll(const sigset_t *mask)
{
    struct pollfd entry = {.fd = channel[0], .events = POLLIN};
    return poll(&entry, 1, -1);
}

static int by_ppoll(const sigset_t *mask)
{
    struct pollfd entry = {.fd = channel[0], .events = POLLIN};
    return ppoll(&entry, 1, NULL, mask);
}

#ifdef __GLIBC__
/* What FORTIFY_SOURCE makes of them. */
ssize_t __read_chk(int from, void *to, size_t count, size_t room);
ssize_t __recv_chk(int from, void *to, size_t count, size_t room, int flags);
ssize_t __recvfrom_chk(int from, void *to, size_t count, size_t room, int flags, struct sockaddr *name,
                       socklen_t *size);
int __poll_chk(struct pollfd *entries, nfds_t count, int limit_ms, size_t room);
int __ppoll_chk(struct pollfd *entries, nfds_t count, const struct timespec *limit, const sigset_t *mask, size_t room);

static int by_read_chk(const sigset_t *mask) { return 1 + (int)__read_chk(channel[0], bytes, 1, 1); }
static int by_recv_chk(const sigset_t *mask) { return 1 + (int)__recv_chk(channel[0], bytes, 1, 1, 0); }

static int by_recvfrom_chk(const sigset_t *mask)
{
    return 1 + (int)__recvfrom_chk(channel[0], bytes, 1, 1, 0, NULL, NULL);
}

static int by_poll_chk(const sigset_t *mask)
{
    struct pollfd entry = {.fd = channel[0], .events = POLLIN};
    return __poll_chk(&entry, 1, -1, sizeof entry);
}

static int by_ppoll_chk(const sigset_t *mask)
{
    struct pollfd entry = {.fd = channel[0], .events = POLLIN};
    return __ppoll_chk(&entry, 1, NULL, mask, sizeof entry);
}
#endif

/* A loop of short waits. */
static int by_asking(const sigset_t *mask)
{
    struct pollfd entry = {.fd = channel[0], .events = POLLIN};
    int got;
    while ((got = poll(&entry, 1, 20)) == 0)
        ;
    return got;
}

static fd_set asked(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(channel[0], &set);
    return set;
}

static int by_select(const sigset_t *mask)
{
    fd_set set = asked();
    const int got = select(channel[0] + 1, &set, NULL, NULL, NULL);
    SCN_CHECK(got < 0 || FD_ISSET(channel[0], &set));
    return got;
}

static int by_pselect(const sigset_t *mask)
{
    fd_set set = asked();
    const int got = pselect(channel[0] + 1, &set, NULL, NULL, NULL, mask);
    SCN_CHECK(got < 0 || FD_ISSET(channel[0], &set));
    return got;
}

static int epoll(void)
{
    static int instance = -1;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};
    if (instance < 0) {
        instance = epoll_create1(EPOLL_CLOEXEC);
        SCN_CHECK(epoll_ctl(instance, EPOLL_CTL_ADD, channel[0], &event) == 0);
    }
    return instance;
}

static int by_epoll(const sigset_t *mask)
{
    struct epoll_event event;
    const int got = epoll_wait(epoll(), &event, 1, -1);
    SCN_CHECK(got < 0 || event.data.u32 == 7);
    return got;
}

static int by_epoll_pwait(const sigset_t *mask)
{
    struct epoll_event event;
    return epoll_pwait(epoll(), &event, 1, -1, mask);
}

#ifdef HAVE_EPOLL_PWAIT2
static int by_epoll_pwait2(const sigset_t *mask)
{
    struct epoll_event event;
    return epoll_pwait2(epoll(), &event, 1, NULL, mask);
}
#endif

/* With limits that are longer than the test: ms, and s. */
enum { LIMIT_MS = 3600000, LIMIT_S = 3600 };

static int by_limited_poll(const sigset_t *mask)
{
    struct pollfd entry = {.fd = channel[0], .events = POLLIN};
    return poll(&entry, 1, LIMIT_MS);
}

static int by_limited_epoll(const sigset_t *mask)
{
    struct epoll_event event;
    return epoll_wait(epoll(), &event, 1, LIMIT_MS);
}

static int by_limited_select(const sigset_t *mask)
{
    struct timeval limit = {.tv_sec = LIMIT_S};
    fd_set set = asked();
    const int got = select(channel[0] + 1, &set, NULL, NULL, &limit);
#ifdef __GLIBC__ /* says what is left, as the kernel does */
    SCN_CHECK(limit.tv_sec < LIMIT_S && limit.tv_sec > LIMIT_S - 60 && limit.tv_usec < 1000000);
#endif
    return got;
}

static int by_limited_pselect(const sigset_t *mask)
{
    const struct timespec limit = {.tv_sec = LIMIT_S};
    fd_set set = asked();
    return pselect(channel[0] + 1, &set, NULL, NULL, &limit, mask);
}

static void slept(const struct timespec *left)
{
    SCN_CHECK(left->tv_sec < LIMIT_S && left->tv_sec > LIMIT_S - 60);
}

static int by_nanosleep(const sigset_t *mask)
{
    const struct timespec span = {.tv_sec = LIMIT_S};
    struct timespec left;
    const int got = nanosleep(&span, &left);
    slept(&left);
    return got;
}

static int by_clock(const sigset_t *mask)
{
    const struct timespec span = {.tv_sec = LIMIT_S};
    struct timespec left;
    const int kept = errno, error = clock_nanosleep(CLOCK_MONOTONIC, 0, &span, &left);
    SCN_CHECK(errno == kept);
    slept(&left);
    errno = error;
    return error != 0 ? -1 : 0;
}

/* As Python's time.sleep does. */
static int by_clock_until(const sigset_t *mask)
{
    struct timespec until, left = {.tv_sec = -1};
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LIMIT_S;
    const int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, &left);
    SCN_CHECK(left.tv_sec == -1);
    errno = error;
    return error != 0 ? -1 : 0;
}

static int by_sleep(const sigset_t *mask)
{
    const struct timespec left = {.tv_sec = (time_t)sleep(LIMIT_S)};
    slept(&left);
    errno = EINTR; /* of which the manual says nothing */
    return -1;
}

static int by_usleep(const sigset_t *mask) { return usleep(LIMIT_S * 1000000U); }

/* Many short ones, of which a handler ends the last. */
static atomic_bool ended;
static void note_end(int signal) { atomic_store(&ended, true); }

static int by_short_sleeps(const sigset_t *mask)
{
    const struct sigaction action = {.sa_handler = note_end, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    while (!atomic_load(&ended))
        usleep(10000);
    errno = EINTR;
    return -1;
}

static int by_semaphore(const sigset_t *mask) { return 1 + sem_wait(posted); }
static int by_sigsuspend(const sigset_t *mask) { return sigsuspend(mask); }
static int by_pause(const sigset_t *mask) { return pause(); }

static int by_sigwait(const sigset_t *mask)
{
    const sigset_t set = only(SIGCHLD);
    int number;
    return sigwait(&set, &number) == 0 && number == SIGCHLD ? 1 : -1;
}

static int by_sigwaitinfo(const sigset_t *mask)
{
    const sigset_t set = only(SIGCHLD);
    siginfo_t info;
    return sigwaitinfo(&set, &info) == SIGCHLD && info.si_code == CLD_KILLED ? 1 : -1;
}

/* Waits for the child's end, and then reads what came. */
static int by_waitid(const sigset_t *mask)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0 ? by_read(mask) : 0;
}

enum {
    SOCKET = 1,    /* waits for a socket, not a pipe */
    RESTARTS = 2,  /* goes on after a handler with SA_RESTART */
    MASKS = 4,     /* has a mask of its own */
    HANDLED = 8,   /* ends when a handler has run, and only then */
    TAKES = 16,    /* takes a signal */
    POSTED = 32,   /* waits for a semaphore */
    LASTS = 128,   /* goes on after any handler */
    ASKS = 64,     /* has limits, so that it need not be looked at */
    ENDS = 256,    /* a handler ends it, although it takes a signal */
};

static const struct way {
    const char *name;
    int (*wait)(const sigset_t *mask);
    int is;
    long moment_us; /* when a look that is due comes, or a little later; 0: not tried */
} ways[] = {
    {"read", by_read, RESTARTS, 160},
    {"read-socket", by_read, RESTARTS | SOCKET},
    {"recv", by_recv, RESTARTS | SOCKET},
    {"recvfrom", by_recvfrom, RESTARTS | SOCKET},
    {"recvmsg", by_recvmsg, RESTARTS | SOCKET, 160},
    {"accept", by_accept, RESTARTS},
    {"accept4", by_accept4, RESTARTS},
    {"waitid", by_waitid, RESTARTS, 160},
    {"join", by_join, RESTARTS | LASTS},
    {"semaphore", by_semaphore, RESTARTS | POSTED, 160},
    {"poll", by_poll, 0, 120},
    {"ppoll", by_ppoll, MASKS},
    {"asking", by_asking, ASKS},
    {"limited-poll", by_limited_poll, 0},
    {"limited-select", by_limited_select, 0},
    {"limited-pselect", by_limited_pselect, MASKS},
    {"limited-epoll", by_limited_epoll, 0},
    {"sleep", by_sleep, HANDLED},
    {"usleep", by_usleep, HANDLED},
    {"nanosleep", by_nanosleep, HANDLED},
    {"clock_nanosleep", by_clock, HANDLED},
    {"clock_nanosleep-until", by_clock_until, HANDLED},
    {"short-sleeps", by_short_sleeps, HANDLED | ASKS},
    {"select", by_select, 0},
    {"pselect", by_pselect, MASKS},
    {"epoll_wait", by_epoll, 0, 120},
    {"epoll_pwait", by_epoll_pwait, MASKS},
#ifdef HAVE_EPOLL_PWAIT2
    {"epoll_pwait2", by_epoll_pwait2, MASKS},
#endif
    {"pause", by_pause, HANDLED},
    {"sigsuspend", by_sigsuspend, MASKS | HANDLED},
    {"sigwait", by_sigwait, TAKES},
#ifdef __GLIBC__
    {"__read_chk", by_read_chk, RESTARTS},
    {"__recv_chk", by_recv_chk, RESTARTS | SOCKET},
    {"__recvfrom_chk", by_recvfrom_chk, RESTARTS | SOCKET},
    {"__poll_chk", by_poll_chk, 0},
    {"__ppoll_chk", by_ppoll_chk, MASKS},
    {"sigwaitinfo", by_sigwaitinfo, TAKES | ENDS, 140},
#else /* musl waits again after a handler */
    {"sigwaitinfo", by_sigwaitinfo, TAKES, 0},
#endif
};

static void fork_pausing(pid_t *children, int count)
{
    for (int i = 0; i < count; i++)
        if ((children[i] = scn_fork()) == 0)
            for (;;)
                pause();
}

static void kill_pausing(const pid_t *children, int count)
{
    for (int i = 0; i < count; i++)
        SCN_CHECK(kill(children[i], SIGKILL) == 0 && waitpid(children[i], NULL, 0) == children[i]);
}

/* A thread that a fork leaves behind, so that the parent looks at the child. */
static void prepare(const struct way *way)
{
    static int never;
    never = scn_bell();
    scn_start(scn_stay, &never);
    SCN_CHECK((way->is & SOCKET) != 0 ? socketpair(AF_UNIX, SOCK_STREAM, 0, channel) == 0 : pipe(channel) == 0);
    posted = mmap(NULL, sizeof *posted, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(posted != MAP_FAILED && sem_init(posted, 1, 0) == 0);
    if ((way->is & TAKES) != 0) {
        const sigset_t set = only(SIGCHLD);
        SCN_CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    } else if ((way->is & HANDLED) != 0) {
        install(SIGCHLD, SA_RESTART);
    }
}

/* In the second thread SIGUSR1 is blocked: a look, too, lets a signal come that another thread would take. */
static void prepare_for_signals(const struct way *way)
{
    const sigset_t waiters = only(SIGUSR1);
    SCN_CHECK(sigprocmask(SIG_BLOCK, &waiters, NULL) == 0);
    prepare(way);
    SCN_CHECK(sigprocmask(SIG_UNBLOCK, &waiters, NULL) == 0);
}

static bool is_as_it_was(const sigset_t *before)
{
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    for (int signal = 1; signal < NSIG; signal++)
        if (sigismember(&now, signal) != sigismember(before, signal))
            return false;
    return true;
}

/* --- The child hangs: each way must see it end by its own alarm --------------------------------------------------- */

static void *post_at_end(void *unused)
{
    syscall(SYS_read, channel[0], bytes, 1);
    sem_post(posted);
    return unused;
}

static void hung(const struct scn_case *self)
{
    const struct way *way = self->kind;
    static uint32_t word;
    sigset_t before;
    int status;
    scn_needs_calls();
    prepare(way);
    alarm(0); /* the child's bounds this */
    const pid_t child = scn_fork();
    if (child == 0) {
        signal(SIGCHLD, SIG_DFL);
        alarm(BOUND_S);
        for (;;)
            bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
    }
    close(channel[1]);
    if ((way->is & POSTED) != 0)
        scn_start(post_at_end, NULL);
    sigprocmask(SIG_BLOCK, NULL, &before);
    errno = EDOM;
    const int got = way->wait(&before);
    if ((way->is & HANDLED) != 0)
        SCN_CHECK(got == -1 && errno == EINTR);
    else
        SCN_CHECK(got == 1 && (errno == EDOM || (way->is & POSTED) != 0)); /* musl's sem_wait sets errno */
    SCN_CHECK(is_as_it_was(&before));
    SCN_CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    scn_fine();
}

/* --- A signal comes after several looks --------------------------------------------------------------------------- */

static int has_run;
static void tell(int signal) { scn_ring(has_run); }

static void interrupted(const struct scn_case *self)
{
    enum { STEPS = 4 };
    const struct way *way = self->kind;
    const bool goes_on = (way->is & LASTS) != 0 || (self->number == SA_RESTART && (way->is & RESTARTS) != 0);
    const pid_t me = getpid();
    const struct sigaction action = {.sa_handler = tell, .sa_flags = (int)self->number};
    sigset_t before;
    has_run = scn_bell();
    prepare_for_signals(way);
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sigprocmask(SIG_BLOCK, NULL, &before);
    const pid_t child = scn_fork();
    if (child == 0) {
        for (int i = 0; i < STEPS; i++) {
            usleep(LATE_US / STEPS);
            scn_await_asleep(me, NULL); /* on a busy machine it may not wait yet */
        }
        kill(me, SIGUSR1);
        scn_await(has_run); /* what has come meanwhile would end the wait before the signal does */
        sem_post(posted);
        SCN_CHECK(write(channel[1], "x", 1) == 1);
        scn_fine();
    }
    errno = EDOM;
    const int got = way->wait(&before), error = errno;
    SCN_CHECK(goes_on || (got <= 0 && error == EINTR));
    if (goes_on)
        SCN_CHECK((way->is & POSTED) != 0 ? got == 1 : got == 2 && bytes[0] == 'x');
    SCN_CHECK(is_as_it_was(&before));
    signal(SIGCHLD, SIG_DFL);
    scn_reap(child);
    scn_fine();
}

/* Many signals, at any moment of a slice: each interrupts the wait. The wait alone lets them come. */
static void often(const struct scn_case *self)
{
    enum { SIGNALS = 40, STEP_US = 1100 };
    const struct way *way = self->kind;
    const sigset_t blocked = only(SIGUSR1);
    const pid_t me = getpid();
    static int again;
    sigset_t before;
    SCN_CHECK(sigprocmask(SIG_BLOCK, &blocked, &before) == 0); /* in the other thread, too */
    prepare(way);
    signal(SIGCHLD, SIG_DFL);
    again = scn_bell();
    install(SIGUSR1, SA_RESTART);
    const pid_t child = scn_fork();
    for (int i = 0; child == 0 && i < SIGNALS; i++) {
        scn_await(again);
        usleep((useconds_t)(i * STEP_US));
        kill(me, SIGUSR1);
    }
    if (child == 0)
        scn_fine();
    for (int i = 0; i < SIGNALS; i++) {
        scn_ring(again);
        SCN_CHECK(way->wait(&before) == -1 && errno == EINTR);
    }
    scn_reap(child);
    scn_fine();
}

/* A select that a signal ends leaves its sets as they are, at any moment of a slice. */
static void keeps_sets(const struct scn_case *self)
{
    enum { SIGNALS = 4000 };
    static const struct way pipe_of = {.name = "pipe"};
    const pid_t me = getpid();
    fd_set in;
    int got;
    prepare_for_signals(&pipe_of);
    signal(SIGCHLD, SIG_DFL);
    install(SIGUSR1, 0);
    const pid_t child = scn_fork();
    if (child == 0) {
        for (int i = 0; i < SIGNALS; i++) {
            kill(me, SIGUSR1);
            usleep(300);
        }
        SCN_CHECK(write(channel[1], "x", 1) == 1);
        scn_fine();
    }
    do {
        FD_ZERO(&in);
        FD_SET(channel[0], &in);
        got = select(channel[0] + 1, &in, NULL, NULL, NULL);
        SCN_CHECK((got == 1 || (got == -1 && errno == EINTR)) && FD_ISSET(channel[0], &in));
    } while (got != 1);
    scn_reap(child);
    scn_fine();
}

/* Whatever lies on the stack, a parent that waits for a signal sleeps. */
static void fill_stack(void)
{
    volatile uint64_t words[2000];
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        words[i] = 1;
}

static void sleeps(const struct scn_case *self)
{
    enum { LOOKS = 10 };
    static const struct way way = {.is = TAKES};
    const sigset_t set = only(SIGUSR1);
    const pid_t me = getpid();
    int number, asleep = 0;
    SCN_CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && kill(me, SIGUSR1) == 0 && sigwait(&set, &number) == 0);
    prepare(&way);
    signal(SIGCHLD, SIG_DFL);
    const pid_t child = scn_fork();
    if (child == 0) {
        char line[512], name[32];
        snprintf(name, sizeof name, "/proc/%d/stat", (int)me);
        for (int i = 0; i < LOOKS; i++) {
            usleep(LATE_US / LOOKS);
            FILE *file = fopen(name, "r");
            SCN_CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
            fclose(file);
            asleep += strstr(line, ") S ") != NULL;
        }
        kill(me, SIGUSR1);
        SCN_CHECK(asleep > LOOKS / 2);
        scn_fine();
    }
    fill_stack();
    SCN_CHECK(sigwait(&set, &number) == 0 && number == SIGUSR1);
    scn_reap(child);
    scn_fine();
}

/* A thread that polls does not ask of each thread that waits whether it is that one, which took long beside many. */
static void *read_for_ever(void *unused)
{
    for (;;)
        read(channel[0], bytes, 1);
    return unused;
}

/* From now on the kernel does with that system call of the thread what `action` says. Returns what seccomp() does. */
static long filter_call(uint32_t number, uint32_t action, unsigned flags)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    SCN_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static void polls_beside_readers(const struct scn_case *self)
{
    static const struct way way;
    prepare(&way);
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            pause();
    scn_start(read_for_ever, NULL);
    scn_start(read_for_ever, NULL);
    usleep(LATE_US / 4);
    SCN_CHECK(filter_call(SYS_gettid, SECCOMP_RET_TRAP, 0) == 0);
    for (int i = 0; i < 10; i++)
        SCN_CHECK(poll(NULL, 0, 0) == 0);
    kill(child, SIGKILL);
    scn_fine();
}

/* Of many threads that wait for one epoll an event wakes one. */
static sem_t taken;

static void *take_events(void *unused)
{
    struct epoll_event event;
    uint64_t value;
    for (;;)
        if (epoll_wait(epoll(), &event, 1, -1) == 1 && read(channel[0], &value, sizeof value) == sizeof value)
            sem_post(&taken);
    return unused;
}

static void share_epoll(const struct scn_case *self)
{
    enum { THREADS = 16, EVENTS = 500 };
    static const struct way way;
    const uint64_t one = 1;
    struct rusage before, after;
    prepare(&way);
    signal(SIGCHLD, SIG_DFL);
    channel[0] = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
    SCN_CHECK(channel[0] >= 0 && epoll() >= 0 && sem_init(&taken, 0, 0) == 0);
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            pause();
    for (int i = 0; i < THREADS; i++)
        scn_start(take_events, NULL);
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < EVENTS; i++)
        SCN_CHECK(write(channel[0], &one, sizeof one) == sizeof one && sem_wait(&taken) == 0);
    getrusage(RUSAGE_SELF, &after);
    SCN_CHECK(after.ru_nvcsw - before.ru_nvcsw < EVENTS * THREADS / 2);
    SCN_CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    scn_fine();
}

static void *wait_unseen(void *unused)
{
    static uint32_t word;
    for (;;)
        bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
    return unused;
}

/* A signal after whole seconds, as that of alarm(), does not come while the parent looks. */
static void read_until_signal(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    const struct itimerspec times = {.it_value = {.tv_sec = 2}};
    timer_t timer;
    int ends[2];
    SCN_CHECK(pipe(ends) == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    install(SIGUSR1, 0);
    scn_start(wait_unseen, NULL);
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            pause();
    SCN_CHECK(timer_settime(timer, 0, &times, NULL) == 0);
    SCN_CHECK(read(ends[0], bytes, 1) == -1 && errno == EINTR);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    scn_fine();
}

static void whole_seconds(const struct scn_case *self)
{
    enum { PARENTS = 32 };
    pid_t parents[PARENTS];
    for (int i = 0; i < PARENTS; i++) {
        parents[i] = scn_fork();
        if (parents[i] == 0)
            read_until_signal();
    }
    for (int i = 0; i < PARENTS; i++)
        scn_reap(parents[i]);
}

/*
 * A signal comes at the very moment at which the parent looks. A look is due when each wait begins, and comes about
 * `number` us later. The second signal ends a wait that the first one did not end.
 */
static atomic_int handled;
static atomic_bool is_waiting;

static void count(int signal)
{
    if (atomic_load(&is_waiting))
        atomic_fetch_add(&handled, 1);
}

static void moments(const struct scn_case *self)
{
    enum { WAITS = 60, FEW = 10, BEFORE_US = 100, APART_US = 11, PAST_US = 25000, CHILDREN = 4 };
    const struct way *way = self->kind;
    const struct sigaction action = {.sa_handler = count};
    const struct itimerval never = {{0, 0}, {0, 0}};
    const sigset_t alarms = only(SIGALRM);
    pid_t children[CHILDREN];
    int missed = 0;
    sigprocmask(SIG_BLOCK, &alarms, NULL);
    prepare(way);
    sigprocmask(SIG_UNBLOCK, &alarms, NULL); /* only here, and not in the other thread */
    fork_pausing(children, CHILDREN);
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < WAITS; i++) {
        const struct itimerval timer = {.it_value.tv_usec = self->number - BEFORE_US + i * APART_US,
                                        .it_interval.tv_usec = 200000};
        let_pass(PAST_US);
        atomic_store(&handled, 0);
        atomic_store(&is_waiting, true);
        setitimer(ITIMER_REAL, &timer, NULL);
        SCN_CHECK(way->wait(NULL) <= 0 && errno == EINTR);
        atomic_store(&is_waiting, false);
        setitimer(ITIMER_REAL, &never, NULL);
        missed += atomic_load(&handled) > 1;
    }
    kill_pausing(children, CHILDREN);
    SCN_CHECK(missed * FEW <= WAITS); /* the thread may be stopped just before it waits */
    scn_fine();
}

/* Signals that come at any moment of a sleep, often just when a look is due, end it. */
static void ends_sleeps(const struct scn_case *self)
{
    enum { SLEEPS = 400, FIRST_US = 1500, APART_US = 37, SOME = 25 };
    static const struct way way;
    const struct sigaction action = {.sa_handler = count};
    const struct itimerval never = {{0, 0}, {0, 0}};
    const struct timespec span = {.tv_nsec = 900000000};
    const sigset_t alarms = only(SIGALRM);
    int missed = 0;
    sigprocmask(SIG_BLOCK, &alarms, NULL);
    prepare(&way);
    sigprocmask(SIG_UNBLOCK, &alarms, NULL); /* only here, and not in the other thread */
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            pause();
    sigaction(SIGALRM, &action, NULL);
    atomic_store(&is_waiting, true);
    for (int i = 0; i < SLEEPS; i++) {
        const struct itimerval timer = {.it_value.tv_usec = FIRST_US + i * APART_US, .it_interval.tv_usec = 200000};
        atomic_store(&handled, 0);
        setitimer(ITIMER_REAL, &timer, NULL);
        SCN_CHECK(nanosleep(&span, NULL) == -1 && errno == EINTR);
        setitimer(ITIMER_REAL, &never, NULL);
        missed += atomic_load(&handled) > 1;
    }
    kill(child, SIGKILL);
    SCN_CHECK(missed * SOME <= SLEEPS); /* the thread may be stopped just before it sleeps */
    scn_fine();
}

static void note_mask(void *before)
{
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    SCN_CHECK(sigismember(&now, SIGUSR2) == sigismember((const sigset_t *)before, SIGUSR2));
}

static void *wait_there(void *way)
{
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    pthread_cleanup_push(note_mask, &before);
    ((const struct way *)way)->wait(&before);
    pthread_cleanup_pop(1);
    return NULL;
}

static void cancelled(const struct scn_case *self)
{
    void *result;
    prepare(self->kind);
    signal(SIGCHLD, SIG_DFL);
    const pid_t child = scn_fork();
    if (child == 0) {
        usleep(LATE_US * 2);
        scn_fine();
    }
    const pthread_t thread = scn_start(wait_there, (void *)self->kind);
    let_pass(LATE_US);
    SCN_IS(pthread_cancel(thread), 0);
    SCN_IS(pthread_join(thread, &result), 0);
    SCN_CHECK(result == PTHREAD_CANCELED);
    scn_reap(child);
    scn_fine();
}

/* A cancellation ends the thread also while it looks, in between two slices: the wait does not return. */
static void *wait_for_cancellation(void *way)
{
    ((const struct way *)way)->wait(NULL);
    return NULL;
}

static void cancelled_often(const struct scn_case *self)
{
    enum { THREADS = 300, SHORTEST_US = 1000, STEP_US = 17, CHILDREN = 20 };
    pid_t children[CHILDREN];
    void *result;
    prepare(self->kind);
    fork_pausing(children, CHILDREN);
    for (int i = 0; i < THREADS; i++) {
        const pthread_t thread = scn_start(wait_for_cancellation, (void *)self->kind);
        let_pass(SHORTEST_US + i * STEP_US);
        SCN_IS(pthread_cancel(thread), 0);
        SCN_IS(pthread_join(thread, &result), 0);
        SCN_CHECK(result == PTHREAD_CANCELED);
    }
    kill_pausing(children, CHILDREN);
    scn_fine();
}

/* What is left of a sleep is so without the time that the handler takes, which ended it. */
static void take_time(int signal)
{
    const struct timespec until = scn_in_ms(CLOCK_MONOTONIC, 2000);
    struct timespec now;
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec < until.tv_sec);
}

static void slow_handler(const struct scn_case *self)
{
#ifdef __GLIBC__
    enum { SLACK_S = 1 };
#else /* musl's select does not say what is left */
    enum { SLACK_S = 60 };
#endif
    static const struct way way;
    const struct sigaction action = {.sa_handler = take_time, .sa_flags = SA_RESTART};
    const struct itimerval timer = {.it_value.tv_usec = 50000};
    const long long longest = sizeof(time_t) == sizeof(int) ? LIMIT_S : 1LL << 40; /* 34,000 years */
    struct timespec left = {.tv_sec = LIMIT_S};
    struct timeval limit = {.tv_sec = (time_t)longest};
    sigset_t alarms = only(SIGALRM), before;
    sigprocmask(SIG_BLOCK, &alarms, &before); /* in the other thread */
    prepare(&way);
    sigprocmask(SIG_SETMASK, &before, NULL);
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            pause();
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    if (self->number != 0)
        SCN_CHECK(select(0, NULL, NULL, NULL, &limit) == -1 && errno == EINTR && limit.tv_sec >= longest - 1);
    else
        SCN_CHECK(nanosleep(&left, &left) == -1 && errno == EINTR && left.tv_sec >= LIMIT_S - SLACK_S);
    kill(child, SIGKILL);
    scn_fine();
}

/* As bare: the call says that it cannot read, or write, a set or a time. */
static void bad_pointers(const struct scn_case *self)
{
    static const struct way way;
    long *only_read = mmap(NULL, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigset_t alarms = only(SIGALRM), before;
    sigprocmask(SIG_BLOCK, &alarms, &before); /* in the other thread */
    prepare(&way);
    sigprocmask(SIG_SETMASK, &before, NULL);
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            pause();
    SCN_CHECK(only_read != MAP_FAILED && write(channel[1], "x", 1) == 1);
    fd_set set = asked();
    SCN_CHECK(select(channel[0] + 1, &set, (fd_set *)only_read, NULL, NULL) == -1 && errno == EFAULT);
    SCN_CHECK(select(channel[0] + 1, (fd_set *)8, NULL, NULL, NULL) == -1 && errno == EFAULT);
#ifdef __LP64__ /* with times of 32 bits libc reads and writes them itself */
    const struct itimerval timer = {.it_value.tv_usec = LATE_US, .it_interval.tv_usec = LATE_US};
    const struct timespec span = {.tv_sec = LIMIT_S}, *const nowhere = (const struct timespec *)8;
    const struct timespec *volatile none = NULL;
    SCN_CHECK(nanosleep(nowhere, NULL) == -1 && errno == EFAULT);
    SCN_CHECK(nanosleep(none, NULL) == -1 && errno == EFAULT);
    SCN_IS(clock_nanosleep(CLOCK_REALTIME, 0, nowhere, NULL), EFAULT);
    SCN_IS(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, nowhere, NULL), EFAULT);
#ifdef HAVE_EPOLL_PWAIT2
    struct epoll_event event;
    const int empty = epoll_create1(EPOLL_CLOEXEC);
    SCN_CHECK(epoll_pwait2(empty, &event, 1, nowhere, NULL) == -1 && errno == EFAULT);
#endif
    install(SIGALRM, 0);
    setitimer(ITIMER_REAL, &timer, NULL);
    SCN_CHECK(nanosleep(&span, (struct timespec *)only_read) == -1 && errno == EFAULT);
#endif
    kill(child, SIGKILL);
    scn_fine();
}

/*
 * A siglongjmp leaves a wait, and the thread computes, in a function that lies deeper, and waits again, when the child
 * has ended: the timer of the wait that was left does not take up the thread's time, and ends no other wait.
 */
static sigjmp_buf before_wait;
static void leave_wait(int signal) { siglongjmp(before_wait, 1); }

/*
 * How often a system call is made from now on, on the processor of which this file can read what it asks: for timers,
 * and for files whose names end so.
 */
static atomic_int timers_set, stats_read, calls_read;

#ifdef __x86_64__
enum { GO_ON = 4711 };
static void do_as_asked(int signal, siginfo_t *info, void *context)
{
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const char *end = info->si_syscall == SYS_openat ? strrchr((const char *)r[REG_RSI], '/') : NULL;
    atomic_fetch_add(&timers_set, end == NULL);
    atomic_fetch_add(&stats_read, end != NULL && strcmp(end, "/stat") == 0);
    atomic_fetch_add(&calls_read, end != NULL && strcmp(end, "/syscall") == 0);
    r[REG_RAX] = syscall(info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], GO_ON);
}

static void count_calls(uint32_t number)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, GO_ON, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    const struct sigaction action = {.sa_sigaction = do_as_asked, .sa_flags = SA_SIGINFO};
    SCN_CHECK(sigaction(SIGSYS, &action, NULL) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
              prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}
#define SYS_OF_TIMERS SYS_timer_settime
#else
static void count_calls(uint32_t number) {}
#define SYS_OF_TIMERS 0
#endif

/* A look at children that do not hang asks little of each. */
static void looks_are_cheap(const struct scn_case *self)
{
    enum { CHILDREN = 4, CALLS = 64, MOST_MS = 1500 };
    static const struct way way;
    pid_t children[CHILDREN];
    prepare(&way);
    fork_pausing(children, CHILDREN);
    count_calls(SYS_openat);
    for (int ms = 0; ms < MOST_MS && atomic_load(&calls_read) < CALLS; ms++)
        SCN_CHECK(poll(NULL, 0, 1) == 0);
    SCN_CHECK(atomic_load(&calls_read) < CALLS || 2 * atomic_load(&stats_read) <= atomic_load(&calls_read));
    kill_pausing(children, CHILDREN);
    scn_fine();
}

static pid_t leave_a_wait(void)
{
    const struct itimerval timer = {.it_value.tv_usec = 5000}, never = {{0, 0}, {0, 0}};
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            pause();
    if (sigsetjmp(before_wait, 1) == 0) {
        setitimer(ITIMER_REAL, &timer, NULL);
        waitpid(child, NULL, 0);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    return child;
}

static void left_by_longjmp(const struct scn_case *self)
{
    enum { ROUNDS = 10, POLLS = 4, POLL_MS = 15, PASS_US = 300000, MOST = 50 };
    static const struct way way;
    sigset_t alarms = only(SIGALRM), before;
    sigprocmask(SIG_BLOCK, &alarms, &before); /* in the other thread */
    prepare(&way);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGALRM, leave_wait);
    for (int i = 0; i < ROUNDS; i++) {
        const pid_t child = leave_a_wait();
        SCN_IS(kill(child, SIGKILL), 0);
        while (waitpid(child, NULL, WNOHANG) == 0)
            sched_yield();
        for (int j = 0; j < POLLS; j++)
            SCN_CHECK(poll(NULL, 0, POLL_MS) == 0);
    }
    count_calls(SYS_OF_TIMERS);
    const pid_t child = leave_a_wait();
    fill_stack();
    let_pass(PASS_US);
    SCN_CHECK(atomic_load(&timers_set) < MOST);
    kill(child, SIGKILL);
    scn_fine();
}

/* A siglongjmp leaves a look, and what that has open is closed. The other thread, too, would take the signal. */
static int count_descriptors(void)
{
    enum { MOST = 256 };
    int count = 0;
    for (int i = 0; i < MOST; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

static void leaves_looks(const struct scn_case *self)
{
    enum { CHILDREN = 8, ROUNDS = 600, FIRST_US = 500, APART_US = 7, FEW = 6 };
    static const struct way way;
    const struct itimerval never = {{0, 0}, {0, 0}};
    pid_t children[CHILDREN];
    prepare(&way);
    fork_pausing(children, CHILDREN);
    const int before = count_descriptors();
    signal(SIGALRM, leave_wait);
    for (volatile int i = 0; i < ROUNDS; i++) {
        const struct itimerval timer = {.it_value.tv_usec = FIRST_US + i % 100 * APART_US};
        if (sigsetjmp(before_wait, 1) == 0) {
            setitimer(ITIMER_REAL, &timer, NULL);
            for (;;)
                poll(NULL, 0, 1000);
        }
        setitimer(ITIMER_REAL, &never, NULL);
    }
    SCN_CHECK(count_descriptors() <= before + FEW);
    kill_pausing(children, CHILDREN);
    scn_fine();
}

/* A look is due while a signal handler computes on an alternate stack, above the thread's own: the next one comes. */
enum { STACK = 1 << 18, LONG_US = 400000 };
static int leave;

static void compute(int signal) { let_pass(LONG_US); }

static void *read_beside_handler(void *block)
{
    const stack_t above = {.ss_sp = (char *)block + STACK, .ss_size = STACK};
    const struct sigaction action = {.sa_handler = compute, .sa_flags = SA_ONSTACK | SA_RESTART};
    const struct itimerval timer = {.it_value.tv_usec = 50000};
    const sigset_t alarms = only(SIGALRM);
    SCN_CHECK(sigaltstack(&above, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    SCN_IS(pthread_sigmask(SIG_UNBLOCK, &alarms, NULL), 0);
    setitimer(ITIMER_REAL, &timer, NULL);
    SCN_CHECK(by_read(NULL) == 1);
    scn_ring(leave);
    return NULL;
}

static void on_alternate_stack(const struct scn_case *self)
{
    static const struct way way;
    static uint32_t word;
    const sigset_t alarms = only(SIGALRM);
    pthread_attr_t attributes;
    pthread_t thread;
    char *block = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    scn_needs_calls();
    leave = scn_bell();
    sigprocmask(SIG_BLOCK, &alarms, NULL);
    prepare(&way);
    alarm(0); /* the child's bounds this */
    const pid_t child = scn_fork();
    if (child == 0) {
        signal(SIGALRM, SIG_DFL);
        sigprocmask(SIG_UNBLOCK, &alarms, NULL);
        alarm(BOUND_S);
        for (;;)
            bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
    }
    close(channel[1]);
    SCN_CHECK(block != MAP_FAILED && pthread_attr_init(&attributes) == 0 &&
              pthread_attr_setstack(&attributes, block, STACK) == 0 &&
              pthread_create(&thread, &attributes, read_beside_handler, block) == 0);
    scn_await(leave); /* without a look */
    scn_fine();
}

/* On a stack that suffices for a handler which asks for a child's end: a look there would need more. */
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
static atomic_int asked_in_handler;

static void ask_for_end(int signal)
{
    int status;
    SCN_CHECK(waitpid(-1, &status, WNOHANG) == 0);
    atomic_fetch_add(&asked_in_handler, 1);
}

static void on_small_stack(const struct scn_case *self)
{
    enum { BELOW = 1 << 16, OF_HANDLER = 4096, LEAST = 8192, TIMES = 20 };
    static const struct way way;
    static uint32_t word;
    const size_t frame = getauxval(AT_MINSIGSTKSZ), size = frame + OF_HANDLER < LEAST ? LEAST : frame + OF_HANDLER;
    char *block = mmap(NULL, BELOW + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const stack_t small = {.ss_sp = block + BELOW, .ss_size = size};
    const struct sigaction action = {.sa_handler = ask_for_end, .sa_flags = SA_ONSTACK | SA_RESTART};
    const struct itimerval timer = {.it_value.tv_usec = 40000, .it_interval.tv_usec = 40000}, never = {{0, 0}, {0, 0}};
    scn_needs_calls();
    prepare(&way);
    SCN_CHECK(block != MAP_FAILED && mprotect(block, BELOW, PROT_NONE) == 0 && sigaltstack(&small, NULL) == 0);
    const pid_t child = scn_fork();
    if (child == 0)
        for (;;)
            bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
    alarm(0);
    SCN_CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
    while (atomic_load(&asked_in_handler) < TIMES)
        let_pass(1000);
    SCN_CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    kill(child, SIGKILL);
    scn_fine();
}

/* --- A signal handler that waits in the middle of a watched wait -------------------------------------------------- */

/* As D's collector stops a thread: the handler waits for a second signal, whose handler has no SA_RESTART. */
enum { ROUNDS = 5, TWO_LOOKS_US = 60000 };
static int stopped, goes;
static atomic_bool may_go, went_early;

static void stop_by_sigsuspend(int signal)
{
    sigset_t but;
    sigfillset(&but);
    sigdelset(&but, SIGUSR2);
    scn_ring(stopped);
    sigsuspend(&but);
    if (!atomic_load(&may_go))
        atomic_store(&went_early, true);
    scn_ring(goes);
}

static void stop_by_poll(int signal)
{
    scn_ring(stopped);
    if (poll(NULL, 0, TWO_LOOKS_US / 1000) != 0)
        atomic_store(&went_early, true);
    scn_ring(goes);
}

static void stop_by_nanosleep(int signal)
{
    scn_ring(stopped);
    if (nanosleep(&(struct timespec){.tv_nsec = TWO_LOOKS_US * 1000}, NULL) != 0)
        atomic_store(&went_early, true);
    scn_ring(goes);
}

/* Of a socket with a limit no handler lets a read go on. */
static void stop_by_recv(int signal)
{
    const struct timeval limit = {.tv_usec = TWO_LOOKS_US};
    int ends[2];
    SCN_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 &&
              setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    scn_ring(stopped);
    if (recv(ends[0], bytes, 1, 0) != -1 || errno != EAGAIN)
        atomic_store(&went_early, true);
    scn_ring(goes);
    close(ends[0]);
    close(ends[1]);
}

/*
 * The first signal comes in the middle of the system call in which the library makes the timer of the wait: the kernel
 * asks us about that call, and is answered when the handler has run. Bare there is no such call.
 */
static int asks, answer;

static void ask(void)
{
    asks = (int)filter_call(SYS_timer_create, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

static void *answer_later(void *unused)
{
    scn_await(answer);
    for (;;) {
        struct seccomp_notif question = {0};
        if (ioctl(asks, SECCOMP_IOCTL_NOTIF_RECV, &question) != 0 && errno != EINTR && errno != ENOENT)
            return unused; /* this kernel or emulator asks nothing */
        struct seccomp_notif_resp yes = {.id = question.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        if (ioctl(asks, SECCOMP_IOCTL_NOTIF_SEND, &yes) != 0 && errno == EINVAL)
            close(asks); /* Linux before 5.5 */
    }
}

static pthread_t waiter;
static void *stop_often(void *by_sigsuspend)
{
    scn_await_asleep(getpid(), NULL);
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&may_go, false);
        SCN_IS(pthread_kill(waiter, SIGUSR1), 0);
        scn_await(stopped);
        usleep(TWO_LOOKS_US); /* and looks, so that the waiter's timer and its handler's slices end apart */
        if (by_sigsuspend != NULL) {
            atomic_store(&may_go, true);
            SCN_IS(pthread_kill(waiter, SIGUSR2), 0);
        }
        scn_await(goes);
        scn_ring(answer);
    }
    scn_ring(leave);
    return NULL;
}

static void (*const stops[])(int) = {stop_by_sigsuspend, stop_by_poll, stop_by_nanosleep, stop_by_recv};
static int nothing(void *unused) { return 0; }
static void in_handler(const struct scn_case *self)
{
    struct sigaction action = {.sa_handler = stops[self->number], .sa_flags = SA_RESTART};
    int status;
    waiter = pthread_self();
    stopped = scn_bell();
    goes = scn_bell();
    leave = scn_bell();
    answer = scn_bell();
    sigfillset(&action.sa_mask);
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    install(SIGUSR2, 0);
    SCN_IS(scn_elsewhere(nothing, NULL), 0); /* so that there was a thread */
    const pid_t child = scn_fork();
    if (child == 0) {
        scn_await(leave);
        scn_fine();
    }
    const pthread_t thread = scn_start(stop_often, self->number == 0 ? &waiter : NULL);
    scn_start(answer_later, NULL);
    ask(); /* this thread alone */
    SCN_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    SCN_CHECK(!atomic_load(&went_early));
    scn_join(thread);
    scn_fine();
}

/* --- /proc of an outer namespace ---------------------------------------------------------------------------------- */

/* The next thread or process of the caller's namespace has this number there. */
static void choose_next(pid_t number, int last)
{
    char text[16];
    const int length = snprintf(text, sizeof text, "%d", number - 1);
    SCN_CHECK(pwrite(last, text, (size_t)length, 0) == length);
}

static pid_t fork_as(pid_t number, int last)
{
    choose_next(number, last);
    const pid_t child = scn_fork();
    SCN_CHECK(child == 0 || child == number);
    return child;
}

/* Outside, a process that hangs has the number that a healthy child has within, and their parents have the same one. */
static void outer_proc(const struct scn_case *self)
{
    static const struct way way;
    static uint32_t word;
    const pid_t me = getpid(), hangs = scn_fork();
    if (hangs == 0)
        for (;;)
            bare_futex(&word, FUTEX_WAIT_PRIVATE, 0);
    const int last = open("/proc/sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC);
    const pid_t first = last < 0 ? -1 : (pid_t)syscall(SYS_clone, (long)(CLONE_NEWPID | SIGCHLD), 0L, 0L, 0L, 0L);
    if (first < 0)
        scn_skip("no namespace with chosen numbers can be made here");
    if (first == 0) {
        const pid_t parent = fork_as(me, last);
        if (parent == 0) {
            choose_next(hangs + 1, last);
            prepare(&way);
            const pid_t child = fork_as(hangs, last);
            if (child == 0)
                for (;;)
                    pause();
            SCN_CHECK(poll(NULL, 0, 2 * LATE_US / 1000) == 0);
            kill_pausing(&child, 1);
            scn_fine();
        }
        scn_reap(parent);
        scn_fine();
    }
    scn_reap(first);
    kill_pausing(&hangs, 1);
    scn_fine();
}

/* --- Reads that must not become waits, or shorter ----------------------------------------------------------------- */

static void limited(const struct scn_case *self)
{
    static const struct way socket = {.is = SOCKET};
    const struct timeval limit = {.tv_usec = LATE_US / 2};
    prepare(&socket);
    const pid_t child = scn_fork();
    if (child == 0) {
        for (const char *at = "xyzt"; *at != '\0'; at++) {
            usleep(LATE_US);
            SCN_CHECK(write(channel[1], at, 1) == 1);
        }
        scn_fine();
    }
    const int least = 2;
    SCN_CHECK(recv(channel[0], bytes, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    SCN_CHECK(fcntl(channel[0], F_SETFL, O_NONBLOCK) == 0);
    SCN_CHECK(read(channel[0], bytes, 1) == -1 && errno == EAGAIN);
    SCN_CHECK(fcntl(channel[0], F_SETFL, 0) == 0);
    SCN_CHECK(setsockopt(channel[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    SCN_CHECK(read(channel[0], bytes, 1) == -1 && errno == EAGAIN);
    SCN_CHECK(setsockopt(channel[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0}, sizeof limit) == 0);
    SCN_CHECK(recv(channel[0], bytes, 2, MSG_WAITALL) == 2 && bytes[0] == 'x' && bytes[1] == 'y');
    SCN_CHECK(setsockopt(channel[0], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least) == 0);
    SCN_CHECK(recv(channel[0], bytes, 2, 0) == 2 && bytes[0] == 'z' && bytes[1] == 't');
    scn_reap(child);
    scn_fine();
}

/* A limit of more than a million microseconds, which in 32 bits are 300 milliseconds. */
static void abnormal_limit(const struct scn_case *self)
{
    static const struct way way;
    struct timeval limit = {.tv_usec = 4594968};
    prepare(&way);
    const pid_t child = scn_fork();
    if (child == 0) {
        usleep(LATE_US);
        SCN_CHECK(write(channel[1], "x", 1) == 1);
        scn_fine();
    }
    fd_set set = asked();
    SCN_CHECK(select(channel[0] + 1, &set, NULL, NULL, &limit) == 1);
    signal(SIGCHLD, SIG_DFL);
    scn_reap(child);
    scn_fine();
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const struct way *way = &ways[i];
        const bool ends = (way->is & (TAKES | ASKS)) == 0 || (way->is & ENDS) != 0;
        scn_add((struct scn_case){.bare = "fine",
                                  .says = "once:child hangs in futex 0x[0-9a-f]+ ;; never:went on|signal handler",
                                  .env = LIMIT,
                                  .run = hung,
                                  .kind = way},
                "hung-%s", way->name);
        for (int flags = 0; ends && flags <= SA_RESTART; flags += SA_RESTART)
            scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = interrupted,
                                      .kind = way, .number = flags},
                    "%s-%s", flags != 0 ? "restarted" : "interrupted", way->name);
        if (ends && (way->is & MASKS) != 0)
            scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=20", .run = often,
                                      .kind = way},
                    "often-%s", way->name);
        if (way->moment_us != 0)
            scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=20",
                                      .run = moments, .kind = way, .number = way->moment_us},
                    "moment-%s", way->name);
        if ((way->is & ASKS) == 0)
            scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = cancelled,
                                      .kind = way},
                    "cancelled-%s", way->name);
        if (way->wait == by_poll || way->wait == by_epoll || way->wait == by_sigwaitinfo)
            scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=1",
                                      .run = cancelled_often, .kind = way},
                    "cancelled-often-%s", way->name);
    }
    static const char *const in[] = {"sigsuspend", "poll", "nanosleep", "recv"};
    for (int i = 0; i < 4; i++)
        scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=20",
                                  .run = in_handler, .number = i},
                "in-handler-%s", in[i]);
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = limited}, "limited");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = bad_pointers}, "bad-pointers");
    for (int i = 0; i < 2; i++)
        scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = slow_handler, .number = i},
                "slow-handler-%s", i == 0 ? "nanosleep" : "select");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=20", .run = left_by_longjmp},
            "left-by-longjmp");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=1", .run = leaves_looks},
            "leaves-looks");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=1", .run = ends_sleeps},
            "sleeps-end");
    scn_add((struct scn_case){.bare = "fine", .says = "once:child hangs in futex 0x[0-9a-f]+", .env = LIMIT,
                              .run = on_alternate_stack},
            "on-alternate-stack");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = on_small_stack},
            "on-small-alternate-stack");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=1", .run = keeps_sets},
            "select-keeps-its-sets");
    scn_add((struct scn_case){.bare = "fine", .run = whole_seconds}, "whole-seconds");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = outer_proc}, "outer-proc");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = sleeps}, "sigwait-sleeps");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = share_epoll}, "shared-epoll");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=60000",
                              .run = polls_beside_readers},
            "polls-beside-readers");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=1", .run = looks_are_cheap},
            "looks-are-cheap");
    scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .env = LIMIT, .run = abnormal_limit},
            "select-abnormal-limit");
}

#else
void scn_cases(void) {}
#endif
