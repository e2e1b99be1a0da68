/*
 * libc/layout-glibc: the bytes of glibc's pthread_mutex_t. Included by layout.h only.
 *
 * The mutex is public ABI because of its static initialisers (bits/struct_mutex.h). Measured on 2.36; the self-test
 * asks the libc that runs.
 */
#pragma once

#include "base/compiler.h"
#include "base/sys.h"
#include "libc/late.h"

/* __kind: two bits of type, then flags. Set by pthread_mutex_init and kept. */
#define FSAFE_GLIBC_TYPE 0x3
#define FSAFE_GLIBC_ROBUST 0x10
#define FSAFE_GLIBC_PI 0x20
#define FSAFE_GLIBC_PP 0x40
#define FSAFE_GLIBC_SHARED 0x80 /* set in every robust mutex, also a private one */
#define FSAFE_GLIBC_NO_ELISION 0x200 /* set by init with attributes; of no meaning here */
#define FSAFE_GLIBC_ELISION 0x300

/* The lock word of the robust and PI kinds is the kernel's: a thread id and flags. That of PP has the ceiling. */
#define FSAFE_GLIBC_TID 0x3fffffff
#define FSAFE_GLIBC_OWNER_DIED 0x40000000
#define FSAFE_GLIBC_WAITERS 0x80000000
#define FSAFE_GLIBC_CEILING 0xfff80000

static inline int fsafe_glibc_type(const pthread_mutex_t *m)
{
    return m->__data.__kind & FSAFE_GLIBC_TYPE;
}

#define FSAFE_LAYOUT_TYPES /* mutexes of all four ordinary types are locked in place */

_Static_assert(PTHREAD_MUTEX_NORMAL == (int)FSAFE_MUTEX_NORMAL &&
                   PTHREAD_MUTEX_RECURSIVE == (int)FSAFE_MUTEX_RECURSIVE &&
                   PTHREAD_MUTEX_ERRORCHECK == (int)FSAFE_MUTEX_ERRORCHECK &&
                   PTHREAD_MUTEX_ADAPTIVE_NP == (int)FSAFE_MUTEX_ADAPTIVE, "in one order, from 0 to 3");

/* in_place is 0, or -1, which makes a great number of any type. */
static inline unsigned fsafe_layout_type(const pthread_mutex_t *m)
{
    return (unsigned)((m->__data.__kind & ~FSAFE_GLIBC_NO_ELISION) ^ fsafe_layout.in_place);
}

/* Writes what libc writes after it has taken the lock word. */
static inline void fsafe_glibc_own(pthread_mutex_t *m, int owner, unsigned type)
{
    /* The count first: a signal handler that finds itself the owner adds to it. */
    if (type == PTHREAD_MUTEX_RECURSIVE)
        m->__data.__count = 1;
    FSAFE_ORDER();
    m->__data.__owner = owner;
    m->__data.__nusers++;
}

/* While the process has one thread glibc locks by plain stores, and so do we. */
static inline bool fsafe_layout_lock_free(pthread_mutex_t *m, int owner, unsigned type)
{
    if (FSAFE_SINGLE_THREADED()) {
        if (m->__data.__lock != 0)
            return false;
        m->__data.__lock = 1;
    } else {
        int free_word = 0;
        if (!__atomic_compare_exchange_n(&m->__data.__lock, &free_word, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return false;
    }
    fsafe_glibc_own(m, owner, type);
    return true;
}

static inline bool fsafe_layout_waits_in_place(const pthread_mutex_t *m, int owner)
{
    unsigned type = fsafe_layout_type(m);
    return type <= FSAFE_MUTEX_ADAPTIVE && (type == PTHREAD_MUTEX_NORMAL || type == PTHREAD_MUTEX_ADAPTIVE_NP ||
                                        __atomic_load_n(&m->__data.__owner, __ATOMIC_RELAXED) != owner);
}

static inline bool fsafe_layout_lock_queued(pthread_mutex_t *m, int owner)
{
    /* At 2 the owner knows already that it has to wake a waiter: nothing is to be written. */
    if (__atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) == 2 ||
        __atomic_exchange_n(&m->__data.__lock, 2, __ATOMIC_ACQUIRE) != 0)
        return false;
    fsafe_glibc_own(m, owner, (unsigned)fsafe_glibc_type(m));
    return true;
}

static inline bool fsafe_layout_sleep_queued(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
{
    int how = FUTEX_WAIT_BITSET_PRIVATE | (until != NULL && clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
    return FSAFE_SYS(SYS_futex, &m->__data.__lock, how, 2, until, 0, FUTEX_BITSET_MATCH_ANY) != -ETIMEDOUT;
}

static inline void fsafe_layout_end_sleep(pthread_mutex_t *m)
{
    int waited = 2;
    __atomic_compare_exchange_n(&m->__data.__lock, &waited, 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static inline bool fsafe_layout_spin_for(pthread_mutex_t *m, int owner)
{
    enum { MOST = 100 };
    const unsigned type = (unsigned)fsafe_glibc_type(m);
    const bool adaptive = type == PTHREAD_MUTEX_ADAPTIVE_NP;
    const int usual = m->__data.__spins * 2 + 10, most = usual < MOST ? usual : MOST;
    int spins = 0;
    bool got = false;
    for (int looks = 0; !got && (adaptive ? spins < most : looks < FSAFE_RELAX_LOOKS); looks++) {
        spins += fsafe_arch_relax(owner);
        got = __atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) == 0 && fsafe_layout_lock_free(m, owner, type);
    }
    if (adaptive)
        m->__data.__spins = (short)(m->__data.__spins + (spins - m->__data.__spins) / 8);
    return got;
}

static inline bool fsafe_layout_relock(pthread_mutex_t *m, int owner, unsigned type)
{
    if (type != PTHREAD_MUTEX_RECURSIVE || __atomic_load_n(&m->__data.__owner, __ATOMIC_RELAXED) != owner ||
        m->__data.__count + 1 == 0)
        return false;
    m->__data.__count++;
    return true;
}

static inline enum fsafe_unlocked fsafe_layout_unlock(pthread_mutex_t *m, int owner, unsigned type)
{
    if ((type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) && m->__data.__owner != owner)
        return FSAFE_UNLOCK_LIBC;
    if (type == PTHREAD_MUTEX_ERRORCHECK && m->__data.__lock == 0)
        return FSAFE_UNLOCK_LIBC;
    if (type == PTHREAD_MUTEX_RECURSIVE && --m->__data.__count != 0)
        return FSAFE_UNLOCKED_ONCE;
    m->__data.__owner = 0;
    m->__data.__nusers--;
    if (!FSAFE_SINGLE_THREADED())
        return __atomic_exchange_n(&m->__data.__lock, 0, __ATOMIC_RELEASE) > 1 ? FSAFE_UNLOCKED_WAKE : FSAFE_UNLOCKED;
    m->__data.__lock = 0;
    return FSAFE_UNLOCKED;
}

static inline void fsafe_layout_mutex_wake(pthread_mutex_t *m)
{
    fsafe_sys_futex_wake(&m->__data.__lock, 1);
}

#define FSAFE_LAYOUT_UNTRY

/* The kernel treats the word of a robust mutex as a futex of all processes. */
static inline void fsafe_layout_mutex_untry(pthread_mutex_t *m, int owner)
{
    if ((__atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) & FSAFE_GLIBC_TID) != owner)
        return;
    if ((__atomic_exchange_n(&m->__data.__lock, 0, __ATOMIC_RELEASE) & (int)FSAFE_GLIBC_WAITERS) != 0)
        FSAFE_SYS(SYS_futex, &m->__data.__lock, FUTEX_WAKE, 1);
}

#define FSAFE_LAYOUT_HEIR

static inline void fsafe_layout_mutex_name_heir(pthread_mutex_t *m, int owner, int tid)
{
    int word = tid;
    if (owner != tid && (m->__data.__kind & FSAFE_GLIBC_PI) != 0)
        __atomic_compare_exchange_n(&m->__data.__lock, &word, owner, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static inline enum fsafe_mutex_kind fsafe_layout_mutex_kind(const pthread_mutex_t *m)
{
    int kind = m->__data.__kind & ~FSAFE_GLIBC_ELISION;
    if (!fsafe_layout.mutex_bytes)
        return FSAFE_MUTEX_FOREIGN;
    switch (kind & ~FSAFE_GLIBC_TYPE) {
    case 0:
        return (enum fsafe_mutex_kind)kind;
    case FSAFE_GLIBC_PP:
        return FSAFE_MUTEX_PRIO_PROTECT;
    case FSAFE_GLIBC_PI:
        return FSAFE_MUTEX_PRIO_INHERIT;
    case FSAFE_GLIBC_ROBUST | FSAFE_GLIBC_SHARED:
        return FSAFE_MUTEX_ROBUST;
    case FSAFE_GLIBC_ROBUST | FSAFE_GLIBC_PI | FSAFE_GLIBC_SHARED:
        return FSAFE_MUTEX_ROBUST_PRIO_INHERIT;
    default:
        return FSAFE_MUTEX_FOREIGN;
    }
}

/* The bits of the lock word of which one is set while a thread has the mutex. */
static inline int fsafe_glibc_taken_bits(const pthread_mutex_t *m)
{
    if ((m->__data.__kind & (FSAFE_GLIBC_ROBUST | FSAFE_GLIBC_PI)) != 0)
        return FSAFE_GLIBC_TID;
    return (m->__data.__kind & FSAFE_GLIBC_PP) != 0 ? (int)~FSAFE_GLIBC_CEILING : -1;
}

static inline FSAFE_AT_FORK bool fsafe_layout_mutex_locked(const pthread_mutex_t *m)
{
    return (__atomic_load_n(&m->__data.__lock, __ATOMIC_ACQUIRE) & fsafe_glibc_taken_bits(m)) != 0;
}

static inline bool fsafe_layout_mutex_may_be_of(const pthread_mutex_t *m, int owner)
{
    return m->__data.__owner == owner;
}

static inline int fsafe_layout_mutex_owner(const pthread_mutex_t *m)
{
    if ((m->__data.__kind & (FSAFE_GLIBC_ROBUST | FSAFE_GLIBC_PI)) != 0)
        return __atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) & FSAFE_GLIBC_TID;
    return __atomic_load_n(&m->__data.__owner, __ATOMIC_RELAXED);
}

static inline unsigned fsafe_layout_mutex_depth(const pthread_mutex_t *m)
{
    return fsafe_glibc_type(m) == PTHREAD_MUTEX_RECURSIVE ? m->__data.__count : 1;
}

static inline void fsafe_layout_mutex_set_owner(pthread_mutex_t *m, int owner)
{
    __atomic_store_n(&m->__data.__owner, owner, __ATOMIC_RELAXED);
}

static inline void fsafe_layout_mutex_reset(pthread_mutex_t *m)
{
    int kind = m->__data.__kind;
    m->__data.__count = 0;
    m->__data.__owner = 0;
    m->__data.__nusers = 0;
    int free_word = 0;
    if ((kind & FSAFE_GLIBC_ROBUST) != 0)
        free_word = FSAFE_GLIBC_OWNER_DIED;
    else if ((kind & FSAFE_GLIBC_PP) != 0)
        free_word = m->__data.__lock & (int)FSAFE_GLIBC_CEILING;
    if ((kind & (FSAFE_GLIBC_ROBUST | FSAFE_GLIBC_PI)) != 0)
        __builtin_memset(&m->__data.__list, 0, sizeof m->__data.__list); /* of a list that is gone */
    /* The lock word last: a thread that sees it free takes the mutex and writes the other words. */
    __atomic_store_n(&m->__data.__lock, free_word, __ATOMIC_RELEASE);
}

static inline void fsafe_layout_mutex_drop_users(pthread_mutex_t *m, unsigned users)
{
    m->__data.__nusers -= users < m->__data.__nusers ? users : m->__data.__nusers;
}

/* A waiter sleeps on one of the condition variable's words. */
#define FSAFE_LAYOUT_COND_BYTES sizeof(pthread_cond_t)

/*
 * The flags of a condition variable share a word with the number of its waiters; the word before that has the inner
 * lock. That holds for 2.25 to 2.40, and for 2.41, where both words moved.
 */
static inline bool fsafe_layout_cond_has_waiters(const struct fsafe_fresh *fresh, const void *condvar)
{
    return fsafe_fresh_word(condvar, fresh->flags) >> 3 != 0;
}

static inline bool fsafe_layout_cond_is_idle(const pthread_cond_t *condvar)
{
    return fsafe_layout.cond_in_place && !fsafe_layout_cond_has_waiters(&fsafe_fresh_condvar, condvar);
}

static inline bool fsafe_layout_cond_is_locked(const struct fsafe_fresh *fresh, const void *condvar)
{
    return fresh->flags > 0 && (fsafe_fresh_word(condvar, fresh->flags - 1) & 3) != 0;
}

/* The two values of a spin lock's word differ from machine to machine: the self-test asks libc for them. */
static inline bool fsafe_layout_spin_try(pthread_spinlock_t *spin)
{
    int free_word = fsafe_layout.spin_free;
    return __atomic_compare_exchange_n(spin, &free_word, fsafe_layout.spin_taken, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static inline void fsafe_layout_spin_unlock(pthread_spinlock_t *spin)
{
    __atomic_store_n(spin, fsafe_layout.spin_free, __ATOMIC_RELEASE);
}
