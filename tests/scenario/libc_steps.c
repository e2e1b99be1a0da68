/* A thread stays behind an atomic instruction of a libc call, in a signal handler, and the process forks: each of these
 * instructions in turn. The locks inside are then in states that last no longer than a few instructions, and in which
 * some calls do not sleep but ask again and again. A child with one thread goes on in every state; so does one that has
 * made threads. */
#include "scenario.h"

#if defined(__x86_64__) && defined(__GLIBC__)

#include <libintl.h>
#include <printf.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/wait.h>

/* None of them allocates: nobody can fork while a thread stays inside malloc. */
static void call_bindtextdomain(void) { SCN_CHECK(bindtextdomain("words", NULL) != NULL); }
static void call_gettext(void) { SCN_CHECK(strcmp(dgettext("words", "word"), "word") == 0); }
static void call_gmtime(void)
{
    const time_t moment = 1700000000;
    struct tm tm;
    SCN_CHECK(gmtime_r(&moment, &tm) != NULL && tm.tm_year == 123);
}
static void call_unsetenv(void) { SCN_IS(unsetenv("no_such_variable"), 0); }
static void call_random(void) { SCN_CHECK(random() >= 0); }
static int print_nothing(FILE *stream, const struct printf_info *info, const void *const *values)
{
    (void)stream, (void)info, (void)values;
    return 0;
}
static int take_nothing(const struct printf_info *info, size_t most, int *types, int *sizes)
{
    (void)info, (void)most, (void)types, (void)sizes;
    return 0;
}
static void call_register_printf(void)
{
    SCN_IS(register_printf_specifier('Y', print_nothing, take_nothing), 0);
}

static const struct row {
    const char *name;
    void (*stays)(void), (*in_child)(void);
} rows[] = {
    {"bindtextdomain", call_bindtextdomain, call_bindtextdomain},
    {"bindtextdomain_gettext", call_bindtextdomain, call_gettext},
    {"gettext_bindtextdomain", call_gettext, call_bindtextdomain},
    {"gmtime", call_gmtime, call_gmtime},
    {"unsetenv", call_unsetenv, call_unsetenv},
    {"random", call_random, call_random},
    {"register_printf", call_register_printf, call_register_printf},
};

static int stays, never;

static void stay(int number)
{
    scn_ring(stays);
    scn_await(never);
}

static void *forker_body(void *raw)
{
    const struct row *row = raw;
    scn_await(stays);
    SCN_IN_CHILD {
        row->in_child();
        row->in_child();
    }
    scn_fine();
}

static _Noreturn void be_led(const struct row *row)
{
    const struct sigaction action = {.sa_handler = stay};
    never = scn_bell();
    stays = scn_bell();
    SCN_CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    scn_start(forker_body, (void *)(uintptr_t)row);
    row->stays(); /* what is done once is done */
    raise(SIGSTOP);
    row->stays();
    raise(SIGSTOP);
    scn_wrong(SCN_WHERE, "nobody led on");
}

/* Whether the next instruction has the prefix lock, or is an exchange with memory. */
static bool is_atomic(pid_t led)
{
    const long at = ptrace(PTRACE_PEEKUSER, led, (void *)(RIP * sizeof(long)), NULL);
    const long word = ptrace(PTRACE_PEEKTEXT, led, (void *)at, NULL);
    unsigned char code[sizeof word];
    memcpy(code, &word, sizeof word);
    unsigned i = code[0] == 0x64; /* of a thread's own memory */
    if (code[i] == 0xf0)
        return true;
    i += (code[i] & 0xf0) == 0x40;
    return (code[i] | 1) == 0x87 && code[i + 1] < 0xc0;
}

/* To behind the atomic instruction with that number, from 0. False: there are not so many. */
static bool lead(pid_t led, int number)
{
    int status;
    do
        SCN_CHECK(waitpid(led, &status, 0) == led && WIFSTOPPED(status) &&
                  ptrace(PTRACE_SINGLESTEP, led, NULL, NULL) == 0);
    while (WSTOPSIG(status) != SIGSTOP);
    for (;;) {
        SCN_CHECK(waitpid(led, &status, 0) == led && WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP)
            return false;
        const bool atomic = is_atomic(led);
        SCN_CHECK(ptrace(PTRACE_SINGLESTEP, led, NULL, NULL) == 0);
        if (atomic && number-- == 0)
            break;
    }
    SCN_CHECK(waitpid(led, &status, 0) == led && WIFSTOPPED(status));
    return true;
}

static void at_each(const struct scn_case *self)
{
    const struct row *row = self->entry;
    for (int number = 0;; number++) {
        const pid_t led = scn_fork();
        if (led == 0)
            be_led(row);
        if (!lead(led, number)) {
            SCN_CHECK(number >= 2);
            kill(led, SIGKILL);
            scn_fine();
        }
        SCN_CHECK(ptrace(PTRACE_DETACH, led, NULL, (void *)SIGUSR1) == 0);
        scn_reap(led);
    }
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        scn_add(SCN_CASE(.bare = "hangs", .run = at_each, .entry = &rows[i]), "%s", rows[i].name);
}

#else

void scn_cases(void) {}

#endif
