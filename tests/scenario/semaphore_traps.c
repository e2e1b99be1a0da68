/* Lock-like semaphores in correct programs that a careless grant breaks. All fine bare; the library adds no token and
 * says nothing. */
#include "semaphore_kind.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

static sem_t lock;

/* As CPython does with a vanished thread's _tstate_lock: the child gives it back for the dead, then takes it. */
static void child_releases_first(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        SCN_IS(semaphore_post(&lock), 0);
        SCN_CHECK(semaphore_value(&lock) == 1);
        SCN_IS(semaphore_wait(&lock), 0);
        semaphore_check_none(&lock);
        SCN_IS(semaphore_post(&lock), 0);
        semaphore_check_tokens(&lock, 1);
        SCN_IN_CHILD {
            SCN_IS(semaphore_wait(&lock), 0);
            semaphore_check_none(&lock);
        }
    }
}

/* As above; then a living thread of the child holds it. */
static void child_releases_then_thread_holds(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        struct scn_holder alive;
        SCN_IS(semaphore_post(&lock), 0);
        scn_hold(&alive, semaphore_wait, semaphore_post, &lock, 1);
        semaphore_check_none(&lock);
        scn_let_go(&alive);
        semaphore_check_tokens(&lock, 1);
    }
}

/* The child makes it anew with SELF->number tokens at the same address. */
static void made_anew(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        semaphore_make(&lock, (unsigned)self->number);
        semaphore_check_tokens(&lock, (int)self->number);
        if (self->number == 1) {
            struct scn_holder alive;
            scn_hold(&alive, semaphore_wait, semaphore_post, &lock, 1);
            semaphore_check_none(&lock);
            scn_let_go(&alive);
        }
        semaphore_check_tokens(&lock, (int)self->number);
    }
}

/* Held by the forking thread: its own, not an orphan. */
static void forker_holds(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    semaphore_use(semaphore_wait, &lock);
    SCN_IS(semaphore_wait(&lock), 0);
    SCN_IN_CHILD {
        semaphore_check_none(&lock);
        SCN_IS(semaphore_post(&lock), 0);
        semaphore_check_tokens(&lock, 1);
    }
    semaphore_check_none(&lock);
    SCN_IS(semaphore_post(&lock), 0);
    semaphore_check_tokens(&lock, 1);
}

/* ... and vanished threads only waited for it. */
static void forker_holds_others_wait(const struct scn_case *self)
{
    struct scn_waiter queue[2];
    semaphore_make(&lock, 1);
    SCN_IS(semaphore_wait(&lock), 0);
    for (int i = 0; i < 2; i++)
        scn_want(&queue[i], semaphore_try_then_wait, semaphore_post, &lock);
    SCN_IN_CHILD {
        semaphore_check_none(&lock);
        SCN_IS(semaphore_post(&lock), 0);
        scn_exclusion(semaphore_try_then_wait, semaphore_post, &lock, 4, 5000);
        semaphore_check_tokens(&lock, 1);
    }
    SCN_IS(semaphore_post(&lock), 0);
    for (int i = 0; i < 2; i++)
        scn_join(queue[i].thread);
}

/* No orphan at all: the child's own threads use it. */
static void holder_alive(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    semaphore_use(semaphore_wait, &lock);
    SCN_IN_CHILD {
        struct scn_holder alive;
        scn_hold(&alive, semaphore_wait, semaphore_post, &lock, 1);
        semaphore_check_none(&lock);
        scn_let_go(&alive);
        scn_exclusion(semaphore_try_then_wait, semaphore_post, &lock, 4, 1000);
        semaphore_check_tokens(&lock, 1);
    }
}

/* A thread that took the token in our sight gave it back out of it, and lives on. */
struct stale {
    scn_call *post;
    int ready, leave;
};

static void *stale_body(void *raw)
{
    struct stale *stale = raw;
    SCN_IS(semaphore_wait(&lock), 0);
    SCN_CHECK(stale->post(&lock) == 0);
    scn_ring(stale->ready);
    scn_await(stale->leave);
    return NULL;
}

static void unseen_post(const struct scn_case *self)
{
    struct stale stale = {(scn_call *)scn_libc("sem_post"), scn_bell(), scn_bell()};
    semaphore_make(&lock, 1);
    const pthread_t thread = scn_start(stale_body, &stale);
    scn_await(stale.ready);
    if (self->number)
        SCN_IS(semaphore_wait(&lock), 0); /* the forking thread holds it at fork */
    SCN_IN_CHILD {
        if (!self->number)
            SCN_IS(semaphore_wait(&lock), 0);
        semaphore_check_none(&lock);
        SCN_IS(semaphore_post(&lock), 0);
        scn_exclusion(semaphore_try_then_wait, semaphore_post, &lock, 4, 5000);
        semaphore_check_tokens(&lock, 1);
    }
    scn_ring(stale.leave);
    scn_join(thread);
}

/* The semaphore's memory goes away or changes its protection, before the fork or in the child. */
static void memory_goes(const struct scn_case *self)
{
    const bool in_child = self->number & 1, read_only = self->number & 2;
    sem_t *const page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK((void *)page != MAP_FAILED);
    struct scn_holder worker;
    semaphore_make(page, 1);
    semaphore_make(&lock, 1);
    scn_hold(&worker, semaphore_wait, semaphore_post, page, 1);
    worker.lock = &lock; /* its last post goes elsewhere */
    for (int round = 0; round < 2; round++) {
        if (round == in_child) {
            if (!read_only)
                SCN_CHECK(sem_destroy(page) == 0);
            SCN_CHECK((read_only ? mprotect(page, 4096, PROT_READ) : munmap(page, 4096)) == 0);
        }
        if (round == 0) {
            const pid_t child = scn_fork();
            if (child != 0) {
                scn_reap(child);
                SCN_IS(semaphore_wait(&lock), 0);
                scn_let_go(&worker);
                semaphore_check_tokens(&lock, 1);
                return;
            }
        }
    }
    semaphore_check_tokens(&lock, 1);
    SCN_IN_CHILD {
        semaphore_check_tokens(&lock, 1);
    }
    scn_fine();
}

/* A thread blocked in sem_wait and cancelled there wanted the token and never had it. */
static void *wait_for_it(void *raw)
{
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    atomic_store((atomic_int *)raw, (int)gettid());
    semaphore_wait(&lock);
    return NULL;
}

static void cancelled(const struct scn_case *self)
{
    atomic_int tid = 0;
    const int tokens = (int)self->number;
    semaphore_make(&lock, (unsigned)tokens);
    if (tokens)
        SCN_IS(semaphore_wait(&lock), 0);
    const pthread_t thread = scn_start(wait_for_it, &tid);
    scn_await_sleeper(&tid);
    SCN_IS(pthread_cancel(thread), 0);
    scn_join(thread);
    semaphore_check_none(&lock);
    SCN_IN_CHILD {
        semaphore_check_none(&lock);
        SCN_IS(semaphore_post(&lock), 0);
        semaphore_check_tokens(&lock, 1);
    }
    SCN_IS(semaphore_post(&lock), 0);
    semaphore_check_tokens(&lock, 1);
}

/* Interrupted, late or malformed calls answer what they answer bare. */
static void ignore_signal(int number)
{
}

struct interrupted {
    scn_call *take;
    atomic_int done;
};

static void *be_interrupted(void *raw)
{
    struct interrupted *call = raw;
    SCN_IS(call->take(&lock), EINTR);
    atomic_store(&call->done, 1);
    return NULL;
}

static int wait_long(void *semaphore)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, 3600 * 1000L);
    return sem_timedwait(semaphore, &deadline) == 0 ? 0 : errno;
}

static void check_contract(void)
{
    static scn_call *const interruptible[] = {semaphore_wait, wait_long};
    struct sigaction action = {.sa_handler = ignore_signal}; /* no SA_RESTART */
    SCN_CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 0; i < 2; i++) {
        struct interrupted call = {.take = interruptible[i]};
        const pthread_t thread = scn_start(be_interrupted, &call);
        while (!atomic_load(&call.done)) {
            pthread_kill(thread, SIGUSR1);
            sched_yield();
        }
        scn_join(thread);
    }
    const struct timespec past = {1, 0}, bad = {1, 2000000000};
    SCN_CHECK(sem_timedwait(&lock, &past) == -1 && errno == ETIMEDOUT);
    SCN_CHECK(sem_clockwait(&lock, CLOCK_MONOTONIC, &past) == -1 && errno == ETIMEDOUT);
    SCN_CHECK(sem_timedwait(&lock, &bad) == -1 && errno == EINVAL);
    SCN_CHECK(sem_clockwait(&lock, CLOCK_PROCESS_CPUTIME_ID, &past) == -1 && errno == LIBC_OTHER_CLOCK);
    semaphore_check_none(&lock);
    SCN_IS(semaphore_post(&lock), 0);
    SCN_CHECK(sem_timedwait(&lock, &past) == 0); /* a token at hand is had even late */
}

static void contract(const struct scn_case *self)
{
    semaphore_make(&lock, (unsigned)self->number);
    if (self->number)
        SCN_IS(semaphore_wait(&lock), 0);
    check_contract();
    SCN_IN_CHILD {
        check_contract();
    }
    check_contract();
}

static void no_threads(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    for (int i = 0; i < 20; i++) {
        SCN_IS(semaphore_wait(&lock), 0);
        SCN_IN_CHILD {
            SCN_IS(semaphore_trywait(&lock), EAGAIN);
            SCN_IS(semaphore_post(&lock), 0);
            SCN_IS(semaphore_wait(&lock), 0);
            SCN_CHECK(semaphore_value(&lock) == 0);
        }
        SCN_IS(semaphore_post(&lock), 0);
    }
}

void scn_cases(void)
{
    static const struct scn_row traps[] = {
        {"child-releases-first", child_releases_first, 0},
        {"child-releases-then-thread-holds", child_releases_then_thread_holds, 0},
        {"made-anew-with-0", made_anew, 0},
        {"made-anew-with-1", made_anew, 1},
        {"made-anew-with-3", made_anew, 3},
        {"forker-holds", forker_holds, 0},
        {"forker-holds-others-wait", forker_holds_others_wait, 0},
        {"holder-alive", holder_alive, 0},
        {"unseen-post", unseen_post, 0},
        {"unseen-post-then-forker", unseen_post, 1},
        {"unmapped-before-fork", memory_goes, 0},
        {"unmapped-after-fork", memory_goes, 1},
        {"read-only-before-fork", memory_goes, 2},
        {"read-only-after-fork", memory_goes, 3},
        {"cancelled-event", cancelled, 0},
        {"cancelled-lock", cancelled, 1},
        {"contract-event", contract, 0},
        {"contract-lock", contract, 1},
        {"no-threads", no_threads, 0},
    };
    scn_add_rows(SCN_ROWS(traps), (struct scn_case){.bare = "fine", .says = SCN_SILENT}, NULL);
}
