/* Many generations: each child becomes a threaded server and forks again. */
#include "mutex_kind.h"

#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

enum { SLEEPERS = 8, HOLDERS = 2 };

/* What is never touched again after the first generation, of each kind. */
static pthread_mutex_t old_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t old_rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t old_spin;
static sem_t old_token;

static int take_old(void *unused)
{
    SCN_IS(pthread_mutex_lock(&old_mutex), 0);
    SCN_IS(pthread_rwlock_wrlock(&old_rwlock), 0);
    SCN_IS(pthread_spin_lock(&old_spin), 0);
    return sem_wait(&old_token);
}

static int give_old(void *unused)
{
    SCN_IS(sem_post(&old_token), 0);
    SCN_IS(pthread_spin_unlock(&old_spin), 0);
    SCN_IS(pthread_rwlock_unlock(&old_rwlock), 0);
    return pthread_mutex_unlock(&old_mutex);
}

/* What every generation's threads work with. */
static pthread_mutex_t queue_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t held[HOLDERS] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static int asleep;

static void *sleeper_body(void *unused)
{
    SCN_IS(pthread_mutex_lock(&queue_mutex), 0);
    scn_ring(asleep);
    for (;;)
        SCN_IS(pthread_cond_wait(&queue_filled, &queue_mutex), 0);
    return unused;
}

/* Whether a child's new threads get stacks of their own beside those of vanished threads: since glibc 2.43. */
static bool stacks_stay;

static uintptr_t latest_stack;

static void *stay(void *unused)
{
    const int here = 0;
    latest_stack = (uintptr_t)&here;
    scn_ring(asleep);
    for (;;)
        pause();
    return unused;
}

/* How much of the address space is in use. */
static long in_use_kib(void)
{
    long kib = 0;
    unsigned long from, to;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    SCN_CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2)
            kib += (long)((to - from) / 1024);
    fclose(maps);
    return kib;
}

struct descent {
    int generations;
    int settled; /* the generation after which nothing grows any more */
    bool needs_old;
};

/* The threads of the generation before are gone; each has its own of the same kind. */
static void serve(struct scn_holder holder[HOLDERS])
{
    for (int i = 0; i < HOLDERS; i++)
        scn_hold(&holder[i], mutex_lock, mutex_unlock, &held[i], 1);
    for (int i = 0; i < SLEEPERS; i++)
        scn_start(sleeper_body, NULL);
    for (int i = 0; i < SLEEPERS; i++)
        scn_await(asleep);
    SCN_IS(pthread_mutex_lock(&queue_mutex), 0); /* the last one is in there now */
    SCN_IS(pthread_cond_broadcast(&queue_filled), 0);
    SCN_IS(pthread_mutex_unlock(&queue_mutex), 0);
}

/* What one generation adds to the process by libc's own doing. */
static long stacks_kib(void)
{
    size_t stack, guard;
    pthread_attr_t attributes;
    SCN_IS(pthread_attr_init(&attributes), 0);
    SCN_IS(pthread_attr_getstacksize(&attributes, &stack), 0);
    SCN_IS(pthread_attr_getguardsize(&attributes, &guard), 0);
    SCN_IS(pthread_attr_destroy(&attributes), 0);
    return stacks_stay ? (SLEEPERS + HOLDERS) * (long)((stack + guard) / 1024) : 0;
}

/*
 * A leak is seen in each span of STEP generations. How many threads there are at a time is chance: by a slab of slots
 * for them the process may grow in a span or two.
 */
enum { STEP = 10, SPANS = 4, LITTLE_KIB = 16, SLABS = 2, SLABS_KIB = 1000 };

static void compare(void)
{
    static long first, latest;
    static int grown;
    static char text[128];
    const long now = in_use_kib(), stacks = latest != 0 ? STEP * stacks_kib() : 0;
    first = first != 0 ? first + stacks : now;
    grown += latest != 0 && now > latest + stacks + LITTLE_KIB;
    latest = now;
    if (grown <= SLABS && now <= first + SLABS_KIB)
        return;
    snprintf(text, sizeof text, "it grew in %d spans, by %ld KiB", grown, now - first);
    scn_wrong(SCN_WHERE, text);
}

/* Returns in the last generation; the others end here. */
static void descend(const struct descent *how)
{
    struct scn_holder holder[HOLDERS];
    for (int generation = 1;; generation++) {
        serve(holder);
        if (how->settled != 0 && generation >= how->settled && (generation - how->settled) % STEP == 0)
            compare();
        if (generation == how->generations)
            return;
        const pid_t child = scn_fork();
        if (child == 0)
            continue;
        scn_reap(child);
        for (int i = 0; i < HOLDERS; i++) {
            mutex_check_held(&held[i]);
            scn_let_go(&holder[i]);
        }
        scn_fine();
    }
}

static void servers(const struct scn_case *self)
{
    const struct descent *const how = self->entry;
    struct scn_holder oldest;
    asleep = scn_bell();
    scn_start(stay, NULL);
    scn_await(asleep);
    const uintptr_t vanished = latest_stack;
    const pid_t first = scn_fork();
    if (first != 0) {
        scn_reap(first);
        return;
    }
    scn_start(stay, NULL);
    scn_await(asleep);
    stacks_stay = latest_stack != vanished;
    SCN_IS(sem_init(&old_token, 0, 1), 0);
    SCN_IS(pthread_spin_init(&old_spin, PTHREAD_PROCESS_PRIVATE), 0);
    scn_hold(&oldest, take_old, give_old, NULL, 1);
    SCN_IN_CHILD {
        descend(how);
        if (how->needs_old) {
            SCN_IS(take_old(NULL), 0);
            SCN_IS(give_old(NULL), 0);
        }
    }
    scn_let_go(&oldest);
    scn_fine();
}

void scn_cases(void)
{
    static const struct descent ten = {10, 0, true}, hundred = {100, 100 - SPANS * STEP, true};
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = servers, .entry = &ten), "servers-10");
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = servers, .entry = &hundred), "servers-100");
}
