/* A thread is stuck inside getpwnam & co when the process forks: a database is a pipe that nobody fills yet. The child
 * gets its answers all the same, and the same ones as the parent did before. */
#include "../scenario/scenario.h"
#include "private_dev.h"

#include <aliases.h>
#include <arpa/inet.h>
#include <grp.h>
#include <gshadow.h>
#include <netdb.h>
#include <pwd.h>
#include <sched.h>
#include <shadow.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>

/* --- Databases of our own ----------------------------------------------------------------------------------------- */

static const char place[] = "/dev/names"; /* in memory of our own, gone with this process */

static void put(const char *name, const char *text, bool large)
{
    char path[64], real[64];
    snprintf(path, sizeof path, "%s/%s", place, name);
    snprintf(real, sizeof real, "/etc/%s", name);
    FILE *file = fopen(path, "we");
    SCN_CHECK(file != NULL);
    fputs(text, file);
    for (int i = 0; large && i < 3000; i++)
        fprintf(file, "%smember%d", i ? "," : "", i);
    SCN_CHECK(fputs("\n", file) >= 0 && fclose(file) == 0);
    if (access(real, F_OK) == 0) /* without it there is no case about it: see scn_cases */
        SCN_CHECK(mount(path, real, NULL, MS_BIND, NULL) == 0);
}

static void make_databases(void)
{
    SCN_CHECK(private_dev() && mkdir(place, 0755) == 0);
    put("nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\nnetworks: files\nrpc: files\n"
        "shadow: files\ngshadow: files\naliases: files",
        false);
    put("passwd", "root:x:0:0:the root:/root:/bin/sh\nsomeone:x:4711:4712:Some One:/home/someone:/bin/false", false);
    put("group", "root:x:0:\nsmall:x:12:someone,root\nlarge:x:4712:", true);
    put("hosts", "127.0.0.1 localhost\n192.0.2.7 seven.example seven sieben\n2001:db8::7 seven.example seven", false);
    put("services", "echo 7/tcp\necho 7/udp sink\nodd 4711/tcp strange", false);
    put("protocols", "ip 0 IP\ntcp 6 TCP\nudp 17 UDP\nodd 200 ODD Odd", false);
    put("networks", "link-local 169.254.0.0\nodd 192.0.2.0 strange", false);
    put("rpc", "portmapper 100000 portmap\nodd 200007 strange", false);
    put("shadow", "root:*:19000:0:99999:7:::\nsomeone:!:19001:1:2:3:4:5:", false);
    put("gshadow", "root:*::\nsmall:!:root:someone,root", false);
    put("aliases", "postmaster: root, someone\nsomeone: root", false);
}

/* DATABASE becomes a pipe: whoever opens it waits for a writer. Returns its path. */
static const char *dam(const char *database)
{
    static char path[64];
    static int dams;
    char real[64];
    snprintf(path, sizeof path, "%s/dam%d", place, dams++);
    snprintf(real, sizeof real, "/etc/%s", database);
    SCN_CHECK(mkfifo(path, 0644) == 0 && mount(path, real, NULL, MS_BIND, NULL) == 0);
    return path;
}

static void undam(const char *database)
{
    char real[64];
    snprintf(real, sizeof real, "/etc/%s", database);
    SCN_CHECK(umount2(real, MNT_DETACH) == 0);
}

/* --- Questions and answers as text -------------------------------------------------------------------------------- */

struct answer {
    size_t length;
    char text[1 << 16];
};

__attribute__((format(printf, 2, 3))) static void say(struct answer *to, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    to->length += (size_t)vsnprintf(to->text + to->length, sizeof to->text - to->length, format, values);
    va_end(values);
    SCN_CHECK(to->length < sizeof to->text);
}

static void say_list(struct answer *to, char **list)
{
    for (; list && *list; list++)
        say(to, " %s", *list);
}

static void say_user(struct answer *to, const struct passwd *user)
{
    if (user)
        say(to, "%s:%s:%u:%u:%s:%s:%s\n", user->pw_name, user->pw_passwd, user->pw_uid, user->pw_gid, user->pw_gecos,
            user->pw_dir, user->pw_shell);
    else
        say(to, "none, errno %d\n", errno);
}

static void say_group(struct answer *to, const struct group *group)
{
    if (!group) {
        say(to, "none, errno %d\n", errno);
        return;
    }
    say(to, "%s:%s:%u", group->gr_name, group->gr_passwd, group->gr_gid);
    say_list(to, group->gr_mem);
    say(to, "\n");
}

static void say_host(struct answer *to, const struct hostent *host)
{
    if (!host) {
        say(to, "none, h_errno %d, errno %d\n", h_errno, errno);
        return;
    }
    say(to, "%s %d %d", host->h_name, host->h_addrtype, host->h_length);
    say_list(to, host->h_aliases);
    for (char **at = host->h_addr_list; *at; at++) {
        char text[64];
        say(to, " %s", inet_ntop(host->h_addrtype, *at, text, sizeof text));
    }
    say(to, "\n");
}

static void say_service(struct answer *to, const struct servent *service)
{
    if (!service) {
        say(to, "none, errno %d\n", errno);
        return;
    }
    say(to, "%s %d %s", service->s_name, ntohs((uint16_t)service->s_port), service->s_proto);
    say_list(to, service->s_aliases);
    say(to, "\n");
}

static void say_protocol(struct answer *to, const struct protoent *protocol)
{
    if (!protocol) {
        say(to, "none, errno %d\n", errno);
        return;
    }
    say(to, "%s %d", protocol->p_name, protocol->p_proto);
    say_list(to, protocol->p_aliases);
    say(to, "\n");
}

static void say_net(struct answer *to, const struct netent *net)
{
    if (!net) {
        say(to, "none, h_errno %d, errno %d\n", h_errno, errno);
        return;
    }
    say(to, "%s %d %x", net->n_name, net->n_addrtype, net->n_net);
    say_list(to, net->n_aliases);
    say(to, "\n");
}

static void say_program(struct answer *to, const struct rpcent *program)
{
    if (!program) {
        say(to, "none, errno %d\n", errno);
        return;
    }
    say(to, "%s %d", program->r_name, program->r_number);
    say_list(to, program->r_aliases);
    say(to, "\n");
}

static void say_shadow(struct answer *to, const struct spwd *shadow)
{
    if (shadow)
        say(to, "%s:%s:%ld:%ld:%ld:%ld:%ld:%ld\n", shadow->sp_namp, shadow->sp_pwdp, shadow->sp_lstchg, shadow->sp_min,
            shadow->sp_max, shadow->sp_warn, shadow->sp_inact, shadow->sp_expire);
    else
        say(to, "none, errno %d\n", errno);
}

static void say_group_shadow(struct answer *to, const struct sgrp *group)
{
    if (!group) {
        say(to, "none, errno %d\n", errno);
        return;
    }
    say(to, "%s:%s:", group->sg_namp, group->sg_passwd);
    say_list(to, group->sg_adm);
    say(to, ":");
    say_list(to, group->sg_mem);
    say(to, "\n");
}

static void say_alias(struct answer *to, const struct aliasent *alias)
{
    if (!alias) {
        say(to, "none, errno %d\n", errno);
        return;
    }
    say(to, "%s %d", alias->alias_name, alias->alias_local);
    for (size_t i = 0; i < alias->alias_members_len; i++)
        say(to, " %s", alias->alias_members[i]);
    say(to, "\n");
}

#define ASK(teller, call) (errno = E2BIG, h_errno = 77, teller(to, call))

static void ask_getpwnam(struct answer *to)
{
    ASK(say_user, getpwnam("someone"));
    ASK(say_user, getpwnam("nobody-here"));
}
static void ask_getpwuid(struct answer *to) { ASK(say_user, getpwuid(4711)); ASK(say_user, getpwuid(99)); }
static void ask_getgrnam(struct answer *to)
{
    ASK(say_group, getgrnam("small"));
    ASK(say_group, getgrnam("large")); /* far beyond the first buffer */
    ASK(say_group, getgrnam("none"));
}
static void ask_getgrgid(struct answer *to) { ASK(say_group, getgrgid(4712)); ASK(say_group, getgrgid(99)); }
static void ask_gethostbyname(struct answer *to)
{
    ASK(say_host, gethostbyname("seven"));
    ASK(say_host, gethostbyname("192.0.2.9"));
    ASK(say_host, gethostbyname("nowhere.example"));
}
static void ask_gethostbyname2(struct answer *to)
{
    ASK(say_host, gethostbyname2("seven", AF_INET6));
    ASK(say_host, gethostbyname2("seven", AF_INET));
    ASK(say_host, gethostbyname2("nowhere.example", AF_INET6));
}
static void ask_gethostbyaddr(struct answer *to)
{
    struct in_addr seven = {htonl(0xc0000207)}, none = {htonl(0xc0000208)};
    ASK(say_host, gethostbyaddr(&seven, sizeof seven, AF_INET));
    ASK(say_host, gethostbyaddr(&none, sizeof none, AF_INET));
    ASK(say_host, gethostbyaddr(&none, 1, AF_INET));
}
static void ask_getservbyname(struct answer *to)
{
    ASK(say_service, getservbyname("echo", "udp"));
    ASK(say_service, getservbyname("strange", NULL));
    ASK(say_service, getservbyname("odd", "udp"));
}
static void ask_getservbyport(struct answer *to)
{
    ASK(say_service, getservbyport(htons(4711), NULL));
    ASK(say_service, getservbyport(htons(7), "udp"));
    ASK(say_service, getservbyport(htons(8), "udp"));
}
static void ask_getprotobyname(struct answer *to)
{
    ASK(say_protocol, getprotobyname("Odd"));
    ASK(say_protocol, getprotobyname("none"));
}
static void ask_getprotobynumber(struct answer *to)
{
    ASK(say_protocol, getprotobynumber(17));
    ASK(say_protocol, getprotobynumber(201));
}
static void ask_getnetbyname(struct answer *to)
{
    ASK(say_net, getnetbyname("strange"));
    ASK(say_net, getnetbyname("no"));
}
static void ask_getnetbyaddr(struct answer *to)
{
    ASK(say_net, getnetbyaddr(0xc0000200, AF_INET));
    ASK(say_net, getnetbyaddr(0xc0000300, AF_INET));
}

static void ask_getrpcbyname(struct answer *to)
{
    ASK(say_program, getrpcbyname("strange"));
    ASK(say_program, getrpcbyname("none"));
}
static void ask_getrpcbynumber(struct answer *to)
{
    ASK(say_program, getrpcbynumber(100000));
    ASK(say_program, getrpcbynumber(200008));
}
static void ask_getspnam(struct answer *to) { ASK(say_shadow, getspnam("someone")); ASK(say_shadow, getspnam("none")); }
static void ask_getsgnam(struct answer *to)
{
    ASK(say_group_shadow, getsgnam("small"));
    ASK(say_group_shadow, getsgnam("none"));
}
static void ask_getaliasbyname(struct answer *to)
{
    ASK(say_alias, getaliasbyname("postmaster"));
    ASK(say_alias, getaliasbyname("none"));
}

/* --- The cases ---------------------------------------------------------------------------------------------------- */

struct question {
    const char *name, *database;
    void (*ask)(struct answer *to);
};

static struct answer before, stuck, later;
static atomic_int tid;

static void *ask_stuck(void *raw)
{
    const struct question *question = raw;
    /* A SIGCHLD that comes while the forking thread blocks it would make this thread open the database once more, and
     * that is no pipe any more. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    atomic_store(&tid, (int)gettid());
    question->ask(&stuck);
    return NULL;
}

/* What they answer is one memory for all threads: not to be read here. */
static void *ask_often(void *unused)
{
    for (int i = 0; i < 200; i++)
        SCN_CHECK(getgrnam("large") != NULL && getgrnam("small") != NULL && getgrgid(99) == NULL);
    return NULL;
}

static void check(const struct question *question)
{
    later.length = 0;
    question->ask(&later);
    SCN_CHECK(before.length == later.length && memcmp(before.text, later.text, before.length) == 0);
}

/* A thread that is stuck in the call when this returns; *pipe: what it reads. */
static pthread_t start_stuck(const struct question *question, const char **pipe)
{
    *pipe = dam(question->database);
    atomic_store(&tid, 0);
    stuck.length = 0;
    const pthread_t worker = scn_start(ask_stuck, (void *)(uintptr_t)question);
    while (!atomic_load(&tid))
        sched_yield();
    for (int i = 0; i < 20; i++) { /* it may sleep for another reason first */
        scn_await_asleep(atomic_load(&tid), NULL);
        usleep(1000);
    }
    undam(question->database);
    return worker;
}

/* An empty file: the worker finds nothing there, and goes on. */
static void end_stuck(pthread_t worker, const char *pipe)
{
    const int writer = open(pipe, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    SCN_CHECK(writer >= 0); /* or nobody is stuck there, and an open without O_NONBLOCK would wait for ever */
    close(writer);
    scn_join(worker);
}

enum { PLAIN, IN_THREADS, IN_GRANDCHILD, IN_GRANDCHILD_STUCK };

static void in_child(const struct question *question, long how)
{
    check(question);
    if (how == IN_THREADS) {
        pthread_t thread[4];
        for (int i = 0; i < 4; i++)
            thread[i] = scn_start(ask_often, NULL);
        for (int i = 0; i < 4; i++)
            scn_join(thread[i]);
    } else if (how == IN_GRANDCHILD) {
        SCN_IN_CHILD {
            check(question);
        }
    } else if (how == IN_GRANDCHILD_STUCK) { /* beside a thread in the stand-in */
        const char *pipe;
        const pthread_t worker = start_stuck(question, &pipe);
        SCN_IN_CHILD {
            check(question);
        }
        end_stuck(worker, pipe);
    }
    check(question);
}

static void vanished(const struct scn_case *self)
{
    const struct question *question = self->entry;
    make_databases();
    question->ask(&before);
    const char *pipe;
    const pthread_t worker = start_stuck(question, &pipe);
    SCN_IN_CHILD {
        in_child(question, self->number);
    }
    end_stuck(worker, pipe);
    check(question);
    scn_fine();
}

void scn_cases(void)
{
    static const struct question questions[] = {
        {"getpwnam", "passwd", ask_getpwnam},
        {"getpwuid", "passwd", ask_getpwuid},
        {"getgrnam", "group", ask_getgrnam},
        {"getgrgid", "group", ask_getgrgid},
        {"gethostbyname", "hosts", ask_gethostbyname},
        {"gethostbyname2", "hosts", ask_gethostbyname2},
        {"gethostbyaddr", "hosts", ask_gethostbyaddr},
        {"getservbyname", "services", ask_getservbyname},
        {"getservbyport", "services", ask_getservbyport},
        {"getprotobyname", "protocols", ask_getprotobyname},
        {"getprotobynumber", "protocols", ask_getprotobynumber},
        {"getnetbyname", "networks", ask_getnetbyname},
        {"getnetbyaddr", "networks", ask_getnetbyaddr},
        {"getrpcbyname", "rpc", ask_getrpcbyname},
        {"getrpcbynumber", "rpc", ask_getrpcbynumber},
        {"getspnam", "shadow", ask_getspnam},
        {"getsgnam", "gshadow", ask_getsgnam},
        {"getaliasbyname", "aliases", ask_getaliasbyname},
    };
    static char says[sizeof questions / sizeof questions[0]][96];
    if (geteuid() != 0 && access("/proc/self/setgroups", W_OK) != 0)
        return;
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        char real[64];
        snprintf(real, sizeof real, "/etc/%s", questions[i].database);
        if (access(real, F_OK) != 0)
            continue;
        snprintf(says[i], sizeof says[i], "went round the C library's lock \\(%s\\) for .* fork 1 by",
                 questions[i].name);
        scn_add(SCN_CASE(.bare = "hangs", .run = vanished, .entry = &questions[i], .says = says[i]),
                "%s", questions[i].name);
    }
    scn_add(SCN_CASE(.bare = "hangs", .run = vanished, .entry = &questions[2], .number = IN_THREADS),
            "getgrnam-threads");
    scn_add(SCN_CASE(.bare = "hangs", .run = vanished, .entry = &questions[4], .number = IN_GRANDCHILD),
            "gethostbyname-grandchild");
    scn_add(SCN_CASE(.bare = "hangs", .run = vanished, .entry = &questions[2], .number = IN_GRANDCHILD_STUCK),
            "getgrnam-grandchild-stuck");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .run = vanished, .entry = &questions[0],
                     .env = "FORKSAFE_MODE=report", .says = "once:would hang on the C library's lock \\(getpwnam\\)"),
            "getpwnam-report");
}
