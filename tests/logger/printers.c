/* err, warn, perror, error and psignal in children, while another thread of the parent is inside one of them, for a
 * moment or stuck at a full pipe. They work bare; so they must under the library. */
#include "../scenario/scenario.h"

#include <err.h>
#include <error.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

static void fill(int fd)
{
    static const char block[4096];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, block, sizeof block) > 0 || write(fd, block, 1) > 0)
        ;
    fcntl(fd, F_SETFL, 0);
}

static atomic_int worker_tid;

static void use_warn(void)
{
    warn("warn");
    warnx("warnx");
}

static void use_perror(void)
{
    perror("perror");
}

static void use_error(void)
{
    error(0, ENOENT, "error");
    error_at_line(0, 0, "file", 1, "error");
}

static void use_psignal(void)
{
    psignal(SIGINT, "psignal");
}

static void use_err(void)
{
    const pid_t child = scn_fork();
    if (child == 0)
        err(0, "err");
    scn_reap(child);
}

static const struct printer {
    const char *name;
    void (*use)(void);
} printers[] = {
    {"warn", use_warn}, {"perror", use_perror}, {"error", use_error}, {"psignal", use_psignal}, {"err", use_err},
};

static void *print_on(void *raw)
{
    const struct printer *printer = raw;
    atomic_store(&worker_tid, (int)gettid());
    for (;;)
        (printer->use == use_err ? use_warn : printer->use)();
    return NULL;
}

static void print(const struct scn_case *self)
{
    int ends[2];
    const bool stuck = self->number != 0;
    const struct printer *printer = self->entry;
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    SCN_CHECK(pipe(ends) == 0 && nowhere >= 0);
    if (stuck)
        fill(ends[1]);
    SCN_CHECK(dup2(stuck ? ends[1] : nowhere, STDERR_FILENO) >= 0);
    scn_start(print_on, (void *)(uintptr_t)printer);
    while (!atomic_load(&worker_tid))
        sched_yield();
    if (stuck)
        scn_await_asleep(atomic_load(&worker_tid), NULL);
    for (int i = 0; i < (stuck ? 1 : 300); i++) {
        const pid_t child = scn_fork();
        if (child == 0) {
            SCN_CHECK(dup2(nowhere, STDERR_FILENO) >= 0);
            printer->use();
            scn_fine();
        }
        scn_reap(child);
    }
    scn_fine();
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof printers / sizeof printers[0]; i++)
        for (long stuck = 0; stuck < 2; stuck++)
            scn_add((struct scn_case){.bare = "fine", .says = SCN_SILENT, .run = print, .entry = &printers[i],
                                      .number = stuck},
                    "%s-%s", printers[i].name, stuck ? "full-pipe" : "storm");
}
