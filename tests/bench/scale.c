/*
 * Times what may grow with the number of locks and threads, and prints the medians of several rounds:
 *
 *   scale order HELD          ns for one unlock in the order of the locks, with so many mutexes held: the oldest first
 *   scale forks HELD          us for fork + exit + wait by a thread that holds so many
 *   scale takeovers THREADS   us for lock + unlock of a mutex that one of so many vanished threads held, 10 each;
 *                             nothing bare
 *
 * `make bench` runs each bare and preloaded in turn.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 21, EACH = 10 };

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static pthread_mutex_t *make(int count)
{
    pthread_mutex_t *mutexes = malloc((size_t)count * sizeof *mutexes);
    for (int i = 0; i < count; i++)
        if (mutexes == NULL || pthread_mutex_init(&mutexes[i], NULL) != 0)
            exit(1);
    return mutexes;
}

static void take(pthread_mutex_t *mutexes, int count)
{
    for (int i = 0; i < count; i++)
        pthread_mutex_lock(&mutexes[i]);
}

static double order(int held)
{
    pthread_mutex_t *mutexes = make(held);
    take(mutexes, held);
    double from = now_ns();
    for (int i = 0; i < held; i++)
        pthread_mutex_unlock(&mutexes[i]);
    double took = (now_ns() - from) / held;
    free(mutexes);
    return took;
}

static double forks(int held)
{
    static pthread_mutex_t *mutexes;
    if (mutexes == NULL)
        take(mutexes = make(held), held);
    double from = now_ns();
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    return (now_ns() - from) / 1e3;
}

static pthread_barrier_t ready;

static void *hold(void *mutexes)
{
    take(mutexes, EACH);
    pthread_barrier_wait(&ready);
    pause();
    return NULL;
}

static double takeovers(int threads)
{
    static pthread_mutex_t *mutexes;
    if (mutexes == NULL) {
        pthread_attr_t small;
        pthread_t thread;
        mutexes = make(threads * EACH);
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 64 * 1024);
        pthread_barrier_init(&ready, NULL, (unsigned)threads + 1);
        for (int i = 0; i < threads; i++)
            if (pthread_create(&thread, &small, hold, &mutexes[i * EACH]) != 0)
                exit(1);
        pthread_barrier_wait(&ready);
    }
    int ends[2];
    double took = 0;
    if (getenv("LD_PRELOAD") == NULL || pipe(ends) != 0)
        return 0;
    if (fork() == 0) {
        double from = now_ns();
        for (int i = 0; i < threads * EACH; i++) {
            pthread_mutex_lock(&mutexes[i]);
            pthread_mutex_unlock(&mutexes[i]);
        }
        took = (now_ns() - from) / 1e3 / (threads * EACH);
        _exit(write(ends[1], &took, sizeof took) != sizeof took);
    }
    if (read(ends[0], &took, sizeof took) != sizeof took)
        exit(1);
    close(ends[0]);
    close(ends[1]);
    wait(NULL);
    return took;
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        double (*measure)(int);
    } what[] = {{"order", order}, {"forks", forks}, {"takeovers", takeovers}};
    double rounds[ROUNDS];
    for (size_t i = 0; count == 3 && i < sizeof what / sizeof *what; i++) {
        if (strcmp(arguments[1], what[i].name) != 0)
            continue;
        for (int k = 0; k < ROUNDS; k++)
            rounds[k] = what[i].measure(atoi(arguments[2]));
        qsort(rounds, ROUNDS, sizeof *rounds, ascending);
        printf("%.1f\n", rounds[ROUNDS / 2]);
        return 0;
    }
    fputs("usage: scale order|forks|takeovers NUMBER\n", stderr);
    return 2;
}
