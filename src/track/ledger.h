/*
 * track/ledger: which locks one thread holds or is about to hold: a stack of records in our own memory.
 *
 * A thread writes its own ledger; other threads may only clear and mark records in it. A child reads, and rewrites, the
 * ledgers of vanished threads, each of which may have stopped between any two stores. Other threads of the same process
 * also read a ledger, and must allow for a record that comes or goes meanwhile.
 *
 * A record is an index, never proof: it says where to look and whom to name. It may be stale: another thread has
 * released the lock, or a call that we do not see. So we never follow the address in a record; we only compare it with
 * an address that the program has just passed to a wrapper.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The low bits of a record's lock word, free because every lock is aligned to four bytes. A mutex's own bytes say who
 * has it. An rwlock's record says whether its thread reads or writes, and each hold has a record. The bytes of
 * CPython's own locks name no owner, so there the record says how far its thread was.
 */
enum fsafe_stage {
    FSAFE_WANTED = 0,  /* about to take it, or has it */
    FSAFE_HELD = 1,    /* a vanished thread's mutex that named no owner: see repair/unnamed; python: has it */
    FSAFE_LEAVING = 2, /* python: about to release it, or just did */
    FSAFE_READING = 2, /* an rwlock, for reading */
    FSAFE_WRITING = 3, /* an rwlock, for writing */
};
#define FSAFE_STAGE_MASK ((uintptr_t)3)

/* Whether a record in the ledger of mutexes and rwlocks is about an rwlock. */
static inline bool fsafe_ledger_is_of_rwlock(uintptr_t lock)
{
    return (lock & FSAFE_STAGE_MASK) >= FSAFE_READING;
}

/*
 * In a record's lock word: the record is of a call of libc's, not of a lock: see track/region. Where an address may
 * have any bit, a word in the first page says so: no lock lies there.
 */
#if UINTPTR_MAX > UINT32_MAX
#define FSAFE_CALL_MARK ((uintptr_t)1 << 62)
#else
#define FSAFE_CALL_MARK ((uintptr_t)0)
#endif

static inline bool fsafe_ledger_is_of_call(uintptr_t lock)
{
    return FSAFE_CALL_MARK != 0 ? (lock & FSAFE_CALL_MARK) != 0 : lock < 4096;
}

/*
 * The mark of a record for which no fork waits. A fork has waited for it in vain, its thread waits for the lock (see
 * track/gate), or another thread has emptied it. Where no lock lies in the upper half of the address space the mark is
 * a bit of the lock word. Elsewhere it is a word of its own, which says for what lock it is meant. (If a mark is set
 * while another record moves to that place, that record loses its own: one more fork waits for it.)
 */
#if UINTPTR_MAX > UINT32_MAX
#define FSAFE_OUTLASTED ((uintptr_t)1 << 63)
#define FSAFE_EMPTIED FSAFE_OUTLASTED
#else
#define FSAFE_OUTLASTED_BESIDE
#define FSAFE_EMPTIED ((uintptr_t)4092) /* no lock's and no call's */
#endif

struct fsafe_record {
    _Atomic uintptr_t lock; /* address | stage | outlasted; 0: reserved, not filled in yet, or given back */
    _Atomic uintptr_t site; /* the place that took it */
#ifdef FSAFE_OUTLASTED_BESIDE
    _Atomic uintptr_t outlasted; /* the lock word that is marked; 0: none */
#endif
};

/* What a lock word says without the mark: address | stage, or 0. */
static inline uintptr_t fsafe_ledger_unmarked(uintptr_t word)
{
#ifdef FSAFE_OUTLASTED_BESIDE
    return word != FSAFE_EMPTIED ? word : 0;
#else
    return word & ~FSAFE_OUTLASTED;
#endif
}

/* Whether a record whose lock word is `word` is marked. */
static inline bool fsafe_ledger_is_outlasted(const struct fsafe_record *record, uintptr_t word)
{
#ifdef FSAFE_OUTLASTED_BESIDE
    return word != 0 &&
           (word == FSAFE_EMPTIED || word == atomic_load_explicit(&record->outlasted, memory_order_relaxed));
#else
    (void)record;
    return (word & FSAFE_OUTLASTED) != 0;
#endif
}

/*
 * Sets the mark of a record, or takes it away, if the record still is of `lock` (address | stage). Its thread may have
 * gone on to another lock, and another thread may be emptying the record.
 */
static inline void fsafe_ledger_mark(struct fsafe_record *record, uintptr_t lock, bool outlasted)
{
#ifdef FSAFE_OUTLASTED_BESIDE
    atomic_store(&record->outlasted, outlasted ? lock : 0);
#else
    uintptr_t seen = atomic_load_explicit(&record->lock, memory_order_relaxed);
    while ((seen & ~FSAFE_OUTLASTED) == lock &&
           !atomic_compare_exchange_weak(&record->lock, &seen, outlasted ? lock | FSAFE_OUTLASTED : lock))
        ;
#endif
}

/* The array carries its own length: a reader gets both with one load. record[0] is never used. */
struct fsafe_records {
    uint32_t capacity;
    struct fsafe_record record[];
};

/* An array of `n` records as a member of another structure, laid out as struct fsafe_records. */
#define FSAFE_RECORDS(n)               \
    struct {                           \
        uint32_t capacity;             \
        struct fsafe_record record[n]; \
    }

/*
 * Spare records at the end of an array. A push reserves a record before it looks whether there is room, and signal
 * handlers may interrupt the push and do the same. Until each takes its reservation back depth must stay inside the
 * array. Only fsafe_ledger_push_full fills some of them in, in such a handler.
 */
enum { FSAFE_LEDGER_SPARE = 6 };

struct fsafe_ledger {
    struct fsafe_records *_Atomic records;
    _Atomic uint32_t depth; /* index of the latest record; 0: none. Below capacity */
    uint32_t room;          /* the depth at which the array is full */
    uint32_t hint;          /* where the next record to remove may be: many locks are released in their order */
    struct fsafe_ledger_index *index; /* by lock, of a ledger that was very deep; NULL: none */
};

/*
 * Whether a record may be dropped: its thread does not hold the lock, as far as can be told without following the
 * address. fsafe_ledger_push_full calls this with all signals blocked.
 */
typedef bool fsafe_ledger_is_stale(uintptr_t lock, void *context);

/*
 * Empties the ledger, which keeps an array that it grew to; a zeroed ledger begins with `first`, an
 * FSAFE_RECORDS(capacity). Context: its thread.
 */
void fsafe_ledger_begin(struct fsafe_ledger *ledger, void *first, uint32_t capacity);

/*
 * Adds a record to a full ledger, where push would not: drops duplicates and what `is_stale` names, and doubles the
 * array when that frees less than half. Returns false when there is no memory: the lock then goes unrecorded.
 * Context: its thread.
 */
bool fsafe_ledger_push_full(struct fsafe_ledger *ledger, uintptr_t lock, uintptr_t site,
                            fsafe_ledger_is_stale *is_stale, void *context);

/* Drops duplicates and what `is_stale` names. Returns how many records are left. Context: its thread. */
uint32_t fsafe_ledger_tidy(struct fsafe_ledger *ledger, fsafe_ledger_is_stale *is_stale, void *context);

/* Removes the record at `index`; the latest record takes its place. Context: its thread. */
void fsafe_ledger_remove(struct fsafe_ledger *ledger, uint32_t index);

/* Returns the index of the latest record of `lock` (address, any stage), or 0. Context: its thread. */
uint32_t fsafe_ledger_find(const struct fsafe_ledger *ledger, uintptr_t lock);

/*
 * Marks all records: a fork has waited for them in vain. A mark moves with its record and ends with it; that of a
 * reserved record ends when the record is filled in. Context: a forking thread.
 */
void fsafe_ledger_mark_outlasted(struct fsafe_ledger *ledger);

/*
 * Reads record `index` of any thread's ledger. Returns false past its end or when the record is empty.
 * Context: any thread; no array is ever unmapped.
 */
bool fsafe_ledger_read(const struct fsafe_ledger *ledger, uint32_t index, uintptr_t *lock, uintptr_t *site);

/*
 * Reads all records, the latest first:
 *     for (struct fsafe_ledger_walk at = fsafe_ledger_walk(ledger); fsafe_ledger_next(&at);)
 * Records may be cleared meanwhile.
 */
struct fsafe_ledger_walk {
    const struct fsafe_ledger *ledger;
    uint32_t index;
    uintptr_t lock, site; /* what record `index` says */
};

static inline struct fsafe_ledger_walk fsafe_ledger_walk(const struct fsafe_ledger *ledger)
{
    return (struct fsafe_ledger_walk){.ledger = ledger,
                                      .index = atomic_load_explicit(&ledger->depth, memory_order_acquire) + 1};
}

static inline bool fsafe_ledger_next(struct fsafe_ledger_walk *at)
{
    while (--at->index > 0)
        if (fsafe_ledger_read(at->ledger, at->index, &at->lock, &at->site))
            return true;
    return false;
}

/*
 * Empties record `index` if it still is `lock` at that stage. The ledger's thread finds the empty record when it next
 * makes room. Context: any thread.
 */
void fsafe_ledger_clear(struct fsafe_ledger *ledger, uint32_t index, uintptr_t lock);

/* fsafe_ledger_drop and drop_stage for a record that is not the latest. */
bool fsafe_ledger_drop_inner(struct fsafe_ledger *ledger, uintptr_t lock);
bool fsafe_ledger_drop_inner_stage(struct fsafe_ledger *ledger, uintptr_t lock);

static inline struct fsafe_record *fsafe_ledger_record(const struct fsafe_ledger *ledger, uint32_t index)
{
    return &atomic_load_explicit(&ledger->records, memory_order_relaxed)->record[index];
}

/* What the record says: address | stage, or 0. */
static inline uintptr_t fsafe_ledger_word(const struct fsafe_ledger *ledger, uint32_t index)
{
    return fsafe_ledger_unmarked(atomic_load_explicit(&fsafe_ledger_record(ledger, index)->lock, memory_order_relaxed));
}

static inline uint32_t fsafe_ledger_depth(const struct fsafe_ledger *ledger)
{
    return atomic_load_explicit(&ledger->depth, memory_order_relaxed);
}

/* Fills record `index`, which is reserved. */
static FSAFE_INLINE void fsafe_ledger_fill(struct fsafe_ledger *ledger, uint32_t index, uintptr_t lock, uintptr_t site)
{
    struct fsafe_record *record = fsafe_ledger_record(ledger, index);
#ifdef FSAFE_OUTLASTED_BESIDE
    atomic_store_explicit(&record->outlasted, 0, memory_order_relaxed);
#endif
    atomic_store_explicit(&record->site, site, memory_order_relaxed);
    atomic_store_explicit(&record->lock, lock, memory_order_release);
    FSAFE_ORDER();
}

/*
 * Adds record `index`, the one above the latest. Returns false when the ledger is full or `*stop`, the gate's word, is
 * not 0 (NULL: there is none): then push_full or the gate has to decide. The record is reserved before it is filled in,
 * because a signal handler that locks may come between any two stores; an empty reserved record reads as none. It is
 * also reserved before `*stop` is read: see track/gate.
 */
static FSAFE_INLINE bool fsafe_ledger_push_unless(struct fsafe_ledger *ledger, uint32_t index, uintptr_t lock,
                                                  uintptr_t site, const _Atomic uint32_t *stop)
{
    atomic_store_explicit(&ledger->depth, index, memory_order_release);
    FSAFE_ORDER();
    if (FSAFE_UNLIKELY(index > ledger->room ||
                       (stop != NULL && atomic_load_explicit(stop, memory_order_relaxed) != 0))) {
        atomic_store_explicit(&ledger->depth, index - 1, memory_order_release);
        return false;
    }
    fsafe_ledger_fill(ledger, index, lock, site);
    return true;
}

static inline bool fsafe_ledger_push(struct fsafe_ledger *ledger, uintptr_t lock, uintptr_t site)
{
    return fsafe_ledger_push_unless(ledger, fsafe_ledger_depth(ledger) + 1, lock, site, NULL);
}

/* Removes the latest record, `index`, if it is `lock` at this stage; empties it before giving it back: see push. */
static FSAFE_INLINE bool fsafe_ledger_pop_at(struct fsafe_ledger *ledger, uint32_t index, uintptr_t lock)
{
    struct fsafe_record *record = fsafe_ledger_record(ledger, index);
    if (FSAFE_UNLIKELY(atomic_load_explicit(&record->lock, memory_order_relaxed) != lock))
        return false;
    FSAFE_ORDER();
    atomic_store_explicit(&record->lock, 0, memory_order_release);
    FSAFE_ORDER();
    atomic_store_explicit(&ledger->depth, index - 1, memory_order_release);
    return true;
}

static inline bool fsafe_ledger_pop_latest(struct fsafe_ledger *ledger, uintptr_t lock)
{
    return fsafe_ledger_pop_at(ledger, fsafe_ledger_depth(ledger), lock);
}

/* Removes the record of `lock`, wherever it is and at whatever stage. Returns whether there was one. */
static inline bool fsafe_ledger_drop(struct fsafe_ledger *ledger, uintptr_t lock)
{
    return FSAFE_LIKELY(fsafe_ledger_pop_latest(ledger, lock)) || fsafe_ledger_drop_inner(ledger, lock);
}

/* Removes the latest record of `lock` at this very stage, wherever it is. Returns whether there was one. */
static inline bool fsafe_ledger_drop_stage(struct fsafe_ledger *ledger, uintptr_t lock)
{
    return FSAFE_LIKELY(fsafe_ledger_pop_latest(ledger, lock)) || fsafe_ledger_drop_inner_stage(ledger, lock);
}
