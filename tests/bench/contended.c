/*
 * Threads that contend for locks: contended THREADS LOCKS WORK [KIND [MS]]. Each takes one of the locks after the
 * other, works for so many turns of a loop, releases it. The kinds "reading" and "writing" are rwlocks, all read or all
 * written, "semaphore" is a semaphore used as a lock. Prints how many times a second one was taken, in thousands.
 * `make bench` runs it bare and preloaded in turn and prints the median ratio.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 };

static struct {
    _Alignas(64) union {
        pthread_mutex_t mutex;
        pthread_rwlock_t rwlock;
        sem_t semaphore;
    };
    volatile unsigned long turns;
} guarded[MOST];
static enum { MUTEX, READING, WRITING, SEMAPHORE } kind;
static unsigned locks, work;
static atomic_bool over;

static void take(unsigned at)
{
    switch (kind) {
    case READING:
        pthread_rwlock_rdlock(&guarded[at].rwlock);
        break;
    case WRITING:
        pthread_rwlock_wrlock(&guarded[at].rwlock);
        break;
    case SEMAPHORE:
        sem_wait(&guarded[at].semaphore);
        break;
    default:
        pthread_mutex_lock(&guarded[at].mutex);
    }
}

static void release(unsigned at)
{
    if (kind == MUTEX)
        pthread_mutex_unlock(&guarded[at].mutex);
    else if (kind == SEMAPHORE)
        sem_post(&guarded[at].semaphore);
    else
        pthread_rwlock_unlock(&guarded[at].rwlock);
}

static void *contend(void *number)
{
    unsigned long taken = 0;
    unsigned at = (unsigned)(size_t)number * 7;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        at = (at + 1) % locks;
        take(at);
        for (unsigned i = 0; i < work; i++)
            guarded[at].turns++;
        release(at);
        taken++;
    }
    return (void *)taken;
}

int main(int count, char **arguments)
{
    static const char *const types[] = {"normal", "recursive", "errorcheck", "adaptive"};
    static const char *const others[] = {[READING] = "reading", [WRITING] = "writing", [SEMAPHORE] = "semaphore"};
    pthread_t thread[MOST];
    pthread_mutexattr_t attributes;
    if (count < 4)
        return 1;
    const unsigned threads = (unsigned)atoi(arguments[1]);
    locks = (unsigned)atoi(arguments[2]);
    work = (unsigned)atoi(arguments[3]);
    const unsigned ms = count > 5 ? (unsigned)atoi(arguments[5]) : 100;
    if (threads < 1 || threads > MOST || locks < 1 || locks > MOST)
        return 1;
    pthread_mutexattr_init(&attributes);
    for (int type = 0; type < 4; type++) /* as the constants are numbered */
        if (count > 4 && strcmp(arguments[4], types[type]) == 0)
            pthread_mutexattr_settype(&attributes, type);
    for (unsigned of = READING; of <= SEMAPHORE; of++)
        if (count > 4 && strcmp(arguments[4], others[of]) == 0)
            kind = of;
    for (unsigned i = 0; i < locks; i++) {
        if (kind == MUTEX)
            pthread_mutex_init(&guarded[i].mutex, &attributes);
        else if (kind == SEMAPHORE)
            sem_init(&guarded[i].semaphore, 0, 1);
        else
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
    printf("%.0f\n",
           (double)taken / ((double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9) / 1e3);
    return 0;
}
