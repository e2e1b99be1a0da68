/* A storm for each of libc's own locks that nothing makes whole in a forked child.
 *
 * One row per lock, one call per public function that takes it. A worker checks what other threads cannot have
 * changed: not what lies in libc's static buffers. A child is alone, so it checks all.
 */

/*
 * Measured, on glibc 2.36 and x86-64 where nothing else is said.
 *
 * Each row of tests/storm/libc.c, 1,500 forks, on two processors that other work kept busy: 0 children hang, but for
 * dlopen, aio and getaddrinfo_a. All of libc at once from eight threads, 5,000 forks: 0 hang, 0 wrong.
 */
#include "storm.h"

#include <aio.h>
#include <aliases.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <error.h>
#include <execinfo.h>
#include <fcntl.h>
#include <fmtmsg.h>
#include <getopt.h>
#include <grp.h>
#include <iconv.h>
#include <libintl.h>
#include <limits.h>
#include <link.h>
#include <locale.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <regex.h>
#include <rpc/netdb.h>
#include <semaphore.h>
#include <shadow.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>
#include <utmpx.h>
#include <wchar.h>

typedef const struct storm_seat *seat_t;
#define CALL(name) static bool name##_(seat_t seat __attribute__((unused)))

static bool same(const char *got, const char *wanted)
{
    return got && wanted ? strcmp(got, wanted) == 0 : got == wanted;
}

/* Runs in a child, which is alone: what BODY prints goes nowhere. */
static void unheard(void (*body)(void))
{
    fflush(stderr);
    const int kept = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(nowhere, STDERR_FILENO);
    body();
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(nowhere);
}

/* --- syslog ------------------------------------------------------------------------------------------------------- */

/* What _FORTIFY_SOURCE makes of the calls. */
void __syslog_chk(int priority, int flag, const char *format, ...);
void __vsyslog_chk(int priority, int flag, const char *format, va_list values);

/* Nobody shall read thousands of our lines in a journal. */
static const char *hide_log(void)
{
    return access("/dev/log", F_OK) == 0 ? storm_needs_etc() : NULL;
}

static void log_values(bool is_chk, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (is_chk)
        __vsyslog_chk(LOG_DEBUG, 1, format, values);
    else
        vsyslog(LOG_DEBUG, format, values);
    va_end(values);
}

CALL(syslog)
{
    syslog(LOG_DEBUG, "storm %u", seat->number);
    return true;
}

CALL(vsyslog)
{
    log_values(false, "storm %u", seat->number);
    return true;
}

CALL(syslog_chk)
{
    __syslog_chk(LOG_DEBUG, 1, "storm %u", seat->number);
    return true;
}

CALL(vsyslog_chk)
{
    log_values(true, "storm %u", seat->number);
    return true;
}

CALL(openlog)
{
    openlog("storm", LOG_PID, LOG_LOCAL3);
    closelog();
    return true;
}

CALL(setlogmask)
{
    STORM_CHECK(setlogmask(LOG_UPTO(LOG_DEBUG)) == LOG_UPTO(LOG_DEBUG));
    return true;
}

static const struct storm_call syslog_calls[] = {{"syslog", syslog_, 0},
                                                 {"vsyslog", vsyslog_, 0},
                                                 {"__syslog_chk", syslog_chk_, 0},
                                                 {"__vsyslog_chk", vsyslog_chk_, 0},
                                                 {"openlog", openlog_, 0},
                                                 {"setlogmask", setlogmask_, 0},
                                                 {0}};

/* --- Time zones --------------------------------------------------------------------------------------------------- */

/* Tuesday 2023-11-14 22:13:20 UTC, as two places see it. */
static const time_t moment = 1700000000;
#define ZONE_EAST "CET-1CEST,M3.5.0,M10.5.0/3"
#define ZONE_WEST "<-03>3"

static bool zone_changes; /* other threads set TZ: either place is right */

static const char *set_zone(void)
{
    setenv("TZ", ZONE_EAST, 1);
    tzset();
    return NULL;
}

static const char *set_changing_zone(void)
{
    zone_changes = true;
    return set_zone();
}

static bool is_moment(const struct tm *tm, long offset)
{
    return tm && tm->tm_year == 123 && tm->tm_mon == 10 && tm->tm_mday == 14 && tm->tm_min == 13 && tm->tm_sec == 20 &&
           tm->tm_hour == 22 + offset && tm->tm_gmtoff == offset * 3600;
}

static bool is_local(const struct tm *tm)
{
    return is_moment(tm, 1) || (zone_changes && is_moment(tm, -3));
}

CALL(localtime)
{
    const struct tm *tm = localtime(&moment);
    STORM_CHECK(tm && (!seat->is_child || is_local(tm)));
    return true;
}

CALL(localtime_r)
{
    struct tm tm;
    STORM_CHECK(localtime_r(&moment, &tm) == &tm && is_local(&tm));
    return true;
}

CALL(gmtime)
{
    const struct tm *tm = gmtime(&moment);
    STORM_CHECK(tm && (!seat->is_child || is_moment(tm, 0)));
    return true;
}

CALL(gmtime_r)
{
    struct tm tm;
    STORM_CHECK(gmtime_r(&moment, &tm) == &tm && is_moment(&tm, 0));
    return true;
}

CALL(mktime)
{
    struct tm tm = {.tm_year = 123, .tm_mon = 10, .tm_mday = 14, .tm_hour = 23, .tm_min = 13, .tm_sec = 20};
    const time_t got = mktime(&tm);
    STORM_CHECK(got == moment || (zone_changes && got == moment + 4 * 3600));
    return true;
}

CALL(timegm)
{
    struct tm tm = {.tm_year = 123, .tm_mon = 10, .tm_mday = 14, .tm_hour = 22, .tm_min = 13, .tm_sec = 20};
    STORM_CHECK(timegm(&tm) == moment);
    return true;
}

CALL(tzset)
{
    tzset();
    STORM_CHECK(!seat->is_child || timezone == -3600 || (zone_changes && timezone == 3 * 3600));
    return true;
}

/* A time that does not say its zone: both %s and %Z have to ask for it. */
static struct tm unzoned(void)
{
    return (struct tm){.tm_year = 123, .tm_mon = 10, .tm_mday = 14, .tm_hour = 23, .tm_min = 13, .tm_sec = 20};
}

CALL(strftime)
{
    const struct tm tm = unzoned();
    char text[64];
    STORM_CHECK(strftime(text, sizeof text, "%Y-%m-%d %s %Z", &tm));
    STORM_CHECK(same(text, "2023-11-14 1700000000 CET") ||
                (zone_changes && (!seat->is_child || same(text, "2023-11-14 1700014400 -03"))));
    return true;
}

CALL(wcsftime)
{
    const struct tm tm = unzoned();
    wchar_t text[64];
    STORM_CHECK(wcsftime(text, 64, L"%Y-%m-%d %s %Z", &tm));
    STORM_CHECK(wcscmp(text, L"2023-11-14 1700000000 CET") == 0 ||
                (zone_changes && (!seat->is_child || wcscmp(text, L"2023-11-14 1700014400 -03") == 0)));
    return true;
}

static bool is_local_text(const char *text)
{
    return same(text, "Tue Nov 14 23:13:20 2023\n") || (zone_changes && same(text, "Tue Nov 14 19:13:20 2023\n"));
}

CALL(ctime)
{
    const char *text = ctime(&moment);
    STORM_CHECK(text && (!seat->is_child || is_local_text(text)));
    return true;
}

CALL(ctime_r)
{
    char text[64];
    STORM_CHECK(ctime_r(&moment, text) == text && is_local_text(text));
    return true;
}

/* One name, replaced and replaced: getenv() in other threads stays safe. */
CALL(change_zone)
{
    const bool is_east = (seat->number + seat->round) % 2;
    STORM_CHECK(setenv("TZ", is_east ? ZONE_EAST : ZONE_WEST, 1) == 0);
    tzset();
    if (seat->is_child) {
        struct tm tm;
        STORM_CHECK(same(getenv("TZ"), is_east ? ZONE_EAST : ZONE_WEST));
        STORM_CHECK(localtime_r(&moment, &tm) && is_moment(&tm, is_east ? 1 : -3));
        STORM_CHECK(same(tm.tm_zone, is_east ? "CET" : "-03"));
    }
    return true;
}

static const char *set_dates(void)
{
    setenv("DATEMSK", STORM_ETC "/datemsk", 1);
    return storm_needs_etc();
}

CALL(getdate_r)
{
    struct tm tm;
    STORM_CHECK(getdate_r("2009-02-13", &tm) == 0 && tm.tm_year == 109 && tm.tm_yday == 43);
    return true;
}

static const struct storm_call getdate_calls[] = {{"getdate_r", getdate_r_, 0}, {0}};

static const struct storm_call localtime_calls[] = {
    {"localtime", localtime_, 0}, {"localtime_r", localtime_r_, 0}, {"gmtime", gmtime_, 0}, {"gmtime_r", gmtime_r_, 0},
    {"tzset", tzset_, 0},         {"ctime", ctime_, 0},             {"ctime_r", ctime_r_, 0}, {0}};
static const struct storm_call mktime_calls[] = {{"mktime", mktime_, 0}, {"timegm", timegm_, 0}, {0}};
static const struct storm_call strftime_calls[] = {{"strftime", strftime_, 0}, {"wcsftime", wcsftime_, 0}, {0}};
static const struct storm_call zone_calls[] = {
    {"setenv(TZ)", change_zone_, 0}, {"localtime_r", localtime_r_, 0}, {"localtime", localtime_, 0}, {0}};

/* --- The environment ---------------------------------------------------------------------------------------------- */

static void variable(char name[32], seat_t seat)
{
    snprintf(name, 32, "STORM_%s%u", seat->is_child ? "CHILD" : "", seat->number % 64);
}

static const char *set_variables(void)
{
    char name[32];
    for (unsigned i = 0; i < 64; i++) {
        const struct storm_seat seat = {.number = i};
        variable(name, &seat);
        setenv(name, "0", 1);
    }
    return NULL;
}

static bool is_set_to(const char *name, unsigned long value)
{
    const char *text = getenv(name);
    char *end = NULL;
    return text && strtoul(text, &end, 10) == value && *end == '\0';
}

CALL(setenv)
{
    char name[32], text[32];
    variable(name, seat);
    snprintf(text, sizeof text, "%lu", seat->round % 100);
    STORM_CHECK(setenv(name, text, 1) == 0);
    STORM_CHECK(!seat->is_child || is_set_to(name, seat->round % 100));
    return true;
}

static char put_texts[2][64][48];

CALL(putenv)
{
    char *text = put_texts[seat->round % 2][seat->number % 64];
    char name[32];
    if (!text[0]) {
        variable(name, seat);
        snprintf(text, sizeof put_texts[0][0], "%s=%lu", name, seat->round % 2);
    }
    STORM_CHECK(putenv(text) == 0);
    return true;
}

/* Moves the others in `environ`: right among callers of setenv & co., but not beside getenv(). */
CALL(unsetenv)
{
    char name[32];
    variable(name, seat);
    STORM_CHECK(unsetenv(name) == 0 && (!seat->is_child || !getenv(name)));
    STORM_CHECK(setenv(name, "17", 0) == 0 && (!seat->is_child || is_set_to(name, 17)));
    return true;
}

CALL(clearenv)
{
    char zone[64];
    const char *old = getenv("TZ");
    snprintf(zone, sizeof zone, "%s", old ? old : "");
    STORM_CHECK(clearenv() == 0 && (!environ || !*environ));
    STORM_CHECK(setenv("STORM_AGAIN", "4711", 1) == 0 && is_set_to("STORM_AGAIN", 4711));
    STORM_CHECK(!old || setenv("TZ", zone, 1) == 0); /* for this child's later calls */
    return true;
}

static const struct storm_call setenv_calls[] = {{"setenv", setenv_, 0},
                                                 {"putenv", putenv_, 0},
                                                 {"unsetenv", unsetenv_, STORM_APART},
                                                 {"clearenv", clearenv_, STORM_CHILD},
                                                 {0}};

/* --- random ------------------------------------------------------------------------------------------------------- */

enum { FIRST_OF_SEED_1 = 1804289383 };

CALL(random)
{
    STORM_CHECK(random() >= 0);
    return true;
}

CALL(rand)
{
    STORM_CHECK(rand() >= 0);
    return true;
}

CALL(srandom)
{
    srandom(1);
    STORM_CHECK(!seat->is_child || random() == FIRST_OF_SEED_1);
    return true;
}

CALL(srand)
{
    srand(1);
    STORM_CHECK(!seat->is_child || rand() == FIRST_OF_SEED_1);
    return true;
}

CALL(initstate)
{
    static char states[65][128];
    char *state = seat->is_child ? states[64] : states[seat->number % 64];
    char *old = initstate(1, state, sizeof states[0]);
    STORM_CHECK(old != NULL);
    STORM_CHECK(!seat->is_child || random() == FIRST_OF_SEED_1);
    if (seat->is_child)
        STORM_CHECK(setstate(old) == state && random() >= 0);
    return true;
}

static const struct storm_call random_calls[] = {{"random", random_, 0}, {"rand", rand_, 0}, {"srandom", srandom_, 0},
                                                 {"srand", srand_, 0},   {"initstate", initstate_, 0}, {0}};

/* --- Locales and messages ----------------------------------------------------------------------------------------- */

CALL(setlocale)
{
    const char *name = (seat->number + seat->round) % 2 ? "C.UTF-8" : "C";
    const char *got = setlocale(LC_ALL, name);
    STORM_CHECK(got && (!seat->is_child || same(got, name)));
    STORM_CHECK(!seat->is_child || same(setlocale(LC_CTYPE, NULL), name));
    return true;
}

CALL(newlocale)
{
    const locale_t one = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
    STORM_CHECK(one);
    const locale_t two = duplocale(one);
    STORM_CHECK(two);
    freelocale(one);
    freelocale(two);
    return true;
}

static const struct storm_call setlocale_calls[] = {{"setlocale", setlocale_, 0}, {"newlocale", newlocale_, 0}, {0}};

CALL(strerror)
{
    STORM_CHECK(same(strerror(ENOENT), "No such file or directory"));
    const char *unknown = strerror(123456); /* in a buffer of this thread */
    STORM_CHECK(same(unknown, "Unknown error 123456"));
    return true;
}

CALL(strerror_r)
{
    char text[64];
    STORM_CHECK(same(strerror_r(EACCES, text, sizeof text), "Permission denied"));
    return true;
}

CALL(strerror_l)
{
    const locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    STORM_CHECK(same(strerror_l(ENOENT, locale), "No such file or directory"));
    freelocale(locale);
    return true;
}

CALL(strsignal)
{
    STORM_CHECK(same(strsignal(SIGTERM), "Terminated"));
    return true;
}

static void print_error(void)
{
    errno = ENOENT;
    perror("storm");
}

CALL(perror)
{
    unheard(print_error);
    return true;
}

static void print_psignal(void)
{
    psignal(SIGTERM, "storm");
}

CALL(psignal)
{
    unheard(print_psignal);
    return true;
}

static void print_warnings(void)
{
    errno = ENOENT;
    warn("storm %d", 1);
    warnx("storm %d", 2);
    error(0, ENOENT, "storm %d", 3);
}

CALL(warn)
{
    unheard(print_warnings);
    return true;
}

static void parse_nonsense(void)
{
    char program[] = "storm", option[] = "-x", more[] = "--more";
    char *arguments[] = {program, option, more, NULL};
    const struct option known[] = {{"less", no_argument, NULL, 'l'}, {0}};
    optind = 1;
    while (getopt_long(3, arguments, "a", known, NULL) != -1)
        ;
}

CALL(getopt)
{
    unheard(parse_nonsense);
    STORM_CHECK(optind == 3);
    return true;
}

CALL(gai_strerror)
{
    STORM_CHECK(same(gai_strerror(EAI_NONAME), "Name or service not known"));
    return true;
}

CALL(hstrerror)
{
    STORM_CHECK(same(hstrerror(HOST_NOT_FOUND), "Unknown host"));
    return true;
}

/* The readers alone never hang: setlocale() is what they wait for. */
static const struct storm_call strerror_calls[] = {{"setlocale", setlocale_, STORM_WORKER},
                                                   {"strerror", strerror_, 0},
                                                   {"strerror_r", strerror_r_, 0},
                                                   {"strerror_l", strerror_l_, 0},
                                                   {"strsignal", strsignal_, 0},
                                                   {"gai_strerror", gai_strerror_, 0},
                                                   {"hstrerror", hstrerror_, 0},
                                                   {"perror", perror_, STORM_CHILD},
                                                   {"psignal", psignal_, STORM_CHILD},
                                                   {"warn", warn_, STORM_CHILD},
                                                   {"getopt_long", getopt_, STORM_CHILD},
                                                   {0}};

static const char *set_messages(void)
{
    /* In the C locale nothing is looked up. */
    setlocale(LC_ALL, "C.UTF-8");
    return NULL;
}

CALL(bindtextdomain)
{
    STORM_CHECK(same(bindtextdomain("storm", "/nonexistent"), "/nonexistent"));
    return true;
}

CALL(bind_textdomain_codeset)
{
    STORM_CHECK(same(bind_textdomain_codeset("storm", "UTF-8"), "UTF-8"));
    return true;
}

CALL(textdomain)
{
    STORM_CHECK(same(textdomain("storm"), "storm"));
    return true;
}

CALL(gettext)
{
    STORM_CHECK(same(gettext("no such message"), "no such message"));
    return true;
}

CALL(dgettext)
{
    STORM_CHECK(same(dgettext("storm", "one"), "one") && same(dcgettext("storm", "two", LC_TIME), "two"));
    return true;
}

CALL(ngettext)
{
    STORM_CHECK(same(ngettext("thread", "threads", 2), "threads"));
    STORM_CHECK(same(dngettext("storm", "thread", "threads", 1), "thread"));
    STORM_CHECK(same(dcngettext("storm", "thread", "threads", 3, LC_MESSAGES), "threads"));
    return true;
}

static const struct storm_call gettext_calls[] = {{"bindtextdomain", bindtextdomain_, 0},
                                                  {"textdomain", textdomain_, 0},
                                                  {"bind_textdomain_codeset", bind_textdomain_codeset_, 0},
                                                  {"gettext", gettext_, 0},
                                                  {"dgettext", dgettext_, 0},
                                                  {"ngettext", ngettext_, 0},
                                                  {0}};

CALL(format)
{
    char text[64];
    errno = ENOENT;
    snprintf(text, sizeof text, "%m");
    STORM_CHECK(same(text, "No such file or directory"));
    return true;
}

/* %m reads under the locks of locale and messages, and no wrapper sees it. */
static const struct storm_call format_calls[] = {{"%m", format_, STORM_WORKER},
                                                 {"setlocale", setlocale_, STORM_CHILD},
                                                 {"bindtextdomain", bindtextdomain_, STORM_CHILD},
                                                 {"textdomain", textdomain_, STORM_CHILD},
                                                 {0}};

/* --- The exit functions ------------------------------------------------------------------------------------------- */

int __cxa_atexit(void (*function)(void *), void *argument, void *dso);
void __cxa_finalize(void *dso);
int __cxa_at_quick_exit(void (*function)(void *), void *dso);

static void nothing(void)
{
}

static void nothing_of(void *argument)
{
    (void)argument;
}

static void nothing_with(int status, void *argument)
{
    (void)status;
    (void)argument;
}

/* Nothing takes these back, so they must not outrun the forks: 40 for each. */
static bool may_register(void)
{
    static atomic_ulong registered;
    if (atomic_load_explicit(&registered, memory_order_relaxed) > 40 * (storm_forks() + 1))
        return false;
    atomic_fetch_add_explicit(&registered, 1, memory_order_relaxed);
    return true;
}

CALL(atexit)
{
    STORM_CHECK((!seat->is_child && !may_register()) || atexit(nothing) == 0);
    return true;
}

CALL(on_exit)
{
    STORM_CHECK((!seat->is_child && !may_register()) || on_exit(nothing_with, NULL) == 0);
    return true;
}

CALL(at_quick_exit)
{
    STORM_CHECK((!seat->is_child && !may_register()) || at_quick_exit(nothing) == 0);
    return true;
}

/* As a shared object that is loaded and unloaded does. */
CALL(cxa_atexit)
{
    static char handles[65];
    void *handle = &handles[seat->is_child ? 64 : seat->number % 64];
    STORM_CHECK(__cxa_atexit(nothing_of, NULL, handle) == 0);
    __cxa_finalize(handle);
    return true;
}

CALL(exit)
{
    exit(0);
}

CALL(quick_exit)
{
    quick_exit(0);
}

static const struct storm_call atexit_calls[] = {{"atexit", atexit_, 0},
                                                 {"on_exit", on_exit_, 0},
                                                 {"__cxa_atexit", cxa_atexit_, 0},
                                                 {"exit", exit_, STORM_ENDS},
                                                 {0}};
/* The same lock: __cxa_atexit keeps it busy. */
static const struct storm_call quick_exit_calls[] = {{"at_quick_exit", at_quick_exit_, 0},
                                                     {"__cxa_atexit", cxa_atexit_, STORM_WORKER},
                                                     {"quick_exit", quick_exit_, STORM_ENDS},
                                                     {0}};
/* Nothing but atexit(), as far as memory allows: FACTS saw 12 of 1,021. */
static const struct storm_call exit_calls[] = {{"atexit", atexit_, STORM_WORKER}, {"exit", exit_, STORM_ENDS}, {0}};

/* --- The dynamic linker ------------------------------------------------------------------------------------------- */

static int count_object(struct dl_phdr_info *info, size_t size, void *count)
{
    (void)info;
    (void)size;
    ++*(int *)count;
    return 0;
}

static int objects;

static const char *count_objects(void)
{
    void *frames[4];
    backtrace(frames, 4); /* loads the unwinder */
    dl_iterate_phdr(count_object, &objects);
    return NULL;
}

CALL(dl_iterate_phdr)
{
    int count = 0;
    STORM_CHECK(dl_iterate_phdr(count_object, &count) == 0 && count >= objects && objects > 1);
    return true;
}

CALL(backtrace)
{
    void *frames[16];
    STORM_CHECK(backtrace(frames, 16) > 0);
    return true;
}

CALL(dlopen_again)
{
    void *handle = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    STORM_CHECK(handle && dlsym(handle, "abort"));
    STORM_CHECK(dlclose(handle) == 0);
    return true;
}

CALL(dlopen_new)
{
    void *handle = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    STORM_CHECK(handle && dlsym(handle, "cos"));
    STORM_CHECK(dlclose(handle) == 0);
    return true;
}

CALL(pthread_exit)
{
    pthread_exit(NULL); /* of the last thread: exit(0) */
}

static const struct storm_call dl_calls[] = {{"dl_iterate_phdr", dl_iterate_phdr_, 0},
                                             {"backtrace", backtrace_, STORM_CHILD},
                                             {"dlopen", dlopen_again_, STORM_CHILD},
                                             /*
                                              * Apart: a timer's thread that the child has started stays, and then this
                                              * is not the last.
                                              */
                                             {"pthread_exit", pthread_exit_, STORM_ENDS | STORM_APART},
                                             {0}};
static const struct storm_call dlopen_calls[] = {
    {"dlopen", dlopen_new_, 0}, {"dl_iterate_phdr", dl_iterate_phdr_, STORM_CHILD}, {0}};

/* --- Character sets ----------------------------------------------------------------------------------------------- */

CALL(iconv_open)
{
    /* Both are part of libc: nothing is loaded. */
    char in[] = "\xc3\xa4", out[8] = {0}, *from = in, *to = out;
    size_t in_left = 2, out_left = sizeof out;
    const iconv_t converter = iconv_open("UCS-4LE", "UTF-8");
    STORM_CHECK(converter != (iconv_t)-1);
    STORM_CHECK(iconv(converter, &from, &in_left, &to, &out_left) == 0 && to == out + 4 && out[0] == '\xe4' && !out[1]);
    STORM_CHECK(iconv_close(converter) == 0);
    return true;
}

CALL(fclose_wide)
{
    FILE *file = fopen("/dev/null", "we");
    STORM_CHECK(file && fwide(file, 1) > 0 && fputwc(L'x', file) == L'x');
    STORM_CHECK(fclose(file) == 0);
    return true;
}

static const struct storm_call iconv_calls[] = {
    {"iconv_open", iconv_open_, 0}, {"fclose of a wide file", fclose_wide_, 0}, {0}};

static wchar_t *format_wide(wchar_t *text, size_t size, const wchar_t *format, ...)
{
    va_list values;
    va_start(values, format);
    const int length = vswprintf(text, size, format, values);
    va_end(values);
    return length > 0 ? text : NULL;
}

CALL(swprintf)
{
    wchar_t text[64];
    STORM_CHECK(swprintf(text, 64, L"storm %u of %s", 4711, "many") == 18 && wcscmp(text, L"storm 4711 of many") == 0);
    return true;
}

CALL(vswprintf)
{
    wchar_t text[64];
    STORM_CHECK(format_wide(text, 64, L"%d", 4711) && wcscmp(text, L"4711") == 0);
    return true;
}

CALL(swscanf)
{
    unsigned number = 0;
    STORM_CHECK(swscanf(L"storm 4711", L"storm %u", &number) == 1 && number == 4711);
    return true;
}

CALL(mbstowcs)
{
    wchar_t wide[16];
    char narrow[16];
    STORM_CHECK(mbstowcs(wide, "storm", 16) == 5 && wcscmp(wide, L"storm") == 0);
    STORM_CHECK(wcstombs(narrow, wide, 16) == 5 && same(narrow, "storm"));
    return true;
}

CALL(mbrtowc)
{
    mbstate_t state = {0};
    wchar_t wide = 0;
    char narrow[MB_LEN_MAX];
    STORM_CHECK(mbrtowc(&wide, "s", 1, &state) == 1 && wide == L's');
    STORM_CHECK(wcrtomb(narrow, L's', &state) == 1 && narrow[0] == 's');
    STORM_CHECK(btowc('s') == L's' && wctob(L's') == 's');
    return true;
}

/* In a locale that nobody else keeps, its converters are looked up anew. */
CALL(mbstowcs_new_locale)
{
    const locale_t fresh = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    STORM_CHECK(fresh);
    const locale_t old = uselocale(fresh);
    wchar_t wide[4];
    STORM_CHECK(mbstowcs(wide, "\xc3\xa4", 4) == 1 && wide[0] == 0xe4);
    uselocale(old);
    freelocale(fresh);
    return true;
}

static const struct storm_call wide_calls[] = {{"setlocale", setlocale_, STORM_WORKER},
                                               {"mbstowcs in a new locale", mbstowcs_new_locale_, 0},
                                               {"swprintf", swprintf_, 0},
                                               {"vswprintf", vswprintf_, 0},
                                               {"swscanf", swscanf_, 0},
                                               {"mbstowcs", mbstowcs_, 0},
                                               {"mbrtowc", mbrtowc_, 0},
                                               {"fputwc", fclose_wide_, 0},
                                               {0}};

/* --- Names: NSS --------------------------------------------------------------------------------------------------- */

/* What the databases of this machine say, asked before there are threads: 0 for what is not there. */
static struct {
    int tcp, domain, sunrpc;
    bool loopback, shadow, alias;
} known;

static const char *ask_names(void)
{
    const struct protoent *protocol = getprotobyname("tcp");
    known.tcp = protocol ? protocol->p_proto : 0;
    const struct servent *service = getservbyname("domain", "udp");
    known.domain = service ? service->s_port : 0;
    const struct rpcent *rpc = getrpcbyname("portmapper");
    known.sunrpc = rpc ? rpc->r_number : 0;
    known.loopback = getnetbyname("loopback") != NULL;
    known.shadow = getspnam("root") != NULL;
    known.alias = getaliasbyname("postmaster") != NULL;
    return getpwnam("root") && getgrnam("root") ? NULL : "nobody is called root";
}

/* A file that was open at the fork has one place for parent and child: the child must open its own. */
static void start_anew(seat_t seat, void (*end)(void))
{
    if (seat->is_child)
        end();
}

CALL(getpwnam)
{
    const struct passwd *user = getpwnam("root");
    STORM_CHECK(user && (!seat->is_child || (user->pw_uid == 0 && same(user->pw_name, "root") && user->pw_dir)));
    return true;
}

CALL(getpwuid)
{
    const struct passwd *user = getpwuid(0);
    STORM_CHECK(user && (!seat->is_child || (user->pw_uid == 0 && user->pw_name[0])));
    return true;
}

CALL(getpwent)
{
    start_anew(seat, endpwent);
    setpwent();
    const struct passwd *user = getpwent();
    STORM_CHECK(!seat->is_child || (user && user->pw_name[0]));
    endpwent();
    return true;
}

CALL(getgrnam)
{
    const struct group *group = getgrnam("root");
    STORM_CHECK(group && (!seat->is_child || (group->gr_gid == 0 && same(group->gr_name, "root") && group->gr_mem)));
    return true;
}

CALL(getgrgid)
{
    const struct group *group = getgrgid(0);
    STORM_CHECK(group && (!seat->is_child || (group->gr_gid == 0 && group->gr_name[0])));
    return true;
}

CALL(getgrent)
{
    start_anew(seat, endgrent);
    setgrent();
    const struct group *group = getgrent();
    STORM_CHECK(!seat->is_child || (group && group->gr_name[0]));
    endgrent();
    return true;
}

CALL(getspnam)
{
    STORM_CHECK(!getspnam("root") == !known.shadow);
    start_anew(seat, endspent);
    setspent();
    getspent();
    endspent();
    return true;
}

static const struct storm_call passwd_calls[] = {
    {"getpwnam", getpwnam_, 0}, {"getpwuid", getpwuid_, 0}, {"getpwent", getpwent_, 0}, {"getspnam", getspnam_, 0},
    {0}};
static const struct storm_call group_calls[] = {
    {"getgrnam", getgrnam_, 0}, {"getgrgid", getgrgid_, 0}, {"getgrent", getgrent_, 0}, {0}};

CALL(getservbyname)
{
    const struct servent *service = getservbyname("domain", "udp");
    STORM_CHECK(!service == !known.domain && (!seat->is_child || !service || service->s_port == known.domain));
    return true;
}

CALL(getservbyport)
{
    const struct servent *service = getservbyport(htons(53), "udp");
    STORM_CHECK(!service == !known.domain && (!seat->is_child || !service || same(service->s_name, "domain")));
    return true;
}

CALL(getservent)
{
    start_anew(seat, endservent);
    setservent(1);
    const struct servent *service = getservent();
    STORM_CHECK(!seat->is_child || !service == !known.domain);
    endservent();
    return true;
}

CALL(getprotobyname)
{
    const struct protoent *protocol = getprotobyname("tcp");
    STORM_CHECK(!protocol == !known.tcp && (!seat->is_child || !protocol || protocol->p_proto == known.tcp));
    return true;
}

CALL(getprotobynumber)
{
    const struct protoent *protocol = getprotobynumber(IPPROTO_TCP);
    STORM_CHECK(!protocol == !known.tcp && (!seat->is_child || !protocol || same(protocol->p_name, "tcp")));
    return true;
}

CALL(getprotoent)
{
    start_anew(seat, endprotoent);
    setprotoent(1);
    const struct protoent *protocol = getprotoent();
    STORM_CHECK(!seat->is_child || !protocol == !known.tcp);
    endprotoent();
    return true;
}

CALL(getrpcbyname)
{
    const struct rpcent *rpc = getrpcbyname("portmapper");
    STORM_CHECK(!rpc == !known.sunrpc && (!seat->is_child || !rpc || rpc->r_number == known.sunrpc));
    STORM_CHECK(!getrpcbynumber(100000) == !known.sunrpc);
    start_anew(seat, endrpcent);
    setrpcent(1);
    getrpcent();
    endrpcent();
    return true;
}

CALL(getaliasbyname)
{
    STORM_CHECK(!getaliasbyname("postmaster") == !known.alias);
    setaliasent();
    getaliasent();
    endaliasent();
    return true;
}

CALL(innetgr)
{
    STORM_CHECK(innetgr("no such netgroup", NULL, "root", NULL) == 0);
    char *host, *user, *domain;
    setnetgrent("no such netgroup");
    STORM_CHECK(getnetgrent(&host, &user, &domain) == 0);
    endnetgrent();
    return true;
}

static const struct storm_call services_calls[] = {{"getservbyname", getservbyname_, 0},
                                                   {"getservbyport", getservbyport_, 0},
                                                   {"getservent", getservent_, 0},
                                                   {"getprotobyname", getprotobyname_, 0},
                                                   {"getprotobynumber", getprotobynumber_, 0},
                                                   {"getprotoent", getprotoent_, 0},
                                                   {"getrpcbyname", getrpcbyname_, 0},
                                                   {"getaliasbyname", getaliasbyname_, 0},
                                                   {"innetgr", innetgr_, 0},
                                                   {0}};

/* --- Hosts -------------------------------------------------------------------------------------------------------- */

/* With two addresses getaddrinfo() sorts them, which is where its own locks are. No server is ever asked. */
static const char *need_hosts(void)
{
    const char *why_not = storm_needs_etc();
    return why_not ? why_not : ask_names();
}

static bool is_loopback_host(const struct hostent *host)
{
    const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    return same(host->h_name, "localhost") && host->h_addrtype == AF_INET && host->h_length == 4 &&
           host->h_addr_list[0] && memcmp(host->h_addr_list[0], &loopback, 4) == 0;
}

CALL(gethostbyname)
{
    const struct hostent *host = gethostbyname("localhost");
    STORM_CHECK(host && (!seat->is_child || is_loopback_host(host)));
    return true;
}

CALL(gethostbyname2)
{
    const struct hostent *host = gethostbyname2("localhost", AF_INET6);
    STORM_CHECK(host && (!seat->is_child || (host->h_addrtype == AF_INET6 && same(host->h_name, "localhost"))));
    return true;
}

CALL(gethostbyname_r)
{
    struct hostent host, *found = NULL;
    char buffer[1024];
    int error;
    STORM_CHECK(gethostbyname_r("localhost", &host, buffer, sizeof buffer, &found, &error) == 0 && found);
    STORM_CHECK(is_loopback_host(found));
    STORM_CHECK(gethostbyname2_r("localhost", AF_INET, &host, buffer, sizeof buffer, &found, &error) == 0 && found);
    STORM_CHECK(is_loopback_host(found));
    return true;
}

CALL(gethostbyaddr)
{
    const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    const struct hostent *host = gethostbyaddr(&loopback, sizeof loopback, AF_INET);
    STORM_CHECK(host && (!seat->is_child || is_loopback_host(host)));
    return true;
}

CALL(gethostbyaddr_r)
{
    const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    struct hostent host, *found = NULL;
    char buffer[1024];
    int error;
    STORM_CHECK(gethostbyaddr_r(&loopback, sizeof loopback, AF_INET, &host, buffer, sizeof buffer, &found, &error) ==
                0);
    STORM_CHECK(found && is_loopback_host(found));
    return true;
}

CALL(gethostent)
{
    start_anew(seat, endhostent);
    sethostent(0);
    const struct hostent *host = gethostent();
    STORM_CHECK(!seat->is_child || (host && same(host->h_name, "localhost")));
    endhostent();
    return true;
}

CALL(getnetbyname)
{
    STORM_CHECK(!getnetbyname("loopback") == !known.loopback);
    getnetbyaddr(127, AF_INET);
    start_anew(seat, endnetent);
    setnetent(0);
    getnetent();
    endnetent();
    return true;
}

static const struct storm_call gethostbyname_calls[] = {{"gethostbyname", gethostbyname_, 0},
                                                        {"gethostbyname2", gethostbyname2_, 0},
                                                        {"gethostbyname_r", gethostbyname_r_, 0},
                                                        {"gethostbyaddr", gethostbyaddr_, 0},
                                                        {"gethostbyaddr_r", gethostbyaddr_r_, 0},
                                                        {"gethostent", gethostent_, 0},
                                                        {"getnetbyname", getnetbyname_, 0},
                                                        {0}};

CALL(getaddrinfo)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    STORM_CHECK(getaddrinfo("localhost", "80", &hints, &list) == 0);
    int old = 0, new = 0;
    for (const struct addrinfo *one = list; one; one = one->ai_next) {
        old += one->ai_family == AF_INET;
        new += one->ai_family == AF_INET6;
    }
    freeaddrinfo(list);
    STORM_CHECK(old == 1 && new == 1);
    return true;
}

static const struct storm_call getaddrinfo_calls[] = {{"getaddrinfo", getaddrinfo_, 0}, {0}};

CALL(getnameinfo)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char host[64], service[64];
    STORM_CHECK(getnameinfo((const struct sockaddr *)&address, sizeof address, host, sizeof host, service,
                            sizeof service, NI_DGRAM) == 0);
    STORM_CHECK(same(host, "localhost") && same(service, known.domain ? "domain" : "53"));
    return true;
}

/* getnameinfo() alone takes few locks; the resolver's are what the others keep busy. */
static const struct storm_call getnameinfo_calls[] = {
    {"getnameinfo", getnameinfo_, 0}, {"getaddrinfo", getaddrinfo_, STORM_WORKER}, {0}};

/*
 * Each request in other memory than the last: libc says that a request is done before it has taken it out of its list.
 * One that begins at the same address then is taken for the old one, and gai_suspend reads what a helper thread has
 * freed (valgrind shows it without forks or the library): likely what the parent of a storm once died of.
 */
CALL(getaddrinfo_a)
{
    enum { REQUESTS = 256 };
    static __thread struct gaicb requests[REQUESTS];
    static __thread unsigned next;
    struct gaicb *request = &requests[next++ % REQUESTS], *list[] = {request};
    *request = (struct gaicb){.ar_name = "localhost"};
    STORM_CHECK(getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) == 0);
    const struct gaicb *const waited[] = {request};
    while (gai_error(request) == EAI_INPROGRESS)
        gai_suspend(waited, 1, NULL);
    STORM_CHECK(gai_error(request) == 0 && request->ar_result);
    freeaddrinfo(request->ar_result);
    return true;
}

static const struct storm_call getaddrinfo_a_calls[] = {{"getaddrinfo_a", getaddrinfo_a_, 0}, {0}};

/* --- Named semaphores --------------------------------------------------------------------------------------------- */

static char semaphore_name[64];

static const char *make_semaphore(void)
{
    snprintf(semaphore_name, sizeof semaphore_name, "/forksafe-storm-%d", (int)getpid());
    sem_unlink(semaphore_name);
    sem_t *semaphore = sem_open(semaphore_name, O_CREAT | O_EXCL, 0600, 3);
    if (semaphore == SEM_FAILED)
        return "no named semaphores here";
    sem_close(semaphore);
    return NULL;
}

static void drop_semaphore(void)
{
    if (semaphore_name[0])
        sem_unlink(semaphore_name);
}

CALL(sem_open)
{
    sem_t *semaphore = sem_open(semaphore_name, 0);
    STORM_CHECK(semaphore != SEM_FAILED);
    int value = -1;
    STORM_CHECK(sem_getvalue(semaphore, &value) == 0 && value == 3);
    STORM_CHECK(sem_close(semaphore) == 0);
    return true;
}

static const struct storm_call sem_open_calls[] = {{"sem_open", sem_open_, 0}, {0}};

/* --- utmp --------------------------------------------------------------------------------------------------------- */

static char utmp_path[] = "/tmp/storm-utmp-XXXXXX";
static bool has_utmp;

static const char *make_utmp(void)
{
    const int fd = mkstemp(utmp_path);
    if (fd < 0)
        return "no file in /tmp";
    has_utmp = true;
    const struct utmp entry = {.ut_type = USER_PROCESS, .ut_line = "pts/77", .ut_id = "t77", .ut_user = "storm"};
    const bool is_written = write(fd, &entry, sizeof entry) == sizeof entry;
    close(fd);
    return is_written && utmpname(utmp_path) == 0 ? NULL : "no utmp file";
}

static void drop_utmp(void)
{
    if (has_utmp)
        unlink(utmp_path);
}

CALL(getutent)
{
    start_anew(seat, endutent);
    setutent();
    const struct utmp *entry = getutent();
    STORM_CHECK(!seat->is_child || (entry && same(entry->ut_user, "storm")));
    return true;
}

CALL(getutxent)
{
    start_anew(seat, endutxent);
    setutxent();
    const struct utmpx *entry = getutxent();
    STORM_CHECK(!seat->is_child || (entry && same(entry->ut_user, "storm")));
    return true;
}

CALL(getutline)
{
    const struct utmp wanted = {.ut_line = "pts/77"};
    struct utmp found, *entry = NULL;
    start_anew(seat, endutent);
    setutent();
    const int result = getutline_r(&wanted, &found, &entry);
    STORM_CHECK(!seat->is_child || (result == 0 && entry && same(entry->ut_user, "storm")));
    setutent();
    const struct utmp *other = getutline(&wanted);
    STORM_CHECK(!seat->is_child || (other && same(other->ut_id, "t77")));
    return true;
}

CALL(getutid)
{
    const struct utmp wanted = {.ut_type = USER_PROCESS, .ut_id = "t77"};
    start_anew(seat, endutent);
    setutent();
    const struct utmp *entry = getutid(&wanted);
    STORM_CHECK(!seat->is_child || (entry && same(entry->ut_line, "pts/77")));
    return true;
}

CALL(pututline)
{
    const struct utmp entry = {.ut_type = USER_PROCESS, .ut_line = "pts/77", .ut_id = "t77", .ut_user = "storm"};
    start_anew(seat, endutent);
    setutent();
    STORM_CHECK(pututline(&entry) || !seat->is_child);
    return true;
}

CALL(endutent)
{
    endutent();
    return true;
}

CALL(utmpname)
{
    STORM_CHECK(utmpname(utmp_path) == 0);
    return true;
}

CALL(getlogin_r)
{
    char name[64];
    getlogin_r(name, sizeof name); /* there may be no terminal, hence no name */
    return true;
}

static const struct storm_call utmp_calls[] = {
    {"getutent", getutent_, 0}, {"getutxent", getutxent_, 0}, {"getutline", getutline_, 0},
    {"getutid", getutid_, 0},   {"pututline", pututline_, 0}, {"endutent", endutent_, 0},
    {"utmpname", utmpname_, 0}, {"getlogin_r", getlogin_r_, 0}, {0}};

/* --- Processes ---------------------------------------------------------------------------------------------------- */

CALL(popen)
{
    FILE *pipe = popen("exit 7", "re");
    STORM_CHECK(pipe);
    const int status = pclose(pipe);
    STORM_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return true;
}

static const struct storm_call popen_calls[] = {{"popen", popen_, STORM_SLOW}, {0}};

CALL(system)
{
    const int status = system("exit 7");
    STORM_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return true;
}

static const struct storm_call system_calls[] = {{"system", system_, STORM_SLOW}, {0}};

/* --- Objects that threads share ----------------------------------------------------------------------------------- */

static DIR *shared_directory;
static regex_t shared_pattern;

static const char *open_directory(void)
{
    shared_directory = opendir("/proc/self/fdinfo/..");
    return shared_directory ? NULL : "no /proc";
}

CALL(readdir)
{
    /* Where the others have read to is not known, and children share it with the parent. */
    readdir(shared_directory);
    return true;
}

CALL(rewinddir)
{
    rewinddir(shared_directory);
    STORM_CHECK(telldir(shared_directory) >= 0);
    return true;
}

static const struct storm_call readdir_calls[] = {{"readdir", readdir_, 0}, {"rewinddir", rewinddir_, 0}, {0}};

static const char *compile_pattern(void)
{
    return regcomp(&shared_pattern, "^([a-z]+)-([0-9]+)$", REG_EXTENDED) == 0 ? NULL : "no pattern";
}

CALL(regexec)
{
    regmatch_t match[3];
    STORM_CHECK(regexec(&shared_pattern, "storm-4711", 3, match, 0) == 0);
    STORM_CHECK(match[2].rm_so == 6 && match[2].rm_eo == 10);
    STORM_CHECK(regexec(&shared_pattern, "storm", 3, match, 0) == REG_NOMATCH);
    return true;
}

static const struct storm_call regexec_calls[] = {{"regexec", regexec_, 0}, {0}};

/* --- Timers and helper threads ------------------------------------------------------------------------------------ */

static void tick(union sigval value)
{
    atomic_store((atomic_int *)value.sival_ptr, 1);
}

/* One shared word: a timer that was deleted may still tick. */
static atomic_int ticked;

CALL(timer_create)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value = {.sival_ptr = &ticked}};
    event.sigev_notify_function = tick;
    timer_t timer;
    STORM_CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    STORM_CHECK(timer_delete(timer) == 0);
    return true;
}

CALL(timer_ticks)
{
    static atomic_int own;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value = {.sival_ptr = &own}};
    event.sigev_notify_function = tick;
    timer_t timer;
    STORM_CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    const struct itimerspec soon = {.it_value = {0, 1000000}};
    STORM_CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
    const struct timespec nap = {0, 1000000};
    while (!atomic_load(&own)) /* the child's alarm ends this */
        nanosleep(&nap, NULL);
    STORM_CHECK(timer_delete(timer) == 0);
    return true;
}

/* A thread of libc's own takes the lock of timers each time. */
CALL(timer_expires)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value = {.sival_ptr = &ticked}};
    event.sigev_notify_function = tick;
    const struct itimerspec now = {.it_value = {0, 1}};
    timer_t timer;
    STORM_CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    STORM_CHECK(timer_settime(timer, 0, &now, NULL) == 0);
    STORM_CHECK(timer_delete(timer) == 0);
    return true;
}

static const struct storm_call timer_thread_calls[] = {
    {"timer_expires", timer_expires_, STORM_WORKER | STORM_APART}, {"timer_create", timer_create_, STORM_CHILD}, {0}};

static const struct storm_call timer_calls[] = {
    {"timer_create", timer_create_, STORM_SLOW}, {"SIGEV_THREAD", timer_ticks_, STORM_CHILD}, {0}};

CALL(aio_read)
{
    char byte;
    const int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    struct aiocb request = {.aio_fildes = fd, .aio_buf = &byte, .aio_nbytes = 1};
    STORM_CHECK(fd >= 0 && aio_read(&request) == 0);
    const struct aiocb *const list[] = {&request};
    while (aio_error(&request) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    STORM_CHECK(aio_return(&request) == 1);
    close(fd);
    return true;
}

static const struct storm_call aio_calls[] = {{"aio_read", aio_read_, 0}, {0}};

/* --- Locks that hardly anybody thinks of ------------------------------------------------------------------------ */

CALL(fmtmsg)
{
    STORM_CHECK(fmtmsg(MM_UTIL, "storm:libc", MM_ERROR, "text", NULL, NULL) == MM_OK); /* to nobody */
    return true;
}

CALL(addseverity)
{
    STORM_CHECK(addseverity(7, "STORMY") == MM_OK);
    return true;
}

static const struct storm_call fmtmsg_calls[] = {{"fmtmsg", fmtmsg_, 0}, {"addseverity", addseverity_, 0}, {0}};

/* The thread that forks: libc has a lock for each. */
static pthread_t forker;

static const char *note_forker(void)
{
    forker = pthread_self();
    return NULL;
}

CALL(getschedparam)
{
    int policy;
    struct sched_param parameters;
    STORM_CHECK(pthread_getschedparam(forker, &policy, &parameters) == 0);
    STORM_CHECK(pthread_setschedparam(forker, policy, &parameters) == 0);
    return true;
}

CALL(getattr_np)
{
    pthread_attr_t attributes;
    STORM_CHECK(pthread_getattr_np(forker, &attributes) == 0);
    STORM_CHECK(pthread_attr_destroy(&attributes) == 0);
    return true;
}

static const struct storm_call forker_calls[] = {
    {"pthread_getschedparam", getschedparam_, 0}, {"pthread_getattr_np", getattr_np_, STORM_SLOW}, {0}};

/* --- All at once -------------------------------------------------------------------------------------------------- */

static const char *prepare_all(void)
{
    zone_changes = true;
    return NULL;
}

const struct storm_row storm_rows[] = {
    {.name = "syslog", .calls = syslog_calls, .prepare = hide_log},
    {.name = "localtime", .calls = localtime_calls, .prepare = set_zone},
    {.name = "mktime", .calls = mktime_calls, .prepare = set_zone},
    {.name = "getdate", .calls = getdate_calls, .prepare = set_dates, .is_apart = true},
    {.name = "strftime", .calls = strftime_calls, .prepare = set_zone},
    {.name = "TZ", .calls = zone_calls, .prepare = set_changing_zone},
    {.name = "setenv", .calls = setenv_calls, .prepare = set_variables},
    {.name = "random", .calls = random_calls},
    {.name = "setlocale", .calls = setlocale_calls},
    {.name = "strerror", .calls = strerror_calls},
    {.name = "gettext", .calls = gettext_calls, .prepare = set_messages},
    {.name = "%m", .calls = format_calls, .prepare = set_messages},
    {.name = "atexit", .calls = atexit_calls},
    {.name = "exit", .calls = exit_calls},
    {.name = "quick_exit", .calls = quick_exit_calls},
    {.name = "dl_iterate_phdr", .calls = dl_calls, .prepare = count_objects},
    {.name = "dlopen", .calls = dlopen_calls, .prepare = count_objects, .is_apart = true},
    {.name = "iconv", .calls = iconv_calls},
    {.name = "wide", .calls = wide_calls},
    {.name = "passwd", .calls = passwd_calls, .prepare = ask_names},
    {.name = "group", .calls = group_calls, .prepare = ask_names},
    {.name = "services", .calls = services_calls, .prepare = ask_names},
    {.name = "gethostbyname", .calls = gethostbyname_calls, .prepare = need_hosts},
    {.name = "getaddrinfo", .calls = getaddrinfo_calls, .prepare = need_hosts},
    {.name = "getnameinfo", .calls = getnameinfo_calls, .prepare = need_hosts},
    {.name = "sem_open", .calls = sem_open_calls, .prepare = make_semaphore, .end = drop_semaphore},
    {.name = "utmp", .calls = utmp_calls, .prepare = make_utmp, .end = drop_utmp},
    {.name = "popen", .calls = popen_calls},
    {.name = "system", .calls = system_calls},
    {.name = "readdir", .calls = readdir_calls, .prepare = open_directory},
    {.name = "regexec", .calls = regexec_calls, .prepare = compile_pattern},
    {.name = "timer", .calls = timer_calls},
    {.name = "timer-thread", .calls = timer_thread_calls},
    {.name = "fmtmsg", .calls = fmtmsg_calls},
    {.name = "forker", .calls = forker_calls, .prepare = note_forker},
    {.name = "aio", .calls = aio_calls, .is_apart = true},
    {.name = "getaddrinfo_a", .calls = getaddrinfo_a_calls, .prepare = need_hosts, .is_apart = true},
    {.name = "all", .prepare = prepare_all, .threads = 8},
    {0}};
