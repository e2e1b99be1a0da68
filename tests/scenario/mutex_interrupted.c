/*
 * A signal handler forks while its thread waits for a mutex or spin lock that another holds: the child takes that lock
 * in the handler, goes back to the wait, or does both.
 */
#include "libc.h"
#include "scenario.h"

#include <signal.h>
#include <sys/syscall.h>

enum { SPIN = -1 };

static const struct kind {
    const char *name;
    int type, robust, taken;
} kinds[] = {{"normal", PTHREAD_MUTEX_NORMAL, 0, 0},
             {"recursive", PTHREAD_MUTEX_RECURSIVE, 0, 0},
             {"errorcheck", PTHREAD_MUTEX_ERRORCHECK, 0, 0},
             {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, 0, 0},
             {"robust", PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, EOWNERDEAD},
             {"spin", SPIN}};

/* What the handler's child does. */
enum { GOES_ON, EXITS, LOCKS, LOCKS_AND_GOES_ON };

static pthread_mutex_t mutex;
static pthread_spinlock_t spin;
static struct scn_holder worker;
static const struct scn_case *running;
static pid_t (*forks)(void);
static atomic_int child; /* in the child: -1 */
static pid_t waiter;

static int take(void *lock)
{
    return lock == &mutex ? pthread_mutex_lock(&mutex) : pthread_spin_lock(&spin);
}

static int give(void *lock)
{
    return lock == &mutex ? pthread_mutex_unlock(&mutex) : pthread_spin_unlock(&spin);
}

static void use(void *lock, int expected)
{
    const int taken = take(lock);
    SCN_IS(taken, expected);
    if (taken == EOWNERDEAD)
        SCN_IS(pthread_mutex_consistent(&mutex), 0);
    SCN_IS(give(lock), 0);
}

static void fork_in_wait(int number)
{
    const pid_t forked = forks();
    if (forked == 0) {
        scn_arm();
        if (running->number >= LOCKS)
            use(worker.lock, ((const struct kind *)running->kind)->taken);
        if (running->number == EXITS || running->number == LOCKS)
            scn_fine();
    }
    atomic_store(&child, forked == 0 ? -1 : forked);
}

/* A thread that spins does not sleep: to the child it is the same whether its wait has begun. */
static void *shoot_body(void *unused)
{
    if (worker.lock == &mutex)
        scn_await_asleep(waiter, NULL);
    syscall(SYS_tgkill, getpid(), waiter, SIGUSR1);
    while (atomic_load(&child) == 0)
        usleep(1000);
    scn_ring(worker.leave);
    return unused;
}

static void in_wait(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    void *const lock = kind->type == SPIN ? (void *)(uintptr_t)&spin : &mutex;
    pthread_mutexattr_t attributes;
    SCN_IS(pthread_mutexattr_init(&attributes), 0);
    SCN_IS(pthread_mutexattr_settype(&attributes, kind->type == SPIN ? PTHREAD_MUTEX_NORMAL : kind->type), 0);
    SCN_IS(pthread_mutexattr_setrobust(&attributes, kind->robust), 0);
    SCN_IS(pthread_mutex_init(&mutex, &attributes), 0);
    SCN_IS(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE), 0);
    running = self;
    forks = (pid_t (*)(void))self->entry;
    waiter = (pid_t)syscall(SYS_gettid);
    const struct sigaction action = {.sa_handler = fork_in_wait, .sa_flags = SA_RESTART};
    SCN_IS(sigaction(SIGUSR1, &action, NULL), 0);
    scn_hold(&worker, take, give, lock, 1);
    const pthread_t shooter = scn_start(shoot_body, NULL);
    const int taken = take(lock);
    if (atomic_load(&child) == -1) {
        SCN_IS(taken, self->number == GOES_ON ? kind->taken : 0);
        if (taken == EOWNERDEAD)
            SCN_IS(pthread_mutex_consistent(&mutex), 0);
        SCN_IS(give(lock), 0);
        use(lock, 0);
        SCN_IS(pthread_mutex_destroy(&mutex), 0);
        scn_fine();
    }
    SCN_IS(taken, 0);
    SCN_IS(give(lock), 0);
    scn_join(shooter);
    scn_join(worker.thread);
    scn_reap(atomic_load(&child));
}

#define TAKEN "once:took over (mutex|spin lock) .* held at fork by \\d+ \"worker\" since"

void scn_cases(void)
{
    static const char *const ways[] = {"goes-on", "exits", "locks", "locks-and-goes-on"};
    static const struct {
        const char *name;
        pid_t (*forks)(void);
        int ways;
    } doors[] = {{"fork", fork, 4}, {"_Fork", _Fork, LOCKS}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int k = 0; k < 8 && (kinds[i].type != PTHREAD_MUTEX_ADAPTIVE_NP || LIBC_HAS_ADAPTIVE); k++)
            if (k / 2 < doors[k & 1].ways)
                scn_add(SCN_CASE(.bare = k / 2 == EXITS ? "fine" : "hangs",
                                 .says = k / 2 == EXITS ? SCN_SILENT : TAKEN, .run = in_wait, .kind = &kinds[i],
                                 .entry = (void *)doors[k & 1].forks, .number = k / 2),
                        "%s-%s-%s", doors[k & 1].name, ways[k / 2], kinds[i].name);
}
