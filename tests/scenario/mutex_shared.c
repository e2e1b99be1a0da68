/* Mutexes in memory that parent and child share: their holders live on in the parent, and the child's stores would be
 * seen there. None is ever taken over. */
#include "mutex_kind.h"

#include <sys/mman.h>

struct shared_memory {
    pthread_mutex_t lock;
    atomic_int released;
};

static struct shared_memory *map_shared(const struct scn_case *self)
{
    int fd = -1, flags = MAP_SHARED | MAP_ANONYMOUS;
    if (self->number) { /* a file instead */
        fd = memfd_create("scenario", MFD_CLOEXEC);
        SCN_CHECK(fd >= 0 && ftruncate(fd, sizeof(struct shared_memory)) == 0);
        flags = MAP_SHARED;
    }
    struct shared_memory *memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, flags, fd, 0);
    SCN_CHECK(memory != MAP_FAILED);
    if (fd >= 0)
        close(fd);
    return memory;
}

/* Process-shared, held by a living thread of the parent: the child waits until that thread gives it back. */
static void shared_waits(const struct scn_case *self)
{
    struct shared_memory *const memory = map_shared(self);
    struct scn_holder worker;
    mutex_make_shared(self->kind, PTHREAD_PROCESS_SHARED, &memory->lock);
    scn_hold(&worker, mutex_lock, mutex_unlock, &memory->lock, 1);
    const int about_to_wait = scn_bell();
    const pid_t child = scn_fork();
    if (child == 0) {
        SCN_IS(pthread_mutex_trylock(&memory->lock), EBUSY);
        SCN_IS(mutex_timedlock(&memory->lock), ETIMEDOUT);
        SCN_IS(mutex_clocklock(&memory->lock), ETIMEDOUT);
        scn_ring(about_to_wait);
        SCN_IS(pthread_mutex_lock(&memory->lock), 0);
        SCN_CHECK(atomic_load(&memory->released));
        SCN_IS(pthread_mutex_unlock(&memory->lock), 0);
        mutex_use(mutex_lock, &memory->lock);
        scn_fine();
    }
    scn_await(about_to_wait);
    scn_await_asleep(child, NULL);
    atomic_store(&memory->released, 1);
    scn_let_go(&worker);
    scn_reap(child);
    mutex_use(mutex_lock, &memory->lock);
}

/* Both sides at work on it: exclusion across the two processes. */
static void shared_exclusion(const struct scn_case *self)
{
    enum { ROUNDS = 20000 };
    struct shared_memory *const memory = map_shared(self);
    mutex_make_shared(self->kind, PTHREAD_PROCESS_SHARED, &memory->lock);
    mutex_use(mutex_lock, &memory->lock);
    const pid_t child = scn_fork();
    for (int i = 0; i < ROUNDS; i++) {
        SCN_IS(pthread_mutex_lock(&memory->lock), 0);
        const int before = atomic_load_explicit(&memory->released, memory_order_relaxed);
        atomic_store_explicit(&memory->released, before + 1, memory_order_relaxed);
        SCN_IS(pthread_mutex_unlock(&memory->lock), 0);
    }
    if (child == 0)
        scn_fine();
    scn_reap(child);
    SCN_CHECK(atomic_load(&memory->released) == 2 * ROUNDS);
}

/* A private mutex, but in shared memory: the parent's thread would lose it to a takeover. */
static void private_refused(const struct scn_case *self)
{
    struct shared_memory *const memory = map_shared(self);
    struct scn_holder worker;
    mutex_make(self->kind, &memory->lock);
    scn_hold(&worker, mutex_lock, mutex_unlock, &memory->lock, 1);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_trylock(&memory->lock), EBUSY);
        SCN_IS(mutex_timedlock(&memory->lock), ETIMEDOUT);
        SCN_IS(mutex_clocklock(&memory->lock), ETIMEDOUT);
    }
    mutex_check_held(&memory->lock);
    SCN_IS(pthread_mutex_trylock(&memory->lock), EBUSY);
    scn_let_go(&worker);
    mutex_use(mutex_lock, &memory->lock);
    SCN_IS(pthread_mutex_destroy(&memory->lock), 0);
}

/* Held by the forking thread: its owner stays the parent's thread; the parent's unlock and relock keep working. */
static void forkers(const struct scn_case *self, struct shared_memory *memory)
{
    const struct mutex_kind *const kind = self->kind;
    SCN_IS(pthread_mutex_lock(&memory->lock), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_trylock(&memory->lock), EBUSY);
    }
    if (kind->type == PTHREAD_MUTEX_ERRORCHECK)
        SCN_IS(pthread_mutex_lock(&memory->lock), EDEADLK);
    if (kind->type == PTHREAD_MUTEX_RECURSIVE) {
        SCN_IS(pthread_mutex_lock(&memory->lock), 0);
        SCN_IS(pthread_mutex_unlock(&memory->lock), 0);
    }
    mutex_check_held(&memory->lock);
    SCN_IS(pthread_mutex_unlock(&memory->lock), 0);
    mutex_use(mutex_lock, &memory->lock);
}

static void forkers_shared(const struct scn_case *self)
{
    struct shared_memory *const memory = map_shared(self);
    mutex_make_shared(self->kind, PTHREAD_PROCESS_SHARED, &memory->lock);
    forkers(self, memory);
}

static void forkers_private(const struct scn_case *self)
{
    struct shared_memory *const memory = map_shared(self);
    mutex_make(self->kind, &memory->lock);
    forkers(self, memory);
}

/* Privately mapped file memory is private: written by one side, unseen by the other. */
static void private_file(const struct scn_case *self)
{
    const int fd = memfd_create("scenario", MFD_CLOEXEC);
    SCN_CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    pthread_mutex_t *const lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    SCN_CHECK((void *)lock != MAP_FAILED);
    mutex_make(self->kind, lock);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, lock) {
        mutex_use(mutex_lock, lock);
    }
}

void scn_cases(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct scn_case *);
    } situations[] = {{"shared-waits", shared_waits},
                      {"shared-exclusion", shared_exclusion},
                      {"private-refused", private_refused},
                      {"forkers-shared", forkers_shared},
                      {"forkers-private", forkers_private}};
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        for (size_t s = 0; s < sizeof situations / sizeof situations[0]; s++)
            for (int in_file = 0; in_file < 2; in_file++)
                if (mutex_is_plain(kind) || (kind->is_static && situations[s].run == private_refused))
                    scn_add(SCN_CASE(.bare = "fine", .says = SCN_NEVER_TAKES, .run = situations[s].run, .kind = kind,
                                     .number = in_file),
                            "%s-%s%s", situations[s].name, kind->name, in_file ? "-file" : "");
        if (mutex_is_plain(kind))
            scn_add(SCN_CASE(.bare = "hangs", .says = mutex_line(kind), .run = private_file, .kind = kind),
                    "private-file-%s", kind->name);
    }
}
