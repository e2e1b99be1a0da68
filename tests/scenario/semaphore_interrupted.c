/* A lock-like semaphore and whatever comes in the middle of taking or posting it: signal handlers that take locks, fork
 * or leave by siglongjmp, a cancellation, forks of other threads. */
#include "semaphore_kind.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>

static sem_t lock, handlers_own;

/* No longer new: its token has gone back once. */
static void make_used(sem_t *semaphore)
{
    semaphore_make(semaphore, 1);
    SCN_IS(semaphore_wait(semaphore), 0);
    SCN_IS(semaphore_post(semaphore), 0);
}

/* Once. Not SIGALRM, which ends a child that hangs. 0: never. */
static void arm_timer(void (*handler)(int), long us)
{
    static timer_t timer;
    static bool made;
    const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    const struct itimerspec once = {{0, 0}, {0, us * 1000}};
    SCN_CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    SCN_CHECK(made || timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    made = true;
    SCN_CHECK(timer_settime(timer, 0, &once, NULL) == 0 || us == 0); /* a child has no timers */
}

/* --- A handler that takes and posts ------------------------------------------------------------------------------- */

static atomic_long handled;

static void take_another(int number)
{
    const int before = errno;
    if (sem_trywait(&handlers_own) == 0) {
        SCN_CHECK(errno == before);
        SCN_IS(semaphore_post(&handlers_own), 0);
    }
    atomic_fetch_add(&handled, 1);
    errno = before;
}

struct worker {
    atomic_int tid, stop;
};

static void *work_and_be_interrupted(void *raw)
{
    struct worker *worker = raw;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    atomic_store(&worker->tid, (int)gettid());
    while (!atomic_load(&worker->stop)) {
        errno = 4711;
        SCN_IS(sem_trywait(&lock) == 0 || semaphore_wait(&lock) == 0, 1);
        SCN_IS(sem_post(&lock), 0);
    }
    return NULL;
}

/* The worker is sent signals without a pause; each child comes from some moment of its calls. */
static void handler_takes(const struct scn_case *self)
{
    struct worker worker = {0};
    const struct sigaction action = {.sa_handler = take_another, .sa_flags = SA_RESTART};
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    make_used(&lock);
    make_used(&handlers_own);
    const pthread_t thread = scn_start(work_and_be_interrupted, &worker);
    while (!atomic_load(&worker.tid))
        sched_yield();
    for (int i = 0; i < 80; i++) {
        const long seen = atomic_load(&handled);
        SCN_IS(pthread_kill(thread, SIGUSR1), 0);
        if (i % 2)
            while (atomic_load(&handled) == seen)
                sched_yield();
        SCN_IN_CHILD {
            semaphore_use(semaphore_try_then_wait, &lock);
            semaphore_use(semaphore_wait, &handlers_own);
            semaphore_use(semaphore_wait, &lock);
        }
    }
    atomic_store(&worker.stop, 1);
    scn_join(thread);
    semaphore_check_tokens(&lock, 1);
    semaphore_check_tokens(&handlers_own, 1);
}

/* --- A handler that forks ----------------------------------------------------------------------------------------- */

enum { FORKS = 40 };
static atomic_int in_child, forks;

static void fork_now(int number)
{
    if (atomic_load(&in_child))
        return;
    const int before = errno;
    const pid_t child = scn_fork();
    if (child == 0)
        atomic_store(&in_child, 1); /* it goes on in what the signal interrupted */
    else
        scn_reap(child);
    if (child != 0 && atomic_fetch_add(&forks, 1) < FORKS)
        arm_timer(fork_now, 100 + 7 * atomic_load(&forks));
    errno = before;
}

static void handler_forks(const struct scn_case *self)
{
    make_used(&lock);
    arm_timer(fork_now, 100);
    while (atomic_load(&forks) < FORKS && !atomic_load(&in_child)) {
        errno = 4711;
        SCN_IS(sem_trywait(&lock), 0);
        SCN_IS(sem_post(&lock), 0);
        SCN_IS(sem_wait(&lock), 0);
        SCN_IS(sem_post(&lock), 0);
        SCN_CHECK(errno == 4711);
    }
    arm_timer(SIG_IGN, 0);
    semaphore_use(semaphore_wait, &lock);
    semaphore_use(semaphore_try_then_wait, &lock);
    if (atomic_load(&in_child))
        scn_fine();
}

/* --- A wait left by siglongjmp ------------------------------------------------------------------------------------ */

static sigjmp_buf back;

static void leave_wait(int number)
{
    siglongjmp(back, 1);
}

static int use_it(void *semaphore)
{
    semaphore_use(semaphore_try_then_wait, semaphore);
    return 0;
}

/* A time limit of the program's own, before it forks: that the forking thread once waited is over. */
static void wait_left(const struct scn_case *self)
{
    struct scn_holder worker;
    make_used(&lock);
    scn_hold(&worker, semaphore_wait, semaphore_post, &lock, 1);
    if (sigsetjmp(back, 1) == 0) {
        arm_timer(leave_wait, 20000);
        SCN_IS(semaphore_wait(&lock), 0);
    }
    arm_timer(SIG_IGN, 0);
    SCN_IN_CHILD {
        if (self->number)
            SCN_IS(scn_elsewhere(use_it, &lock), 0);
        use_it(&lock);
    }
    scn_let_go(&worker);
    semaphore_check_tokens(&lock, 1);
}

/* --- A cancellation ----------------------------------------------------------------------------------------------- */

static void *be_cancelled(void *take)
{
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_cancel(pthread_self());
    ((const struct scn_entry *)take)->take(&lock); /* acts upon it even though there is a token */
    scn_wrong(SCN_WHERE, "not cancelled");
    return NULL;
}

static void cancelled_with_a_token(const struct scn_case *self)
{
    make_used(&lock);
    scn_join(scn_start(be_cancelled, (void *)(uintptr_t)self->entry));
    semaphore_check_tokens(&lock, 1);
    SCN_IN_CHILD {
        semaphore_check_tokens(&lock, 1);
    }
}

/* --- Initialised while somebody has it ---------------------------------------------------------------------------- */

static void made_anew_while_held(const struct scn_case *self)
{
    struct scn_holder worker;
    make_used(&lock);
    scn_hold(&worker, semaphore_wait, semaphore_post, &lock, 1);
    semaphore_make(&lock, 1);
    if (self->number)
        SCN_IS(semaphore_wait(&lock), 0);
    SCN_IN_CHILD {
        if (self->number) {
            semaphore_check_none(&lock);
            SCN_IS(semaphore_post(&lock), 0);
        }
        semaphore_check_tokens(&lock, 1);
    }
    scn_let_go(&worker); /* a token that nobody took: from now on two, as bare */
    SCN_CHECK(semaphore_value(&lock) == 2 - (int)self->number);
}

void scn_cases(void)
{
    scn_add(SCN_CASE(.bare = "hangs", .run = handler_takes), "handler-takes");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = handler_forks), "handler-forks");
    for (long i = 0; i < 2; i++) {
        scn_add(SCN_CASE(.bare = "hangs", .says = SEMAPHORE_TAKEN_FROM_WORKER, .run = wait_left, .number = i),
                i ? "wait-left-then-thread" : "wait-left");
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = made_anew_while_held, .number = i),
                i ? "made-anew-while-held-and-taken" : "made-anew-while-held");
    }
    for (int i = 0; i < SEMAPHORE_ENTRIES; i++)
        if (semaphore_entries[i].take == semaphore_wait || semaphore_entries[i].take == semaphore_timedwait)
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = cancelled_with_a_token,
                             .entry = &semaphore_entries[i]), "cancelled-%s-with-a-token", semaphore_entries[i].name);
}
