/*
 * A module whose constructor runs before that of any other library: locks are held before the library under test
 * begins.
 */
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

pthread_mutex_t early_mutexes[6]; /* three of another thread, three of the main thread; by type */
pthread_rwlock_t early_rwlocks[2] = {PTHREAD_RWLOCK_INITIALIZER, PTHREAD_RWLOCK_INITIALIZER};
pthread_mutex_t early_robust[2];

static sem_t held;

static void take(int first)
{
    for (int i = first; i < first + 3; i++)
        pthread_mutex_lock(&early_mutexes[i]);
    pthread_mutex_lock(&early_mutexes[first + 1]); /* the recursive one */
    pthread_rwlock_wrlock(&early_rwlocks[first / 3]);
    pthread_mutex_lock(&early_robust[first / 3]);
}

static void *keep(void *unused)
{
    (void)unused;
    take(0);
    sem_post(&held);
    for (;;)
        pause();
    return NULL;
}

__attribute__((constructor)) static void begin(void)
{
    static const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
    pthread_t thread;
    pthread_mutexattr_t attributes;
    for (int i = 0; i < 6; i++) {
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, types[i % 3]);
        pthread_mutex_init(&early_mutexes[i], &attributes);
    }
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < 2; i++)
        pthread_mutex_init(&early_robust[i], &attributes);
    sem_init(&held, 0, 0);
    if (pthread_create(&thread, NULL, keep, NULL) != 0)
        _exit(1);
    sem_wait(&held);
    take(3);
}
