/*
 * A thread is stuck inside a call for which there is no stand-in when the process forks. A child with one thread is
 * rescued, and a line says from which call, and who was inside; its own child finds the lock free. One with more
 * threads is rescued, too, if all others sleep where nobody has such a lock; if not, it hangs as it does bare, and one
 * line of the whole family says so. Where being inside does not mean to have the lock, nobody hangs and nothing is
 * said.
 */
#include "../scenario/scenario.h"
#include "private_dev.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <libintl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <locale.h>
#include <poll.h>
#include <pwd.h>
#include <regex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <syslog.h>
#include <time.h>
#include <utmp.h>

/* --- Calls -------------------------------------------------------------------------------------------------------- */

static const time_t moment = 1700000000;
static int never;

static void call_localtime(void) { SCN_CHECK(localtime(&moment) != NULL); }
static void call_tzset(void) { tzset(); }
static void call_gmtime_r(void)
{
    struct tm tm;
    SCN_CHECK(gmtime_r(&moment, &tm) != NULL);
}
static void call_mktime(void)
{
    struct tm tm = {.tm_year = 100, .tm_mday = 1};
    SCN_CHECK(mktime(&tm) != -1);
}
static void call_strftime(void)
{
    const struct tm tm = {.tm_year = 100, .tm_mday = 1};
    char text[32];
    SCN_CHECK(strftime(text, sizeof text, "%Z.", &tm) > 0);
}
static void call_syslog(void) { syslog(LOG_INFO, "a line"); }
static void call_getpwent(void)
{
    setpwent();
    getpwent();
}
static void call_endpwent(void) { endpwent(); }
static void call_getutent(void)
{
    utmpname("/dev/sessions");
    getutent();
}
static void call_endutent(void) { endutent(); }
static void call_gettext_stuck(void) { gettext("word"); }
static void call_gettext(void) { SCN_CHECK(strcmp(gettext("word"), "word") == 0); }

static void call_setlocale_stuck(void) { setlocale(LC_CTYPE, "dammed"); }
static void call_setlocale(void) { SCN_CHECK(setlocale(LC_CTYPE, "C") != NULL); }
static void call_strerror(void) { SCN_CHECK(strerror(ENOENT) != NULL); }
static void call_syslog_of_error(void)
{
    errno = ENOENT;
    syslog(LOG_INFO, "%m");
}

static int stay(struct dl_phdr_info *info, size_t bytes, void *unused)
{
    (void)info, (void)bytes, (void)unused;
    scn_await(never);
    return 1;
}
static void call_dl_iterate_phdr_stuck(void) { dl_iterate_phdr(stay, NULL); }

static int leave(struct dl_phdr_info *info, size_t bytes, void *unused)
{
    (void)info, (void)bytes, (void)unused;
    return 1;
}
static void call_dl_iterate_phdr(void) { SCN_CHECK(dl_iterate_phdr(leave, NULL) == 1); }

/* pclose waits for a process, fclose for a reader: without a lock that others need. */
static void call_pclose_stuck(void)
{
    int ends[2];
    char command[32];
    SCN_CHECK(pipe(ends) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0);
    snprintf(command, sizeof command, "read line <&%d", ends[0]); /* ends with us, who have the other end */
    FILE *stream = popen(command, "r");
    SCN_CHECK(stream != NULL);
    pclose(stream);
}
static void call_popen(void)
{
    FILE *stream = popen("exit 3", "r");
    SCN_CHECK(stream != NULL && pclose(stream) == 3 << 8);
}
static FILE *full;
static void call_fclose_stuck(void)
{
    fclose(full);
}
static void call_fclose(void)
{
    FILE *stream = fopen("/dev/null", "we");
    SCN_CHECK(stream != NULL && fclose(stream) == 0);
}

/*
 * A signal comes in the middle of one of these, and its handler stays. The lock is that of the thread that is asked
 * about, of a DIR, of a regex_t that all threads use.
 */
static DIR *directory;
static regex_t expression;
static char long_text[1 << 20];
static pthread_t first;

static void call_setschedparam(void)
{
    const struct sched_param parameters = {0};
    SCN_IS(pthread_setschedparam(first, SCHED_OTHER, &parameters), 0);
}
static void call_readdir(void)
{
    rewinddir(directory);
    errno = 0; /* the position is the whole family's: another process may have read to the end since */
    SCN_CHECK(readdir(directory) != NULL || errno == 0);
}
/* Where REG_STARTEND gives the length regexec does not measure the text, without the lock: the signal came there. */
static void call_regexec(void)
{
    regmatch_t all = {0, sizeof long_text - 1};
    SCN_CHECK(regexec(&expression, long_text, 0, &all, REG_STARTEND) == 0);
}

/* Many calls for which the lock is another's. */
static void call_regexec_after_many(void)
{
    regex_t other;
    SCN_IS(regcomp(&other, "^a*$", REG_NOSUB), 0);
    for (int i = 0; i < 100; i++)
        SCN_IS(regexec(&other, "a", 0, NULL, 0), 0);
    regfree(&other);
    call_regexec();
}

static void park(int number)
{
    scn_await(never);
}

/* The thread gets SIGSYS where it makes the system call. Returns whether this kernel, or emulator, does that. */
static bool trap(long system_call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)system_call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* At the system call that is made with the lock. Where there is none: at any moment, which is nearly always inside. */
static void park_in(void (*call)(void), long system_call)
{
    const struct sigaction action = {.sa_handler = park};
    const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    SCN_CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    if (system_call >= 0 && trap(system_call))
        call();
    sigset_t mine;
    sigemptyset(&mine);
    sigaddset(&mine, SIGPROF);
    SCN_CHECK(sigaction(SIGPROF, &action, NULL) == 0 && pthread_sigmask(SIG_UNBLOCK, &mine, NULL) == 0);
    SCN_CHECK(setitimer(ITIMER_PROF, &soon, NULL) == 0);
    for (;;)
        call();
}
static void call_setschedparam_stuck(void) { park_in(call_setschedparam, SYS_sched_setscheduler); }
static void call_readdir_stuck(void) { park_in(call_readdir, SYS_getdents64); }
static void call_regexec_stuck(void) { park_in(call_regexec, -1); }

/* --- Ways to be stuck --------------------------------------------------------------------------------------------- */

static void dam_zone(void)
{
    SCN_CHECK(private_dev() && mkfifo("/dev/zone", 0644) == 0 && private_daemon(SOCK_DGRAM) >= 0);
    SCN_CHECK(setenv("TZ", ":/dev/zone", 1) == 0);
}

static void dam_locale(void)
{
    SCN_CHECK(private_dev() && private_daemon(SOCK_DGRAM) >= 0);
    SCN_CHECK(mkdir("/dev/locales", 0755) == 0 && mkdir("/dev/locales/dammed", 0755) == 0);
    SCN_CHECK(mkfifo("/dev/locales/dammed/LC_CTYPE", 0644) == 0 && setenv("LOCPATH", "/dev/locales", 1) == 0);
}

static void dam_passwd(void)
{
    SCN_CHECK(private_dev() && mkfifo("/dev/passwd", 0644) == 0);
    SCN_CHECK(mount("/dev/passwd", "/etc/passwd", NULL, MS_BIND, NULL) == 0);
}

static void dam_sessions(void)
{
    SCN_CHECK(private_dev() && mkfifo("/dev/sessions", 0644) == 0);
}

static void dam_catalogue(void)
{
    SCN_CHECK(private_dev() && mkdir("/dev/words", 0755) == 0 && mkdir("/dev/words/xx", 0755) == 0);
    SCN_CHECK(mkdir("/dev/words/xx/LC_MESSAGES", 0755) == 0);
    SCN_CHECK(mkfifo("/dev/words/xx/LC_MESSAGES/words.mo", 0644) == 0 && mkdir("/dev/locales", 0755) == 0);
    /* By another name, because glibc 2.41 looks for no catalogue in the locale C.UTF-8. */
    const char *const neutral = "/usr/lib/locale/C.utf8"; /* on Debian 11 spelled as it is asked for */
    SCN_CHECK(symlink(access(neutral, F_OK) == 0 ? neutral : "/usr/lib/locale/C.UTF-8", "/dev/locales/xx") == 0);
    SCN_CHECK(setenv("LOCPATH", "/dev/locales", 1) == 0);
    SCN_CHECK(setlocale(LC_MESSAGES, "xx") && bindtextdomain("words", "/dev/words") && textdomain("words"));
}

static void fill_pipe(void)
{
    int ends[2];
    char block[4096] = {0};
    SCN_CHECK(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    while (write(ends[1], block, sizeof block) > 0)
        ;
    SCN_CHECK(fcntl(ends[1], F_SETFL, 0) == 0);
    full = fdopen(ends[1], "w");
    SCN_CHECK(full && fputs("more", full) >= 0);
}

static void nothing(void) {}

/* The signal is for the worker. */
static void open_objects(void)
{
    sigset_t workers;
    sigemptyset(&workers);
    sigaddset(&workers, SIGPROF);
    SCN_CHECK(pthread_sigmask(SIG_BLOCK, &workers, NULL) == 0);
    first = pthread_self();
    directory = opendir("/proc"); /* which the kernel takes long to read */
    memset(long_text, 'a', sizeof long_text - 1);
    SCN_CHECK(directory && regcomp(&expression, "^a*$", REG_NOSUB) == 0);
}

/* --- The cases ---------------------------------------------------------------------------------------------------- */

static const struct row {
    const char *name;
    void (*prepare)(void), (*get_stuck)(void), (*in_child)(void);
    const char *call; /* as the line names it; NULL: nobody hangs; "": the library mends it, without a line */
} rows[] = { /* the first seven for the modes, too */
    {"localtime", dam_zone, call_localtime, call_localtime, "localtime"},
    {"tzset", dam_zone, call_localtime, call_tzset, "tzset"},
    {"gmtime_r", dam_zone, call_tzset, call_gmtime_r, "gmtime_r"},
    {"mktime", dam_zone, call_tzset, call_mktime, "mktime"},
    {"strftime", dam_zone, call_localtime, call_strftime, "strftime"},
    {"getpwent", dam_passwd, call_getpwent, call_endpwent, "endpwent"},
    {"dl_iterate_phdr", nothing, call_dl_iterate_phdr_stuck, call_dl_iterate_phdr, ""},
    {"setlocale", dam_locale, call_setlocale_stuck, call_setlocale, "setlocale"},
    {"strerror", dam_locale, call_setlocale_stuck, call_strerror, "strerror"},
    {"gettext", dam_catalogue, call_gettext_stuck, call_gettext, "d?c?gettext"},
    {"utmp", dam_sessions, call_getutent, call_endutent, "endutent"},
    {"pclose", nothing, call_pclose_stuck, call_popen, NULL},
    {"fclose", fill_pipe, call_fclose_stuck, call_fclose, NULL},
    {"syslog", dam_zone, call_localtime, call_syslog, "syslog"},
    {"syslog-of-error", dam_locale, call_setlocale_stuck, call_syslog_of_error, "syslog"},
    {"pthread_setschedparam", open_objects, call_setschedparam_stuck, call_setschedparam, "pthread_setschedparam"},
    {"readdir", open_objects, call_readdir_stuck, call_readdir, "re[a-z]+dir"},
    {"regexec", open_objects, call_regexec_stuck, call_regexec, "regexec"},
};
static const struct row after_many = {NULL, open_objects, call_regexec_stuck, call_regexec_after_many, "regexec"};

/* Rows. */
enum { LOADER = 6, LOCALE = 7, VAGUE = 11, INSIDE_OBJECT = 15 };

static atomic_int worker_tid;

static void *worker_body(void *raw)
{
    pthread_setname_np(pthread_self(), "worker");
    atomic_store(&worker_tid, (int)gettid());
    ((const struct row *)raw)->get_stuck();
    scn_wrong(SCN_WHERE, "the worker came out");
}

static void start_worker(const struct row *row)
{
    scn_start(worker_body, (void *)(uintptr_t)row);
    while (!atomic_load(&worker_tid))
        sched_yield();
    for (int i = 0; i < 20; i++) { /* it may sleep for another reason first */
        scn_await_asleep(atomic_load(&worker_tid), NULL);
        usleep(1000);
    }
}

static void begin(const struct row *row)
{
    never = scn_bell();
    row->prepare();
    start_worker(row);
}

/* Two children, each with a child: only the first of a family of four says that they may hang. */
static void in_a_child_and_its_child(const struct scn_case *self)
{
    const struct row *row = self->entry;
    pid_t child[2];
    begin(row);
    for (int i = 0; i < 2; i++) {
        child[i] = scn_fork();
        if (child[i] == 0) {
            row->in_child();
            row->in_child();
            SCN_IN_CHILD {
                row->in_child();
            }
            scn_fine();
        }
    }
    scn_reap(child[0]);
    scn_reap(child[1]);
    scn_fine();
}

/* Whether this process has a timer, where the kernel says so. */
static bool has_timer(void)
{
    char byte;
    int timers = open("/proc/self/timers", O_RDONLY | O_CLOEXEC);
    bool has = timers >= 0 && read(timers, &byte, 1) == 1;
    close(timers);
    return has;
}

/*
 * The child of a child in which a call was rescued, while a thread is inside again: a caller that the library does not
 * see finds the lock free, too.
 */
static void its_child_is_healed(const struct scn_case *self)
{
    void *const libc = dlopen("libc.so.6", RTLD_NOW);
    struct tm *(*const libcs)(const time_t *) = (struct tm * (*)(const time_t *))(uintptr_t)dlsym(libc, "localtime");
    SCN_CHECK(libcs != NULL);
    begin(self->entry);
    SCN_IN_CHILD {
        call_localtime();
        SCN_CHECK(!has_timer());
        SCN_CHECK(mkfifo("/dev/zone2", 0644) == 0 && setenv("TZ", ":/dev/zone2", 1) == 0);
        atomic_store(&worker_tid, 0);
        start_worker(self->entry);
        SCN_IN_CHILD {
            SCN_CHECK(libcs(&moment) != NULL);
        }
    }
    scn_fine();
}

/*
 * No thread that blocks a signal which the process handles counts as one outside of handlers where its stack may have
 * been a handler's: it may be that of a vanished worker.
 */
static void admit_signal(void)
{
    sigset_t workers;
    sigemptyset(&workers);
    sigaddset(&workers, SIGPROF);
    SCN_CHECK(pthread_sigmask(SIG_UNBLOCK, &workers, NULL) == 0);
}

/* Other threads wait where nobody has such a lock; two make the call, and wait for the same word. */
static void *wait_for_condition(void *unused)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&mutex);
    for (;;)
        pthread_cond_wait(&condition, &mutex);
    return unused;
}
static void *wait_for_signal(void *unused)
{
    sigset_t none;
    sigemptyset(&none);
    sigaddset(&none, SIGUSR2);
    sigwaitinfo(&none, NULL);
    return unused;
}
static void *wait_for_descriptor(void *unused)
{
    struct pollfd readable = {.fd = never, .events = POLLIN};
    poll(&readable, 1, -1);
    return unused;
}
static void *make_call(void *raw)
{
    ((const struct row *)raw)->in_child();
    return NULL;
}

static void beside_idle_threads(const struct scn_case *self)
{
    const struct row *row = self->entry;
    begin(row);
    SCN_IN_CHILD {
        admit_signal();
        scn_start(wait_for_condition, NULL);
        scn_start(wait_for_signal, NULL);
        scn_start(wait_for_descriptor, NULL);
        const bool takes_two_locks = row->in_child == call_endpwent; /* then two calls wait for different words */
        const pthread_t other = scn_start(takes_two_locks ? wait_for_signal : make_call, (void *)(uintptr_t)row);
        row->in_child();
        if (!takes_two_locks)
            scn_join(other);
    }
    scn_fine();
}

/* A child makes many such calls, none of which waits. Its own child, with threads, does wait. */
static void in_its_child_after_many(const struct scn_case *self)
{
    const struct row *row = self->entry;
    never = scn_bell();
    row->prepare();
    scn_start(wait_for_condition, NULL);
    SCN_IN_CHILD {
        for (int i = 0; i < 100; i++)
            row->in_child();
        start_worker(row);
        SCN_IN_CHILD {
            scn_start(wait_for_condition, NULL);
            row->in_child();
        }
    }
    scn_fine();
}

/* The looks of all these calls must not disturb each other until a line says that the child hangs. */
enum { TOGETHER = 6, FAMILIES = 12 };
static pthread_barrier_t together;

static void *call_together(void *raw)
{
    pthread_barrier_wait(&together);
    for (int i = 0; i < 20; i++)
        ((const struct row *)raw)->in_child();
    return NULL;
}

static void at_once(const struct scn_case *self)
{
    begin(self->entry);
    for (int i = 0; i < FAMILIES; i++) {
        SCN_IN_CHILD {
            pthread_t threads[TOGETHER];
            admit_signal();
            SCN_IS(pthread_barrier_init(&together, NULL, TOGETHER), 0);
            for (int j = 0; j < TOGETHER; j++)
                threads[j] = scn_start(call_together, (void *)(uintptr_t)self->entry);
            for (int j = 0; j < TOGETHER; j++)
                scn_join(threads[j]);
        }
    }
    scn_fine();
}

/* A thread that reads may be inside a call that reads a file while it has the lock. */
static void *stay_here(void *unused)
{
    scn_await(never);
    return unused;
}

static void with_another_thread(const struct scn_case *self)
{
    const struct row *row = self->entry;
    pid_t child[2];
    begin(row);
    for (int i = 0; i < 2; i++) {
        child[i] = scn_fork();
        if (child[i] == 0) {
            scn_start(stay_here, NULL);
            row->in_child();
            scn_fine();
        }
    }
    scn_reap(child[0]);
    scn_reap(child[1]);
    scn_fine();
}

/*
 * After the rescue the child's threads share the lock as ever: a recursive one, too, is given back. The next child
 * finds it free.
 */
static int call_in_thread(void *raw)
{
    ((const struct row *)raw)->in_child();
    return 0;
}

static void then_threads(const struct scn_case *self)
{
    const struct row *row = self->entry;
    begin(row);
    SCN_IN_CHILD {
        row->in_child();
        SCN_IS(scn_elsewhere(call_in_thread, (void *)(uintptr_t)row), 0);
        SCN_IN_CHILD {
            row->in_child();
        }
    }
    scn_fine();
}

/* The program's own timers and signals go on beside the rescue. */
static volatile int ticks;
static void tick(int number)
{
    ticks++;
}

static void beside_timers(const struct scn_case *self)
{
    const struct row *row = self->entry;
    begin(row);
    SCN_IN_CHILD {
        const struct itimerval often = {.it_interval = {.tv_usec = 2000}, .it_value = {.tv_usec = 2000}};
        const struct sigaction action = {.sa_handler = tick};
        struct sigaction found;
        void (*was[_NSIG])(int);
        for (int signal = 1; signal <= SIGRTMAX; signal++)
            was[signal] = sigaction(signal, NULL, &found) == 0 ? found.sa_handler : SIG_DFL; /* nohup ignores one */
        sigset_t before, after; /* libc fills in the part that the kernel knows, and empties no more than that */
        memset(&before, 0, sizeof before);
        memset(&after, 0, sizeof after);
        SCN_CHECK(sigaction(SIGVTALRM, &action, NULL) == 0 && sigaction(SIGRTMIN, &action, NULL) == 0);
        SCN_CHECK(sigaction(SIGPROF, &action, NULL) == 0 && setitimer(ITIMER_PROF, &often, NULL) == 0);
        sigprocmask(SIG_SETMASK, NULL, &before);
        row->in_child();
        sigprocmask(SIG_SETMASK, NULL, &after);
        SCN_CHECK(memcmp(&before, &after, sizeof before) == 0);
        was[SIGVTALRM] = was[SIGRTMIN] = was[SIGPROF] = tick;
        for (int signal = 1; signal <= SIGRTMAX; signal++)
            if (sigaction(signal, NULL, &found) == 0)
                SCN_CHECK(found.sa_handler == was[signal]);
        const int till = ticks + 3;
        while (ticks < till)
            ;
    }
    scn_fine();
}

void scn_cases(void)
{
    static char says[sizeof rows / sizeof rows[0]][300];
    if (geteuid() != 0 && access("/proc/self/setgroups", W_OK) != 0)
        return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        const bool mended = row->call != NULL && row->call[0] == '\0';
        const bool saved = mended || (row->call != NULL && strcmp(row->call, "syslog") == 0);
        const bool rescued = row->call != NULL && !saved;
        snprintf(says[i], sizeof says[i],
                 "took over the C library's lock 0x[0-9a-f]+ .*\\(%s\\) for .* in use at fork by \\d+ \"worker\" since"
                 " .* fork \\d by ;; never:may hang",
                 row->call ? row->call : "");
        scn_add((struct scn_case){.bare = row->call != NULL ? "hangs" : "fine",
                                  .run = in_a_child_and_its_child,
                                  .entry = row,
                                  .says = rescued ? says[i]
                                          : saved && !mended
                                              ? "went round the C library's lock \\(syslog\\) for .* in use at fork by"
                                                " \\d+ \"worker\" since"
                                              : SCN_SILENT},
                "%s", row->name);
        if (!rescued)
            continue;
        scn_add((struct scn_case){.bare = "hangs", .run = then_threads, .entry = row,
                                  .says = row->in_child == call_endpwent ? "never:may hang"
                                                                         : "once:took over ;; never:may hang"},
                "%s-then-threads", row->name);
        scn_add(SCN_CASE(.bare = "hangs", .run = beside_idle_threads, .entry = row, .says = "took over the C"),
                "%s-beside-idle-threads", row->name);
        scn_add((struct scn_case){.bare = "hangs", .preloaded = "hangs", .run = with_another_thread, .entry = row,
                                  .says = "once:may hang on the C library's lock 0x[0-9a-f]+ \\(.*\\) for .* in use at"
                                          " fork by \\d+ \"worker\" since .* fork \\d by ;; never:took over the C"},
                "%s-with-another-thread", row->name);
    }
    scn_add(SCN_CASE(.bare = "hangs", .run = its_child_is_healed, .entry = &rows[0], .says = "once:took over the C"),
            "its-child-is-healed");
    scn_add(SCN_CASE(.bare = "hangs", .run = beside_idle_threads, .entry = &after_many, .says = "took over the C"),
            "regexec-after-many-beside-idle-threads");
    scn_add((struct scn_case){.bare = "hangs", .run = in_its_child_after_many, .entry = &rows[LOCALE],
                              .says = "took over the C"}, "setlocale-in-its-child-after-many");
    scn_add(SCN_CASE(.bare = "hangs", .run = at_once, .entry = &rows[0], .says = "took over the C ;; never:hangs in"),
            "at-once");
    scn_add(SCN_CASE(.bare = "hangs", .run = beside_timers, .entry = &rows[0]), "beside-timers");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_MODE=report",
                     .run = in_a_child_and_its_child, .entry = &rows[0],
                     .says = "once:may hang on the C library's lock \\(localtime\\)"), "report");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_MODE=report",
                     .run = in_a_child_and_its_child, .entry = &rows[LOADER],
                     .says = "once:may hang on the C library's lock \\(dl_iterate_phdr\\)"), "report-loader");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .env = "FORKSAFE_MODE=abort",
                     .run = in_a_child_and_its_child, .entry = &rows[0],
                     .says = "would hang on the C library's lock \\(localtime\\)"), "abort");
    scn_add(SCN_CASE(.bare = "fine", .env = "FORKSAFE_MODE=abort", .run = in_a_child_and_its_child,
                     .entry = &rows[VAGUE], .says = SCN_SILENT), "abort-vague");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .env = "FORKSAFE_MODE=abort",
                     .run = in_a_child_and_its_child, .entry = &rows[INSIDE_OBJECT],
                     .says = "would hang on the C library's lock 0x[0-9a-f]+ \\(pthread_setschedparam\\)"),
            "abort-inside-object");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_MODE=off",
                     .run = in_a_child_and_its_child, .entry = &rows[0], .says = SCN_SILENT), "off");
}
