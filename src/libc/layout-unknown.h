/*
 * libc/layout-unknown: a C library whose lock bytes nobody has measured. These functions look at no lock; their answers
 * have the wrappers pass every call on, and no lock is taken over. Included by layout.h only.
 */
#pragma once

FSAFE_BEGIN_ANSWERS

static inline bool fsafe_layout_mutex_may_be_of(const pthread_mutex_t *m, int owner) { return false; }
static inline unsigned fsafe_layout_type(const pthread_mutex_t *m) { return UINT_MAX; }
static inline bool fsafe_layout_lock_free(pthread_mutex_t *m, int owner, unsigned type) { return false; }
static inline bool fsafe_layout_waits_in_place(const pthread_mutex_t *m, int owner) { return false; }
static inline bool fsafe_layout_lock_queued(pthread_mutex_t *m, int owner) { return false; }
static inline bool fsafe_layout_sleep_queued(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
{
    return true;
}
static inline void fsafe_layout_end_sleep(pthread_mutex_t *m) { }
static inline enum fsafe_unlocked fsafe_layout_unlock(pthread_mutex_t *m, int owner, unsigned type)
{
    return FSAFE_UNLOCK_LIBC;
}
static inline void fsafe_layout_mutex_wake(pthread_mutex_t *m) { }
static inline enum fsafe_mutex_kind fsafe_layout_mutex_kind(const pthread_mutex_t *m) { return FSAFE_MUTEX_FOREIGN; }
static inline bool fsafe_layout_mutex_locked(const pthread_mutex_t *m) { return false; }
static inline int fsafe_layout_mutex_owner(const pthread_mutex_t *m) { return 0; }
static inline unsigned fsafe_layout_mutex_depth(const pthread_mutex_t *m) { return 1; }
static inline void fsafe_layout_mutex_set_owner(pthread_mutex_t *m, int owner) { }
static inline void fsafe_layout_mutex_reset(pthread_mutex_t *m) { }
static inline void fsafe_layout_mutex_drop_users(pthread_mutex_t *m, unsigned users) { }

#define FSAFE_LAYOUT_COND_BYTES 0
static inline bool fsafe_layout_cond_has_waiters(const struct fsafe_fresh *fresh, const void *condvar) { return true; }
static inline bool fsafe_layout_cond_is_idle(const pthread_cond_t *condvar) { return false; }
static inline bool fsafe_layout_cond_is_locked(const struct fsafe_fresh *fresh, const void *condvar) { return false; }

static inline pthread_rwlock_t *fsafe_layout_rwlock_free_waited(uint32_t *word, uint32_t value, unsigned others)
{
    return NULL;
}
static inline bool fsafe_layout_rwlock_is_spun_on(const pthread_rwlock_t *rwlock, bool writes) { return false; }
static inline void fsafe_layout_rwlock_free_spun(pthread_rwlock_t *rwlock, bool writes) { }
static inline void fsafe_layout_rwlock_clean(pthread_rwlock_t *rwlock) { }
static inline bool fsafe_layout_rwlock_is_private(const pthread_rwlock_t *rwlock) { return false; }
static inline int fsafe_layout_rwlock_preference(const pthread_rwlock_t *rwlock) { return 0; }
static inline int fsafe_layout_rwlock_writer(const pthread_rwlock_t *rwlock) { return 0; }
static inline struct fsafe_rwlock_state fsafe_layout_rwlock_look(const pthread_rwlock_t *rwlock)
{
    return (struct fsafe_rwlock_state){.word = 0};
}
static inline void fsafe_layout_rwlock_set_writer(pthread_rwlock_t *rwlock, int owner) { }
static inline void fsafe_layout_rwlock_make_free(pthread_rwlock_t *rwlock, unsigned readers) { }
static inline void fsafe_layout_rwlock_make_written(pthread_rwlock_t *rwlock, int owner) { }
static inline void fsafe_layout_rwlock_forget_waiting(pthread_rwlock_t *rwlock, unsigned waiting) { }
static inline bool fsafe_layout_rwlock_dismiss(pthread_rwlock_t *rwlock, const struct fsafe_rwlock_state *seen,
                                               unsigned readers, bool writer)
{
    return true;
}
static inline bool fsafe_layout_rwlock_read(pthread_rwlock_t *rwlock) { return false; }
static inline bool fsafe_layout_rwlock_unread(pthread_rwlock_t *rwlock) { return false; }

static inline bool fsafe_layout_spin_try(pthread_spinlock_t *spin) { return false; }
static inline void fsafe_layout_spin_unlock(pthread_spinlock_t *spin) { }

static inline struct fsafe_sem_words *fsafe_layout_sem_words(sem_t *s)
{
    return fsafe_layout.sem_bytes ? (void *)s : NULL; /* NULL, which the compiler is not to know: it would warn */
}
static inline struct fsafe_sem_words *fsafe_layout_sem_words_begin(sem_t *s) { return fsafe_layout_sem_words(s); }
static inline void fsafe_layout_sem_words_end(sem_t *s) { }
static inline unsigned fsafe_layout_sem_value(const sem_t *s) { return 1; }
static inline bool fsafe_layout_sem_try(sem_t *s) { return false; }
static inline bool fsafe_layout_sem_is_shared(const sem_t *s) { return false; }
static inline enum fsafe_posted fsafe_layout_sem_post(sem_t *s) { return FSAFE_POST_LIBC; }
static inline void fsafe_layout_sem_wake(sem_t *s) { }

FSAFE_END_ANSWERS
