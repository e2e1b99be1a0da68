/*
 * libc/layout-musl-semaphore: the bytes of musl's sem_t. Included by layout.h only.
 *
 * Its words: the value, which has a flag in its highest bit or, up to 1.2.3, is -1 for 0 with a waiter; the number of
 * waiters; whether it is private. musl uses neither the fourth word nor, on 64 bits, the second half.
 */
#pragma once

enum { FSAFE_MUSL_SEM_VALUE, FSAFE_MUSL_SEM_WAITERS, FSAFE_MUSL_SEM_PRIVATE, FSAFE_MUSL_SEM_SPARE };

#ifdef __LP64__

static inline struct fsafe_sem_words *fsafe_layout_sem_words(sem_t *s)
{
    return fsafe_layout.sem_bytes ? (void *)&s->__val[FSAFE_MUSL_SEM_SPARE + 1] : NULL;
}

#else

static inline uint32_t *fsafe_layout_sem_spare(sem_t *s)
{
    return (uint32_t *)(uintptr_t)&s->__val[FSAFE_MUSL_SEM_SPARE];
}

#endif

#include "libc/layout-semaphore-words.h"

static inline unsigned fsafe_layout_sem_value(const sem_t *s)
{
    int value = __atomic_load_n(&s->__val[FSAFE_MUSL_SEM_VALUE], __ATOMIC_RELAXED);
    return value != -1 ? (unsigned)value & INT_MAX : 0;
}

static inline bool fsafe_layout_sem_try(sem_t *s)
{
    volatile int *value = &s->__val[FSAFE_MUSL_SEM_VALUE];
    int seen = __atomic_load_n(value, __ATOMIC_RELAXED);
    while (seen != -1 && (seen & INT_MAX) != 0)
        if (__atomic_compare_exchange_n(value, &seen, seen - 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    return false;
}

static inline bool fsafe_layout_sem_is_shared(const sem_t *s)
{
    return s->__val[FSAFE_MUSL_SEM_PRIVATE] == 0;
}

/* The flag stays while a second thread waits. */
static inline enum fsafe_posted fsafe_layout_sem_post(sem_t *s)
{
    volatile int *value = &s->__val[FSAFE_MUSL_SEM_VALUE];
    int seen = __atomic_load_n(value, __ATOMIC_RELAXED), waiters, posted;
    do {
        if (seen != -1 && (seen & INT_MAX) != 0)
            return FSAFE_POST_LIBC;
        waiters = __atomic_load_n(&s->__val[FSAFE_MUSL_SEM_WAITERS], __ATOMIC_SEQ_CST);
        posted = seen == INT_MIN && waiters > 1 ? INT_MIN | 1 : 1;
    } while (!__atomic_compare_exchange_n(value, &seen, posted, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return waiters != 0 || seen < 0 ? FSAFE_POST_WAKE : FSAFE_POSTED;
}

static inline void fsafe_layout_sem_wake(sem_t *s)
{
    fsafe_sys_futex_wake((void *)&s->__val[FSAFE_MUSL_SEM_VALUE], 1);
}
