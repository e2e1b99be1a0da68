/*
 * A signal comes at the very moment at which a slice of a wait without a limit ends, and a little before and after:
 * each wait ends with EINTR, as it does without the library.
 */
#include "scenario.h"

#include <linux/futex.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define LIMIT "FORKSAFE_HANG_MS=5"
/* The first slice takes a sixteenth longer. */
enum { SLICE_US = 5312, BEFORE_US = 150, APART_US = 11, WAITS = 60 };
/* The thread may be stopped for that long just before it waits. */
enum { FEW = 20 };

enum { FUTEX = 1, MIXED = 2 };

static sem_t event;
static uint32_t word;
static atomic_int handled;
static atomic_bool is_waiting;

static void handle(int signal)
{
    if (atomic_load(&is_waiting))
        atomic_fetch_add(&handled, 1);
}

static void *stay(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static long wait_once(bool is_futex)
{
    atomic_store(&is_waiting, true); /* and not a processor's slice of time earlier */
    long result = is_futex ? syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) : sem_wait(&event);
    atomic_store(&is_waiting, false);
    return result;
}

/* The second signal ends a wait that the first one did not end. */
static void moments(const struct scn_case *self)
{
    const char *often = getenv("MOMENTS");
    const int waits = often != NULL ? atoi(often) : WAITS;
    sem_init(&event, 0, 0);
    scn_start(stay, NULL);
    SCN_IN_CHILD {
        const struct sigaction ends = {.sa_handler = handle}, goes_on = {.sa_handler = handle, .sa_flags = SA_RESTART};
        const struct itimerval never = {{0, 0}, {0, 0}};
        int missed = 0;
        sigaction(SIGALRM, &ends, NULL);
        if ((self->number & MIXED) != 0)
            sigaction(SIGUSR1, &goes_on, NULL);
        for (int i = 0; i < waits; i++) {
            const struct itimerval timer = {.it_value.tv_usec = SLICE_US - BEFORE_US + i % WAITS * APART_US,
                                            .it_interval.tv_sec = 1};
            atomic_store(&handled, 0);
            setitimer(ITIMER_REAL, &timer, NULL);
            errno = 0;
            SCN_CHECK(wait_once((self->number & FUTEX) != 0) == -1 && errno == EINTR);
            setitimer(ITIMER_REAL, &never, NULL);
            missed += atomic_load(&handled) > 1;
        }
        SCN_CHECK(missed * FEW <= waits);
    }
}

void scn_cases(void)
{
    for (long how = 0; how < 4; how++)
        scn_add(SCN_CASE(.bare = "fine", .says = "never:child hangs", .env = LIMIT " FORKSAFE_MODE=abort",
                         .run = moments, .number = how),
                "%s%s", how & FUTEX ? "futex" : "semaphore", how & MIXED ? "-mixed" : "");
}
