/* A C library some of whose locks are not what the library knows: what is called first does nothing. */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#define DOES_NOTHING_AT_FIRST(name, type)                \
    int name(type *lock)                                 \
    {                                                    \
        static int calls;                                \
        if (calls++ == 0)                                \
            return 0;                                    \
        void *address = dlsym(RTLD_NEXT, #name);         \
        int (*next)(type *);                             \
        memcpy(&next, &address, sizeof next);            \
        return next(lock);                               \
    }

DOES_NOTHING_AT_FIRST(sem_post, sem_t)
DOES_NOTHING_AT_FIRST(pthread_rwlock_unlock, pthread_rwlock_t)
DOES_NOTHING_AT_FIRST(pthread_barrier_wait, pthread_barrier_t)
