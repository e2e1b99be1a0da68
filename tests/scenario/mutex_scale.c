/* Many locks, many threads, many hand-offs, many signals. */
#include "mutex_kind.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

/* Growth that a ledger which forgets nothing could not stay below. */
enum { GROWTH_LIMIT_KIB = 1024 };

/* --- 10,000 locks held by one thread ------------------------------------------------------------------------- */

enum { MANY = 10000 };

static pthread_mutex_t *many;

static int lock_many(void *unused)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(pthread_mutex_lock(&many[i]), 0);
    return 0;
}

static int unlock_many_in_order(void *unused)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(pthread_mutex_unlock(&many[i]), 0);
    return 0;
}

static int trylock_many(void *unused)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(mutex_try_and_unlock(&many[i]), 0);
    return 0;
}

static int find_many_held(void *unused)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(pthread_mutex_trylock(&many[i]), EBUSY);
    return 0;
}

static void make_many(const struct scn_case *self)
{
    many = calloc(MANY, sizeof *many);
    SCN_CHECK(many);
    for (int i = 0; i < MANY; i++)
        mutex_make(self->kind, &many[i]);
}

static void many_locks(const struct scn_case *self)
{
    struct scn_holder worker;
    make_many(self);
    scn_hold(&worker, lock_many, unlock_many_in_order, NULL, 1);
    SCN_IN_CHILD {
        lock_many(NULL);
        scn_elsewhere(find_many_held, NULL);
        unlock_many_in_order(NULL);
        scn_elsewhere(trylock_many, NULL);
    }
    scn_elsewhere(find_many_held, NULL);
    scn_let_go(&worker);
    scn_elsewhere(trylock_many, NULL);
}

/* Held by the forking thread, given back first in, first out, in both processes. */
static void many_forkers(const struct scn_case *self)
{
    make_many(self);
    lock_many(NULL);
    SCN_IN_CHILD {
        scn_elsewhere(find_many_held, NULL);
        unlock_many_in_order(NULL);
        scn_elsewhere(trylock_many, NULL);
    }
    scn_elsewhere(find_many_held, NULL);
    unlock_many_in_order(NULL);
    scn_elsewhere(trylock_many, NULL);
}

/* --- 1,000,000 locks taken by one thread and given back by another ---------------------------------------------- */

enum { HAND_OFFS = 500000, RING = 256 };

static struct {
    pthread_mutex_t lock[RING];
    atomic_long taken, given;
} ring;

static void *give_back(void *unused)
{
    for (long i = 0; i < HAND_OFFS; i++) {
        while (atomic_load(&ring.taken) <= i)
            sched_yield();
        SCN_IS(pthread_mutex_unlock(&ring.lock[i % RING]), 0);
        atomic_store(&ring.given, i + 1);
    }
    return NULL;
}

static void hand_off(const struct scn_case *self)
{
    long before = 0;
    for (int i = 0; i < RING; i++)
        mutex_make(self->kind, &ring.lock[i]);
    const pthread_t giver = scn_start(give_back, NULL);
    for (long i = 0; i < HAND_OFFS; i++) {
        while (i - atomic_load(&ring.given) >= RING)
            sched_yield();
        SCN_IS(pthread_mutex_lock(&ring.lock[i % RING]), 0);
        atomic_store(&ring.taken, i + 1);
        if (i == HAND_OFFS / 10)
            before = scn_resident_kib();
    }
    scn_join(giver);
    SCN_CHECK(scn_resident_kib() - before < GROWTH_LIMIT_KIB);
    SCN_IN_CHILD {
        for (int i = 0; i < RING; i++)
            mutex_use(mutex_lock, &ring.lock[i]);
    }
    for (int i = 0; i < RING; i++)
        SCN_IS(pthread_mutex_destroy(&ring.lock[i]), 0);
}

/* --- 100,000 short-lived threads ------------------------------------------------------------------------------- */

static pthread_mutex_t shared;

static int lock_once(void *unused)
{
    SCN_IS(pthread_mutex_lock(&shared), 0);
    return pthread_mutex_unlock(&shared);
}

static int lock_and_pthread_exit(void *unused)
{
    lock_once(unused);
    pthread_exit(NULL);
}

static void short_threads(const struct scn_case *self)
{
    mutex_make(self->kind, &shared);
    long before = 0;
    for (int i = 0; i < 100000; i++) {
        if (i == 10000)
            before = scn_resident_kib();
        scn_elsewhere(i % 2 ? lock_once : lock_and_pthread_exit, NULL);
    }
    SCN_CHECK(scn_resident_kib() - before < GROWTH_LIMIT_KIB);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &shared);
    }
}

/* --- Signal handlers that lock, at any instruction of threads that lock ------------------------------------------- */

static pthread_mutex_t handlers;
static atomic_int storm_over;

static void lock_in_handler(int number)
{
    const int saved = errno;
    SCN_IS(pthread_mutex_lock(&handlers), 0);
    SCN_IS(pthread_mutex_unlock(&handlers), 0);
    errno = saved;
}

static void *send_signals(void *raw)
{
    struct scn_hammer *const hammer = raw;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!atomic_load(&storm_over))
        for (int i = 0; i < hammer->threads; i++) {
            pthread_kill(hammer->thread[i], SIGUSR1);
            for (int pause = 0; pause < 20; pause++)
                sched_yield();
        }
    return NULL;
}

static void signal_storm(const struct scn_case *self)
{
    mutex_make(self->kind, &shared);
    mutex_make(self->kind, &handlers);
    /* The handlers' lock is only ever taken in handlers, which block each other in one thread: no self-deadlock. */
    struct sigaction action = {.sa_handler = lock_in_handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR1);
    sigaddset(&action.sa_mask, SIGPROF);
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGPROF, &action, NULL) == 0);

    struct scn_hammer hammer;
    scn_hammer_start(&hammer, mutex_lock, mutex_unlock, &shared, 3);
    const pthread_t sender = scn_start(send_signals, &hammer);
    const struct itimerval each_ms = {{0, 1000}, {0, 1000}};
    SCN_CHECK(setitimer(ITIMER_PROF, &each_ms, NULL) == 0); /* not inherited by the children */
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            mutex_use(mutex_lock, &shared);
            mutex_use(mutex_lock, &handlers);
            raise(SIGUSR1);
        }
    }
    atomic_store(&storm_over, 1);
    scn_join(sender);
    scn_hammer_stop(&hammer);
    const struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_PROF, &never, NULL);
    mutex_use(mutex_lock, &shared);
    mutex_use(mutex_lock, &handlers);
}

void scn_cases(void)
{
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        if (!mutex_is_plain(kind))
            continue;
        scn_add(SCN_CASE(.bare = "hangs", .says = mutex_line(kind), .run = many_locks, .kind = kind),
                "many-locks-%s", kind->name);
        scn_add(SCN_CASE(.bare = kind->owned ? "fails EPERM" : "fine", .run = many_forkers, .kind = kind),
                "many-forkers-%s", kind->name);
        if (!kind->owned)
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = hand_off, .kind = kind),
                    "hand-off-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .run = signal_storm, .kind = kind), "signal-storm-%s", kind->name);
    }
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = short_threads, .kind = &mutex_kinds[0]),
            "short-threads");
}
