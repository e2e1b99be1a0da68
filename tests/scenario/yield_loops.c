/* Loops of sched_yield in a child with one thread: what they wait for is a vanished thread, or something else. */
#include "scenario.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#define LIMIT "FORKSAFE_HANG_MS=150"

enum { LATE_MS = 600 };

static atomic_flag flag = ATOMIC_FLAG_INIT;
static atomic_int *word; /* in memory of its own, or shared */
static int input[2];

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The library tells a loop by this. */
static void needs_quick_clock(void)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < 1000; i++) {
        const int64_t begun = now_ns(), span = now_ns() - begun;
        least = span < least ? span : least;
    }
    if (least >= 80)
        scn_skip("this machine's clock is a system call");
}

static void sleep_ms(long ms)
{
    const struct timespec span = {.tv_nsec = ms * 1000000};
    nanosleep(&span, NULL);
}

/* --- What the child waits for, in each case by sched_yield -------------------------------------------------------- */

static void for_flag(void)
{
    scn_give_up_board();
    while (atomic_flag_test_and_set(&flag))
        sched_yield();
}

static void for_clock(void)
{
    const int64_t end = now_ns() + LATE_MS * INT64_C(1000000);
    while (now_ns() < end)
        sched_yield();
}

static void for_word(void)
{
    while (atomic_load(word) == 0)
        sched_yield();
}

static void in_other_process(void (*act)(void))
{
    if (scn_fork() == 0) {
        sleep_ms(LATE_MS);
        act();
        scn_fine();
    }
}

static void set_word(void) { atomic_store(word, 1); }
static void write_byte(void) { SCN_CHECK(write(input[1], "", 1) == 1); }

static void for_shared(void)
{
    in_other_process(set_word);
    for_word();
}

static void for_byte(void)
{
    char byte;
    SCN_CHECK(pipe(input) == 0 && fcntl(input[0], F_SETFL, O_NONBLOCK) == 0);
    in_other_process(write_byte);
    while (read(input[0], &byte, 1) != 1)
        sched_yield();
}

static void *set_late(void *unused)
{
    sleep_ms(LATE_MS);
    set_word();
    return unused;
}

static void for_thread(void)
{
    const pthread_t thread = scn_start(set_late, NULL);
    for_word();
    scn_join(thread);
}

static void on_signal(int signal)
{
    (void)signal;
    set_word();
}

static void send_signal(void) { kill(getppid(), SIGUSR1); }

static void for_handler(void)
{
    signal(SIGUSR1, on_signal);
    in_other_process(send_signal);
    for_word();
}

/* --- The case ----------------------------------------------------------------------------------------------------- */

static int forever;

static void *take_flag(void *taken)
{
    atomic_flag_test_and_set(&flag);
    scn_ring((int)(intptr_t)taken);
    scn_await(forever);
    return NULL;
}

enum { ALONE = 1, SHARED = 2 };

static void yields(const struct scn_case *self)
{
    needs_quick_clock();
    word = mmap(NULL, sizeof *word, PROT_READ | PROT_WRITE,
                ((self->number & SHARED) != 0 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(word != MAP_FAILED);
    const int taken = scn_bell();
    forever = scn_bell();
    if ((self->number & ALONE) != 0) {
        atomic_flag_test_and_set(&flag);
    } else {
        scn_start(take_flag, (void *)(intptr_t)taken);
        scn_await(taken);
    }
    const pid_t child = scn_fork();
    if (child == 0) {
        ((void (*)(void))self->entry)();
        scn_fine();
    }
    scn_reap(child);
}

void scn_cases(void)
{
    static const char named[] = "once:child does nothing but yield in loop 0x";
    static const struct {
        const char *name, *bare, *says;
        void (*wait)(void);
        long how;
    } rows[] = {
        {"flag", "hangs", named, for_flag, 0},
        {"flag-no-threads", "hangs", SCN_SILENT, for_flag, ALONE},
        {"clock", "fine", SCN_SILENT, for_clock, 0},
        {"byte", "fine", SCN_SILENT, for_byte, 0},
        {"shared", "fine", SCN_SILENT, for_shared, SHARED},
        {"thread", "fine", SCN_SILENT, for_thread, 0},
        {"handler", "fine", "never:does nothing but yield", for_handler, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int aborts = 0; aborts < 2; aborts++)
            scn_add(SCN_CASE(.bare = rows[i].bare, .preloaded = rows[i].bare, .says = rows[i].says,
                             .env = aborts ? LIMIT " FORKSAFE_MODE=abort" : LIMIT, .run = yields,
                             .entry = (void *)rows[i].wait, .number = rows[i].how),
                    "%s%s", rows[i].name, aborts ? "-abort" : "");
}
