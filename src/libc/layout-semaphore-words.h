/*
 * libc/layout-semaphore-words: the words of semaphores from sem_init to sem_destroy. Included by a layout, which has
 * defined where they are: fsafe_layout_sem_words(s), where a sem_t has room for all of them; or, where it has room for
 * one (32 bits), fsafe_layout_sem_spare(s): a word that sem_init clears or leaves alone, and nobody reads. There the
 * words lie in a table, and the row says whose they are, so that bytes which were copied from elsewhere lead to
 * nothing. A semaphore that finds no row counts as no lock.
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
    _Atomic uintptr_t address; /* 0: nobody's */
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

/* The row that it had, if it was never destroyed, or a free one nearby. */
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
