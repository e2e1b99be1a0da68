/* <threads.h> of a library of its own, handle_module: objects and results are not those of libc's <threads.h>. */
#ifndef HANDLE_MODULE_H
#define HANDLE_MODULE_H

#include <pthread.h>
#include <time.h>

enum { own_error, own_success }; /* libc's thrd_success is 0 */

typedef struct {
    pthread_mutex_t *lock;
} own_mutex;

typedef struct {
    pthread_cond_t *waiters;
} own_condition;

extern int mtx_init(own_mutex *mutex, int type), mtx_lock(own_mutex *mutex), mtx_trylock(own_mutex *mutex);
extern int mtx_timedlock(own_mutex *mutex, const struct timespec *until), mtx_unlock(own_mutex *mutex);
extern void mtx_destroy(own_mutex *mutex), cnd_destroy(own_condition *condition);
extern int cnd_init(own_condition *condition), cnd_signal(own_condition *condition);
extern int cnd_broadcast(own_condition *condition), cnd_wait(own_condition *condition, own_mutex *mutex);
extern int cnd_timedwait(own_condition *condition, own_mutex *mutex, const struct timespec *until);
extern int thrd_create(pthread_t *thread, int (*routine)(void *), void *argument);
extern int thrd_join(pthread_t thread, int *value), thrd_detach(pthread_t thread);

#endif
