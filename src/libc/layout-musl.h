/*
 * libc/layout-musl: the bytes of musl's locks. Included by layout.h only.
 *
 * The layout has not changed since 1.1 and is in the public headers (bits/alltypes.h). A mutex of the normal kind and
 * an rwlock that is held for writing name no owner: our wrappers write the owner into words of the object that musl
 * neither reads nor writes for such a lock. Measured on 1.2.3; the self-test asks the libc that runs.
 */
#pragma once

#include "base/sys.h"
#include "libc/late.h"

#include <errno.h>

#define FSAFE_LAYOUT_NOTES
#define FSAFE_LAYOUT_DESTROY_WAITS false
#define FSAFE_LAYOUT_C11_UNLOCK_MAPS false

/* The mutex: words of 32 bits. Of any kind but the normal one the lock word is a thread id and flags. */
enum { FSAFE_MUSL_TYPE, FSAFE_MUSL_LOCK, FSAFE_MUSL_WAITERS, FSAFE_MUSL_COUNT = 5 };
#define FSAFE_MUSL_KIND 0x3
#define FSAFE_MUSL_ROBUST 0x4
#define FSAFE_MUSL_PI 0x8
#define FSAFE_MUSL_TID 0x3fffffff /* all ones: the mutex has no owner and cannot be recovered */
#define FSAFE_MUSL_OWNER_DIED 0x40000000
#define FSAFE_MUSL_WAITED ((int)0x80000000)

static inline int fsafe_musl_word(const pthread_mutex_t *m, int word)
{
    return __atomic_load_n(&m->__u.__i[word], __ATOMIC_ACQUIRE);
}

/* Without any flag, private as well. */
static inline bool fsafe_musl_is_normal(const pthread_mutex_t *m)
{
    return m->__u.__i[FSAFE_MUSL_TYPE] == PTHREAD_MUTEX_NORMAL;
}

/* A mutex of another type stands in a list of its owner's, which libc alone keeps. */
static inline unsigned fsafe_layout_type(const pthread_mutex_t *m)
{
    return m->__u.__i[FSAFE_MUSL_TYPE] == fsafe_layout.in_place ? PTHREAD_MUTEX_NORMAL : UINT_MAX;
}

static inline void fsafe_layout_mutex_note(pthread_mutex_t *m, int owner)
{
    if (fsafe_layout_type(m) == PTHREAD_MUTEX_NORMAL)
        __atomic_store_n(&m->__u.__i[FSAFE_MUSL_COUNT], owner, __ATOMIC_RELAXED);
}

static inline bool fsafe_layout_lock_free(pthread_mutex_t *m, int owner, unsigned type)
{
    int expected = 0;
    (void)type;
    if (!__atomic_compare_exchange_n(&m->__u.__i[FSAFE_MUSL_LOCK], &expected, EBUSY, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(&m->__u.__i[FSAFE_MUSL_COUNT], owner, __ATOMIC_RELAXED);
    return true;
}

static inline bool fsafe_layout_waits_in_place(const pthread_mutex_t *m, int owner)
{
    (void)owner;
    return fsafe_layout_type(m) == PTHREAD_MUTEX_NORMAL;
}

static inline bool fsafe_layout_lock_queued(pthread_mutex_t *m, int owner)
{
    int *lock = &m->__u.__i[FSAFE_MUSL_LOCK];
    /* With the flag the owner knows already that it has to wake a waiter: nothing is to be written. */
    if (__atomic_load_n(lock, __ATOMIC_RELAXED) == (EBUSY | FSAFE_MUSL_WAITED) ||
        __atomic_exchange_n(lock, EBUSY | FSAFE_MUSL_WAITED, __ATOMIC_ACQUIRE) != 0)
        return false;
    __atomic_store_n(&m->__u.__i[FSAFE_MUSL_COUNT], owner, __ATOMIC_RELAXED);
    return true;
}

static inline bool fsafe_layout_sleep_queued(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
{
    int how = FUTEX_WAIT_BITSET_PRIVATE | (until != NULL && clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
    int *waiters = &m->__u.__i[FSAFE_MUSL_WAITERS];
    /* A waiter of libc's, back from a condition variable, takes the mutex without the flag: then the number counts. */
    __atomic_fetch_add(waiters, 1, __ATOMIC_SEQ_CST);
    long result = FSAFE_SYS(FSAFE_SYS_FUTEX, &m->__u.__i[FSAFE_MUSL_LOCK], how, EBUSY | FSAFE_MUSL_WAITED, until, 0,
                            FUTEX_BITSET_MATCH_ANY);
    __atomic_fetch_sub(waiters, 1, __ATOMIC_SEQ_CST);
    return result != -ETIMEDOUT;
}

static inline void fsafe_layout_end_sleep(pthread_mutex_t *m)
{
    __atomic_fetch_and(&m->__u.__i[FSAFE_MUSL_LOCK], ~FSAFE_MUSL_WAITED, __ATOMIC_RELAXED);
}

static inline enum fsafe_unlocked fsafe_layout_unlock(pthread_mutex_t *m, int owner, unsigned type)
{
    (void)owner, (void)type;
    int *lock = &m->__u.__i[FSAFE_MUSL_LOCK], waiters = fsafe_musl_word(m, FSAFE_MUSL_WAITERS);
    __atomic_store_n(&m->__u.__i[FSAFE_MUSL_COUNT], 0, __ATOMIC_RELAXED);
    return __atomic_exchange_n(lock, 0, __ATOMIC_RELEASE) < 0 || waiters != 0 ? FSAFE_UNLOCKED_WAKE : FSAFE_UNLOCKED;
}

static inline void fsafe_layout_mutex_wake(pthread_mutex_t *m)
{
    fsafe_sys_futex_wake(&m->__u.__i[FSAFE_MUSL_LOCK], 1);
}

static inline enum fsafe_mutex_kind fsafe_layout_mutex_kind(const pthread_mutex_t *m)
{
    int type = m->__u.__i[FSAFE_MUSL_TYPE], kind = type & FSAFE_MUSL_KIND;
    if (!fsafe_layout.mutex_bytes || kind > PTHREAD_MUTEX_ERRORCHECK)
        return FSAFE_MUTEX_FOREIGN;
    switch (type & ~FSAFE_MUSL_KIND) {
    case 0:
        return (enum fsafe_mutex_kind)kind;
    case FSAFE_MUSL_ROBUST:
        return FSAFE_MUTEX_ROBUST;
    case FSAFE_MUSL_PI:
        return FSAFE_MUTEX_PRIO_INHERIT;
    case FSAFE_MUSL_ROBUST | FSAFE_MUSL_PI:
        return FSAFE_MUTEX_ROBUST_PRIO_INHERIT;
    default:
        return FSAFE_MUTEX_FOREIGN;
    }
}

static inline int fsafe_layout_mutex_owner(const pthread_mutex_t *m)
{
    if (fsafe_musl_is_normal(m))
        return fsafe_musl_word(m, FSAFE_MUSL_COUNT);
    int owner = fsafe_musl_word(m, FSAFE_MUSL_LOCK) & FSAFE_MUSL_TID;
    return owner != FSAFE_MUSL_TID ? owner : 0;
}

/* A mutex whose owner has ended names no owner and stays locked, unless it is robust. */
static inline bool fsafe_layout_mutex_locked(const pthread_mutex_t *m)
{
    int word = fsafe_musl_word(m, FSAFE_MUSL_LOCK);
    if (fsafe_musl_is_normal(m))
        return word != 0;
    return fsafe_layout_mutex_owner(m) != 0 ||
           ((word & FSAFE_MUSL_OWNER_DIED) != 0 && (m->__u.__i[FSAFE_MUSL_TYPE] & FSAFE_MUSL_ROBUST) == 0);
}

static inline bool fsafe_layout_mutex_may_be_of(const pthread_mutex_t *m, int owner)
{
    return fsafe_layout_mutex_owner(m) == owner;
}

/* musl counts from 0, and in a recursive mutex only. */
static inline unsigned fsafe_layout_mutex_depth(const pthread_mutex_t *m)
{
    bool counts = (m->__u.__i[FSAFE_MUSL_TYPE] & FSAFE_MUSL_KIND) == PTHREAD_MUTEX_RECURSIVE;
    return counts ? (unsigned)fsafe_musl_word(m, FSAFE_MUSL_COUNT) + 1 : 1;
}

static inline void fsafe_layout_mutex_set_owner(pthread_mutex_t *m, int owner)
{
    int *lock = &m->__u.__i[FSAFE_MUSL_LOCK], seen = __atomic_load_n(lock, __ATOMIC_RELAXED);
    if (fsafe_musl_is_normal(m))
        fsafe_layout_mutex_note(m, owner);
    else
        while (!__atomic_compare_exchange_n(lock, &seen, (seen & ~FSAFE_MUSL_TID) | owner, true, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED))
            ;
}

/* The number of waiters stays: libc wakes living waiters because of it. */
static inline void fsafe_layout_mutex_reset(pthread_mutex_t *m)
{
    int type = m->__u.__i[FSAFE_MUSL_TYPE];
    m->__u.__i[FSAFE_MUSL_COUNT] = 0;
    /* Last: a thread that sees it free takes the mutex. */
    __atomic_store_n(&m->__u.__i[FSAFE_MUSL_LOCK], (type & FSAFE_MUSL_ROBUST) != 0 ? FSAFE_MUSL_OWNER_DIED : 0,
                     __ATOMIC_RELEASE);
}

/*
 * The condition variable: whether it is shared (a pointer, all ones), the newest waiter if it is private (a pointer),
 * the clock, the inner lock, the oldest waiter.
 */
#define FSAFE_MUSL_COND_CLOCK 4
#define FSAFE_MUSL_COND_LOCK 8
#define FSAFE_MUSL_COND_HEAD 1 /* pointer */
#define FSAFE_LAYOUT_COND_BYTES 0 /* a waiter sleeps on a word of its own stack */

static inline bool fsafe_layout_cond_has_waiters(const struct fsafe_fresh *fresh, const void *condvar)
{
    (void)fresh;
    return __atomic_load_n((void *const *)condvar + FSAFE_MUSL_COND_HEAD, __ATOMIC_RELAXED) != NULL;
}

static inline clockid_t fsafe_layout_cond_clock(const pthread_cond_t *condvar)
{
    return (clockid_t)fsafe_fresh_word(condvar, FSAFE_MUSL_COND_CLOCK);
}

static inline bool fsafe_layout_cond_is_locked(const struct fsafe_fresh *fresh, const void *condvar)
{
    (void)fresh;
    return fsafe_fresh_word(condvar, FSAFE_MUSL_COND_LOCK) != 0;
}

/*
 * The rwlock: the number of readers, or the largest number for a writer, and a flag; the number of waiters; whether it
 * is shared. musl does not use the next word: ours, for the writer. The lock prefers neither readers nor writers.
 */
enum { FSAFE_MUSL_RW_LOCK, FSAFE_MUSL_RW_WAITERS, FSAFE_MUSL_RW_SHARED, FSAFE_MUSL_RW_WRITER };
#define FSAFE_MUSL_WRITTEN 0x7fffffff

static inline bool fsafe_layout_rwlock_is_private(const pthread_rwlock_t *rwlock)
{
    return fsafe_layout.rwlock_bytes && rwlock->__u.__i[FSAFE_MUSL_RW_SHARED] == 0;
}

static inline struct fsafe_rwlock_state fsafe_layout_rwlock_look(const pthread_rwlock_t *rwlock)
{
    unsigned word = (unsigned)__atomic_load_n(&rwlock->__u.__i[FSAFE_MUSL_RW_LOCK], __ATOMIC_ACQUIRE);
    unsigned count = word & FSAFE_MUSL_WRITTEN;
    bool written = count == FSAFE_MUSL_WRITTEN;
    return (struct fsafe_rwlock_state){
        .word = word,
        .readers = written ? 0 : count,
        .is_locked = written,
        .is_write_phase = written,
        .writer = written ? __atomic_load_n(&rwlock->__u.__i[FSAFE_MUSL_RW_WRITER], __ATOMIC_RELAXED) : 0,
    };
}

static inline int fsafe_layout_rwlock_writer(const pthread_rwlock_t *rwlock)
{
    return fsafe_layout_rwlock_look(rwlock).writer;
}

/* With the flag a thread waits: libc decides. */
static inline bool fsafe_layout_rwlock_read(pthread_rwlock_t *rwlock)
{
    int *lock = &rwlock->__u.__i[FSAFE_MUSL_RW_LOCK], seen = __atomic_load_n(lock, __ATOMIC_RELAXED);
    while (seen >= 0 && seen < FSAFE_MUSL_WRITTEN - 1)
        if (__atomic_compare_exchange_n(lock, &seen, seen + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    return false;
}

static inline bool fsafe_layout_rwlock_unread(pthread_rwlock_t *rwlock)
{
    int *lock = &rwlock->__u.__i[FSAFE_MUSL_RW_LOCK], seen = __atomic_load_n(lock, __ATOMIC_RELAXED);
    /* A waiter counts itself before it sets the flag. */
    while (seen > 0 && seen != FSAFE_MUSL_WRITTEN &&
           __atomic_load_n(&rwlock->__u.__i[FSAFE_MUSL_RW_WAITERS], __ATOMIC_SEQ_CST) == 0)
        if (__atomic_compare_exchange_n(lock, &seen, seen - 1, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            return true;
    return false;
}

static inline void fsafe_layout_rwlock_set_writer(pthread_rwlock_t *rwlock, int owner)
{
    __atomic_store_n(&rwlock->__u.__i[FSAFE_MUSL_RW_WRITER], owner, __ATOMIC_RELAXED);
}

static inline void fsafe_layout_rwlock_note_writer(pthread_rwlock_t *rwlock, int owner)
{
    if (fsafe_layout.rwlock_bytes)
        fsafe_layout_rwlock_set_writer(rwlock, owner);
}

static inline void fsafe_layout_rwlock_make_free(pthread_rwlock_t *rwlock, unsigned readers)
{
    fsafe_layout_rwlock_set_writer(rwlock, 0);
    __atomic_store_n(&rwlock->__u.__i[FSAFE_MUSL_RW_LOCK], (int)readers, __ATOMIC_RELEASE);
    fsafe_sys_futex_wake(&rwlock->__u.__i[FSAFE_MUSL_RW_LOCK], INT_MAX);
}

static inline void fsafe_layout_rwlock_make_written(pthread_rwlock_t *rwlock, int owner)
{
    fsafe_layout_rwlock_set_writer(rwlock, owner);
    __atomic_store_n(&rwlock->__u.__i[FSAFE_MUSL_RW_LOCK], FSAFE_MUSL_WRITTEN, __ATOMIC_RELEASE);
}

static inline bool fsafe_layout_rwlock_dismiss(pthread_rwlock_t *rwlock, const struct fsafe_rwlock_state *seen,
                                               unsigned readers, bool writer)
{
    (void)writer; /* one that waits for readers holds nothing */
    int *lock = &rwlock->__u.__i[FSAFE_MUSL_RW_LOCK], before = (int)seen->word;
    int after = seen->readers == readers ? 0 : before - (int)readers;
    if (seen->is_locked || readers == 0)
        return true;
    if (!__atomic_compare_exchange_n(lock, &before, after, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return false;
    if (after == 0)
        fsafe_sys_futex_wake(lock, INT_MAX);
    return true;
}

static inline void fsafe_layout_rwlock_clean(pthread_rwlock_t *rwlock)
{
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    if (state.readers > 0 || state.is_locked)
        fsafe_layout_rwlock_make_free(rwlock, 0);
}

FSAFE_BEGIN_ANSWERS
/* musl counts no users of a mutex and no waiting writers; its rwlock prefers neither. */
static inline void fsafe_layout_mutex_drop_users(pthread_mutex_t *m, unsigned users) { }
static inline void fsafe_layout_rwlock_forget_waiting(pthread_rwlock_t *rwlock, unsigned waiting) { }
static inline int fsafe_layout_rwlock_preference(const pthread_rwlock_t *rwlock) { return FSAFE_PREFERS_READERS; }

/* signal and broadcast take the inner lock even if no thread waits. */
static inline bool fsafe_layout_cond_is_idle(const pthread_cond_t *condvar) { return false; }

/* Readers and writers sleep for the same value; and the rwlock is one word, so that no call spins for long. */
static inline pthread_rwlock_t *fsafe_layout_rwlock_free_waited(uint32_t *word, uint32_t value, unsigned others)
{
    return NULL;
}
static inline bool fsafe_layout_rwlock_is_spun_on(const pthread_rwlock_t *rwlock, bool writes) { return false; }
static inline void fsafe_layout_rwlock_free_spun(pthread_rwlock_t *rwlock, bool writes) { }

/* Spin locks are not taken in place. */
static inline bool fsafe_layout_spin_try(pthread_spinlock_t *spin) { return false; }
static inline void fsafe_layout_spin_unlock(pthread_spinlock_t *spin) { }
FSAFE_END_ANSWERS
