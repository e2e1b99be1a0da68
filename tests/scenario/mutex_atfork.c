/* What programs do in their own atfork handlers, with another thread busy on the same lock. */
#include "mutex_kind.h"

#include <sched.h>

static pthread_mutex_t guarded;
static const struct mutex_kind *guarded_kind;
static int child_result;

static void lock_it(void)
{
    SCN_IS(pthread_mutex_lock(&guarded), 0);
}

static void unlock_it(void)
{
    SCN_IS(pthread_mutex_unlock(&guarded), 0);
}

/* Keeps the answer: a handler has no one to tell. */
static void unlock_in_child(void)
{
    child_result = pthread_mutex_unlock(&guarded);
}

static void make_anew(void)
{
    mutex_make(guarded_kind, &guarded);
}

static void lock_and_unlock_in_child(void)
{
    scn_arm(); /* this may hang, and fork() has not returned yet */
    SCN_IS(pthread_mutex_lock(&guarded), 0);
    SCN_IS(pthread_mutex_unlock(&guarded), 0);
}

/* Gives the lock back now and then without taking it at once again: glibc's mutexes are not fair. */
static int take_a_break(void *mutex)
{
    static _Thread_local unsigned count;
    const int error = pthread_mutex_unlock(mutex);
    if (++count % 64 == 0)
        sched_yield();
    return error;
}

static void fork_while_hammered(int forks, int generations)
{
    struct scn_hammer hammer;
    scn_hammer_start(&hammer, mutex_lock, take_a_break, &guarded, 1);
    for (int i = 0; i < forks; i++) {
        SCN_IN_CHILD {
            SCN_IS(child_result, 0);
            mutex_use(mutex_lock, &guarded);
            if (generations > 1)
                fork_while_hammered(2, generations - 1);
        }
    }
    scn_hammer_stop(&hammer);
}

/* The manual page's remedy: prepare locks, parent and child unlock. */
static void remedy(const struct scn_case *self)
{
    mutex_make(self->kind, &guarded);
    SCN_IS(pthread_atfork(lock_it, unlock_it, unlock_in_child), 0);
    fork_while_hammered(scn_often(50), (int)self->number);
    mutex_use(mutex_lock, &guarded);
}

/* The same by two libraries, one inside the other: a recursive lock's depth survives. */
static void remedy_twice(const struct scn_case *self)
{
    mutex_make(self->kind, &guarded);
    SCN_IS(pthread_atfork(lock_it, unlock_it, unlock_in_child), 0);
    SCN_IS(pthread_atfork(lock_it, unlock_it, unlock_in_child), 0);
    fork_while_hammered(scn_often(50), 1);
}

/* The other remedy: prepare locks, the child makes a new one. */
static void renewal(const struct scn_case *self)
{
    guarded_kind = self->kind;
    mutex_make(self->kind, &guarded);
    SCN_IS(pthread_atfork(lock_it, unlock_it, make_anew), 0);
    fork_while_hammered(scn_often(50), 1);
    mutex_use(mutex_lock, &guarded);
}

static void *fork_here(void *unused)
{
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &guarded);
    }
    return NULL;
}

/* Nobody has the renewed lock: no fork of another thread waits for the thread that had the one of before. */
static void renewed_is_nobodys(const struct scn_case *self)
{
    mutex_make(self->kind, &guarded);
    SCN_IS(pthread_mutex_lock(&guarded), 0);
    SCN_IN_CHILD {
        for (int i = 0; i < 4; i++) { /* one such wait ends before the child's time is over, four do not */
            SCN_IS(pthread_mutex_init(&guarded, NULL), 0);
            scn_join(scn_start(fork_here, NULL));
            SCN_IS(pthread_mutex_lock(&guarded), 0);
        }
        SCN_IS(pthread_mutex_unlock(&guarded), 0);
        mutex_use(mutex_lock, &guarded);
    }
    SCN_IS(pthread_mutex_unlock(&guarded), 0);
}

/* As in p11-kit: the child's handler itself needs a lock that a vanished thread holds. */
static void handler_locks(const struct scn_case *self)
{
    mutex_make(self->kind, &guarded);
    SCN_IS(pthread_atfork(NULL, NULL, lock_and_unlock_in_child), 0);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &guarded) {
        mutex_use(mutex_lock, &guarded);
    }
}

/* A prepare handler that holds up the fork until a worker has put its lock down must not be held up itself. */
static int worker_leave, worker_left;

static void quiesce(void)
{
    scn_ring(worker_leave);
    scn_await(worker_left);
}

static void *worker_body(void *unused)
{
    scn_await(worker_leave);
    mutex_use(mutex_lock, &guarded);
    scn_ring(worker_left);
    return NULL;
}

static void prepare_quiesces(const struct scn_case *self)
{
    mutex_make(self->kind, &guarded);
    worker_leave = scn_bell();
    worker_left = scn_bell();
    SCN_IS(pthread_atfork(quiesce, NULL, NULL), 0);
    const pthread_t worker = scn_start(worker_body, NULL);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &guarded);
    }
    scn_join(worker);
}

void scn_cases(void)
{
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        const char *bare = kind->owned ? "fails EPERM" : "fine";
        const char *says = kind->owned ? SCN_NEVER_TAKES : SCN_SILENT;
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = remedy, .kind = kind, .number = 1),
                "remedy-%s", kind->name);
        if (!mutex_is_plain(kind))
            continue;
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = remedy, .kind = kind, .number = 3),
                "remedy-generations-%s", kind->name);
        if (kind->type == PTHREAD_MUTEX_RECURSIVE)
            scn_add(SCN_CASE(.bare = bare, .says = says, .run = remedy_twice, .kind = kind),
                    "remedy-twice-%s", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = renewal, .kind = kind), "renewal-%s", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = renewed_is_nobodys, .kind = kind,
                         .env = "FORKSAFE_DRAIN_LOCKS_MS=60000 FORKSAFE_DRAIN_MS=60000"),
                "renewed-is-nobodys-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = mutex_line(kind), .run = handler_locks, .kind = kind),
                "handler-locks-%s", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = prepare_quiesces, .kind = kind),
                "prepare-quiesces-%s", kind->name);
    }
}
