/* Rwlocks in memory that parent and child share: their holders live on in the parent, and the child's stores would be
 * seen there. None is ever taken over. */
#include "rwlock_kind.h"

#include <sys/mman.h>

struct shared_memory {
    pthread_rwlock_t lock;
    atomic_int released;
};

static struct shared_memory *map_shared(void)
{
    struct shared_memory *memory =
        mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(memory != MAP_FAILED);
    return memory;
}

static scn_call *holder_call(const struct scn_case *self)
{
    return self->number ? rwlock_wrlock : rwlock_rdlock;
}

/* Process-shared, held by a living thread of the parent: the child's writer waits until that thread gives it back. */
static void shared_waits(const struct scn_case *self)
{
    struct shared_memory *const memory = map_shared();
    struct scn_holder worker;
    rwlock_make_shared(self->kind, PTHREAD_PROCESS_SHARED, &memory->lock);
    scn_hold(&worker, holder_call(self), rwlock_unlock, &memory->lock, 1);
    const int about_to_wait = scn_bell();
    const pid_t child = scn_fork();
    if (child == 0) {
        SCN_IS(pthread_rwlock_trywrlock(&memory->lock), EBUSY);
        SCN_IS(rwlock_timedwrlock(&memory->lock), ETIMEDOUT);
        SCN_IS(rwlock_clockwrlock(&memory->lock), ETIMEDOUT);
        scn_ring(about_to_wait);
        SCN_IS(pthread_rwlock_wrlock(&memory->lock), 0);
        SCN_CHECK(atomic_load(&memory->released));
        SCN_IS(pthread_rwlock_unlock(&memory->lock), 0);
        rwlock_use(&memory->lock);
        scn_fine();
    }
    scn_await(about_to_wait);
    scn_await_asleep(child, NULL);
    atomic_store(&memory->released, 1);
    scn_let_go(&worker);
    scn_reap(child);
    rwlock_use(&memory->lock);
}

/* A private one, but in shared memory: the parent's thread would lose it to a takeover. */
static void private_refused(const struct scn_case *self)
{
    struct shared_memory *const memory = map_shared();
    struct scn_holder worker;
    rwlock_make(self->kind, &memory->lock);
    scn_hold(&worker, holder_call(self), rwlock_unlock, &memory->lock, 1);
    SCN_IN_CHILD {
        SCN_IS(pthread_rwlock_trywrlock(&memory->lock), EBUSY);
        SCN_IS(rwlock_timedwrlock(&memory->lock), ETIMEDOUT);
        SCN_IS(scn_elsewhere(rwlock_time_write, &memory->lock), ETIMEDOUT);
    }
    SCN_IS(pthread_rwlock_trywrlock(&memory->lock), EBUSY);
    scn_let_go(&worker);
    rwlock_use_in_threads(&memory->lock);
}

/* Written by the forking thread: its owner stays the parent's thread. */
static void forkers(const struct scn_case *self)
{
    struct shared_memory *const memory = map_shared();
    rwlock_make(self->kind, &memory->lock);
    SCN_IS(pthread_rwlock_wrlock(&memory->lock), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_rwlock_trywrlock(&memory->lock), EBUSY);
        SCN_IS(pthread_rwlock_tryrdlock(&memory->lock), EBUSY);
    }
    SCN_IS(pthread_rwlock_wrlock(&memory->lock), EDEADLK);
    SCN_IS(pthread_rwlock_unlock(&memory->lock), 0);
    rwlock_use_in_threads(&memory->lock);
}

#define REFUSED "child may hang on rwlock 0x[0-9a-f]+ .*memory shared with other processes"

void scn_cases(void)
{
    for (int i = 0; i < RWLOCK_KINDS; i++) {
        const struct rwlock_kind *kind = &rwlock_kinds[i];
        for (int writes = 0; writes < 2; writes++) {
            if (rwlock_is_plain(kind))
                scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = shared_waits, .kind = kind,
                                 .number = writes), "shared-%s-%s", writes ? "written" : "read", kind->name);
            scn_add(SCN_CASE(.bare = "fine", .says = REFUSED " ;; " SCN_NEVER_TAKES, .run = private_refused,
                             .kind = kind, .number = writes), "private-%s-%s", writes ? "written" : "read", kind->name);
        }
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_NEVER_TAKES, .run = forkers, .kind = kind),
                "forkers-%s", kind->name);
    }
}
