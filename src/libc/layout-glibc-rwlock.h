/*
 * libc/layout-glibc-rwlock: the bytes of glibc's pthread_rwlock_t. Included by layout.h only.
 *
 * The words have not moved since 2.25, when the lock was rewritten. Measured on 2.36; the self-test asks the libc
 * that runs.
 */
#pragma once

/* __readers: three flags, and above them the number of readers that hold the lock or, in a write phase, wait for it. */
#define FSAFE_GLIBC_WRITE_PHASE 0x1u
#define FSAFE_GLIBC_WRITE_LOCKED 0x2u
#define FSAFE_GLIBC_READERS_WAIT 0x4u
#define FSAFE_GLIBC_FLAGS 0x7u
#define FSAFE_GLIBC_READERS 3

/* __writers: the number of waiting writers, and a flag. */
#define FSAFE_GLIBC_HANDOVER 0x80000000u

/* __wrphase_futex: the write phase again, and a flag "a thread may sleep". */
#define FSAFE_GLIBC_PHASE 0x1u

static inline bool fsafe_layout_rwlock_is_private(const pthread_rwlock_t *rwlock)
{
    return fsafe_layout.rwlock_bytes && rwlock->__data.__shared == 0 &&
           rwlock->__data.__flags <= PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
}

static inline int fsafe_layout_rwlock_preference(const pthread_rwlock_t *rwlock)
{
    return (int)rwlock->__data.__flags;
}

static inline int fsafe_layout_rwlock_writer(const pthread_rwlock_t *rwlock)
{
    return __atomic_load_n(&rwlock->__data.__cur_writer, __ATOMIC_RELAXED);
}

static inline struct fsafe_rwlock_state fsafe_layout_rwlock_look(const pthread_rwlock_t *rwlock)
{
    unsigned word = __atomic_load_n(&rwlock->__data.__readers, __ATOMIC_ACQUIRE);
    unsigned phase = __atomic_load_n(&rwlock->__data.__wrphase_futex, __ATOMIC_RELAXED) & FSAFE_GLIBC_PHASE;
    return (struct fsafe_rwlock_state){
        .word = word,
        .readers = word >> FSAFE_GLIBC_READERS,
        .is_locked = (word & FSAFE_GLIBC_WRITE_LOCKED) != 0,
        .is_write_phase = (word & FSAFE_GLIBC_WRITE_PHASE) != 0,
        .is_torn = (word & FSAFE_GLIBC_WRITE_PHASE) != phase,
        .waiting = __atomic_load_n(&rwlock->__data.__writers, __ATOMIC_RELAXED) & ~FSAFE_GLIBC_HANDOVER,
        .writer = fsafe_layout_rwlock_writer(rwlock),
    };
}

/*
 * Without any of the three flags no writer has the lock or is about to, whatever the preference, and no reader sleeps:
 * a reader only counts itself in and out. When there are too many readers libc has to answer.
 */
static inline bool fsafe_layout_rwlock_read(pthread_rwlock_t *rwlock)
{
    unsigned seen = __atomic_load_n(&rwlock->__data.__readers, __ATOMIC_RELAXED);
    while ((seen & (FSAFE_GLIBC_FLAGS | 1u << 31)) == 0)
        if (__atomic_compare_exchange_n(&rwlock->__data.__readers, &seen, seen + (1u << FSAFE_GLIBC_READERS), true,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    return false;
}

static inline bool fsafe_layout_rwlock_unread(pthread_rwlock_t *rwlock)
{
    unsigned seen = __atomic_load_n(&rwlock->__data.__readers, __ATOMIC_RELAXED);
    while ((seen & FSAFE_GLIBC_FLAGS) == 0 && seen != 0)
        if (__atomic_compare_exchange_n(&rwlock->__data.__readers, &seen, seen - (1u << FSAFE_GLIBC_READERS), true,
                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            return true;
    return false;
}

static inline void fsafe_layout_rwlock_set_writer(pthread_rwlock_t *rwlock, int owner)
{
    __atomic_store_n(&rwlock->__data.__cur_writer, owner, __ATOMIC_RELAXED);
}

static inline void fsafe_layout_rwlock_make_free(pthread_rwlock_t *rwlock, unsigned readers)
{
    rwlock->__data.__writers = 0;
    rwlock->__data.__writers_futex = 0;
    rwlock->__data.__cur_writer = 0;
    __atomic_store_n(&rwlock->__data.__wrphase_futex, 0, __ATOMIC_RELAXED);
    /* Last: until then no thread gets in. */
    __atomic_store_n(&rwlock->__data.__readers, readers << FSAFE_GLIBC_READERS, __ATOMIC_RELEASE);
    fsafe_sys_futex_wake(&rwlock->__data.__wrphase_futex, INT_MAX);
}

static inline void fsafe_layout_rwlock_make_written(pthread_rwlock_t *rwlock, int owner)
{
    rwlock->__data.__writers = 0;
    rwlock->__data.__writers_futex = 1;
    rwlock->__data.__wrphase_futex = FSAFE_GLIBC_PHASE;
    rwlock->__data.__cur_writer = owner;
    __atomic_store_n(&rwlock->__data.__readers, FSAFE_GLIBC_WRITE_PHASE | FSAFE_GLIBC_WRITE_LOCKED, __ATOMIC_RELEASE);
}

static inline void fsafe_layout_rwlock_forget_waiting(pthread_rwlock_t *rwlock, unsigned waiting)
{
    unsigned seen = __atomic_load_n(&rwlock->__data.__writers, __ATOMIC_RELAXED);
    unsigned left;
    do {
        unsigned count = seen & ~FSAFE_GLIBC_HANDOVER;
        left = count > waiting ? seen - waiting : 0;
    } while (!__atomic_compare_exchange_n(&rwlock->__data.__writers, &seen, left, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
}

static inline bool fsafe_layout_rwlock_dismiss(pthread_rwlock_t *rwlock, const struct fsafe_rwlock_state *seen,
                                               unsigned readers, bool writer)
{
    unsigned before = seen->word;
    unsigned after = before - (readers << FSAFE_GLIBC_READERS);
    if (seen->is_torn && !seen->is_write_phase)
        __atomic_store_n(&rwlock->__data.__wrphase_futex, 0, __ATOMIC_RELAXED);
    if (writer) {
        __atomic_store_n(&rwlock->__data.__writers_futex, 0, __ATOMIC_RELAXED);
        after &= ~(FSAFE_GLIBC_WRITE_LOCKED | FSAFE_GLIBC_READERS_WAIT);
    }
    if (!__atomic_compare_exchange_n(&rwlock->__data.__readers, &before, after, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return false;
    if ((before & ~after & FSAFE_GLIBC_READERS_WAIT) != 0)
        fsafe_sys_futex_wake(&rwlock->__data.__readers, INT_MAX);
    return true;
}

/*
 * How each of them waits, on a word that has the flag "a thread may sleep" and one bit more:
 *
 *                for                        on which word    the bit    has counted itself before as
 *     a reader   the end of a write phase   the phase's        1        a reader
 *     a writer   the writer before it       the writers'       1        a waiting writer, where writers are preferred
 *     a writer   the readers                the phase's        0        the writer
 */
static inline pthread_rwlock_t *fsafe_layout_rwlock_free_waited(uint32_t *word, uint32_t value, unsigned others)
{
    enum { SOMEBODY_SLEEPS = 2 };
    pthread_rwlock_t *by_phase = (void *)((char *)word - offsetof(pthread_rwlock_t, __data.__wrphase_futex));
    pthread_rwlock_t *by_writers = (void *)((char *)word - offsetof(pthread_rwlock_t, __data.__writers_futex));
    if (!fsafe_layout.rwlock_bytes || *word != value)
        return NULL;
    struct fsafe_rwlock_state phase = fsafe_layout_rwlock_look(by_phase);
    struct fsafe_rwlock_state writers = fsafe_layout_rwlock_look(by_writers);
    if (value == (1 | SOMEBODY_SLEEPS) && phase.is_write_phase && phase.readers > others &&
        fsafe_layout_rwlock_is_private(by_phase)) {
        fsafe_layout_rwlock_make_free(by_phase, 1 + others);
        return by_phase;
    }
    if (value == SOMEBODY_SLEEPS && phase.is_locked && !phase.is_write_phase && phase.readers > 0 &&
        by_phase->__data.__writers_futex != 0 && others == 0 && fsafe_layout_rwlock_is_private(by_phase)) {
        fsafe_layout_rwlock_make_written(by_phase, 0);
        return by_phase;
    }
    bool is_counted = fsafe_layout_rwlock_preference(by_writers) != PTHREAD_RWLOCK_PREFER_READER_NP;
    if (value == (1 | SOMEBODY_SLEEPS) && writers.is_locked && is_counted == (writers.waiting > others) &&
        fsafe_layout_rwlock_is_private(by_writers)) {
        fsafe_layout_rwlock_make_free(by_writers, 0);
        by_writers->__data.__writers = is_counted ? 1 + others : 0;
        fsafe_sys_futex_wake(&by_writers->__data.__writers_futex, INT_MAX);
        return by_writers;
    }
    return NULL;
}

/*
 * Where a thread vanished between two stores, a call asks again and again and never sleeps:
 *
 *                             what it sees
 *     a reader, counted       the write phase in the readers' word, but not in the phase's
 *     a writer, the first     the write phase in the phase's word, but not in the readers'
 *     another writer          a writer in the readers' word, but none in the writers'
 */
static inline bool fsafe_layout_rwlock_is_spun_on(const pthread_rwlock_t *rwlock, bool writes)
{
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    if (!fsafe_layout_rwlock_is_private(rwlock))
        return false;
    if (!writes)
        return state.is_torn && state.is_write_phase && state.readers > 0;
    return state.is_locked && (rwlock->__data.__writers_futex == 0 || (state.is_torn && !state.is_write_phase));
}

static inline void fsafe_layout_rwlock_free_spun(pthread_rwlock_t *rwlock, bool writes)
{
    bool is_counted = fsafe_layout_rwlock_preference(rwlock) != PTHREAD_RWLOCK_PREFER_READER_NP;
    if (writes && rwlock->__data.__writers_futex != 0) {
        fsafe_layout_rwlock_make_written(rwlock, 0);
    } else {
        fsafe_layout_rwlock_make_free(rwlock, writes ? 0 : 1);
        rwlock->__data.__writers = writes && is_counted;
    }
}

static inline void fsafe_layout_rwlock_clean(pthread_rwlock_t *rwlock)
{
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    if (state.readers > 0 || state.is_locked || state.waiting > 0)
        fsafe_layout_rwlock_make_free(rwlock, 0);
}
