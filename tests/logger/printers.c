/*
 * err, warn, perror, error, assert, psignal and their kin in children, while another thread of the parent is inside one
 * of them, for a moment or stuck at a full pipe: they work bare, and so they must under the library. While a thread
 * changes the locale they hang bare.
 */
#undef NDEBUG
#include "../scenario/scenario.h"

#include <assert.h>
#include <err.h>
#include <error.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static void fill(int fd)
{
    static const char block[4096];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, block, sizeof block) > 0 || write(fd, block, 1) > 0)
        ;
    fcntl(fd, F_SETFL, 0);
}

/* On a busy machine a thread may need long to get out of setlocale. */
#define PATIENT "FORKSAFE_DRAIN_MS=5000"

static atomic_int worker_tid;

static int wanted_error = ENOENT;

#define BY_LIST(name, call)                                           \
    __attribute__((format(printf, 1, 2))) static void name(const char *format, ...) \
    {                                                                 \
        va_list arguments;                                            \
        va_start(arguments, format);                                  \
        errno = wanted_error;                                         \
        call;                                                         \
        va_end(arguments);                                            \
    }
BY_LIST(list_warn, vwarn(format, arguments))
BY_LIST(list_warnx, vwarnx(format, arguments))
BY_LIST(list_err, verr(0, format, arguments))
BY_LIST(list_errx, verrx(0, format, arguments))

static void use_warn(void)
{
    errno = wanted_error;
    warn("warn %d", 1);
    warnx("warnx %d", 1);
    list_warn("vwarn %d", 1);
    list_warnx("vwarnx %d", 1);
}

static void use_perror(void)
{
    errno = wanted_error;
    perror("perror");
}

static void use_error(void)
{
    error(0, ENOENT, "error");
    error_at_line(0, ENOENT, "file", 1, "error");
}

static void use_psignal(void)
{
    const siginfo_t info = {.si_signo = SIGINT, .si_code = SI_USER};
    psignal(SIGINT, "psignal");
    psiginfo(&info, "psiginfo");
}

static void be_err(void) { err(0, "err"); }
static void be_errx(void) { errx(0, "errx"); }
static void be_verr(void) { list_err("verr %d", 1); }
static void be_verrx(void) { list_errx("verrx %d", 1); }
static void be_error(void) { error(3, 0, "error"); }
static void be_assert(void) { assert(!"assert"); }
static void be_assert_perror(void) { assert_perror(wanted_error); }

/* Each ends its process, a child's child. */
static void use_ends(void)
{
    static const struct {
        void (*be)(void);
        int status; /* as waitpid tells it */
    } ends[] = {{be_err, 0},        {be_errx, 0},         {be_verr, 0},
                {be_verrx, 0},      {be_error, 3 << 8},   {be_assert, SIGABRT},
                {be_assert_perror, SIGABRT}};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const pid_t child = scn_fork();
        int status;
        if (child == 0) {
            ends[i].be();
            _exit(1);
        }
        SCN_CHECK(waitpid(child, &status, 0) == child);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
            raise(SIGALRM); /* as if it were our own */
        SCN_CHECK((status & ~0x80) == ends[i].status); /* without the bit for a core */
    }
}

static const struct printer {
    const char *name;
    void (*use)(void);
    int storms; /* how many children */
} printers[] = {
    {"warn", use_warn, 300},       {"perror", use_perror, 300}, {"error", use_error, 300},
    {"psignal", use_psignal, 300}, {"err", use_ends, 40},
};

static void *print_on(void *raw)
{
    const struct printer *printer = raw;
    atomic_store(&worker_tid, (int)gettid());
    for (;;)
        (printer->use == use_ends ? use_warn : printer->use)();
    return NULL;
}

static void *change_locale(void *unused)
{
    atomic_store(&worker_tid, (int)gettid());
    for (;;)
        SCN_CHECK(setlocale(LC_ALL, "C.UTF-8") && setlocale(LC_ALL, "C"));
    return NULL;
}

enum { STORM, STUCK, LOCALE };

static void print(const struct scn_case *self)
{
    int ends[2];
    const bool stuck = self->number == STUCK;
    const struct printer *printer = self->entry;
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    SCN_CHECK(pipe(ends) == 0 && nowhere >= 0);
    if (stuck)
        fill(ends[1]);
    SCN_CHECK(dup2(stuck ? ends[1] : nowhere, STDERR_FILENO) >= 0);
    scn_start(self->number == LOCALE ? change_locale : print_on, (void *)(uintptr_t)printer);
    while (!atomic_load(&worker_tid))
        sched_yield();
    if (stuck)
        scn_await_asleep(atomic_load(&worker_tid), NULL);
    for (int i = 0; i < (stuck ? 1 : printer->storms); i++) {
        SCN_IN_CHILD {
            SCN_CHECK(dup2(nowhere, STDERR_FILENO) >= 0);
            printer->use();
        }
    }
    scn_fine();
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof printers / sizeof printers[0]; i++)
        for (long how = STORM; how <= LOCALE; how++)
            scn_add(SCN_CASE(.bare = how == LOCALE ? "hangs" : "fine", .says = SCN_SILENT, .run = print,
                             .env = how == LOCALE ? PATIENT : NULL, .entry = &printers[i], .number = how),
                    "%s-%s", printers[i].name, how == STORM ? "storm" : how == STUCK ? "full-pipe" : "locale");
}
