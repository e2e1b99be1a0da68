/*
 * A child that waits by epoll for descriptors that only itself could make ready, as asyncio does, hangs and is named.
 * Whatever else it waits for may come from another process, and comes: then nothing is said.
 */
#include "config.h"

#include "scenario.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LIMIT "FORKSAFE_HANG_MS=150 FORKSAFE_MODE="
enum { LATE_US = 700000 };

static int pair[2], channel[2], inherited[2];

static void own_pair(void)
{
    SCN_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
}

static int epoll_of(int first, int second)
{
    const int epoll = epoll_create1(0), both[] = {first, second};
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = both[i]};
        SCN_CHECK(both[i] < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, both[i], &event) == 0);
    }
    return epoll;
}

static int await(int epoll)
{
    struct epoll_event event;
    const int got = epoll_wait(epoll, &event, 1, -1);
    return got == 1 ? event.data.fd : got;
}

static void send_byte(int to) { SCN_CHECK(write(to, "x", 1) == 1); }

/* --- In the child: what it waits for ------------------------------------------------------------------------------ */

static void handle(int signal) {}

static void for_own(void)
{
    own_pair();
    await(epoll_of(pair[0], -1));
}

#ifdef HAVE_EPOLL_PWAIT2
static void for_own_by_pwait2(void)
{
    struct epoll_event event;
    own_pair();
    epoll_pwait2(epoll_of(pair[0], -1), &event, 1, NULL, NULL);
}
#endif

static void for_own_or_signal(void)
{
    const struct sigaction action = {.sa_handler = handle};
    sigaction(SIGUSR1, &action, NULL);
    for_own();
}

static void for_pipe(void)
{
    own_pair();
    SCN_CHECK(await(epoll_of(pair[0], channel[0])) == channel[0]);
}

static void for_inherited(void)
{
    own_pair();
    SCN_CHECK(await(epoll_of(pair[0], inherited[0])) == inherited[0]);
}

/* The other end is in a process that the child has made. */
static void for_own_child(void)
{
    own_pair();
    const pid_t child = scn_fork();
    if (child == 0) {
        usleep(LATE_US);
        send_byte(pair[1]);
        scn_fine();
    }
    SCN_CHECK(await(epoll_of(pair[0], -1)) == pair[0]);
    scn_reap(child);
}

static void send_away(int descriptor)
{
    char room[CMSG_SPACE(sizeof(int))] = "", byte = 'x';
    struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    SCN_CHECK(sendmsg(inherited[0], &message, 0) == 1 && close(descriptor) == 0);
}

/* The other end is sent to the parent, and the child has it no more. */
static void for_sent(void)
{
    own_pair();
    send_away(pair[1]);
    SCN_CHECK(await(epoll_of(pair[0], -1)) == pair[0]);
}

/* The same, and the child has a whole pair whose numbers follow that of the end that it waits for. */
static void for_sent_before_pair(void)
{
    int other[2];
    own_pair();
    SCN_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, other) == 0);
    send_away(pair[0]);
    SCN_CHECK(await(epoll_of(pair[1], other[0])) == pair[1]);
}

static void *send_late(void *unused)
{
    usleep(LATE_US);
    send_byte(pair[1]);
    return unused;
}

static void for_own_thread(void)
{
    own_pair();
    scn_start(send_late, NULL);
    SCN_CHECK(await(epoll_of(pair[0], -1)) == pair[0]);
}

/* The parent connects to it. */
static struct sockaddr_un name = {.sun_family = AF_UNIX};

static void for_client(void)
{
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    SCN_CHECK(bind(listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(listener, 1) == 0);
    own_pair();
    send_byte(inherited[0]);
    SCN_CHECK(await(epoll_of(listener, -1)) == listener);
}

/* --- In the parent, late ------------------------------------------------------------------------------------------ */

static void nothing(void) {}
static void to_pipe(void) { send_byte(channel[1]); }
static void to_inherited(void) { send_byte(inherited[1]); }

static void to_sent(void)
{
    char room[CMSG_SPACE(sizeof(int))], byte;
    struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int sent;
    SCN_CHECK(recvmsg(inherited[1], &message, 0) == 1 && CMSG_FIRSTHDR(&message) != NULL);
    memcpy(&sent, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof sent);
    usleep(LATE_US);
    send_byte(sent);
}

static void to_client(void)
{
    char byte;
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);
    SCN_CHECK(read(inherited[1], &byte, 1) == 1);
    usleep(LATE_US);
    SCN_CHECK(connect(client, (struct sockaddr *)&name, sizeof name) == 0);
}

static const struct kind {
    const char *name, *bare, *repair, *abort, *says;
    void (*wait)(void), (*later)(void);
} kinds[] = {
    {"own", "hangs", "hangs", "dies SIGABRT", "once:child hangs in epoll 0x[0-9a-f]+ \\(for its own sockets\\)",
     for_own, nothing},
#ifdef HAVE_EPOLL_PWAIT2
    {"own-by-pwait2", "hangs", "hangs", "dies SIGABRT", "once:child hangs in epoll 0x[0-9a-f]+", for_own_by_pwait2,
     nothing},
#endif
    {"own-or-signal", "hangs", "hangs", "hangs", "once:only a signal handler can end the child's wait in epoll",
     for_own_or_signal, nothing},
    {"pipe", "fine", "fine", "fine", SCN_SILENT, for_pipe, to_pipe},
    {"inherited", "fine", "fine", "fine", SCN_SILENT, for_inherited, to_inherited},
    {"own-child", "fine", "fine", "fine", SCN_SILENT, for_own_child, nothing},
    {"sent", "fine", "fine", "fine", SCN_SILENT, for_sent, to_sent},
    {"sent-before-pair", "fine", "fine", "fine", SCN_SILENT, for_sent_before_pair, to_sent},
    {"own-thread", "fine", "fine", "fine", SCN_SILENT, for_own_thread, nothing},
    {"client", "fine", "fine", "fine", SCN_SILENT, for_client, to_client},
};

static void run(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    static int never;
    never = scn_bell();
    scn_start(scn_stay, &never);
    SCN_CHECK(pipe(channel) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, inherited) == 0);
    snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "forksafe-secluded-%d", getpid());
    const pid_t child = scn_fork();
    if (child == 0) {
        kind->wait();
        scn_fine();
    }
    usleep(kind->later == to_sent || kind->later == to_client ? 0 : LATE_US);
    kind->later();
    scn_reap(child);
    scn_fine();
}

/* Signals that the wait alone lets come, as many as slices end: each ends the wait, also while the child looks. */
static void often(const struct scn_case *self)
{
    enum { SIGNALS = 40, STEP_US = 1100 };
    static int never, again;
    never = scn_bell();
    again = scn_bell();
    scn_start(scn_stay, &never);
    const pid_t child = scn_fork();
    if (child == 0) {
        const struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
        struct epoll_event event;
        sigset_t blocked, before;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        sigaction(SIGUSR1, &action, NULL);
        SCN_CHECK(sigprocmask(SIG_BLOCK, &blocked, &before) == 0);
        own_pair();
        const int epoll = epoll_of(pair[0], -1);
        for (int i = 0; i < SIGNALS; i++) {
            scn_ring(again);
            SCN_CHECK(epoll_pwait(epoll, &event, 1, -1, &before) == -1 && errno == EINTR);
        }
        scn_fine();
    }
    for (int i = 0; i < SIGNALS; i++) {
        scn_await(again);
        usleep((useconds_t)(i * STEP_US));
        kill(child, SIGUSR1);
    }
    scn_reap(child);
    scn_fine();
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int abort = 0; abort < 2; abort++)
            scn_add((struct scn_case){.bare = kinds[i].bare,
                                      .preloaded = abort ? kinds[i].abort : kinds[i].repair,
                                      .says = kinds[i].says,
                                      .env = abort ? LIMIT "abort" : LIMIT "repair",
                                      .run = run,
                                      .kind = &kinds[i]},
                    "%s%s", kinds[i].name, abort ? "-abort" : "");
    scn_add((struct scn_case){.bare = "fine",
                              .says = "never:child hangs",
                              .env = "FORKSAFE_HANG_MS=20 FORKSAFE_MODE=abort",
                              .run = often},
            "often");
}
