/* Correct programs with condition variables that a careless repair breaks: bare and under the library the same, without
 * a word. And the forking thread's own mutex, with which the child waits. */
#include "condvar_kind.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>

enum { APPLICATIONS_ERRNO = 4711 };

static pthread_mutex_t lock;
static pthread_cond_t condition;

static struct crew make(const struct condvar_kind *kind, int size)
{
    mutex_make(&mutex_kinds[0], &lock);
    condvar_make(kind, &condition);
    return (struct crew){
        .kind = kind, .wait = condvar_plainly, .condvar = &condition, .mutex = &lock, .size = size};
}

/* The child makes what vanished threads wait in anew, by an init or by a plain store, and its own threads wait in it.
 * None of them may be forgotten. */
static void made_anew(const struct scn_case *self)
{
    struct crew crew = make(self->kind, 3);
    crew_gather(&crew);
    SCN_IN_CHILD {
        struct crew childs = make(self->kind, 3);
        crew_gather(&childs);
        crew_dismiss(&childs);
        condvar_use_and_destroy(self->kind, &condition, &lock);
    }
    crew_dismiss(&crew);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

/* The child wakes a vanished waiter, and no thread of its own ever waits beside that one. */
static void wakes_nobody(const struct scn_case *self)
{
    struct crew crew = make(self->kind, 1);
    crew_gather(&crew);
    SCN_IN_CHILD {
        for (int i = 0; i < 20; i++) {
            SCN_IS(pthread_cond_signal(&condition), 0);
            SCN_IS(pthread_cond_broadcast(&condition), 0);
        }
        SCN_IS(pthread_cond_init(&condition, NULL), 0);
        mutex_make(&mutex_kinds[0], &lock);
        condvar_use_and_destroy(&condvar_kinds[0], &condition, &lock);
    }
    crew_dismiss(&crew);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

/* A cancelled waiter has left. */
static void unlock(void *mutex)
{
    SCN_IS(pthread_mutex_unlock(mutex), 0);
}

static void *cancellable(void *raw)
{
    pthread_cleanup_push(unlock, &lock);
    crew_body(raw);
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(const struct scn_case *self)
{
    struct crew crew = make(self->kind, 0);
    crew.depth = 1;
    const pthread_t thread = scn_start(cancellable, &crew);
    scn_await_sleeper(&crew.tid);
    SCN_IS(pthread_cancel(thread), 0);
    scn_join(thread);
    SCN_IN_CHILD {
        condvar_use_and_destroy(self->kind, &condition, &lock);
    }
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

/* The waiter has gone again, but its thread lives. */
static void *comes_and_goes(void *raw)
{
    const int *bells = raw;
    SCN_IS(pthread_mutex_lock(&lock), 0);
    const struct timespec soon = scn_in_ms(CLOCK_REALTIME, 20);
    while (pthread_cond_timedwait(&condition, &lock, &soon) != ETIMEDOUT)
        ;
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    scn_ring(bells[0]);
    scn_await(bells[1]);
    return NULL;
}

static void gone_again(const struct scn_case *self)
{
    int bells[] = {scn_bell(), scn_bell()};
    make(self->kind, 0);
    condvar_make(&condvar_kinds[0], &condition);
    const pthread_t thread = scn_start(comes_and_goes, bells);
    scn_await(bells[0]);
    SCN_IN_CHILD {
        condvar_use_and_destroy(&condvar_kinds[0], &condition, &lock);
    }
    scn_ring(bells[1]);
    scn_join(thread);
}

/* No wake-up is lost among living threads: in the parent while it forks, in a child, in a child's child. */
static void hammer(const struct scn_case *self)
{
    make(self->kind, 0);
    condvar_rally(&condition, &lock, true, 5000);
    condvar_rally(&condition, &lock, false, 2000);
    SCN_IN_CHILD {
        condvar_rally(&condition, &lock, true, 5000);
        SCN_IN_CHILD {
            condvar_rally(&condition, &lock, false, 2000);
        }
        condvar_use_and_destroy(self->kind, &condition, &lock);
    }
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

static void *rally_on(void *raw)
{
    condvar_rally(&condition, &lock, true, 3000);
    condvar_rally(&condition, &lock, false, 1000);
    return NULL;
}

static void parent_forks_meanwhile(const struct scn_case *self)
{
    make(self->kind, 0);
    const pthread_t thread = scn_start(rally_on, NULL);
    for (int i = 0; i < 20; i++) {
        SCN_IN_CHILD {}
    }
    scn_join(thread);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

/* A waiter that is back, then another thread want the mutex: for the former libc takes it, unseen, and has it first. */
static void back_before_another(const struct scn_case *self)
{
    struct crew crew = make(self->kind, 1);
    struct scn_waiter another;
    crew_gather(&crew);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    crew.go = true;
    SCN_IS(pthread_cond_signal(&condition), 0);
    usleep(50000);
    scn_await_asleep(atomic_load(&crew.tid), NULL);
    scn_want(&another, mutex_lock, mutex_unlock, &lock);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    crew_join(&crew);
    scn_join(another.thread);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

/* A signal handler forks in the middle of a wait: in the child this thread is still inside, beside a vanished one. */
static volatile pid_t forked_in_handler;

static void fork_now(int signal)
{
    forked_in_handler = scn_fork();
}

static void *interrupt(void *raw)
{
    const pthread_t *waiter = raw;
    usleep(100000);
    SCN_IS(pthread_kill(*waiter, SIGUSR1), 0);
    return NULL;
}

static void *wake_later(void *raw)
{
    bool *const woken = raw;
    usleep(100000);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    *woken = true;
    SCN_IS(pthread_cond_broadcast(&condition), 0);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    return NULL;
}

static void forks_in_handler(const struct scn_case *self)
{
    struct crew crew = make(self->kind, 1);
    crew_gather(&crew);
    const struct sigaction action = {.sa_handler = fork_now};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t self_thread = pthread_self();
    const pthread_t interrupter = scn_start(interrupt, &self_thread);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    SCN_IS(condvar_timed(self->kind, &condition, &lock, 300), ETIMEDOUT);
    if (forked_in_handler == 0) {
        bool woken = false;
        const pthread_t waker = scn_start(wake_later, &woken);
        while (!woken)
            SCN_IS(pthread_cond_wait(&condition, &lock), 0);
        SCN_IS(pthread_mutex_unlock(&lock), 0);
        scn_join(waker);
        scn_fine();
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    scn_reap(forked_in_handler);
    scn_join(interrupter);
    crew_dismiss(&crew);
}

/* What each call answers, and that none of them touches errno. */
static void check_contract(const struct condvar_kind *kind)
{
    const struct timespec bad = {0, 2000000000}, past = {1, 0};
    errno = APPLICATIONS_ERRNO;
    make(kind, 0);
    mutex_make(&mutex_kinds[5], &lock);
    SCN_IS(pthread_cond_wait(&condition, &lock), EPERM);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    SCN_IS(pthread_cond_timedwait(&condition, &lock, &bad), EINVAL);
    SCN_IS(pthread_cond_timedwait(&condition, &lock, &past), ETIMEDOUT);
    SCN_IS(pthread_cond_clockwait(&condition, &lock, CLOCK_MONOTONIC, &past), ETIMEDOUT);
    SCN_IS(pthread_cond_clockwait(&condition, &lock, CLOCK_PROCESS_CPUTIME_ID, &past), LIBC_OTHER_CLOCK);
    SCN_IS(pthread_cond_signal(&condition), 0);
    SCN_IS(pthread_cond_broadcast(&condition), 0);
    SCN_IS(pthread_mutex_destroy(&lock), LIBC_DESTROY_IN_USE);
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    SCN_IS(pthread_cond_destroy(&condition), 0);
    SCN_IS(pthread_mutex_destroy(&lock), 0);
    SCN_CHECK(errno == APPLICATIONS_ERRNO);
}

static void contract(const struct scn_case *self)
{
    check_contract(self->kind);
    SCN_IN_CHILD {
        check_contract(self->kind);
    }
    check_contract(self->kind);
}

/* A waiter of the child is a user of the mutex: it cannot be destroyed. */
static void mutex_in_use(const struct scn_case *self)
{
    struct crew crew = make(self->kind, 2);
    SCN_IN_CHILD {
        crew_gather(&crew);
        SCN_IS(pthread_mutex_destroy(&lock), LIBC_DESTROY_IN_USE);
        crew_dismiss(&crew);
        SCN_IS(pthread_mutex_destroy(&lock), 0);
    }
}

/* What vanished threads wait in is not there any more, or is something else. */
static void memory_gone(const struct scn_case *self)
{
    enum { PAGE = 4096 };
    struct crew crew = make(self->kind, 2);
    crew.condvar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(crew.condvar != MAP_FAILED);
    condvar_make(self->kind, crew.condvar);
    crew_gather(&crew);
    SCN_IN_CHILD {
        if (self->number == 0)
            SCN_CHECK(munmap(crew.condvar, PAGE) == 0);
        else
            memset(crew.condvar, 0xA5, PAGE);
        condvar_use_and_destroy(self->kind, &condition, &(pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER);
        SCN_IN_CHILD {}
        for (int i = 0; self->number != 0 && i < PAGE; i++)
            SCN_CHECK(((unsigned char *)crew.condvar)[i] == 0xA5);
    }
    crew_dismiss(&crew);
}

/* The forking thread's own lock: the child waits with it, and is woken by a thread of its own. */
static void forkers_mutex(const struct scn_case *self)
{
    const struct condvar_entry *entry = self->entry;
    const struct condvar_kind *kind = &condvar_kinds[0];
    mutex_make(self->kind, &lock);
    condvar_make(kind, &condition);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    SCN_IN_CHILD {
        bool woken = false;
        const pthread_t waker = scn_start(wake_later, &woken);
        while (!woken)
            SCN_IS(entry->wait(kind, &condition, &lock, CONDVAR_LONG_MS), 0);
        mutex_check_held(&lock);
        SCN_IS(pthread_mutex_unlock(&lock), 0);
        scn_join(waker);
        condvar_use_and_destroy(kind, &condition, &lock);
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    condvar_use_and_destroy(kind, &condition, &lock);
}

void scn_cases(void)
{
    static const struct scn_row traps[] = {
        {"made-anew", made_anew, 0},
        {"wakes-nobody", wakes_nobody, 0},
        {"cancelled", cancelled, 0},
        {"gone-again", gone_again, 0},
        {"back-before-another", back_before_another, 0},
        {"hammer", hammer, 0},
        {"parent-forks-meanwhile", parent_forks_meanwhile, 0},
        {"contract", contract, 0},
        {"mutex-in-use", mutex_in_use, 0},
        {"memory-unmapped", memory_gone, 0},
        {"memory-is-data", memory_gone, 1},
    };
    for (int i = 0; i < CONDVAR_KINDS; i++) {
        const struct scn_case rest = {.bare = "fine", .says = SCN_SILENT, .kind = &condvar_kinds[i]};
        scn_add_rows(SCN_ROWS(traps), rest, condvar_kinds[i].name);
        scn_add(SCN_CASE(.bare = LIBC_WAIT_SURVIVES ? "fine" : "hangs", .says = SCN_NEVER_TAKES,
                         .run = forks_in_handler, .kind = &condvar_kinds[i]),
                "forks-in-handler-%s", condvar_kinds[i].name);
    }
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        if (!mutex_is_plain(kind))
            continue;
        for (int j = 0; j < CONDVAR_ENTRIES; j++)
            scn_add(SCN_CASE(.bare = kind->owned ? "fails EPERM" : "fine", .says = SCN_SILENT, .run = forkers_mutex,
                             .kind = kind, .entry = &condvar_entries[j]),
                    "forkers-mutex-%s-%s", condvar_entries[j].name, kind->name);
    }
}
