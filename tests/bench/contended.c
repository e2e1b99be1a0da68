/*
 * Threads that contend for mutexes: contended THREADS MUTEXES WORK [KIND [MS]]. Each takes one of the mutexes after the
 * other, works for so many turns of a loop, releases it. The kinds "reading" and "writing" are rwlocks, all read or all
 * written. Prints how many times a second one was taken, in thousands.
 * `make bench` runs it bare and preloaded in turn and prints the median ratio.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 };

static struct {
    _Alignas(64) pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
    volatile unsigned long turns;
} guarded[MOST];
static unsigned mutexes, work;
static bool reads, writes;
static atomic_bool over;

static void *contend(void *number)
{
    unsigned long taken = 0;
    unsigned at = (unsigned)(size_t)number * 7;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        at = (at + 1) % mutexes;
        if (reads)
            pthread_rwlock_rdlock(&guarded[at].rwlock);
        else if (writes)
            pthread_rwlock_wrlock(&guarded[at].rwlock);
        else
            pthread_mutex_lock(&guarded[at].mutex);
        for (unsigned i = 0; i < work; i++)
            guarded[at].turns++;
        if (reads || writes)
            pthread_rwlock_unlock(&guarded[at].rwlock);
        else
            pthread_mutex_unlock(&guarded[at].mutex);
        taken++;
    }
    return (void *)taken;
}

int main(int count, char **arguments)
{
    static const char *const kinds[] = {"normal", "recursive", "errorcheck", "adaptive"};
    pthread_t thread[MOST];
    pthread_mutexattr_t attributes;
    if (count < 4)
        return 1;
    const unsigned threads = (unsigned)atoi(arguments[1]);
    mutexes = (unsigned)atoi(arguments[2]);
    work = (unsigned)atoi(arguments[3]);
    const unsigned ms = count > 5 ? (unsigned)atoi(arguments[5]) : 100;
    if (threads < 1 || threads > MOST || mutexes < 1 || mutexes > MOST)
        return 1;
    pthread_mutexattr_init(&attributes);
    for (int kind = 0; kind < 4; kind++) /* as the constants are numbered */
        if (count > 4 && strcmp(arguments[4], kinds[kind]) == 0)
            pthread_mutexattr_settype(&attributes, kind);
    reads = count > 4 && strcmp(arguments[4], "reading") == 0;
    writes = count > 4 && strcmp(arguments[4], "writing") == 0;
    for (unsigned i = 0; i < mutexes; i++) {
        pthread_mutex_init(&guarded[i].mutex, &attributes);
        pthread_rwlock_init(&guarded[i].rwlock, NULL);
    }
    unsigned long taken = 0;
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (size_t i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, contend, (void *)i);
    usleep(ms * 1000);
    atomic_store(&over, true);
    for (unsigned i = 0; i < threads; i++) {
        void *of_one;
        pthread_join(thread[i], &of_one);
        taken += (unsigned long)of_one;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%.0f\n", (double)taken / ((double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9) / 1e3);
    return 0;
}
