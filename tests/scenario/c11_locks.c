/* The locks and condition variables of <threads.h>: the same objects as pthread's, reached past pthread's names. */
#include "c11_kind.h"

#include <sched.h>

static mtx_t lock;
static cnd_t condition;

static void make(const struct scn_case *self)
{
    const struct c11_kind *kind = self->kind;
    SCN_CHECK(mtx_init(&lock, kind->type) == thrd_success);
    SCN_CHECK(cnd_init(&condition) == thrd_success);
}

/* pthread's calls on a mtx_t: one object, two names. */
static int as_pthread_lock(void *mutex)
{
    return pthread_mutex_lock(mutex);
}

static int as_pthread_unlock(void *mutex)
{
    return pthread_mutex_unlock(mutex);
}

static void vanished(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    const struct c11_kind *kind = self->kind;
    struct scn_holder worker;
    make(self);
    scn_hold(&worker, c11_lock, c11_unlock, &lock, kind->recursive ? 3 : 1);
    SCN_IN_CHILD {
        c11_use(entry->take, &lock);
        scn_exclusion(c11_lock, c11_unlock, &lock, 4, 2000);
        mtx_destroy(&lock);
    }
    SCN_IS(scn_elsewhere(c11_try_and_unlock, &lock), EBUSY);
    scn_let_go(&worker);
    c11_use(entry->take, &lock);
}

/* Taken as one and seen, or given back, as the other. */
static void mixed(const struct scn_case *self)
{
    struct scn_holder worker;
    make(self);
    scn_hold(&worker, self->number ? as_pthread_lock : c11_lock, self->number ? c11_unlock : as_pthread_unlock, &lock,
             1);
    SCN_IN_CHILD {
        scn_call *const take = self->number ? c11_lock : as_pthread_lock;
        SCN_IS(take(&lock), 0);
        SCN_IS(scn_elsewhere(c11_try_and_unlock, &lock), EBUSY);
        SCN_IS((self->number ? as_pthread_unlock : c11_unlock)(&lock), 0);
        c11_use(c11_lock, &lock);
    }
    scn_let_go(&worker);
}

static void forkers(const struct scn_case *self)
{
    const struct c11_kind *kind = self->kind;
    make(self);
    SCN_IS(c11_lock(&lock), 0);
    SCN_IN_CHILD {
        if (kind->recursive) {
            SCN_IS(c11_lock(&lock), 0);
            SCN_IS(c11_unlock(&lock), 0);
        }
        SCN_IS(scn_elsewhere(c11_try_and_unlock, &lock), EBUSY);
        SCN_IS(c11_unlock(&lock), 0);
        c11_use(c11_lock, &lock);
    }
    SCN_IS(c11_unlock(&lock), 0);
}

/* --- Condition variables ---------------------------------------------------------------------------------------- */

struct waiter {
    bool timed;
    bool go; /* under the lock */
    atomic_int tid;
};

static void *waits(void *raw)
{
    struct waiter *waiter = raw;
    const struct timespec late = scn_in_ms(CLOCK_REALTIME, 60000);
    pthread_setname_np(pthread_self(), "worker");
    SCN_IS(c11_lock(&lock), 0);
    atomic_store(&waiter->tid, (int)gettid());
    while (!waiter->go)
        SCN_IS(c11_error(waiter->timed ? cnd_timedwait(&condition, &lock, &late) : cnd_wait(&condition, &lock)), 0);
    SCN_IS(c11_unlock(&lock), 0);
    return NULL;
}

static pthread_t start_waiter(struct waiter *waiter)
{
    const pthread_t thread = scn_start(waits, waiter);
    scn_await_sleeper(&waiter->tid);
    return thread;
}

/* Wakes it and waits until it is gone. */
static void wake(struct waiter *waiter, pthread_t thread, bool by_signal)
{
    SCN_IS(c11_lock(&lock), 0);
    waiter->go = true;
    SCN_IS(c11_error(by_signal ? cnd_signal(&condition) : cnd_broadcast(&condition)), 0);
    SCN_IS(c11_unlock(&lock), 0);
    scn_join(thread);
}

static void check_timeout(void)
{
    const struct timespec soon = scn_in_ms(CLOCK_REALTIME, 20);
    SCN_IS(c11_lock(&lock), 0);
    SCN_IS(c11_error(cnd_timedwait(&condition, &lock, &soon)), ETIMEDOUT);
    SCN_IS(c11_unlock(&lock), 0);
}

enum { DESTROY, SIGNAL, BROADCAST };

static void waiter_vanished(const struct scn_case *self)
{
    struct waiter waiter = {.timed = self->entry != NULL};
    make(self);
    const pthread_t thread = start_waiter(&waiter);
    SCN_IN_CHILD {
        for (int i = 0; self->number != DESTROY && i < 20; i++) {
            struct waiter childs = {.timed = waiter.timed};
            const pthread_t childs_thread = start_waiter(&childs);
            wake(&childs, childs_thread, self->number == SIGNAL);
        }
        if (self->number != DESTROY)
            check_timeout();
        cnd_destroy(&condition);
        mtx_destroy(&lock);
        make(self);
        check_timeout();
    }
    wake(&waiter, thread, true);
    check_timeout();
}

/* The forking thread's own mutex: the child waits with it. */
static void forkers_wait(const struct scn_case *self)
{
    make(self);
    SCN_IS(c11_lock(&lock), 0);
    SCN_IN_CHILD {
        const struct timespec soon = scn_in_ms(CLOCK_REALTIME, 20);
        SCN_IS(c11_error(cnd_timedwait(&condition, &lock, &soon)), ETIMEDOUT);
        SCN_IS(c11_unlock(&lock), 0);
        c11_use(c11_lock, &lock);
    }
    SCN_IS(c11_unlock(&lock), 0);
}

/* --- What must stay as it is ------------------------------------------------------------------------------------ */

static void contract(const struct scn_case *self)
{
    const struct c11_kind *kind = self->kind;
    const struct timespec bad = {0, 2000000000};
    make(self);
    errno = 4711;
    for (int i = 0; i < C11_ENTRIES; i++) {
        SCN_IS(c11_entries[i].take(&lock), 0);
        SCN_IS(c11_trylock(&lock), kind->recursive ? 0 : EBUSY);
        if (kind->recursive) {
            SCN_IS(c11_unlock(&lock), 0);
            SCN_IS(scn_elsewhere(c11_unlock, &lock), LIBC_C11_WRONG_OWNER);
        }
        SCN_IS(scn_elsewhere(c11_timedlock, &lock), ETIMEDOUT);
        SCN_IS(c11_error(cnd_timedwait(&condition, &lock, &bad)), EPERM);
        SCN_IS(c11_error(cnd_signal(&condition)), 0);
        SCN_IS(c11_error(cnd_broadcast(&condition)), 0);
        SCN_IS(c11_unlock(&lock), 0);
    }
    check_timeout();
    cnd_destroy(&condition);
    mtx_destroy(&lock);
    SCN_CHECK(errno == 4711);
    make(self);
    SCN_IN_CHILD {
        scn_exclusion(c11_lock, c11_unlock, &lock, 4, 5000);
        check_timeout();
    }
}

/* --- call_once --------------------------------------------------------------------------------------------------- */

static once_flag once = ONCE_FLAG_INIT;
static atomic_int runs;
static int inside, leave;

static void initialise(void)
{
    if (atomic_fetch_add(&runs, 1) > 0)
        return;
    scn_ring(inside);
    scn_await(leave);
}

static void *calls_once(void *raw)
{
    call_once(&once, initialise);
    return NULL;
}

/* Another thread is in the initialiser: the child runs it again, if libc knows of forks. */
static void once_in_progress(const struct scn_case *self)
{
    inside = scn_bell();
    leave = scn_bell();
    const pthread_t thread = scn_start(calls_once, NULL);
    scn_await(inside);
    SCN_IN_CHILD {
        call_once(&once, initialise);
        SCN_CHECK(atomic_load(&runs) == 2);
    }
    scn_ring(leave);
    scn_join(thread);
}

#define FORGOT "once:^forksafe\\[\\d+\\.\\d+\\] child forgot 1 vanished thread in condition variable 0x"

void scn_cases(void)
{
    static const char *const uses[] = {[DESTROY] = "destroy", [SIGNAL] = "signal", [BROADCAST] = "broadcast"};
    for (int i = 0; i < C11_KINDS; i++) {
        const struct c11_kind *kind = &c11_kinds[i];
        const char *line = mutex_line(&mutex_kinds[kind->recursive ? 3 : 1]);
        for (int j = 0; j < C11_ENTRIES; j++)
            scn_add(SCN_CASE(.bare = c11_entries[j].bare, .says = line, .run = vanished, .kind = kind,
                             .entry = &c11_entries[j]), "%s-%s", c11_entries[j].name, kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = mixed, .kind = kind), "c11-then-pthread-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = mixed, .kind = kind, .number = 1),
                "pthread-then-c11-%s", kind->name);
        scn_add(SCN_CASE(.bare = kind->recursive ? "hangs" : "fine", .says = SCN_SILENT, .run = forkers, .kind = kind),
                "forkers-%s", kind->name);
        for (int use = DESTROY; use <= BROADCAST; use++)
            for (int timed = 0; timed < 2; timed++)
                scn_add(SCN_CASE(.bare = use == DESTROY && !LIBC_WAITS_INSIDE ? "fine" : "hangs",
                                 .says = use == DESTROY && !LIBC_WAITS_INSIDE ? SCN_SILENT : FORGOT,
                                 .run = waiter_vanished, .kind = kind, .entry = timed ? &c11_entries[0] : NULL,
                                 .number = use), "cnd-%s-%s-%s", uses[use], timed ? "timedwait" : "wait", kind->name);
        scn_add(SCN_CASE(.bare = kind->recursive ? "fails EPERM" : "fine", .says = SCN_SILENT, .run = forkers_wait,
                         .kind = kind), "forkers-wait-%s", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = contract, .kind = kind), "contract-%s", kind->name);
    }
    scn_add((struct scn_case){.bare = LIBC_ONCE_SURVIVES ? "fine" : "hangs",
                              .preloaded = LIBC_ONCE_SURVIVES ? "fine" : "hangs",
                              .says = LIBC_ONCE_SURVIVES ? SCN_SILENT : NULL, .run = once_in_progress},
            "call-once-in-progress");
}
