/* The memory under a lock goes away, changes its protection or becomes something else while a record of it stays. */
#include "mutex_kind.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, PATTERN = 0xA5 };

static pthread_mutex_t bystander;

static void *map_page(void *at)
{
    void *page = mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
    SCN_CHECK(page != MAP_FAILED);
    return page;
}

/* What happens to the page of a lock that somebody "holds". */
enum fate { UNMAPPED, READ_ONLY, NO_ACCESS, OTHER_DATA };

static void befall(enum fate fate, unsigned char *page)
{
    switch (fate) {
    case UNMAPPED:
        SCN_CHECK(munmap(page, PAGE) == 0);
        break;
    case READ_ONLY:
        SCN_CHECK(mprotect(page, PAGE, PROT_READ) == 0);
        break;
    case NO_ACCESS:
        SCN_CHECK(mprotect(page, PAGE, PROT_NONE) == 0);
        break;
    case OTHER_DATA:
        SCN_CHECK(munmap(page, PAGE) == 0);
        map_page(page);
        memset(page, PATTERN, PAGE);
        break;
    }
}

static void check_fate(enum fate fate, const unsigned char *page)
{
    if (fate == OTHER_DATA)
        for (int i = 0; i < PAGE; i++)
            SCN_CHECK(page[i] == PATTERN);
}

/* Whatever the library does with its records, it does here. */
static void be_busy(void)
{
    mutex_use(mutex_lock, &bystander);
    SCN_IS(pthread_mutex_lock(&bystander), 0);
    SCN_IN_CHILD {}
    SCN_IS(pthread_mutex_unlock(&bystander), 0);
}

static void befalls_vanished(const struct scn_case *self, enum fate fate, bool before_fork)
{
    struct scn_holder worker;
    pthread_mutex_t *const lock = map_page(NULL);
    mutex_make(self->kind, lock);
    mutex_make(&mutex_kinds[0], &bystander);
    /* The worker lets go of another lock in the end: the first one's memory is no longer its business. */
    scn_hold(&worker, mutex_lock, mutex_unlock, lock, 1);
    worker.lock = &bystander;
    worker.give = mutex_try_and_unlock;
    if (before_fork)
        befall(fate, (unsigned char *)lock);
    SCN_IN_CHILD {
        if (!before_fork)
            befall(fate, (unsigned char *)lock);
        be_busy();
        check_fate(fate, (unsigned char *)lock);
    }
    scn_let_go(&worker);
    if (before_fork)
        check_fate(fate, (unsigned char *)lock);
}

static void before_fork(const struct scn_case *self)
{
    befalls_vanished(self, (enum fate)self->number, true);
}

static void after_fork(const struct scn_case *self)
{
    befalls_vanished(self, (enum fate)self->number, false);
}

/* The forking thread's own lock: still locked, or given back out of our sight, when its memory goes. */
static void befalls_forker(const struct scn_case *self, bool unlocked)
{
    const enum fate fate = (enum fate)self->number;
    scn_call *const unseen_unlock = (scn_call *)scn_libc("pthread_mutex_unlock");
    pthread_mutex_t *const lock = map_page(NULL);
    mutex_make(self->kind, lock);
    mutex_make(&mutex_kinds[0], &bystander);
    mutex_use(mutex_lock, &bystander); /* threads have existed */
    SCN_IS(pthread_mutex_lock(lock), 0);
    if (unlocked)
        SCN_IS(unseen_unlock(lock), 0);
    befall(fate, (unsigned char *)lock);
    SCN_IN_CHILD {
        be_busy();
        check_fate(fate, (unsigned char *)lock);
    }
    be_busy();
    check_fate(fate, (unsigned char *)lock);
}

static void forker_locked(const struct scn_case *self)
{
    befalls_forker(self, false);
}

static void forker_unlocked(const struct scn_case *self)
{
    befalls_forker(self, true);
}

/* The address becomes another lock, of another kind, properly held by a living thread of the child. */
static void becomes_other_lock(const struct scn_case *self)
{
    static const int others[] = {0, 2, 3, 4, 5, 6, 7, 8};
    pthread_mutex_t *lock = malloc(sizeof *lock);
    SCN_CHECK(lock);
    mutex_make(self->kind, lock);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, lock) {
        for (size_t i = 0; i < sizeof others / sizeof others[0] && others[i] < MUTEX_KINDS; i++) {
            struct scn_holder alive;
            memset(lock, 0, sizeof *lock);
            mutex_make(&mutex_kinds[others[i]], lock);
            scn_hold(&alive, mutex_lock, mutex_unlock, lock, 1);
            SCN_IS(pthread_mutex_trylock(lock), EBUSY);
            SCN_IS(mutex_timedlock(lock), ETIMEDOUT);
            scn_must_wait(mutex_lock, mutex_unlock, lock, scn_let_go, &alive);
            mutex_use(mutex_lock, lock);
        }
        free(lock);
    }
    free(lock);
}

/*
 * A lock on a vanished thread's stack, and a new thread of the child whose stack, and lock, are in the same place. libc
 * gives the stack out again, up to glibc 2.42; here the program does.
 */
enum { STACK_BYTES = 1 << 18 };

struct on_stack {
    const struct mutex_kind *kind;
    pthread_mutex_t *address;
    int ready, leave;
};

static void *stack_body(void *raw)
{
    struct on_stack *shared = raw;
    pthread_mutex_t local;
    mutex_make(shared->kind, &local);
    shared->address = &local;
    SCN_IS(pthread_mutex_lock(&local), 0);
    scn_ring(shared->ready);
    scn_await(shared->leave);
    SCN_IS(pthread_mutex_unlock(&local), 0);
    SCN_IS(pthread_mutex_destroy(&local), 0);
    return NULL;
}

static pthread_t start_on(char *stack, struct on_stack *shared)
{
    pthread_t thread;
    pthread_attr_t attributes;
    SCN_IS(pthread_attr_init(&attributes), 0);
    SCN_IS(pthread_attr_setstack(&attributes, stack, STACK_BYTES), 0);
    SCN_IS(pthread_create(&thread, &attributes, stack_body, shared), 0);
    SCN_IS(pthread_attr_destroy(&attributes), 0);
    return thread;
}

static void stack_reused(const struct scn_case *self)
{
    char *const stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct on_stack parents = {self->kind, NULL, scn_bell(), scn_bell()};
    const pthread_t thread = start_on(stack, &parents);
    scn_await(parents.ready);
    SCN_IN_CHILD {
        struct on_stack childs = {self->kind, NULL, scn_bell(), scn_bell()};
        const pthread_t new_thread = start_on(stack, &childs);
        scn_await(childs.ready);
        SCN_CHECK(childs.address == parents.address); /* or this case tests nothing */
        SCN_IS(pthread_mutex_trylock(childs.address), EBUSY);
        SCN_IS(mutex_timedlock(childs.address), ETIMEDOUT);
        scn_ring(childs.leave);
        scn_join(new_thread);
    }
    scn_ring(parents.leave);
    scn_join(thread);
}

void scn_cases(void)
{
    static const struct {
        const char *name;
        enum fate fate;
    } fates[] = {{"unmapped", UNMAPPED}, {"read-only", READ_ONLY}, {"no-access", NO_ACCESS}, {"data", OTHER_DATA}};
    static const struct {
        const char *name;
        void (*run)(const struct scn_case *);
    } moments[] = {{"before-fork", before_fork},
                   {"after-fork", after_fork},
                   {"forkers", forker_locked},
                   {"forkers-unlocked-unseen", forker_unlocked}};
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = stack_reused, .kind = kind),
                "stack-reused-%s", kind->name);
        if (!mutex_is_plain(kind))
            continue;
        /* musl has each mutex with an owner in a list of that thread's, which an unmapped one breaks. */
        const size_t first = kind->owned && !scn_glibc_since(0) ? 1 : 0;
        for (size_t m = first; m < sizeof moments / sizeof moments[0]; m++)
            for (size_t f = 0; f < sizeof fates / sizeof fates[0]; f++)
                scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = moments[m].run, .kind = kind,
                                 .number = fates[f].fate), "%s-%s-%s", moments[m].name, fates[f].name, kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = becomes_other_lock, .kind = kind),
                "becomes-other-lock-%s", kind->name);
    }
}
