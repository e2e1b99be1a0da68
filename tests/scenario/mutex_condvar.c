/* A thread that sleeps in pthread_cond_wait has left its mutex; one that has come back from there holds it again,
 * although no call of ours took it. And threads that were cancelled in there. */
#include "mutex_kind.h"

static pthread_mutex_t lock;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

/* A thread that waits until PREDICATE, then sleeps with the mutex held until told to leave. */
struct sleeper {
    bool timed, cancelled_without_unlock;
    bool predicate; /* under the lock */
    atomic_int tid;
    int back, leave;
    pthread_t thread;
};

static void unlock_on_cancel(void *raw)
{
    const struct sleeper *sleeper = raw;
    if (!sleeper->cancelled_without_unlock)
        SCN_IS(pthread_mutex_unlock(&lock), 0);
}

static void *sleeper_body(void *raw)
{
    struct sleeper *sleeper = raw;
    pthread_setname_np(pthread_self(), "worker");
    SCN_IS(pthread_mutex_lock(&lock), 0);
    pthread_cleanup_push(unlock_on_cancel, sleeper);
    atomic_store(&sleeper->tid, (int)gettid());
    if (sleeper->timed) {
        const struct timespec soon = scn_in_ms(CLOCK_REALTIME, 20);
        while (pthread_cond_timedwait(&condition, &lock, &soon) != ETIMEDOUT)
            ;
    } else {
        while (!sleeper->predicate)
            SCN_IS(pthread_cond_wait(&condition, &lock), 0);
    }
    pthread_cleanup_pop(0);
    scn_ring(sleeper->back);
    scn_await(sleeper->leave);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    return NULL;
}

/* Returns when the thread sleeps in its wait, having left the mutex: with the lock in hand nobody else can be
 * between lock and wait. */
static void start_sleeper(struct sleeper *sleeper)
{
    sleeper->back = scn_bell();
    sleeper->leave = scn_bell();
    sleeper->thread = scn_start(sleeper_body, sleeper);
    while (!atomic_load(&sleeper->tid))
        ;
    SCN_IS(pthread_mutex_lock(&lock), 0);
    scn_await_asleep(atomic_load(&sleeper->tid), NULL);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
}

static void wake(struct sleeper *sleeper)
{
    SCN_IS(pthread_mutex_lock(&lock), 0);
    sleeper->predicate = true;
    SCN_IS(pthread_cond_signal(&condition), 0);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    scn_await(sleeper->back);
}

static void dismiss(struct sleeper *sleeper)
{
    scn_ring(sleeper->leave);
    scn_join(sleeper->thread);
    mutex_use(mutex_lock, &lock);
}

/* The mutex is free at fork: nothing to repair, nothing to say. */
static void asleep(const struct scn_case *self)
{
    struct sleeper sleeper = {0};
    mutex_make(self->kind, &lock);
    start_sleeper(&sleeper);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &lock);
        scn_exclusion(mutex_lock, mutex_unlock, &lock, 2, 1000);
    }
    wake(&sleeper);
    dismiss(&sleeper);
}

static void asleep_and_other_holds(const struct scn_case *self)
{
    struct sleeper sleeper = {0};
    mutex_make(self->kind, &lock);
    start_sleeper(&sleeper);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &lock) {
        mutex_use(mutex_lock, &lock);
    }
    wake(&sleeper);
    dismiss(&sleeper);
}

/* The sleeper has come back and holds the mutex at fork. */
static void back(const struct scn_case *self)
{
    struct sleeper sleeper = {.timed = self->number != 0};
    mutex_make(self->kind, &lock);
    if (sleeper.timed) {
        sleeper.back = scn_bell();
        sleeper.leave = scn_bell();
        sleeper.thread = scn_start(sleeper_body, &sleeper);
        scn_await(sleeper.back);
    } else {
        start_sleeper(&sleeper);
        wake(&sleeper);
    }
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &lock);
    }
    mutex_check_held(&lock);
    dismiss(&sleeper);
}

static void *signal_when_free(void *raw)
{
    bool *const predicate = raw;
    SCN_IS(pthread_mutex_lock(&lock), 0);
    *predicate = true;
    SCN_IS(pthread_cond_signal(&condition), 0);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    return NULL;
}

/*
 * The forking thread itself has come back from a wait, and forks with the mutex in hand. `number`: what its child first
 * does with the mutex is to wait again.
 */
static void forker_back(const struct scn_case *self)
{
    bool predicate = false;
    mutex_make(self->kind, &lock);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    const pthread_t signaller = scn_start(signal_when_free, &predicate);
    while (!predicate)
        SCN_IS(pthread_cond_wait(&condition, &lock), 0);
    SCN_IN_CHILD {
        const struct timespec now = scn_in_ms(CLOCK_REALTIME, 0);
        if (self->number != 0)
            SCN_IS(pthread_cond_timedwait(&condition, &lock, &now), ETIMEDOUT);
        mutex_check_held(&lock);
        SCN_IS(pthread_mutex_unlock(&lock), 0);
        mutex_use(mutex_lock, &lock);
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    scn_join(signaller);
}

/* Cancelled in the wait; its cleanup handler gives the mutex back, or (a broken program) does not. */
static void cancelled(const struct scn_case *self)
{
    struct sleeper sleeper = {.cancelled_without_unlock = self->number != 0};
    mutex_make(self->kind, &lock);
    start_sleeper(&sleeper);
    SCN_IS(pthread_cancel(sleeper.thread), 0);
    scn_join(sleeper.thread);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &lock);
        scn_exclusion(mutex_lock, mutex_unlock, &lock, 2, 1000);
    }
}

/* The child waits and signals on a condition of its own with the parent's mutex. */
static void *child_waiter(void *raw)
{
    bool *const predicate = raw;
    SCN_IS(pthread_mutex_lock(&lock), 0);
    while (!*predicate)
        SCN_IS(pthread_cond_wait(&condition, &lock), 0);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    return NULL;
}

static void child_waits(const struct scn_case *self)
{
    mutex_make(self->kind, &lock);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &lock) {
        bool predicate = false;
        const pthread_t waiter = scn_start(child_waiter, &predicate);
        signal_when_free(&predicate);
        scn_join(waiter);
        mutex_use(mutex_lock, &lock);
    }
}

void scn_cases(void)
{
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        const char *line = mutex_line(kind);
        if (!mutex_is_plain(kind))
            continue;
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = asleep, .kind = kind), "asleep-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = asleep_and_other_holds, .kind = kind),
                "asleep-other-holds-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = back, .kind = kind), "back-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = back, .kind = kind, .number = 1),
                "back-by-timeout-%s", kind->name);
        scn_add(SCN_CASE(.bare = kind->owned ? "fails EPERM" : "fine", .says = SCN_NEVER_TAKES, .run = forker_back,
                         .kind = kind), "forker-back-%s", kind->name);
        if (kind->owned)
            scn_add(SCN_CASE(.bare = "fails EPERM", .says = SCN_NEVER_TAKES, .run = forker_back, .kind = kind,
                             .number = 1), "forker-waits-%s", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = cancelled, .kind = kind),
                "cancelled-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = cancelled, .kind = kind, .number = 1),
                "cancelled-without-unlock-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = child_waits, .kind = kind),
                "child-waits-%s", kind->name);
    }
}
