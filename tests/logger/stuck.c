/* A thread is stuck inside syslog when the process forks: the daemon does not read, or LOG_PERROR meets a full pipe.
 * The child and its descendants log all the same, and the daemon gets each message once, in glibc's format. */
#include "../scenario/scenario.h"
#include "private_dev.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>

extern void __syslog_chk(int priority, int flag, const char *format, ...);
extern void __vsyslog_chk(int priority, int flag, const char *format, va_list arguments);

/* --- The daemon: reads in a thread of the parent when told to ----------------------------------------------------- */

enum { MOST = 2000, MOST_OF_WORKER = 1 << 20 };
static int server;
static char *messages[MOST]; /* but not the worker's, which are counted */
static atomic_int message_count, of_worker[MOST_OF_WORKER];

static void *read_all(void *unused)
{
    static char text[1 << 18];
    for (;;) {
        const ssize_t got = recv(server, text, sizeof text - 1, 0);
        SCN_CHECK(got >= 0);
        text[got] = '\0';
        const char *number = strstr(text, "worker ");
        if (number) {
            atomic_fetch_add(&of_worker[atoi(number + 7) % MOST_OF_WORKER], 1);
            continue;
        }
        SCN_CHECK(message_count < MOST);
        messages[message_count] = strdup(text);
        atomic_fetch_add(&message_count, 1);
    }
}

/* How many messages so far end in TEXT. */
static int arrived(const char *text)
{
    int count = 0;
    for (int i = 0; i < atomic_load(&message_count); i++) {
        const size_t length = strlen(messages[i]), wanted = strlen(text);
        count += length >= wanted && strcmp(messages[i] + length - wanted, text) == 0;
    }
    return count;
}

/* Returns when TEXT, the last message that is sent, has arrived: what is missing now is lost. */
static void await_message(const char *text)
{
    while (arrived(text) == 0)
        sched_yield();
}

/* --- The stuck thread --------------------------------------------------------------------------------------------- */

static atomic_int stuck_tid, stop;
static int sent;

static void *log_on(void *unused)
{
    atomic_store(&stuck_tid, (int)gettid());
    while (!atomic_load(&stop) && sent < MOST_OF_WORKER - 1)
        syslog(LOG_NOTICE, "worker %d.", sent++);
    return NULL;
}

static pthread_t get_stuck(void)
{
    const pthread_t worker = scn_start(log_on, NULL);
    scn_await_sleeper(&stuck_tid);
    for (int i = 0; i < 20; i++) { /* it may have slept for another reason */
        usleep(1000);
        scn_await_asleep(atomic_load(&stuck_tid), NULL);
    }
    return worker;
}

static void begin(void)
{
    SCN_CHECK(private_dev());
    server = private_daemon(SOCK_DGRAM);
    SCN_CHECK(server >= 0);
}

/* The daemon reads at last; the worker comes free and its messages have all arrived. */
static void end(pthread_t worker)
{
    atomic_store(&stop, 1);
    scn_join(worker);
    syslog(LOG_NOTICE, "last word");
    await_message("last word");
    SCN_CHECK(sent > 0 && sent < MOST_OF_WORKER);
    for (int i = 0; i < sent; i++)
        SCN_CHECK(atomic_load(&of_worker[i]) == 1);
    scn_fine();
}

/* --- Children ----------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void by_list(bool fortified, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (fortified)
        __vsyslog_chk(LOG_WARNING, 1, format, values);
    else
        vsyslog(LOG_WARNING, format, values);
    va_end(values);
}

static void call_syslog(void) { syslog(LOG_WARNING, "child %d", 1); }
static void call_vsyslog(void) { by_list(false, "child %d", 1); }
static void call_syslog_chk(void) { __syslog_chk(LOG_WARNING, 1, "child %d", 1); }
static void call_vsyslog_chk(void) { by_list(true, "child %d", 1); }
static void call_openlog(void)
{
    openlog("other", LOG_NDELAY | LOG_PERROR, LOG_MAIL);
    syslog(LOG_WARNING, "child %d", 1);
}
static int free_descriptor(void)
{
    const int fd = dup(STDIN_FILENO);
    close(fd);
    return fd;
}
static void call_closelog(void)
{
    closelog();
    const int before = free_descriptor();
    syslog(LOG_WARNING, "to be closed");
    closelog();
    SCN_IS(free_descriptor(), before);
    syslog(LOG_WARNING, "child %d", 1);
}
/* Nobody is there, and what it had it has closed, in the child's child as well. A daemon comes back later. */
static void closed(void)
{
    closelog();
    SCN_CHECK(rename("/dev/log", "/dev/log.away") == 0);
    syslog(LOG_WARNING, "masked");
    SCN_IN_CHILD {
        syslog(LOG_WARNING, "masked");
    }
    SCN_CHECK(rename("/dev/log.away", "/dev/log") == 0);
    call_syslog();
}
static void call_setlogmask(void)
{
    SCN_CHECK(setlogmask(LOG_UPTO(LOG_WARNING)) == LOG_UPTO(LOG_NOTICE));
    SCN_CHECK(setlogmask(0) == LOG_UPTO(LOG_WARNING));
    syslog(LOG_NOTICE, "masked");
    syslog(LOG_WARNING, "child %d", 1);
}
static void call_masked(void)
{
    syslog(LOG_INFO, "masked");
    syslog(LOG_DEBUG, "masked");
    call_syslog();
}
static void keep_errno(void)
{
    errno = EXDEV;
    call_syslog();
    SCN_CHECK(errno == EXDEV);
}

/* A daemon closes what it does not know; the numbers come back for files of its own. */
static void descriptors_reused(void)
{
    syslog(LOG_WARNING, "before");
    const int file = memfd_create("file", 0);
    for (int fd = 3; fd < 64; fd++)
        if (fd != file)
            close(fd);
    for (int fd = 3; fd < 64; fd++)
        if (fd != file)
            SCN_CHECK(dup2(file, fd) == fd);
    call_syslog();
    for (int fd = 3; fd < 64; fd++)
        SCN_CHECK(fcntl(fd, F_GETFD) != -1 && lseek(fd, 0, SEEK_END) == 0);
}

/* A daemon that connected before it locked itself in. */
static void behind_chroot(void)
{
    SCN_CHECK(mkdir("/dev/empty", 0755) == 0 && chroot("/dev/empty") == 0 && chdir("/") == 0);
    call_syslog();
}

static void on_signal(int number)
{
    call_syslog();
}

static void in_handler(void)
{
    SCN_CHECK(signal(SIGUSR1, on_signal) != SIG_ERR && raise(SIGUSR1) == 0);
}

static void long_message(void)
{
    char text[9000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    syslog(LOG_WARNING, "%s child %d", text, 1);
}

static void *hundred(void *which)
{
    for (int i = 0; i < 100; i++)
        syslog(LOG_WARNING, "thread %d message %d.", (int)(long)which, i);
    return NULL;
}

static void threads(void)
{
    pthread_t thread[4];
    for (long i = 0; i < 4; i++)
        thread[i] = scn_start(hundred, (void *)i);
    for (int i = 0; i < 4; i++)
        scn_join(thread[i]);
    call_syslog();
}

static void grandchild(void)
{
    SCN_IN_CHILD {
        syslog(LOG_WARNING, "grandchild");
    }
    call_syslog();
}

static void *log_for_ever(void *tid)
{
    atomic_store((atomic_int *)tid, (int)gettid());
    for (;;)
        syslog(LOG_WARNING, "for ever");
    return NULL;
}

/* The child's own thread is stuck in turn, and cancelled: the next must find everything in order. */
static void cancelled(void)
{
    const int deaf = private_daemon(SOCK_DGRAM); /* nobody reads this one */
    atomic_int tid = 0;
    SCN_CHECK(deaf >= 0);
    const pthread_t thread = scn_start(log_for_ever, &tid);
    scn_await_sleeper(&tid);
    usleep(20000);
    scn_await_asleep(atomic_load(&tid), NULL);
    SCN_IS(pthread_cancel(thread), 0);
    scn_join(thread);
    close(deaf);
    SCN_CHECK(unlink("/dev/log") == 0 && rename("/dev/log.heard", "/dev/log") == 0);
    call_syslog();
}

/* As before, but the child forks while its thread is stuck inside the client. */
static void stuck_again(void)
{
    const int deaf = private_daemon(SOCK_DGRAM);
    atomic_int tid = 0;
    SCN_CHECK(deaf >= 0);
    scn_start(log_for_ever, &tid);
    scn_await_sleeper(&tid);
    usleep(20000);
    scn_await_asleep(atomic_load(&tid), NULL);
    SCN_IN_CHILD {
        SCN_CHECK(unlink("/dev/log") == 0 && rename("/dev/log.heard", "/dev/log") == 0);
        closelog(); /* the deaf one's connection */
        openlog("ident", LOG_PID, LOG_LOCAL3);
        call_syslog();
    }
}

/* --- The cases ---------------------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    void (*in_child)(void);
    const char *starts; /* of the child's message, up to the stamp; and then behind it */
    const char *ident;  /* NULL: the program's name */
    bool pid;           /* whether [pid] follows */
};

static void check_message(const struct row *row, pid_t child)
{
    char wanted[64];
    const char *got = NULL;
    for (int i = 0; i < atomic_load(&message_count); i++)
        if (strstr(messages[i], "child 1") && !strstr(messages[i], "grandchild"))
            got = messages[i];
    SCN_CHECK(got != NULL);
    SCN_CHECK(strncmp(got, row->starts, strlen(row->starts)) == 0);
    const char *ident = row->ident ? row->ident : program_invocation_short_name;
    if (row->pid)
        snprintf(wanted, sizeof wanted, "%s[%d]: ", ident, (int)child);
    else
        snprintf(wanted, sizeof wanted, "%s: ", ident);
    SCN_CHECK(row->in_child == stuck_again ||
              strncmp(got + strlen(row->starts) + 16, wanted, strlen(wanted)) == 0);
    /* The stamp: libc's local time, to the minute. */
    struct tm stamp, now;
    const time_t moment = time(NULL);
    localtime_r(&moment, &now);
    stamp = now;
    SCN_CHECK(strptime(got + strlen(row->starts), "%b %d %H:%M:%S ", &stamp) != NULL);
    const time_t said = mktime(&stamp);
    SCN_CHECK(said <= moment + 1 && said > moment - 100);
}

static void full_socket(const struct scn_case *self)
{
    const struct row *row = self->entry;
    begin();
    if (row->in_child == cancelled || row->in_child == stuck_again)
        SCN_CHECK(link("/dev/log", "/dev/log.heard") == 0);
    openlog("ident", LOG_PID | (row->in_child == behind_chroot ? LOG_NDELAY : 0), LOG_LOCAL3);
    setlogmask(LOG_UPTO(LOG_NOTICE));
    const pthread_t worker = get_stuck();
    const pid_t child = scn_fork();
    if (child == 0) {
        row->in_child();
        scn_fine();
    }
    atomic_store(&stop, 1);
    scn_start(read_all, NULL);
    scn_reap(child);
    await_message("child 1");
    SCN_CHECK(arrived("child 1") == 1 && arrived("masked") == 0);
    check_message(row, child);
    if (row->in_child == grandchild)
        SCN_CHECK(arrived("grandchild") == 1);
    for (int i = 0; row->in_child == threads && i < 400; i++) {
        char text[64];
        snprintf(text, sizeof text, "thread %d message %d.", i / 100, i % 100);
        SCN_CHECK(arrived(text) == 1);
    }
    end(worker);
}

static void fill(int fd)
{
    static const char block[4096];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, block, sizeof block) > 0 || write(fd, block, 1) > 0)
        ;
    fcntl(fd, F_SETFL, 0);
}

/* The child's message arrives once; `error`: its stderr. */
static void child_logs(const struct row *row, int error)
{
    const pid_t child = scn_fork();
    if (child == 0) {
        SCN_CHECK(dup2(error, STDERR_FILENO) >= 0);
        row->in_child();
        scn_fine();
    }
    scn_reap(child);
    await_message("child 1");
    SCN_CHECK(arrived("child 1") == 1);
    check_message(row, child);
    scn_fine();
}

/* LOG_PERROR into a full pipe; the child has its stderr elsewhere. */
static void full_pipe(const struct scn_case *self)
{
    int ends[2];
    begin();
    SCN_CHECK(pipe(ends) == 0);
    const int error = dup(STDERR_FILENO);
    fill(ends[1]);
    SCN_CHECK(dup2(ends[1], STDERR_FILENO) >= 0);
    openlog("ident", LOG_PID | LOG_PERROR, LOG_LOCAL3);
    setlogmask(LOG_UPTO(LOG_NOTICE));
    scn_start(read_all, NULL);
    get_stuck();
    child_logs(self->entry, error);
}

/* LOG_CONS, and nobody reads the console; then a daemon comes. */
static void slow_console(const struct scn_case *self)
{
    begin();
    SCN_CHECK(rename("/dev/log", "/dev/log.later") == 0);
    SCN_CHECK(unlink("/dev/console") == 0 && mkfifo("/dev/console", 0600) == 0);
    openlog("ident", LOG_PID | LOG_CONS, LOG_LOCAL3);
    setlogmask(LOG_UPTO(LOG_NOTICE));
    scn_start(read_all, NULL);
    get_stuck();
    SCN_CHECK(rename("/dev/log.later", "/dev/log") == 0);
    child_logs(self->entry, STDERR_FILENO);
}

/* Threads log all the time, the daemon reads, nobody is inside for long: a storm. Every message arrives once. */
static void storm(const struct scn_case *self)
{
    enum { CHILDREN = 300 };
    begin();
    openlog("ident", LOG_PID, LOG_LOCAL3);
    scn_start(read_all, NULL);
    const pthread_t worker = scn_start(log_on, NULL);
    while (atomic_load(&of_worker[0]) == 0)
        sched_yield();
    for (int i = 0; i < CHILDREN; i++) {
        SCN_IN_CHILD {
            syslog(LOG_ERR, "child of storm %d.", i);
        }
    }
    char last[64];
    snprintf(last, sizeof last, "child of storm %d.", CHILDREN - 1);
    await_message(last);
    for (int i = 0; i < CHILDREN; i++) {
        char text[64];
        snprintf(text, sizeof text, "child of storm %d.", i);
        SCN_CHECK(arrived(text) == 1);
    }
    end(worker);
}

static void no_hazard(const struct scn_case *self)
{
    begin();
    openlog("ident", LOG_PID, LOG_LOCAL3);
    scn_start(read_all, NULL);
    scn_join(scn_start(hundred, NULL));
    SCN_IN_CHILD {
        call_syslog();
    }
    await_message("child 1");
    scn_fine();
}

void scn_cases(void)
{
    static const struct row rows[] = {
        {"syslog", call_syslog, "<156>", "ident", true},
        {"vsyslog", call_vsyslog, "<156>", "ident", true},
        {"__syslog_chk", call_syslog_chk, "<156>", "ident", true},
        {"__vsyslog_chk", call_vsyslog_chk, "<156>", "ident", true},
        {"openlog", call_openlog, "<20>", "other", false},
        {"closelog", call_closelog, "<156>", NULL, true},
        {"closed", closed, "<156>", NULL, true},
        {"setlogmask", call_setlogmask, "<156>", "ident", true},
        {"masked", call_masked, "<156>", "ident", true},
        {"errno", keep_errno, "<156>", "ident", true},
        {"descriptors-reused", descriptors_reused, "<156>", "ident", true},
        {"chroot", behind_chroot, "<156>", "ident", true},
        {"long", long_message, "<156>", "ident", true},
        {"threads", threads, "<156>", "ident", true},
        {"grandchild", grandchild, "<156>", "ident", true},
        {"cancelled", cancelled, "<156>", "ident", true},
        {"signal-handler", in_handler, "<156>", "ident", true},
        {"stuck-again", stuck_again, "<156>", "ident", true},
    };
    if (geteuid() != 0 && access("/proc/self/setgroups", W_OK) != 0)
        return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        scn_add(SCN_CASE(.bare = "hangs", .run = full_socket, .entry = &rows[i],
                         .says = rows[i].in_child == threads ? "once:went round the C library's lock" : NULL,
                         .env = i % 2 ? "TZ=America/St_Johns" : "TZ=<-03>3<-02>,M3.5.0/-2,M10.5.0/-1"),
                "full-socket-%s", rows[i].name);
    const bool locked = scn_glibc_since(36); /* before, libc writes to stderr without its lock, which we cannot see */
    for (size_t i = 0; i < 4; i++)
        scn_add(SCN_CASE(.bare = locked ? "hangs" : "fine", .run = full_pipe, .entry = &rows[i],
                         .says = "once:went round the C library's lock \\(syslog\\) for .* fork 1 by"),
                "full-pipe-%s", rows[i].name);
    for (size_t i = 0; i < 4; i++)
        scn_add((struct scn_case){.bare = "hangs", .run = slow_console, .entry = &rows[i],
                                  .says = "once:went round the C library's lock \\(syslog\\) for .* in use at fork by"
                                          " \\d+ .* since .* fork 1 by"},
                "slow-console-%s", rows[i].name);
    if (locked) {
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_MODE=report", .run = full_pipe,
                         .entry = &rows[0], .says = "once:would hang on the C library's lock \\(syslog\\)"), "report");
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .env = "FORKSAFE_MODE=abort", .run = full_pipe,
                         .entry = &rows[0], .says = "once:would hang on the C library's lock \\(syslog\\)"), "abort");
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_MODE=off", .run = full_pipe,
                         .entry = &rows[0], .says = SCN_SILENT), "off");
    }
    scn_add(SCN_CASE(.bare = "hangs", .run = storm), "storm");
    scn_add(SCN_CASE(.bare = "fine", .run = no_hazard, .says = SCN_SILENT), "no-hazard");
}
