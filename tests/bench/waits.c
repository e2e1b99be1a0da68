/*
 * Times waits without a limit in a forked child, where each is made in slices: two threads pass a turn to each other
 * through semaphores, a condition variable, a futex. Prints the microseconds of one turn, the median of many rounds.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 41, TURNS = 1000 };

static sem_t semaphores[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condvar = PTHREAD_COND_INITIALIZER;
static int turn;
static unsigned word;

static void by_semaphore(int mine)
{
    sem_wait(&semaphores[mine]);
    sem_post(&semaphores[!mine]);
}

static void by_condvar(int mine)
{
    pthread_mutex_lock(&mutex);
    while (turn != mine)
        pthread_cond_wait(&condvar, &mutex);
    turn = !mine;
    pthread_cond_signal(&condvar);
    pthread_mutex_unlock(&mutex);
}

static void by_futex(int mine)
{
    unsigned seen;
    while ((seen = __atomic_load_n(&word, __ATOMIC_ACQUIRE)) != (unsigned)mine)
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    __atomic_store_n(&word, !mine, __ATOMIC_RELEASE);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void (*const pass[])(int) = {by_semaphore, by_condvar, by_futex};

static void *other(void *raw)
{
    for (int i = 0; i < ROUNDS * TURNS; i++)
        pass[*(int *)raw](1);
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure(int how)
{
    static double us[ROUNDS];
    pthread_t thread;
    sem_init(&semaphores[0], 0, 0);
    sem_init(&semaphores[1], 0, 0);
    sem_post(&semaphores[0]);
    pthread_create(&thread, NULL, other, &how);
    for (int i = 0; i < ROUNDS; i++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int k = 0; k < TURNS; k++)
            pass[how](0);
        clock_gettime(CLOCK_MONOTONIC, &to);
        us[i] = ((double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3) / TURNS;
    }
    pthread_join(thread, NULL);
    qsort(us, ROUNDS, sizeof *us, ascending);
    return us[ROUNDS / 2];
}

int main(void)
{
    const pid_t child = fork();
    if (child == 0) {
        printf("%.2f %.2f %.2f\n", measure(0), measure(1), measure(2));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return 0;
}
