/*
 * libc/layout-glibc-semaphore: the bytes of glibc's sem_t. Included by layout.h only.
 *
 * The words have not moved since 2.21. On 64 bits the value and the number of waiters share one word; on 32 bits the
 * value is shifted by one, and the lowest bit of its word says that a thread waits. Measured on 2.36, x86-64 and i386;
 * the self-test asks the libc that runs.
 */
#pragma once

#ifdef __LP64__

struct fsafe_glibc_sem {
    uint64_t data; /* value in the low half, number of waiters in the high */
    int private;
    int pad;
    struct fsafe_sem_words words; /* glibc's struct ends before this; sem_t goes on to 32 bytes */
};
enum { FSAFE_GLIBC_SEM_TOKEN = 1, FSAFE_GLIBC_SEM_FUTEX = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0 };

static inline bool fsafe_glibc_sem_is_waited(uint64_t data)
{
    return data >> 32 != 0;
}

static inline struct fsafe_sem_words *fsafe_layout_sem_words(sem_t *s)
{
    return &((struct fsafe_glibc_sem *)(void *)s)->words;
}

#else

struct fsafe_glibc_sem {
    uint32_t data; /* twice the value, and 1 while a thread waits; the futex word */
    int private;
    uint32_t row; /* of our table, counted from 1. To glibc it is padding: sem_init clears it, nobody reads it */
    uint32_t waiters;
};
enum { FSAFE_GLIBC_SEM_TOKEN = 2, FSAFE_GLIBC_SEM_FUTEX = 0 };

static inline bool fsafe_glibc_sem_is_waited(uint32_t data)
{
    return (data & 1) != 0;
}

static inline uint32_t *fsafe_layout_sem_spare(sem_t *s)
{
    return &((struct fsafe_glibc_sem *)(void *)s)->row;
}

#endif

#include "libc/layout-semaphore-words.h"

/* How many tokens the semaphore has, by a copy of its data. */
static inline unsigned fsafe_glibc_sem_tokens(__typeof__(((struct fsafe_glibc_sem *)0)->data) data)
{
    return (uint32_t)data / FSAFE_GLIBC_SEM_TOKEN;
}

static inline unsigned fsafe_layout_sem_value(const sem_t *s)
{
    return fsafe_glibc_sem_tokens(
        __atomic_load_n(&((const struct fsafe_glibc_sem *)(const void *)s)->data, __ATOMIC_RELAXED));
}

static inline bool fsafe_layout_sem_try(sem_t *s)
{
    struct fsafe_glibc_sem *sem = (struct fsafe_glibc_sem *)(void *)s;
    __typeof__(sem->data) seen = __atomic_load_n(&sem->data, __ATOMIC_RELAXED);
    while (fsafe_glibc_sem_tokens(seen) != 0)
        if (__atomic_compare_exchange_n(&sem->data, &seen, seen - FSAFE_GLIBC_SEM_TOKEN, true, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return true;
    return false;
}

static inline bool fsafe_layout_sem_is_shared(const sem_t *s)
{
    return ((const struct fsafe_glibc_sem *)(const void *)s)->private != 0;
}

static inline enum fsafe_posted fsafe_layout_sem_post(sem_t *s)
{
    struct fsafe_glibc_sem *sem = (struct fsafe_glibc_sem *)(void *)s;
    __typeof__(sem->data) seen = __atomic_load_n(&sem->data, __ATOMIC_RELAXED);
    do {
        if (fsafe_glibc_sem_tokens(seen) != 0)
            return FSAFE_POST_LIBC;
    } while (!__atomic_compare_exchange_n(&sem->data, &seen, seen + FSAFE_GLIBC_SEM_TOKEN, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
    return fsafe_glibc_sem_is_waited(seen) ? FSAFE_POST_WAKE : FSAFE_POSTED;
}

static inline void fsafe_layout_sem_wake(sem_t *s)
{
    fsafe_sys_futex_wake((char *)s + FSAFE_GLIBC_SEM_FUTEX, 1);
}
