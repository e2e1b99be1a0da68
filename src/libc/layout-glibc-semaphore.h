/*
 * libc/layout-glibc-semaphore: the bytes of glibc's sem_t. Included by layout.h only.
 *
 * The words have not moved since 2.21. With 64-bit atomics the value and the number of waiters share one word; without,
 * the value is shifted by one, and its lowest bit says that somebody waits. Measured on 2.36, x86-64 and i386; the
 * self-test asks the libc that runs.
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

/* After a successful sem_init: there is room in each of them. */
static inline struct fsafe_sem_words *fsafe_layout_sem_words_begin(sem_t *s)
{
    return fsafe_layout_sem_words(s);
}

static inline void fsafe_layout_sem_words_end(sem_t *s)
{
    (void)s;
}

#else

struct fsafe_glibc_sem {
    uint32_t data; /* twice the value, and 1 while somebody waits; the futex word */
    int private;
    uint32_t row; /* of our table, counted from 1: glibc calls it padding. sem_init clears it, nobody reads it */
    uint32_t waiters;
};
enum { FSAFE_GLIBC_SEM_TOKEN = 2, FSAFE_GLIBC_SEM_FUTEX = 0 };

static inline bool fsafe_glibc_sem_is_waited(uint32_t data)
{
    return (data & 1) != 0;
}

/*
 * There is no room for three words, only for one: the words lie in a table, and the row says whose they are, so that
 * bytes which were copied from elsewhere lead to nothing. A semaphore that finds no row counts as no lock.
 */
struct fsafe_glibc_sem_row {
    _Atomic uintptr_t address; /* 0: nobody's */
    struct fsafe_sem_words words;
};
enum { FSAFE_GLIBC_SEM_ROWS = 1 << 16 };
extern struct fsafe_glibc_sem_row fsafe_glibc_sem_rows[FSAFE_GLIBC_SEM_ROWS];

static inline struct fsafe_glibc_sem_row *fsafe_glibc_sem_row(sem_t *s)
{
    uint32_t row = __atomic_load_n(&((struct fsafe_glibc_sem *)(void *)s)->row, __ATOMIC_RELAXED) - 1;
    if (row >= FSAFE_GLIBC_SEM_ROWS ||
        atomic_load_explicit(&fsafe_glibc_sem_rows[row].address, memory_order_relaxed) != (uintptr_t)s)
        return NULL;
    return &fsafe_glibc_sem_rows[row];
}

static inline struct fsafe_sem_words *fsafe_layout_sem_words(sem_t *s)
{
    struct fsafe_glibc_sem_row *row = fsafe_glibc_sem_row(s);
    return row != NULL ? &row->words : NULL;
}

/* The row that it had, if it was never destroyed, or a free one nearby. */
static inline struct fsafe_sem_words *fsafe_layout_sem_words_begin(sem_t *s)
{
    enum { NEARBY = 16 };
    uint32_t first = (uint32_t)((uintptr_t)s >> 2) * 0x9e3779b1u >> 16;
    for (uint32_t i = 0; i < NEARBY; i++) {
        uint32_t row = (first + i) % FSAFE_GLIBC_SEM_ROWS;
        uintptr_t seen = 0;
        if (!atomic_compare_exchange_strong_explicit(&fsafe_glibc_sem_rows[row].address, &seen, (uintptr_t)s,
                                                     memory_order_relaxed, memory_order_relaxed) &&
            seen != (uintptr_t)s)
            continue;
        __atomic_store_n(&((struct fsafe_glibc_sem *)(void *)s)->row, row + 1, __ATOMIC_RELAXED);
        return &fsafe_glibc_sem_rows[row].words;
    }
    return NULL;
}

static inline void fsafe_layout_sem_words_end(sem_t *s)
{
    struct fsafe_glibc_sem_row *row = fsafe_glibc_sem_row(s);
    if (row != NULL)
        atomic_store_explicit(&row->address, 0, memory_order_relaxed);
}

#endif

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
