/* Rwlocks held at fork by the forking thread: in the child they are still its own, whatever thread id it has there. */
#include "rwlock_kind.h"

#include <signal.h>
#include <sys/syscall.h>

static pthread_rwlock_t own;

/* Whether this libc keeps the writer's thread id, for which its own second call is an error (musl does not). */
static bool knows_writer(void)
{
    static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    const struct timespec past = {1, 0};
    SCN_IS(pthread_rwlock_wrlock(&rwlock), 0);
    bool knows = pthread_rwlock_timedrdlock(&rwlock, &past) == EDEADLK;
    SCN_IS(pthread_rwlock_unlock(&rwlock), 0);
    return knows;
}

static void check_released(void)
{
    rwlock_use(&own);
    rwlock_use_in_threads(&own);
    SCN_IS(pthread_rwlock_destroy(&own), 0);
}

static void finish(void)
{
    rwlock_check_written(&own); /* the parent has noticed nothing */
    SCN_IS(pthread_rwlock_unlock(&own), 0);
    rwlock_use_in_threads(&own);
}

static void *unlocks(void *raw)
{
    rwlock_make(raw, &own);
    SCN_IS(pthread_rwlock_wrlock(&own), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        check_released();
    }
    finish();
    return NULL;
}

static void main_forks(const struct scn_case *self)
{
    unlocks((void *)self->kind);
}

static void thread_forks(const struct scn_case *self)
{
    scn_join(scn_start(unlocks, (void *)self->kind));
}

/* With threads before it is released: they are kept out until then. */
static void keeps_out(const struct scn_case *self)
{
    rwlock_make(self->kind, &own);
    SCN_IS(pthread_rwlock_wrlock(&own), 0);
    SCN_IN_CHILD {
        rwlock_check_written(&own);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        check_released();
    }
    finish();
}

/* Its own second call: a deadlock that libc sees, as in the parent; on musl a try alone comes back. */
static void relocks(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    const bool tries = entry->take == rwlock_trywrlock || entry->take == rwlock_tryrdlock;
    rwlock_make(self->kind, &own);
    SCN_IS(pthread_rwlock_wrlock(&own), 0);
    SCN_IN_CHILD {
        SCN_IS(entry->take(&own), tries ? EBUSY : EDEADLK);
        rwlock_check_written(&own);
        SCN_IS(entry->take(&own), tries ? EBUSY : EDEADLK);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        check_released();
    }
    finish();
}

static void release(void *unused)
{
    SCN_IS(pthread_rwlock_unlock(&own), 0);
}

/* Vanished threads wait for it, readers and writers; then threads of the child do. */
static void waited_for(const struct scn_case *self)
{
    struct scn_waiter queue[4];
    rwlock_make(self->kind, &own);
    SCN_IS(pthread_rwlock_wrlock(&own), 0);
    for (int i = 0; i < 4; i++)
        scn_want(&queue[i], i % 2 ? rwlock_wrlock : rwlock_rdlock, rwlock_unlock, &own);
    SCN_IN_CHILD {
        if (self->number == 1)
            scn_must_wait(rwlock_rdlock, rwlock_unlock, &own, release, NULL);
        else if (self->number == 2)
            scn_must_wait(rwlock_wrlock, rwlock_unlock, &own, release, NULL);
        else
            SCN_IS(pthread_rwlock_unlock(&own), 0);
        check_released();
    }
    SCN_IS(pthread_rwlock_unlock(&own), 0);
    for (int i = 0; i < 4; i++)
        scn_join(queue[i].thread);
    rwlock_use_in_threads(&own);
}

static void grandchild_unlocks(const struct scn_case *self)
{
    rwlock_make(self->kind, &own);
    SCN_IS(pthread_rwlock_wrlock(&own), 0);
    SCN_IN_CHILD {
        SCN_IN_CHILD {
            SCN_IS(pthread_rwlock_unlock(&own), 0);
            check_released();
        }
        rwlock_check_written(&own);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        check_released();
    }
    finish();
}

/* A fork that libc does not know of: it goes on under the old id, and so must we. */
static void raw_fork(const struct scn_case *self)
{
    rwlock_make(self->kind, &own);
    SCN_IS(pthread_rwlock_wrlock(&own), 0);
    const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        scn_arm();
        if (knows_writer())
            SCN_IS(pthread_rwlock_rdlock(&own), EDEADLK);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        rwlock_use(&own);
        scn_fine();
    }
    scn_reap(child);
    finish();
}

/* The reads of a forker with nobody beside it: libc needs no help. An upgrade is refused as ever. */
static void reads(const struct scn_case *self)
{
    rwlock_make(self->kind, &own);
    SCN_IS(pthread_rwlock_rdlock(&own), 0);
    SCN_IS(pthread_rwlock_rdlock(&own), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_rwlock_trywrlock(&own), EBUSY);
        SCN_IS(rwlock_timedwrlock(&own), ETIMEDOUT);
        SCN_IS(rwlock_clockwrlock(&own), ETIMEDOUT);
        rwlock_check_read(&own);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        rwlock_check_read(&own);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        check_released();
    }
    SCN_IS(pthread_rwlock_unlock(&own), 0);
    SCN_IS(pthread_rwlock_unlock(&own), 0);
    rwlock_use_in_threads(&own);
}

/* Reads, gives up, writes: with a vanished reader beside. */
static void upgrades(const struct scn_case *self)
{
    struct scn_holder worker;
    rwlock_make(self->kind, &own);
    SCN_IS(pthread_rwlock_rdlock(&own), 0);
    scn_hold(&worker, rwlock_rdlock, rwlock_unlock, &own, 1);
    SCN_IN_CHILD {
        SCN_IS(rwlock_timedwrlock(&own), ETIMEDOUT); /* its own hold is in the way */
        rwlock_check_read(&own);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        SCN_IS(pthread_rwlock_wrlock(&own), 0);
        rwlock_check_written(&own);
        SCN_IS(pthread_rwlock_unlock(&own), 0);
        check_released();
    }
    SCN_IS(pthread_rwlock_unlock(&own), 0);
    scn_let_go(&worker);
}

void scn_cases(void)
{
    const bool knows = knows_writer();
    /* Where the writer's id is known, the bare unlock returns 0 and loses the lock: the next one who wants it hangs. */
    const char *const unlocked = knows ? "hangs" : "fine";
    const struct scn_row situations[] = {
        {"unlock", main_forks, 0, SCN_SILENT, unlocked},
        {"thread", thread_forks, 0, SCN_SILENT, unlocked},
        {"keeps-out", keeps_out, 0, SCN_SILENT, unlocked},
        {"waited-for", waited_for, 0, SCN_SILENT, unlocked},
        {"waited-for-read", waited_for, 1, SCN_SILENT, unlocked},
        {"waited-for-write", waited_for, 2, SCN_SILENT, unlocked},
        {"grandchild", grandchild_unlocks, 0, SCN_SILENT, unlocked},
        {"raw-fork", raw_fork, 0, SCN_SILENT, "fine"},
        {"reads", reads, 0, SCN_SILENT, "fine"},
        {"upgrade", upgrades, 0, RWLOCK_FROM_WORKER, "hangs"},
    };
    for (int i = 0; i < RWLOCK_KINDS; i++) {
        const struct rwlock_kind *kind = &rwlock_kinds[i];
        const size_t count = rwlock_is_plain(kind) ? sizeof situations / sizeof situations[0] : 1;
        scn_add_rows(situations, count, (struct scn_case){.kind = kind}, kind->name);
        for (int j = knows ? 0 : 1; rwlock_is_plain(kind) && j < RWLOCK_ENTRIES; j += knows ? 1 : 4)
            scn_add(SCN_CASE(.bare = !knows ? "fine" : j % 4 == 1 ? "hangs" : rwlock_entries[j].bare,
                             .says = SCN_SILENT, .run = relocks, .kind = kind, .entry = &rwlock_entries[j]),
                    "again-%s-%s", rwlock_entries[j].name, kind->name);
    }
}
