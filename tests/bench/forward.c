/*
 * The least that a preloaded library can do: it hands each call on to libc. tests/bench/pair preloaded with it says
 * what that costs, beside what libforksafe costs.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#define FORWARD(name, type, declared, given)                    \
    static __typeof__(name) *next_##name;                       \
    __attribute__((constructor)) static void find_##name(void)  \
    {                                                           \
        void *address = dlsym(RTLD_NEXT, #name);                \
        memcpy(&next_##name, &address, sizeof address);         \
    }                                                           \
    __attribute__((visibility("default"))) type name declared   \
    {                                                           \
        return next_##name given;                               \
    }

FORWARD(pthread_mutex_init, int, (pthread_mutex_t *mutex, const pthread_mutexattr_t *of), (mutex, of))
FORWARD(pthread_mutex_destroy, int, (pthread_mutex_t *mutex), (mutex))
FORWARD(pthread_mutex_lock, int, (pthread_mutex_t *mutex), (mutex))
FORWARD(pthread_mutex_trylock, int, (pthread_mutex_t *mutex), (mutex))
FORWARD(pthread_mutex_unlock, int, (pthread_mutex_t *mutex), (mutex))
FORWARD(pthread_rwlock_rdlock, int, (pthread_rwlock_t *lock), (lock))
FORWARD(pthread_rwlock_wrlock, int, (pthread_rwlock_t *lock), (lock))
FORWARD(pthread_rwlock_unlock, int, (pthread_rwlock_t *lock), (lock))
FORWARD(pthread_spin_lock, int, (pthread_spinlock_t *lock), (lock))
FORWARD(pthread_spin_unlock, int, (pthread_spinlock_t *lock), (lock))
FORWARD(sem_destroy, int, (sem_t *semaphore), (semaphore))
FORWARD(sem_trywait, int, (sem_t *semaphore), (semaphore))
FORWARD(sem_wait, int, (sem_t *semaphore), (semaphore))
FORWARD(sem_post, int, (sem_t *semaphore), (semaphore))
FORWARD(mtx_lock, int, (mtx_t *mutex), (mutex))
FORWARD(mtx_unlock, int, (mtx_t *mutex), (mutex))
FORWARD(pthread_cond_signal, int, (pthread_cond_t *condvar), (condvar))
FORWARD(pthread_cond_broadcast, int, (pthread_cond_t *condvar), (condvar))
FORWARD(random, long, (void), ())
FORWARD(rand, int, (void), ())
FORWARD(mblen, int, (const char *from, size_t most), (from, most))
FORWARD(flockfile, void, (FILE *stream), (stream))
FORWARD(funlockfile, void, (FILE *stream), (stream))
