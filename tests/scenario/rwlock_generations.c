/* Orphaned rwlocks in children that start threads, in children of children, and under signal handlers. */
#include "rwlock_kind.h"

#include <signal.h>

static pthread_rwlock_t lock, other;

static scn_call *taken_by(const struct scn_case *self)
{
    return self->number % 2 ? rwlock_wrlock : rwlock_rdlock;
}

/* A reader of the child that stays, beside the dead ones; four writers come for it at once. */
static void threads_first(const struct scn_case *self)
{
    struct scn_holder worker[2], alive;
    rwlock_make(self->kind, &lock);
    scn_hold(&worker[0], taken_by(self), rwlock_unlock, &lock, 1);
    if (!(self->number % 2))
        scn_hold(&worker[1], taken_by(self), rwlock_unlock, &lock, 2);
    SCN_IN_CHILD {
        int leave = scn_bell();
        const pthread_t sleeper = scn_start(scn_stay, &leave);
        if (self->number == 2) {
            scn_hold(&alive, rwlock_rdlock, rwlock_unlock, &lock, 1);
            rwlock_check_read(&lock); /* the dead are out by now, the living one is not */
            SCN_IS(pthread_rwlock_trywrlock(&lock), EBUSY);
            scn_let_go(&alive);
        }
        scn_exclusion(rwlock_wrlock, rwlock_unlock, &lock, 4, 2000);
        rwlock_use_in_threads(&lock);
        scn_ring(leave);
        scn_join(sleeper);
    }
    scn_let_go(&worker[0]);
    if (!(self->number % 2))
        scn_let_go(&worker[1]);
}

/* Threads of the child read all the time while others come to write: never both inside. */
static atomic_int readers_inside, writers_inside, stop_reading;

static void *reads_on(void *unused)
{
    while (!atomic_load(&stop_reading)) {
        SCN_IS(pthread_rwlock_rdlock(&lock), 0);
        atomic_fetch_add(&readers_inside, 1);
        SCN_CHECK(!atomic_load(&writers_inside));
        atomic_fetch_sub(&readers_inside, 1);
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
    }
    return NULL;
}

static void *writes_some(void *unused)
{
    for (int i = 0; i < 50; i++) {
        SCN_IS(pthread_rwlock_wrlock(&lock), 0);
        SCN_CHECK(!atomic_exchange(&writers_inside, 1));
        SCN_CHECK(!atomic_load(&readers_inside));
        atomic_store(&writers_inside, 0);
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
    }
    return NULL;
}

static void race_for_takeover(const struct scn_case *self)
{
    struct scn_holder worker[2];
    struct scn_waiter writer;
    rwlock_make(self->kind, &lock);
    scn_hold(&worker[0], rwlock_rdlock, rwlock_unlock, &lock, 1);
    scn_hold(&worker[1], rwlock_rdlock, rwlock_unlock, &lock, 1);
    if (self->number)
        scn_want(&writer, rwlock_wrlock, rwlock_unlock, &lock);
    for (int i = scn_often(50); i > 0; i--) {
        SCN_IN_CHILD {
            pthread_t thread[4];
            for (int t = 0; t < 4; t++)
                thread[t] = scn_start(t < 2 ? reads_on : writes_some, NULL);
            for (int t = 2; t < 4; t++)
                scn_join(thread[t]);
            atomic_store(&stop_reading, 1);
            for (int t = 0; t < 2; t++)
                scn_join(thread[t]);
            rwlock_check_free(&lock);
        }
    }
    scn_let_go(&worker[0]);
    scn_let_go(&worker[1]);
    if (self->number)
        scn_join(writer.thread);
}

/* The child does not touch it; the grandchild needs it, of whom a thread of the child is one more reader. */
static void grandchild(const struct scn_case *self)
{
    struct scn_holder worker, middle;
    rwlock_make(self->kind, &lock);
    scn_hold(&worker, taken_by(self), rwlock_unlock, &lock, 1);
    SCN_IN_CHILD {
        if (self->number == 2)
            scn_hold(&middle, rwlock_rdlock, rwlock_unlock, &lock, 1);
        SCN_IN_CHILD {
            SCN_IS(pthread_rwlock_wrlock(&lock), 0);
            SCN_IS(pthread_rwlock_unlock(&lock), 0);
            rwlock_use_in_threads(&lock);
        }
        if (self->number == 2) {
            rwlock_check_read(&lock);
            scn_let_go(&middle);
        }
        SCN_IS(pthread_rwlock_wrlock(&lock), 0); /* the grandchild's takeover was its own affair */
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
        rwlock_use_in_threads(&lock);
    }
    scn_let_go(&worker);
}

static volatile sig_atomic_t handled;

static void use_other(int number)
{
    const int saved = errno;
    SCN_IS(pthread_rwlock_rdlock(&other), 0);
    SCN_IS(pthread_rwlock_unlock(&other), 0);
    handled++;
    errno = saved;
}

/* A handler that reads another lock, between any two instructions of the child's calls. */
static void signals(const struct scn_case *self)
{
    struct scn_holder worker;
    rwlock_make(self->kind, &lock);
    rwlock_make(self->kind, &other);
    scn_hold(&worker, rwlock_rdlock, rwlock_unlock, &lock, 1);
    signal(SIGVTALRM, use_other);
    timer_t timer;
    for (int round = scn_often(10); round > 0; round--) {
        SCN_IN_CHILD {
            struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGVTALRM};
            const struct itimerspec often = {{0, 20000}, {0, 20000}};
            SCN_IS(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
            SCN_IS(timer_settime(timer, 0, &often, NULL), 0);
            for (int i = 0; i < 2000 || handled < 50; i++)
                rwlock_use(&lock);
            SCN_IS(timer_delete(timer), 0);
            scn_exclusion(rwlock_wrlock, rwlock_unlock, &lock, 4, 200);
            rwlock_use(&other);
        }
    }
    scn_let_go(&worker);
}

void scn_cases(void)
{
    static const struct scn_row rows[] = {
        {"threads-first-written", threads_first, 1, RWLOCK_FROM_WORKER, "hangs"},
        {"threads-first-read", threads_first, 0, RWLOCK_FROM_WORKER, "hangs"},
        {"threads-first-reader", threads_first, 2, RWLOCK_FROM_WORKER, "hangs"},
        {"race", race_for_takeover, 0, RWLOCK_TAKEN, "hangs"},
        {"race-waiting-writer", race_for_takeover, 1, RWLOCK_TAKEN, "hangs"},
        {"grandchild-read", grandchild, 0, RWLOCK_FROM_WORKER, "hangs"},
        {"grandchild-written", grandchild, 1, RWLOCK_FROM_WORKER, "hangs"},
        {"grandchild-middle", grandchild, 2, RWLOCK_TAKEN, "hangs"},
        {"signals", signals, 0, RWLOCK_TAKEN, "hangs"},
    };
    for (int i = 0; i < RWLOCK_KINDS; i++)
        if (rwlock_is_plain(&rwlock_kinds[i]))
            scn_add_rows(SCN_ROWS(rows), (struct scn_case){.kind = &rwlock_kinds[i]}, rwlock_kinds[i].name);
}
