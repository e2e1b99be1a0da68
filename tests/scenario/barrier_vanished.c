/* Barriers at which threads arrived that only the parent has; and those that must be left alone. */
#include "libc.h"
#include "scenario.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>

enum { PARTY = 3 };

/* Threads named "worker" at a barrier. */
struct party {
    pthread_barrier_t *barrier;
    int size;
    atomic_int tid, passed, serial;
    pthread_t thread[8];
};

static pthread_barrier_t barrier;
static pthread_barrier_t unused; /* what it was when nobody had come */

static void make(pthread_barrier_t *made, int pshared, unsigned count)
{
    pthread_barrierattr_t attributes;
    SCN_IS(pthread_barrierattr_init(&attributes), 0);
    SCN_IS(pthread_barrierattr_setpshared(&attributes, pshared), 0);
    SCN_IS(pthread_barrier_init(made, &attributes, count), 0);
    pthread_barrierattr_destroy(&attributes);
}

static void *arrive(void *raw)
{
    struct party *party = raw;
    pthread_setname_np(pthread_self(), "worker");
    atomic_store(&party->tid, (int)gettid());
    const int result = pthread_barrier_wait(party->barrier);
    SCN_CHECK(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD);
    atomic_fetch_add(&party->serial, result == PTHREAD_BARRIER_SERIAL_THREAD);
    atomic_fetch_add(&party->passed, 1);
    return NULL;
}

/* Returns when SIZE threads more have arrived and sleep: they must not be enough to pass. */
static void gather(struct party *party, int size)
{
    for (int i = 0; i < size; i++) {
        atomic_store(&party->tid, 0);
        party->thread[party->size++] = scn_start(arrive, party);
        while (!atomic_load(&party->tid))
            sched_yield();
        scn_await_asleep(atomic_load(&party->tid), &party->passed);
    }
}

/* SIZE threads more arrive, and all pass. */
static void complete(struct party *party, int size)
{
    gather(party, size - 1);
    party->thread[party->size++] = scn_start(arrive, party);
    for (int i = 0; i < party->size; i++)
        scn_join(party->thread[i]);
    SCN_CHECK(atomic_load(&party->passed) == party->size && atomic_load(&party->serial) == 1);
}

/* Nobody is at it: it takes PARTY threads to pass, round after round. */
static void use(pthread_barrier_t *used)
{
    for (int round = 0; round < 5; round++) {
        struct party party = {.barrier = used};
        gather(&party, PARTY - 1);
        SCN_CHECK(atomic_load(&party.passed) == 0);
        complete(&party, 1);
    }
}

static void child_does(int arrived, void (*first)(void))
{
    struct party party = {.barrier = &barrier};
    make(&barrier, PTHREAD_PROCESS_PRIVATE, PARTY);
    memcpy(&unused, &barrier, sizeof unused);
    gather(&party, arrived);
    SCN_IN_CHILD {
        first();
    }
    SCN_CHECK(atomic_load(&party.passed) == 0);
    complete(&party, PARTY - arrived);
    use(&barrier);
    SCN_IS(pthread_barrier_destroy(&barrier), 0);
}

static void first_destroy(void)
{
    SCN_IS(pthread_barrier_destroy(&barrier), 0);
    make(&barrier, PTHREAD_PROCESS_PRIVATE, PARTY);
    use(&barrier);
    SCN_IS(pthread_barrier_destroy(&barrier), 0);
}

static void first_use(void)
{
    use(&barrier);
    SCN_IS(pthread_barrier_destroy(&barrier), 0);
}

static void first_lone_wait(void)
{
    struct party lone = {.barrier = &barrier};
    gather(&lone, 1);
    usleep(50000);
    SCN_CHECK(atomic_load(&lone.passed) == 0);
    complete(&lone, PARTY - 1);
}

static void first_init(void)
{
    make(&barrier, PTHREAD_PROCESS_PRIVATE, PARTY);
    use(&barrier);
    SCN_IS(pthread_barrier_destroy(&barrier), 0);
}

static void first_grandchild(void)
{
    SCN_IN_CHILD {
        first_destroy();
    }
    first_use();
}

static void first_store(void)
{
    memcpy(&barrier, &unused, sizeof barrier);
    first_use();
}

/* The child's own threads arrive after it was settled, and vanish in their turn. */
static void first_childs_threads(void)
{
    struct party childs = {.barrier = &barrier};
    gather(&childs, 2);
    SCN_IN_CHILD {
        first_destroy();
    }
    SCN_CHECK(atomic_load(&childs.passed) == 0);
    complete(&childs, 1);
}

static void child_destroys_1(const struct scn_case *self) { (void)self, child_does(1, first_destroy); }
static void child_destroys_2(const struct scn_case *self) { (void)self, child_does(2, first_destroy); }
static void child_uses_1(const struct scn_case *self) { (void)self, child_does(1, first_use); }
static void lone_wait(const struct scn_case *self) { (void)self, child_does(2, first_lone_wait); }
static void child_inits(const struct scn_case *self) { (void)self, child_does(2, first_init); }
static void child_stores(const struct scn_case *self) { (void)self, child_does(2, first_store); }
static void grandchild_destroys(const struct scn_case *self) { (void)self, child_does(2, first_grandchild); }
static void childs_threads(const struct scn_case *self) { (void)self, child_does(2, first_childs_threads); }

/* All have passed, and all go on living: the barrier is as good as new. */
static void passed(const struct scn_case *self)
{
    make(&barrier, PTHREAD_PROCESS_PRIVATE, PARTY);
    use(&barrier);
    SCN_IN_CHILD {
        first_use();
    }
    use(&barrier);
}

/* Many rounds in the parent, while it forks. */
static void *rounds(void *raw)
{
    for (int i = 0; i < 2000; i++)
        pthread_barrier_wait(raw);
    return NULL;
}

static void parent_forks_meanwhile(const struct scn_case *self)
{
    pthread_t thread[PARTY];
    make(&barrier, PTHREAD_PROCESS_PRIVATE, PARTY);
    for (int i = 0; i < PARTY; i++)
        thread[i] = scn_start(rounds, &barrier);
    for (int i = 0; i < 20; i++) {
        SCN_IN_CHILD {
            if (self->number)
                use(&barrier); /* whatever state it was in */
        }
    }
    for (int i = 0; i < PARTY; i++)
        scn_join(thread[i]);
    use(&barrier);
}

/* A thread of the parent and the child meet. Process-shared, or made as private in shared memory and left alone too. */
static void meets_parent(const struct scn_case *self)
{
    pthread_barrier_t *const shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(shared != MAP_FAILED);
    make(shared, PTHREAD_PROCESS_SHARED, 2);
    struct party party = {.barrier = shared};
    gather(&party, 1);
    const pid_t child = scn_fork();
    if (child == 0) {
        const int result = pthread_barrier_wait(shared);
        SCN_CHECK(result == PTHREAD_BARRIER_SERIAL_THREAD);
        scn_fine();
    }
    scn_reap(child);
    scn_join(party.thread[0]);
    SCN_CHECK(atomic_load(&party.passed) == 1);
}

static void private_in_shared(const struct scn_case *self)
{
    pthread_barrier_t *const shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(shared != MAP_FAILED);
    make(shared, PTHREAD_PROCESS_PRIVATE, PARTY);
    struct party party = {.barrier = shared};
    gather(&party, 1);
    const pid_t child = scn_fork();
    if (child == 0) {
        SCN_IS(pthread_barrier_destroy(shared), 0);
        scn_fine();
    }
    scn_reap(child);
    complete(&party, PARTY - 1);
}

#define FORGOT                                                                                                         \
    "once:^forksafe\\[\\d+\\.\\d+\\] child forgot \\d vanished threads? in barrier 0x[0-9a-f]+ .*\\(private\\) for "   \
    ".* in use "                                                                                                       \
    "at fork by \\d+ \"worker\" since"

void scn_cases(void)
{
    const char *const destroyed = LIBC_WAITS_INSIDE ? "hangs" : "fine";
    const char *const would_hang = LIBC_WAITS_INSIDE ? "once:child would hang on barrier" : SCN_SILENT;
    const struct {
        const char *name, *bare, *preloaded, *says, *env;
        void (*run)(const struct scn_case *);
        long number;
    } rows[] = {
        {"destroy-1", destroyed, "fine", LIBC_WAITS_INSIDE ? FORGOT : SCN_SILENT, NULL, child_destroys_1, 0},
        {"destroy-2", destroyed, "fine", LIBC_WAITS_INSIDE ? FORGOT : SCN_SILENT, NULL, child_destroys_2, 0},
        {"use-1", "wrong", "fine", FORGOT, NULL, child_uses_1, 0},
        {"lone-wait", "wrong", "fine", FORGOT, NULL, lone_wait, 0},
        {"init", "fine", "fine", SCN_SILENT, NULL, child_inits, 0},
        {"store", "fine", "fine", SCN_SILENT, NULL, child_stores, 0},
        {"abort-store", "fine", "fine", SCN_SILENT, "FORKSAFE_MODE=abort", child_stores, 0},
        {"grandchild", "hangs|wrong", "fine", "in barrier", NULL, grandchild_destroys, 0},
        {"childs-threads", "hangs|wrong", "fine", "in barrier", NULL, childs_threads, 0},
        {"passed", "fine", "fine", SCN_SILENT, NULL, passed, 0},
        {"parent-forks-meanwhile", "fine", "fine", SCN_SILENT, NULL, parent_forks_meanwhile, 0},
        {"storm", "wrong|fine", "fine", NULL, NULL, parent_forks_meanwhile, 1},
        {"shared-meets-parent", "fine", "fine", SCN_SILENT, NULL, meets_parent, 0},
        {"private-in-shared-memory", destroyed, destroyed,
         LIBC_WAITS_INSIDE ? "once:child may hang on barrier ;; never:forgot" : SCN_SILENT, NULL,
         private_in_shared, 0},
        {"report-destroy", destroyed, destroyed, would_hang, "FORKSAFE_MODE=report",
         child_destroys_1, 0},
        {"abort-destroy", destroyed, LIBC_WAITS_INSIDE ? "dies SIGABRT" : "fine", would_hang, "FORKSAFE_MODE=abort",
         child_destroys_1, 0},
        {"report-lone-wait", "wrong", "wrong", "once:child may hang on barrier", "FORKSAFE_MODE=report", lone_wait, 0},
        {"off-destroy", destroyed, destroyed, SCN_SILENT, "FORKSAFE_MODE=off", child_destroys_1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        scn_add(SCN_CASE(.bare = rows[i].bare, .preloaded = rows[i].preloaded, .says = rows[i].says,
                         .env = rows[i].env, .run = rows[i].run, .number = rows[i].number), "%s", rows[i].name);
}
