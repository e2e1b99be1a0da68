/* Condition variables that other processes may use: never touched. And what the modes make of a private one. */
#include "condvar_kind.h"

#include <sys/mman.h>

/* In memory that parent and child share. */
struct both {
    pthread_mutex_t lock;
    pthread_cond_t condition;
    bool said;
    atomic_bool waits;
    atomic_int heard;
};
static struct both *both;

static pthread_mutex_t lock;
static pthread_cond_t condition;

static void map_both(void)
{
    both = mmap(NULL, sizeof *both, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(both != MAP_FAILED);
}

static void *hears(void *raw)
{
    SCN_IS(pthread_mutex_lock(&both->lock), 0);
    atomic_store(&both->waits, true);
    while (!both->said)
        SCN_IS(pthread_cond_wait(&both->condition, &both->lock), 0);
    SCN_IS(pthread_mutex_unlock(&both->lock), 0);
    atomic_fetch_add(&both->heard, 1);
    return NULL;
}

/* Two threads of the parent wait; a child's wake-ups must reach them. */
static void wakes_parent(const struct scn_case *self)
{
    map_both();
    mutex_make_shared(&mutex_kinds[1], PTHREAD_PROCESS_SHARED, &both->lock);
    condvar_make_shared(self->kind, PTHREAD_PROCESS_SHARED, &both->condition);
    pthread_t thread[2];
    for (int i = 0; i < 2; i++)
        thread[i] = scn_start(hears, NULL);
    usleep(100000);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_lock(&both->lock), 0);
        both->said = true;
        if (self->number) {
            SCN_IS(pthread_cond_broadcast(&both->condition), 0);
        } else {
            SCN_IS(pthread_cond_signal(&both->condition), 0);
            SCN_IS(pthread_cond_signal(&both->condition), 0);
        }
        SCN_IS(pthread_mutex_unlock(&both->lock), 0);
        while (atomic_load(&both->heard) < 2)
            usleep(1000);
    }
    for (int i = 0; i < 2; i++)
        scn_join(thread[i]);
}

static void *ends(void *unused)
{
    return unused;
}

/* A child waits for longer than its first slice; then the parent, which has had the mutex since before, signals. */
static void wakes_child_late(const struct scn_case *self)
{
    map_both();
    mutex_make_shared(&mutex_kinds[1], PTHREAD_PROCESS_SHARED, &both->lock);
    condvar_make_shared(self->kind, PTHREAD_PROCESS_SHARED, &both->condition);
    if (self->number)
        scn_join(scn_start(ends, NULL)); /* from then on it is known what a shared condition variable looks like */
    const pid_t child = scn_fork();
    if (child == 0) {
        SCN_IS(pthread_mutex_lock(&both->lock), 0);
        atomic_store(&both->waits, true);
        while (!both->said)
            SCN_IS(pthread_cond_wait(&both->condition, &both->lock), 0);
        SCN_IS(pthread_mutex_unlock(&both->lock), 0);
        scn_fine();
    }
    while (!atomic_load(&both->waits))
        usleep(1000);
    SCN_IS(pthread_mutex_lock(&both->lock), 0);
    usleep(200000);
    both->said = true;
    SCN_IS(pthread_cond_signal(&both->condition), 0);
    SCN_IS(pthread_mutex_unlock(&both->lock), 0);
    scn_reap(child);
}

/* Made as private, but its memory is shared: the waiter is alive in the parent. */
static void private_in_shared(const struct scn_case *self)
{
    map_both();
    mutex_make(&mutex_kinds[1], &both->lock);
    condvar_make(self->kind, &both->condition);
    const pthread_t thread = scn_start(hears, NULL);
    while (!atomic_load(&both->waits))
        usleep(1000);
    SCN_IS(pthread_mutex_lock(&both->lock), 0); /* it waits when it has given this back */
    SCN_IS(pthread_mutex_unlock(&both->lock), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_cond_destroy(&both->condition), 0);
    }
    scn_join(thread);
}

static void destroys(const struct scn_case *self)
{
    struct crew crew = {.kind = self->kind, .wait = condvar_plainly, .condvar = &condition, .mutex = &lock, .size = 2};
    mutex_make(&mutex_kinds[0], &lock);
    condvar_make(self->kind, &condition);
    crew_gather(&crew);
    SCN_IN_CHILD {
        if (self->number) { /* a wait does not hang at once; it may miss its wake-up */
            SCN_IS(pthread_mutex_lock(&lock), 0);
            SCN_IS(condvar_timed(self->kind, &condition, &lock, 50), ETIMEDOUT);
            SCN_IS(condvar_timed(self->kind, &condition, &lock, 50), ETIMEDOUT);
            SCN_IS(pthread_mutex_unlock(&lock), 0);
        }
        SCN_IS(pthread_cond_destroy(&condition), 0);
    }
    crew_dismiss(&crew);
}

#define WOULD_HANG                                                                                                     \
    "once:^forksafe\\[\\d+\\.\\d+\\] child would hang on condition variable .* in use at fork by \\d+ \"worker\""
#define MAY_HANG "once:^forksafe\\[\\d+\\.\\d+\\] child may hang on condition variable .* in use at fork by"

void scn_cases(void)
{
    for (int i = 0; i < CONDVAR_KINDS; i++) {
        const struct condvar_kind *kind = &condvar_kinds[i];
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs",
                         .says = MAY_HANG " .*not taken over because ;; never:forgot", .run = private_in_shared,
                         .kind = kind), "private-in-shared-memory-%s", kind->name);
        if (kind->is_static)
            continue;
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = wakes_parent, .kind = kind),
                "signal-wakes-parent-%s", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = wakes_parent, .kind = kind, .number = 1),
                "broadcast-wakes-parent-%s", kind->name);
        for (long threads = 0; threads < 2; threads++)
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .env = "FORKSAFE_HANG_MS=50", .run = wakes_child_late,
                             .kind = kind, .number = threads),
                    "signal-wakes-child-late-%s%s", kind->name, threads ? "-threads" : "");
    }
    static const struct {
        const char *name, *env, *preloaded, *says;
        long number;
    } modes[] = {
        {"report-destroy", "FORKSAFE_MODE=report", "hangs", WOULD_HANG " ;; never:forgot", 0},
        {"report-wait", "FORKSAFE_MODE=report", "hangs", WOULD_HANG " ;; " MAY_HANG " ;; never:forgot", 1},
        {"abort-destroy", "FORKSAFE_MODE=abort", "dies SIGABRT", WOULD_HANG, 0},
        {"abort-wait", "FORKSAFE_MODE=abort", "dies SIGABRT", WOULD_HANG " ;; " MAY_HANG, 1},
        {"off-destroy", "FORKSAFE_MODE=off", "hangs", SCN_SILENT, 0},
        {"repair-wait", "FORKSAFE_MODE=repair", "fine", CONDVAR_FORGOT_ONCE, 1},
    };
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++)
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = modes[m].preloaded, .says = modes[m].says, .env = modes[m].env,
                         .run = destroys, .kind = &condvar_kinds[0], .number = modes[m].number), "%s", modes[m].name);
}
