/*
 * Times lock/unlock pairs with and without the library in one process, alternating, and prints the ratio.
 *
 * Started preloaded. "Without" is libc's own definition, fetched from its own handle and called through a
 * pointer like the other one: both pay the same indirect call. Each figure is the median of many short rounds,
 * and each round times both sides next to each other, so that a change of the machine's speed hits both.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 401, PAIRS = 20000 };

/* A call that has fewer arguments does not look at the others; sem_init makes a lock of these. */
typedef int one_lock(void *, uintptr_t, uintptr_t);

struct pair {
    const char *name;
    const char *take, *give;
    void *lock;
};

static double nanoseconds(one_lock *take, one_lock *give, void *lock)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < PAIRS; i++) {
        take(lock, 0, 1);
        __asm__ volatile("" ::: "memory");
        give(lock, 0, 1);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / PAIRS;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, ascending);
    return values[ROUNDS / 2];
}

static one_lock *find(void *handle, const char *name)
{
    void *address = dlsym(handle, name);
    one_lock *function;
    if (address == NULL) {
        fprintf(stderr, "pair: no %s\n", name);
        exit(1);
    }
    memcpy(&function, &address, sizeof function);
    return function;
}

static FILE *csv;

static void compare(const struct pair *pair, const char *threads, void *libc)
{
    one_lock *take = find(RTLD_DEFAULT, pair->take), *give = find(RTLD_DEFAULT, pair->give);
    one_lock *bare_take = find(libc, pair->take), *bare_give = find(libc, pair->give);
    static double with[ROUNDS], bare[ROUNDS], ratio[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        /* Who goes first changes from round to round. */
        if (i % 2 == 0)
            bare[i] = nanoseconds(bare_take, bare_give, pair->lock);
        with[i] = nanoseconds(take, give, pair->lock);
        if (i % 2 != 0)
            bare[i] = nanoseconds(bare_take, bare_give, pair->lock);
        ratio[i] = with[i] / bare[i];
    }
    double w = median(with), b = median(bare), r = median(ratio);
    printf("%-34s %-15s %7.2f ns %7.2f ns   ratio %.3f%s\n", pair->name, threads, b, w, r,
           take == bare_take ? "   (not preloaded)" : "");
    if (csv != NULL)
        fprintf(csv, "\"%s\",%s,%.2f,%.2f,%.3f\n", pair->name, threads, b, w, r);
}

static pthread_mutex_t *make(int type, int protocol, int robust)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t *mutex = malloc(sizeof *mutex);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robust);
    if (mutex == NULL || pthread_mutex_init(mutex, &attributes) != 0)
        exit(1);
    return mutex;
}

static void *sleep_on(void *pipe_end)
{
    char byte;
    while (read(*(int *)pipe_end, &byte, 1) < 0)
        ;
    return NULL;
}

/* Writes what it prints to the file that is named, too, as CSV. */
int main(int count, char **arguments)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    if (libc == NULL) {
        fprintf(stderr, "pair: no libc.so.6\n");
        return 1;
    }
    if (count > 1 && (csv = fopen(arguments[1], "w")) == NULL) {
        perror(arguments[1]);
        return 1;
    }
    if (csv != NULL)
        fputs("pair,process,bare_ns,with_ns,ratio\n", csv);
    static pthread_mutex_t normal = PTHREAD_MUTEX_INITIALIZER;
    static pthread_mutex_t short_lived;
    static sem_t lock, event, short_lived_too;
    sem_init(&lock, 0, 1);
    sem_init(&event, 0, 0);
    sem_post(&event);
    static pthread_cond_t condvar = PTHREAD_COND_INITIALIZER;
    static mtx_t c11;
    mtx_init(&c11, mtx_plain);
    static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
    static pthread_spinlock_t spin;
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    const struct pair pairs[] = {
        {"mutex lock+unlock", "pthread_mutex_lock", "pthread_mutex_unlock", &normal},
        {"mutex trylock+unlock", "pthread_mutex_trylock", "pthread_mutex_unlock", &normal},
        {"recursive mutex lock+unlock", "pthread_mutex_lock", "pthread_mutex_unlock",
         make(PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED)},
        {"error-checking mutex lock+unlock", "pthread_mutex_lock", "pthread_mutex_unlock",
         make(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED)},
        {"adaptive mutex lock+unlock", "pthread_mutex_lock", "pthread_mutex_unlock",
         make(PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED)},
        {"inheriting mutex lock+unlock", "pthread_mutex_lock", "pthread_mutex_unlock",
         make(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED)},
        {"robust mutex lock+unlock", "pthread_mutex_lock", "pthread_mutex_unlock",
         make(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST)},
        {"rwlock rdlock+unlock", "pthread_rwlock_rdlock", "pthread_rwlock_unlock", &rwlock},
        {"rwlock wrlock+unlock", "pthread_rwlock_wrlock", "pthread_rwlock_unlock", &rwlock},
        {"spin lock lock+unlock", "pthread_spin_lock", "pthread_spin_unlock", (void *)(size_t)&spin},
        {"semaphore lock trywait+post", "sem_trywait", "sem_post", &lock},
        {"semaphore lock wait+post", "sem_wait", "sem_post", &lock},
        {"semaphore event wait+post", "sem_wait", "sem_post", &event},
        {"C11 mutex lock+unlock", "mtx_lock", "mtx_unlock", &c11},
        {"mutex init+destroy", "pthread_mutex_init", "pthread_mutex_destroy", &short_lived},
        {"semaphore init+destroy", "sem_init", "sem_destroy", &short_lived_too},
        {"condition signal+broadcast, idle", "pthread_cond_signal", "pthread_cond_broadcast", &condvar},
        {"gated calls random+rand", "random", "rand", NULL},
        {"conversions mblen+mblen", "mblen", "mblen", NULL},
        {"stream flockfile+funlockfile", "flockfile", "funlockfile", stdin},
    };
    printf("%-34s %-15s %10s %10s\n", "pair", "process", "bare", "with");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        compare(&pairs[i], "single-threaded", libc);

    int ends[2];
    pthread_t thread;
    if (pipe(ends) != 0 || pthread_create(&thread, NULL, sleep_on, &ends[0]) != 0)
        return 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        compare(&pairs[i], "threaded", libc);
    if (write(ends[1], "", 1) != 1 || (csv != NULL && fclose(csv) != 0))
        return 1;
    return pthread_join(thread, NULL);
}
