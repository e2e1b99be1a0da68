/* Correct programs that a careless repair breaks: they work bare and must work the same, without a word. */
#include "mutex_kind.h"

enum { APPLICATIONS_ERRNO = 4711 };

static pthread_mutex_t lock;

/* A living thread of this process holds the lock (taken with TAKE): everybody else is kept out. */
static void check_living_holder(scn_call *take, scn_call *give)
{
    struct scn_holder alive;
    scn_hold(&alive, take, give, &lock, 1);
    SCN_IS(pthread_mutex_trylock(&lock), EBUSY);
    SCN_IS(mutex_timedlock(&lock), ETIMEDOUT);
    SCN_IS(mutex_clocklock(&lock), ETIMEDOUT);
    scn_must_wait(mutex_lock, mutex_unlock, &lock, scn_let_go, &alive);
    mutex_use(mutex_lock, &lock);
}

/* The child makes the vanished thread's lock anew, by pthread_mutex_init or (static kinds) by a plain store that
 * nobody can see. */
static void made_anew(const struct scn_case *self)
{
    mutex_make(self->kind, &lock);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &lock) {
        mutex_make(self->kind, &lock);
        check_living_holder(mutex_lock, mutex_unlock);
        scn_exclusion(mutex_lock, mutex_unlock, &lock, 2, 2000);
        SCN_IS(pthread_mutex_destroy(&lock), 0);
    }
}

/* As above, then held by a living thread that took it past us: only the lock's bytes speak for that thread. */
static void made_anew_unseen_holder(const struct scn_case *self)
{
    scn_call *const unseen_lock = (scn_call *)scn_libc("pthread_mutex_lock");
    scn_call *const unseen_unlock = (scn_call *)scn_libc("pthread_mutex_unlock");
    mutex_make(self->kind, &lock);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &lock) {
        mutex_make(self->kind, &lock);
        check_living_holder(unseen_lock, unseen_unlock);
    }
}

/* No lock was held at fork; the child's own threads use it. */
static void holder_alive(const struct scn_case *self)
{
    mutex_make(self->kind, &lock);
    mutex_use(mutex_lock, &lock);
    SCN_IN_CHILD {
        check_living_holder(mutex_lock, mutex_unlock);
    }
    check_living_holder(mutex_lock, mutex_unlock);
}

struct stale {
    scn_call *unlock;
    int ready, leave;
};

static void *stale_body(void *raw)
{
    struct stale *stale = raw;
    SCN_IS(pthread_mutex_lock(&lock), 0);
    SCN_IS(stale->unlock(&lock), 0);
    scn_ring(stale->ready);
    scn_await(stale->leave);
    return NULL;
}

/* A thread takes the lock in our sight and gives it back out of it; it lives on until after the fork. */
static void unseen_unlock(const struct scn_case *self)
{
    struct stale stale = {(scn_call *)scn_libc("pthread_mutex_unlock"), scn_bell(), scn_bell()};
    mutex_make(self->kind, &lock);
    const pthread_t thread = scn_start(stale_body, &stale);
    scn_await(stale.ready);
    SCN_IN_CHILD {
        /* Locked, owner not yet written: such bytes now belong to a living thread, whatever old records say. */
        scn_exclusion(mutex_lock, mutex_unlock, &lock, 4, 20000);
        mutex_use(mutex_lock, &lock);
        check_living_holder(mutex_lock, mutex_unlock);
    }
    mutex_use(mutex_lock, &lock);
    scn_ring(stale.leave);
    scn_join(thread);
}

/* As above, but at fork the lock is properly held by the forking thread. */
static void unseen_unlock_then_forker(const struct scn_case *self)
{
    const struct mutex_kind *kind = self->kind;
    struct stale stale = {(scn_call *)scn_libc("pthread_mutex_unlock"), scn_bell(), scn_bell()};
    mutex_make(kind, &lock);
    const pthread_t thread = scn_start(stale_body, &stale);
    scn_await(stale.ready);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    SCN_IN_CHILD {
        mutex_check_held(&lock); /* by this very thread */
        SCN_IS(scn_elsewhere(mutex_time_and_unlock, &lock), ETIMEDOUT);
        SCN_IS(pthread_mutex_unlock(&lock), 0);
        check_living_holder(mutex_lock, mutex_unlock);
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    scn_ring(stale.leave);
    scn_join(thread);
}

/* A lock taken by one thread and given back by another, which the ownerless kinds allow in practice. */
static void handed_over(const struct scn_case *self)
{
    struct scn_holder worker;
    mutex_make(self->kind, &lock);
    scn_hold(&worker, mutex_lock, mutex_trylock, &lock, 1);
    SCN_IS(pthread_mutex_unlock(&lock), 0); /* by another thread; the worker is still there */
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &lock);
        check_living_holder(mutex_lock, mutex_unlock);
    }
    scn_let_go(&worker); /* its last act is a trylock */
    SCN_IS(pthread_mutex_unlock(&lock), 0);
}

static int foreign_unlock(void *mutex)
{
    return pthread_mutex_unlock(mutex);
}

static int foreign_badly_timed(void *mutex)
{
    const struct timespec bad = {0, 2000000000};
    return pthread_mutex_timedlock(mutex, &bad);
}

static int foreign_overdue(void *mutex)
{
    const struct timespec past = {1, 0};
    return pthread_mutex_timedlock(mutex, &past);
}

/* What each call answers, and that none of them touches errno. */
static void check_contract(const struct mutex_kind *kind)
{
    const bool recursive = kind->type == PTHREAD_MUTEX_RECURSIVE;
    const bool errorcheck = kind->type == PTHREAD_MUTEX_ERRORCHECK;
    errno = APPLICATIONS_ERRNO;
    for (int i = 0; i < MUTEX_ENTRIES; i++) {
        SCN_IS(mutex_entries[i].take(&lock), 0);
        SCN_IS(pthread_mutex_trylock(&lock), recursive ? 0 : EBUSY);
        if (recursive)
            SCN_IS(pthread_mutex_unlock(&lock), 0);
        if (errorcheck) {
            SCN_IS(pthread_mutex_lock(&lock), EDEADLK);
            SCN_IS(mutex_timedlock(&lock), EDEADLK);
        }
        if (kind->owned)
            SCN_IS(scn_elsewhere(foreign_unlock, &lock), EPERM);
        SCN_IS(scn_elsewhere(foreign_badly_timed, &lock), EINVAL);
        SCN_IS(scn_elsewhere(foreign_overdue, &lock), ETIMEDOUT);
        SCN_IS(pthread_mutex_destroy(&lock), LIBC_DESTROY_IN_USE);
        SCN_IS(pthread_mutex_unlock(&lock), 0);
        if (kind->owned)
            SCN_IS(pthread_mutex_unlock(&lock), EPERM);
    }
    SCN_IS(pthread_mutex_destroy(&lock), 0);
    mutex_make(kind, &lock);
    SCN_CHECK(errno == APPLICATIONS_ERRNO);
}

static void contract(const struct scn_case *self)
{
    mutex_make(self->kind, &lock);
    check_contract(self->kind);
    SCN_IN_CHILD {
        check_contract(self->kind);
        SCN_IN_CHILD {
            check_contract(self->kind);
        }
    }
    check_contract(self->kind);
}

/* Never a thread: fork and lock as shells do. */
static void no_threads(const struct scn_case *self)
{
    mutex_make(self->kind, &lock);
    for (int i = 0; i < 20; i++) {
        SCN_IS(pthread_mutex_lock(&lock), 0);
        SCN_IS(pthread_mutex_unlock(&lock), 0);
        SCN_IN_CHILD {
            SCN_IS(pthread_mutex_lock(&lock), 0);
            SCN_IS(pthread_mutex_unlock(&lock), 0);
            SCN_IS(pthread_mutex_destroy(&lock), 0);
        }
    }
}

/* A thread asleep in lock() for a lock that comes free in the child wanted it, but never had it. */
static void wanted_only(const struct scn_case *self)
{
    struct scn_waiter waiter;
    mutex_make(self->kind, &lock);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    scn_want(&waiter, mutex_lock, mutex_unlock, &lock);
    SCN_IN_CHILD {
        mutex_make(self->kind, &lock);
        scn_exclusion(mutex_lock, mutex_unlock, &lock, 4, 20000);
        check_living_holder(mutex_lock, mutex_unlock);
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    scn_join(waiter.thread);
}

void scn_cases(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct scn_case *);
        bool ownerless_only;
    } traps[] = {
        {"made-anew", made_anew, false},
        {"made-anew-unseen-holder", made_anew_unseen_holder, false},
        {"holder-alive", holder_alive, false},
        {"unseen-unlock", unseen_unlock, false},
        {"unseen-unlock-then-forker", unseen_unlock_then_forker, true}, /* the others fail bare: see mutex_forker */
        {"handed-over", handed_over, true},
        {"contract", contract, false},
        {"no-threads", no_threads, false},
        {"wanted-only", wanted_only, false},
    };
    for (size_t t = 0; t < sizeof traps / sizeof traps[0]; t++)
        for (int i = 0; i < MUTEX_KINDS; i++)
            if (!(traps[t].ownerless_only && mutex_kinds[i].owned))
                scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = traps[t].run, .kind = &mutex_kinds[i]),
                        "%s-%s", traps[t].name, mutex_kinds[i].name);
}
