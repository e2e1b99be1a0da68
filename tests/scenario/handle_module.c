/*
 * A library that stands in front of libc's sem_init and calls the one that it finds by libc's handle; and in front of
 * <threads.h>, as tinycthread does.
 */
#include "handle_module.h"

#include <dlfcn.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#ifdef __GLIBC__
#include <gnu/lib-names.h>
#else
#define LIBPTHREAD_SO NULL
#endif

int by_handle_calls;

int sem_init(sem_t *semaphore, int shared, unsigned value)
{
    int (*libcs)(sem_t *semaphore, int shared, unsigned value);
    void *found = dlsym(dlopen(LIBPTHREAD_SO, RTLD_NOW), "sem_init");
    memcpy(&libcs, &found, sizeof found);
    by_handle_calls++;
    return libcs(semaphore, shared, value);
}

static int result(int error)
{
    return error == 0 ? own_success : own_error;
}

int mtx_init(own_mutex *mutex, int type)
{
    mutex->lock = malloc(sizeof *mutex->lock);
    return type == 0 ? result(pthread_mutex_init(mutex->lock, NULL)) : own_error;
}

void mtx_destroy(own_mutex *mutex)
{
    pthread_mutex_destroy(mutex->lock);
    free(mutex->lock);
}

int mtx_lock(own_mutex *mutex)
{
    return result(pthread_mutex_lock(mutex->lock));
}

int mtx_trylock(own_mutex *mutex)
{
    return result(pthread_mutex_trylock(mutex->lock));
}

int mtx_timedlock(own_mutex *mutex, const struct timespec *until)
{
    return result(pthread_mutex_timedlock(mutex->lock, until));
}

int mtx_unlock(own_mutex *mutex)
{
    return result(pthread_mutex_unlock(mutex->lock));
}

int cnd_init(own_condition *condition)
{
    condition->waiters = malloc(sizeof *condition->waiters);
    return result(pthread_cond_init(condition->waiters, NULL));
}

void cnd_destroy(own_condition *condition)
{
    pthread_cond_destroy(condition->waiters);
    free(condition->waiters);
}

int cnd_wait(own_condition *condition, own_mutex *mutex)
{
    return result(pthread_cond_wait(condition->waiters, mutex->lock));
}

int cnd_timedwait(own_condition *condition, own_mutex *mutex, const struct timespec *until)
{
    return result(pthread_cond_timedwait(condition->waiters, mutex->lock, until));
}

int cnd_signal(own_condition *condition)
{
    return result(pthread_cond_signal(condition->waiters));
}

int cnd_broadcast(own_condition *condition)
{
    return result(pthread_cond_broadcast(condition->waiters));
}

struct start {
    int (*routine)(void *);
    void *argument;
};

static void *begin(void *raw)
{
    const struct start start = *(struct start *)raw;
    free(raw);
    return (void *)(long)start.routine(start.argument);
}

int thrd_create(pthread_t *thread, int (*routine)(void *), void *argument)
{
    struct start *start = malloc(sizeof *start);
    *start = (struct start){routine, argument};
    return result(pthread_create(thread, NULL, begin, start));
}

int thrd_join(pthread_t thread, int *value)
{
    void *returned;
    const int error = pthread_join(thread, &returned);
    *value = error == 0 ? (int)(long)returned : 0;
    return result(error);
}

int thrd_detach(pthread_t thread)
{
    return result(pthread_detach(thread));
}
