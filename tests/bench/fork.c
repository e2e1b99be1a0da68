/*
 * Times fork + _exit + wait in a process with idle threads, in rounds, and prints the median in microseconds.
 * `make bench` runs it bare and preloaded in turn. With "exec" the child executes /bin/true instead, with "spawn" it is
 * posix_spawn that does, both without an environment: what the library costs in the program that makes them. "start"
 * spawns it with the environment: and in the one that is started.
 */
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 300 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *idle(void *pipe_end)
{
    char byte;
    pthread_mutex_lock(&lock); /* a thread that the library knows */
    pthread_mutex_unlock(&lock);
    while (read(*(int *)pipe_end, &byte, 1) < 0)
        ;
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

extern char **environ;
static const char *how = "fork";

static pid_t begin(void)
{
    char *const arguments[] = {"true", NULL}, *const nothing[] = {NULL};
    pid_t child = -1;
    if (strcmp(how, "spawn") == 0 || strcmp(how, "start") == 0) {
        if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, strcmp(how, "start") == 0 ? environ : nothing) != 0)
            exit(1);
        return child;
    }
    child = fork();
    if (child == 0 && strcmp(how, "exec") == 0)
        execve("/bin/true", arguments, nothing);
    if (child == 0)
        _exit(0);
    return child;
}

int main(int count, char **arguments)
{
    int threads = count > 1 ? atoi(arguments[1]) : 10, ends[2];
    pthread_attr_t small;
    if (count > 2)
        how = arguments[2];
    if (pipe(ends) != 0 || pthread_attr_init(&small) != 0 || pthread_attr_setstacksize(&small, 64 * 1024) != 0)
        return 1;
    pthread_t *thread = calloc((size_t)threads + 1, sizeof *thread);
    for (int i = 0; i < threads; i++)
        if (thread == NULL || pthread_create(&thread[i], &small, idle, &ends[0]) != 0)
            return 1;
    static double us[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        waitpid(begin(), NULL, 0);
        clock_gettime(CLOCK_MONOTONIC, &to);
        us[i] = (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
    }
    qsort(us, ROUNDS, sizeof *us, ascending);
    printf("%.1f\n", us[ROUNDS / 2]);
    close(ends[1]);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    free(thread);
    return 0;
}
