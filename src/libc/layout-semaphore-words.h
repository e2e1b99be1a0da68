/*
 * libc/layout-semaphore-words: the words that we keep for a semaphore from sem_init to sem_destroy. Included by a
 * layout, which has defined where they are. If a sem_t has room for all of them (64 bits): fsafe_layout_sem_words(s).
 * If it has room for one (32 bits): fsafe_layout_sem_spare(s), a word that sem_init clears or leaves alone and nobody
 * reads. It has the number of a row in a table, and the row has the semaphore's address, so that the bytes of a copied
 * semaphore lead nowhere. A semaphore for which no row is free counts as no lock.
 */
#pragma once

#ifdef __LP64__

static inline struct fsafe_sem_words *fsafe_layout_sem_words_begin(sem_t *s)
{
    return fsafe_layout_sem_words(s);
}

static inline void fsafe_layout_sem_words_end(sem_t *s)
{
    (void)s;
}

#else

struct fsafe_sem_row {
    _Atomic uintptr_t address; /* 0: the row is free */
    struct fsafe_sem_words words;
};
enum { FSAFE_SEM_ROWS = 1 << 16 };
extern struct fsafe_sem_row fsafe_sem_rows[FSAFE_SEM_ROWS];

static inline struct fsafe_sem_row *fsafe_sem_row(sem_t *s)
{
    uint32_t row = __atomic_load_n(fsafe_layout_sem_spare(s), __ATOMIC_RELAXED) - 1;
    if (row >= FSAFE_SEM_ROWS ||
        atomic_load_explicit(&fsafe_sem_rows[row].address, memory_order_relaxed) != (uintptr_t)s)
        return NULL;
    return &fsafe_sem_rows[row];
}

static inline struct fsafe_sem_words *fsafe_layout_sem_words(sem_t *s)
{
    struct fsafe_sem_row *row = fsafe_sem_row(s);
    return row != NULL ? &row->words : NULL;
}

/* Takes the row that the semaphore has, because it was never destroyed, or a free row nearby. */
static inline struct fsafe_sem_words *fsafe_layout_sem_words_begin(sem_t *s)
{
    enum { NEARBY = 16 };
    uint32_t first = (uint32_t)((uintptr_t)s >> 2) * 0x9e3779b1u >> 16;
    for (uint32_t i = 0; i < NEARBY; i++) {
        uint32_t row = (first + i) % FSAFE_SEM_ROWS;
        uintptr_t seen = 0;
        if (!atomic_compare_exchange_strong_explicit(&fsafe_sem_rows[row].address, &seen, (uintptr_t)s,
                                                     memory_order_relaxed, memory_order_relaxed) &&
            seen != (uintptr_t)s)
            continue;
        __atomic_store_n(fsafe_layout_sem_spare(s), row + 1, __ATOMIC_RELAXED);
        return &fsafe_sem_rows[row].words;
    }
    return NULL;
}

static inline void fsafe_layout_sem_words_end(sem_t *s)
{
    struct fsafe_sem_row *row = fsafe_sem_row(s);
    if (row != NULL)
        atomic_store_explicit(&row->address, 0, memory_order_relaxed);
}

#endif
