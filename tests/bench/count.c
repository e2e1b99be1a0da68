/*
 * What tests/bench/counts runs under callgrind: each function run_NAME makes 1,000 calls, or pairs of them, and
 * callgrind counts the instructions in it. A second thread is there, asleep: so everybody locks with atomics.
 */
#include <gnu/libc-version.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { TIMES = 1000 };

#if defined(__x86_64__)
#define MACHINE "x86_64"
#else
#define MACHINE "another machine"
#endif
#define TEXT_OF(macro) #macro
#define TEXT(macro) TEXT_OF(macro)


static pthread_mutex_t normal = PTHREAD_MUTEX_INITIALIZER, outer = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive, errorcheck, adaptive, inheriting, robust, passing;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static pthread_cond_t condvar = PTHREAD_COND_INITIALIZER;
static sem_t lock, event, passing_sem;
static mtx_t c11;
static const struct timespec later = {.tv_sec = 1 << 30};

#define RUN(name, what)                                      \
    void run_##name(void);                                   \
    __attribute__((noinline)) void run_##name(void)          \
    {                                                        \
        for (int i = 0; i < TIMES; i++) {                    \
            what;                                            \
            __asm__ volatile("" ::: "memory");               \
        }                                                    \
    }
#define PAIR_OF(mutex) pthread_mutex_lock(&mutex), pthread_mutex_unlock(&mutex)

RUN(normal, PAIR_OF(normal))
RUN(trylock, (pthread_mutex_trylock(&normal), pthread_mutex_unlock(&normal)))
RUN(timedlock, (pthread_mutex_timedlock(&normal, &later), pthread_mutex_unlock(&normal)))
RUN(c11, (mtx_lock(&c11), mtx_unlock(&c11)))
RUN(recursive, PAIR_OF(recursive))
RUN(errorcheck, PAIR_OF(errorcheck))
RUN(adaptive, PAIR_OF(adaptive))
RUN(inheriting, PAIR_OF(inheriting))
RUN(robust, PAIR_OF(robust))
RUN(mutex_life, (pthread_mutex_init(&passing, NULL), pthread_mutex_destroy(&passing)))
RUN(rwlock_read, (pthread_rwlock_rdlock(&rwlock), pthread_rwlock_unlock(&rwlock)))
RUN(rwlock_write, (pthread_rwlock_wrlock(&rwlock), pthread_rwlock_unlock(&rwlock)))
RUN(spin, (pthread_spin_lock(&spin), pthread_spin_unlock(&spin)))
RUN(sem_trywait, (sem_trywait(&lock), sem_post(&lock)))
RUN(sem_wait, (sem_wait(&lock), sem_post(&lock)))
RUN(sem_event, (sem_wait(&event), sem_post(&event)))
RUN(sem_life, (sem_init(&passing_sem, 0, 1), sem_destroy(&passing_sem)))
RUN(condvar_idle, (pthread_cond_signal(&condvar), pthread_cond_broadcast(&condvar)))
RUN(flockfile, (flockfile(stdin), funlockfile(stdin)))
RUN(gated, random())
RUN(gated_held, random())
RUN(conversion, mblen("x", 1))

static void make(pthread_mutex_t *mutex, int type, int protocol, int robustness)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robustness);
    pthread_mutex_init(mutex, &attributes);
}

static void *sleep_on(void *pipe_end)
{
    char byte;
    return read(*(int *)pipe_end, &byte, 1) == 1 ? NULL : pipe_end;
}

static const struct run {
    const char *name;
    void (*run)(void);
} runs[] = {
#define ROW(name) {#name, run_##name}
    ROW(normal), ROW(trylock), ROW(timedlock), ROW(c11), ROW(recursive), ROW(errorcheck), ROW(adaptive),
    ROW(inheriting), ROW(robust), ROW(mutex_life), ROW(rwlock_read), ROW(rwlock_write), ROW(spin), ROW(sem_trywait),
    ROW(sem_wait), ROW(sem_event), ROW(sem_life), ROW(condvar_idle), ROW(flockfile), ROW(gated), ROW(conversion),
    ROW(gated_held), /* the last: under a lock */
};
enum { RUNS = sizeof runs / sizeof *runs };

/* First what the counts depend on, then the names. */
static int list(void)
{
#if defined(__clang__)
    const char *compiler = "clang " TEXT(__clang_major__);
#else
    const char *compiler = "gcc " TEXT(__GNUC__);
#endif
    printf("%s, %s, %s, glibc %s\n", MACHINE, compiler, FLAGS, gnu_get_libc_version());
    for (size_t i = 0; i < RUNS; i++)
        puts(runs[i].name);
    return 0;
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1)
        return list();
    int ends[2];
    pthread_t thread;
    make(&recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    make(&errorcheck, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    make(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    make(&inheriting, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
    make(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    sem_init(&lock, 0, 1);
    sem_init(&event, 0, 0);
    sem_post(&event);
    mtx_init(&c11, mtx_plain);
    if (pipe(ends) != 0 || pthread_create(&thread, NULL, sleep_on, &ends[0]) != 0)
        return 1;
    /* Each twice, and the second counts: the first binds and learns. */
    for (size_t i = 0; i < 2 * (RUNS - 1); i++)
        runs[i % (RUNS - 1)].run();
    pthread_mutex_lock(&outer);
    run_gated_held();
    run_gated_held();
    pthread_mutex_unlock(&outer);
    if (write(ends[1], "", 1) != 1)
        return 1;
    return pthread_join(thread, NULL);
}
