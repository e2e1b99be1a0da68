/*
 * What forks do to threads, and threads to forks: stops FORKERS THREADS HOW [HELD_US [MS]]. HOW is what the threads do
 * without pause: each takes a lock of its own ("own"), or all queue for one that is held for so many microseconds,
 * asleep ("asleep") or at work ("busy"). A thread that has nothing to do with them takes a lock of its own now and
 * then.
 *
 * Prints forks a second; milliseconds of a fork: mean, median, 99th percentile, longest; thousands of locks taken a
 * second; milliseconds that the other thread's lock took: 99th percentile, longest. `make bench` runs it bare and
 * preloaded.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 256, SAMPLES = 1 << 16 };

static struct {
    _Alignas(64) pthread_mutex_t mutex;
    unsigned long taken;
} own[MOST];
static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER, bystanders = PTHREAD_MUTEX_INITIALIZER;
static const char *how;
static unsigned held_us;
static atomic_bool over;

static struct {
    _Atomic unsigned count;
    double ms[SAMPLES];
} forks, stops;

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void *take_own(void *number)
{
    const size_t me = (size_t)number;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        pthread_mutex_lock(&own[me].mutex);
        own[me].taken++;
        pthread_mutex_unlock(&own[me].mutex);
    }
    return NULL;
}

static void *queue(void *number)
{
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        pthread_mutex_lock(&shared);
        own[(size_t)number].taken++;
        if (strcmp(how, "busy") == 0)
            for (const double until = now_ms() + held_us / 1e3; now_ms() < until;)
                ;
        else
            usleep(held_us);
        pthread_mutex_unlock(&shared);
    }
    return NULL;
}

static void *stand_by(void *unused)
{
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        const double from = now_ms();
        pthread_mutex_lock(&bystanders);
        pthread_mutex_unlock(&bystanders);
        const unsigned at = stops.count++;
        if (at < SAMPLES)
            stops.ms[at] = now_ms() - from;
        usleep(100);
    }
    return unused;
}

static void *fork_on(void *unused)
{
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        const double from = now_ms();
        const pid_t child = fork();
        if (child == 0)
            _exit(0);
        const unsigned at = forks.count++;
        if (at < SAMPLES)
            forks.ms[at] = now_ms() - from;
        waitpid(child, NULL, 0);
    }
    return unused;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments)
{
    pthread_t thread[MOST], forker[MOST], bystander;
    if (count < 4)
        return 1;
    const unsigned forkers = (unsigned)atoi(arguments[1]), threads = (unsigned)atoi(arguments[2]);
    how = arguments[3];
    held_us = count > 4 ? (unsigned)atoi(arguments[4]) : 0;
    const unsigned ms = count > 5 ? (unsigned)atoi(arguments[5]) : 1000;
    if (forkers < 1 || forkers > MOST || threads > MOST)
        return 1;
    for (size_t i = 0; i < threads; i++) {
        pthread_mutex_init(&own[i].mutex, NULL);
        pthread_create(&thread[i], NULL, strcmp(how, "own") == 0 ? take_own : queue, (void *)i);
    }
    pthread_create(&bystander, NULL, stand_by, NULL);
    usleep(50000);
    stops.count = 0;
    const double from = now_ms();
    for (unsigned i = 0; i < forkers; i++)
        pthread_create(&forker[i], NULL, fork_on, NULL);
    usleep(ms * 1000);
    atomic_store(&over, true);
    for (unsigned i = 0; i < forkers; i++)
        pthread_join(forker[i], NULL);
    const double took = (now_ms() - from) / 1e3;
    unsigned long taken = 0;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        taken += own[i].taken;
    }
    pthread_join(bystander, NULL);
    const unsigned made = forks.count < SAMPLES ? forks.count : SAMPLES;
    const unsigned seen = stops.count < SAMPLES ? stops.count : SAMPLES;
    double sum = 0;
    for (unsigned i = 0; i < made; i++)
        sum += forks.ms[i];
    qsort(forks.ms, made, sizeof *forks.ms, ascending);
    qsort(stops.ms, seen, sizeof *stops.ms, ascending);
    if (made == 0 || seen == 0)
        return 1;
    printf("%.0f %.2f %.2f %.2f %.2f %.0f %.2f %.2f\n", made / took, sum / made, forks.ms[made / 2],
           forks.ms[made * 99 / 100], forks.ms[made - 1], (double)taken / took / 1e3, stops.ms[seen * 99 / 100],
           stops.ms[seen - 1]);
    return 0;
}
