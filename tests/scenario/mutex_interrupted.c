/* A signal handler forks while its thread waits for a mutex that another holds: the child goes back to the wait. */
#include "libc.h"
#include "scenario.h"

#include <signal.h>
#include <sys/syscall.h>

static const struct kind {
    const char *name;
    int type, robust, taken;
} kinds[] = {{"normal", PTHREAD_MUTEX_NORMAL, 0, 0},
             {"recursive", PTHREAD_MUTEX_RECURSIVE, 0, 0},
             {"errorcheck", PTHREAD_MUTEX_ERRORCHECK, 0, 0},
             {"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, 0, 0},
             {"robust", PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, EOWNERDEAD}};

static pthread_mutex_t mutex;
static struct scn_holder worker;
static const struct scn_case *running;
static pid_t (*forks)(void);
static atomic_int child; /* in the child: -1 */
static pid_t waiter;

static int take(void *lock)
{
    return pthread_mutex_lock(lock);
}

static int give(void *lock)
{
    return pthread_mutex_unlock(lock);
}

static void fork_in_wait(int number)
{
    const pid_t forked = forks();
    if (forked == 0) {
        scn_arm();
        if (running->number)
            scn_fine();
    }
    atomic_store(&child, forked == 0 ? -1 : forked);
}

static void *shoot_body(void *unused)
{
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
    pthread_mutexattr_t attributes;
    SCN_IS(pthread_mutexattr_init(&attributes), 0);
    SCN_IS(pthread_mutexattr_settype(&attributes, kind->type), 0);
    SCN_IS(pthread_mutexattr_setrobust(&attributes, kind->robust), 0);
    SCN_IS(pthread_mutex_init(&mutex, &attributes), 0);
    running = self;
    forks = (pid_t (*)(void))self->entry;
    waiter = (pid_t)syscall(SYS_gettid);
    const struct sigaction action = {.sa_handler = fork_in_wait, .sa_flags = SA_RESTART};
    SCN_IS(sigaction(SIGUSR1, &action, NULL), 0);
    scn_hold(&worker, take, give, &mutex, 1);
    const pthread_t shooter = scn_start(shoot_body, NULL);
    const int taken = pthread_mutex_lock(&mutex);
    if (atomic_load(&child) == -1) {
        SCN_IS(taken, kind->taken);
        if (taken == EOWNERDEAD)
            SCN_IS(pthread_mutex_consistent(&mutex), 0);
        SCN_IS(pthread_mutex_unlock(&mutex), 0);
        SCN_IS(pthread_mutex_lock(&mutex), 0);
        SCN_IS(pthread_mutex_unlock(&mutex), 0);
        SCN_IS(pthread_mutex_destroy(&mutex), 0);
        scn_fine();
    }
    SCN_IS(taken, 0);
    SCN_IS(pthread_mutex_unlock(&mutex), 0);
    scn_join(shooter);
    scn_join(worker.thread);
    scn_reap(atomic_load(&child));
}

#define TAKEN "once:took over mutex .* held at fork by \\d+ \"worker\" since"

void scn_cases(void)
{
    static const struct {
        const char *name;
        pid_t (*forks)(void);
    } doors[] = {{"fork", fork}, {"_Fork", _Fork}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int k = 0; k < 4 && (kinds[i].type != PTHREAD_MUTEX_ADAPTIVE_NP || LIBC_HAS_ADAPTIVE); k++)
            scn_add(SCN_CASE(.bare = k & 2 ? "fine" : "hangs", .says = k & 2 ? SCN_SILENT : TAKEN, .run = in_wait,
                             .kind = &kinds[i], .entry = (void *)doors[k & 1].forks, .number = k & 2),
                    "%s-%s-%s", doors[k & 1].name, k & 2 ? "exits" : "goes-on", kinds[i].name);
}
