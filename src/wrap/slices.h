/*
 * wrap/slices: waits without a limit, which a child makes in slices: see repair/hopeless.h. Each does what libc's
 * function of that name does, with its results and its errno. `site`: the place that waits; `self` may be NULL.
 * Context: any thread, no latch held.
 */
#pragma once

#include "repair/hopeless.h"

#include <pthread.h>
#include <semaphore.h>

/* A wait that a signal handler ends with EINTR; `a`: the arguments of its call. */
struct fsafe_sliced {
    bool cancels;  /* it acts upon a cancellation at once, as sem_wait does */
    bool restarts; /* with a limit, too, it goes on after a handler with SA_RESTART */
    int over;      /* errno where it is over when a slice begins; 0: then it has succeeded */
    bool (*may_be_held)(const long *a); /* whether no other process can end it; NULL: one can */
    bool (*is_over)(const long *a);     /* asked only where it may be held */
    /* Makes it, until `until` by CLOCK_MONOTONIC (-1 with ETIMEDOUT); NULL: as the program asked for it. */
    long (*make)(const long *a, const struct timespec *until);
};
long fsafe_slices_wait(const struct fsafe_sliced *call, const long *a, const struct fsafe_untimed_wait *wait,
                       struct fsafe_thread *self);

int fsafe_slices_sem_wait(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site);
int fsafe_slices_rwlock_lock(pthread_rwlock_t *rwlock, bool writes, struct fsafe_thread *self, uintptr_t site);
int fsafe_slices_cond_wait(pthread_cond_t *condvar, pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site);
int fsafe_slices_barrier_wait(pthread_barrier_t *barrier, struct fsafe_thread *self, uintptr_t site);
int fsafe_slices_join(pthread_t thread, void **value, struct fsafe_thread *self, uintptr_t site);

/* Joins a vanished thread in a child with one thread, as glibc's join cannot since 2.43. Returns whether it did. */
bool fsafe_slices_join_now(pthread_t thread, void **value, uintptr_t site, int *result);

/* The result of joining a vanished thread: 0, and a value of NULL, because nobody knows what it would have returned. */
int fsafe_slices_joined(void **value);

/* The system call futex with these six arguments, a wait without a limit; `lock` and `kind` are for the line. */
long fsafe_slices_futex(const long *arguments, const char *lock, const char *kind, struct fsafe_thread *self,
                        uintptr_t site);

/* The same for a wait with a limit that its library makes again and again: see fsafe_futex_is_made_again. */
long fsafe_slices_futex_again(const long *arguments, struct fsafe_thread *self, uintptr_t site);

/* The system call futex_waitv with these five arguments, without a limit. */
long fsafe_slices_futexes(const long *arguments, struct fsafe_thread *self, uintptr_t site);
