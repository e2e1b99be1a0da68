/* A C library some of whose locks are not what the library knows: its calls behave in another way. */
#include <pthread.h>
#include <semaphore.h>

int sem_post(sem_t *semaphore)
{
    (void)semaphore;
    return 0;
}

int pthread_rwlock_unlock(pthread_rwlock_t *rwlock)
{
    (void)rwlock;
    return 0;
}

int pthread_barrier_wait(pthread_barrier_t *barrier)
{
    (void)barrier;
    return 0;
}
