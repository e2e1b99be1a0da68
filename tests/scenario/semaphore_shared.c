/* Semaphores that parent and child share: process-shared, named, or private by attribute in shared memory. Their
 * takers live on in the parent; none is ever granted. */
#include "semaphore_kind.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

static atomic_int *released;

static void *map_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(memory != MAP_FAILED);
    return memory;
}

static sem_t *make_process_shared(void)
{
    sem_t *semaphore = map_shared(sizeof *semaphore);
    SCN_CHECK(sem_init(semaphore, 1, 1) == 0);
    return semaphore;
}

static sem_t *make_named(void)
{
    char name[64];
    snprintf(name, sizeof name, "/scenario-%d", (int)getpid());
    sem_t *semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
    SCN_CHECK(semaphore != SEM_FAILED);
    sem_unlink(name);
    return semaphore;
}

static sem_t *make_private(void)
{
    sem_t *semaphore = map_shared(sizeof *semaphore);
    SCN_CHECK(sem_init(semaphore, 0, 1) == 0);
    return semaphore;
}

/* How each sort is made: the case's kind. */
struct sort {
    const char *name;
    sem_t *(*make)(void);
    bool wakes; /* a post wakes the other process, too */
};

static const struct sort sorts[] = {{"process-shared", make_process_shared, true},
                                    {"named", make_named, true},
                                    {"private", make_private, false}};

/* Held by a living thread of the parent: the child waits until that thread posts. */
static void held_by_parents_thread(const struct scn_case *self)
{
    const struct sort *const sort = self->kind;
    sem_t *const semaphore = sort->make();
    struct scn_holder worker;
    released = map_shared(sizeof *released);
    scn_hold(&worker, semaphore_wait, semaphore_post, semaphore, 1);
    const int about_to_wait = scn_bell(), posted = scn_bell();
    const pid_t child = scn_fork();
    if (child == 0) {
        semaphore_check_none(semaphore);
        scn_ring(about_to_wait);
        if (!sort->wakes)
            scn_await(posted);
        SCN_IS(semaphore_wait(semaphore), 0);
        SCN_CHECK(atomic_load(released));
        semaphore_check_none(semaphore);
        SCN_IS(semaphore_post(semaphore), 0);
        semaphore_check_tokens(semaphore, 1);
        scn_fine();
    }
    scn_await(about_to_wait);
    scn_await_asleep(child, NULL);
    atomic_store(released, 1);
    scn_let_go(&worker);
    scn_ring(posted);
    scn_reap(child);
    semaphore_check_tokens(semaphore, 1);
}

/* Held by the forking thread: one token for the two processes, whoever posts it. */
static void held_by_forker(const struct scn_case *self)
{
    const struct sort *const sort = self->kind;
    sem_t *const semaphore = sort->make();
    SCN_IS(semaphore_wait(semaphore), 0);
    SCN_IN_CHILD {
        semaphore_check_none(semaphore);
        SCN_IS(semaphore_post(semaphore), 0);
    }
    semaphore_check_tokens(semaphore, 1);
}

/* Both processes at work: each token is seen once. */
static void exclusion(const struct scn_case *self)
{
    enum { ROUNDS = 5000 };
    const struct sort *const sort = self->kind;
    sem_t *const semaphore = sort->make();
    atomic_int *const count = map_shared(sizeof *count);
    struct scn_holder worker;
    scn_hold(&worker, semaphore_wait, semaphore_post, semaphore, 1);
    scn_let_go(&worker);
    const pid_t child = scn_fork();
    for (int i = 0; i < ROUNDS; i++) {
        SCN_IS(semaphore_try_then_wait(semaphore), 0);
        const int before = atomic_load_explicit(count, memory_order_relaxed);
        atomic_store_explicit(count, before + 1, memory_order_relaxed);
        SCN_IS(semaphore_post(semaphore), 0);
    }
    if (child == 0)
        scn_fine();
    scn_reap(child);
    SCN_CHECK(atomic_load(count) == 2 * ROUNDS);
    semaphore_check_tokens(semaphore, 1);
}

/* A parent waits for its child's message. */
static void child_tells_parent(const struct scn_case *self)
{
    const struct sort *const sort = self->kind;
    sem_t *const semaphore = sort->make();
    SCN_IS(semaphore_wait(semaphore), 0);
    const pid_t child = scn_fork();
    if (child == 0) {
        scn_await_asleep(getppid(), NULL);
        SCN_IS(semaphore_post(semaphore), 0);
        scn_fine();
    }
    SCN_IS(semaphore_wait(semaphore), 0);
    scn_reap(child);
    semaphore_check_none(semaphore);
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof sorts / sizeof sorts[0]; i++) {
        struct scn_case added = {.bare = "fine", .says = SCN_NEVER_TAKES, .kind = &sorts[i]};
        added.run = held_by_parents_thread;
        scn_add(added, "held-by-parents-thread-%s", sorts[i].name);
        added.run = held_by_forker;
        scn_add(added, "held-by-forker-%s", sorts[i].name);
        if (!sorts[i].wakes)
            continue;
        added.run = exclusion;
        scn_add(added, "exclusion-%s", sorts[i].name);
        added.run = child_tells_parent;
        scn_add(added, "child-tells-parent-%s", sorts[i].name);
    }
}
