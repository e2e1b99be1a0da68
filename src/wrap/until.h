/* wrap/until: libc's waits with a limit by CLOCK_MONOTONIC, also where libc has no wait by that clock. */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

/*
 * The time by `clock` at `until`, which is by CLOCK_MONOTONIC, for a libc whose waits take no clock (musl). If the
 * clock is set meanwhile the wait ends earlier or later. errno kept.
 */
struct timespec fsafe_until_by(clockid_t clock, const struct timespec *until);

/* Each as libc's function of that name, with a limit; the first three without one where `until` is NULL. */
int fsafe_until_sem_wait(sem_t *semaphore, const struct timespec *until);
int fsafe_until_rwlock_lock(pthread_rwlock_t *rwlock, bool writes, const struct timespec *until);
int fsafe_until_cond_wait(pthread_cond_t *condvar, pthread_mutex_t *mutex, const struct timespec *until);
int fsafe_until_join(pthread_t thread, void **value, const struct timespec *until);
