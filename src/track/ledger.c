/*
 * Measured. The mark of a record for which no fork waits is in its lock word, not in its site: the site stays behind
 * when a record is popped. With the mark there a fork overlooked the thread that reserved such a record anew.
 */
#include "config.h"

#include "base/pages.h"
#include "base/sys.h"
#include "track/ledger.h"

#include <string.h>

static uintptr_t address_of(uintptr_t lock)
{
    return lock & ~FSAFE_STAGE_MASK;
}

static uintptr_t load_lock(const struct fsafe_record *record)
{
    return fsafe_ledger_unmarked(atomic_load_explicit(&record->lock, memory_order_relaxed));
}

static void copy_record(struct fsafe_record *to, const struct fsafe_record *from)
{
    /* `to` is empty while its site changes: no record names the site of another lock. */
    atomic_store_explicit(&to->lock, 0, memory_order_release);
#ifdef FSAFE_OUTLASTED_BESIDE
    atomic_store_explicit(&to->outlasted, atomic_load_explicit(&from->outlasted, memory_order_relaxed),
                          memory_order_release);
#endif
    atomic_store_explicit(&to->site, atomic_load_explicit(&from->site, memory_order_relaxed), memory_order_release);
    atomic_store_explicit(&to->lock, atomic_load_explicit(&from->lock, memory_order_relaxed), memory_order_release);
}

/*
 * Where the records are, by their locks, for a thread that holds very many locks and releases them in another order
 * than it took them. A signal handler may come at any moment, and so may a fork: what the index says is compared with
 * the ledger, so a stale or missing entry costs time and nothing else.
 */
struct fsafe_ledger_index {
    uint32_t slots;  /* a power of two */
    uint32_t used;   /* how many of them are not free any more */
    uint32_t covers; /* the records up to this one have been put in; some may have been replaced since */
    struct entry {
        uint32_t key;    /* of the lock's address */
        uint32_t record; /* 0: free */
    } entry[];
};

static uint32_t room_of(const struct fsafe_records *records)
{
    return records->capacity - 1 - FSAFE_LEDGER_SPARE;
}

void fsafe_ledger_begin(struct fsafe_ledger *ledger, void *first, uint32_t capacity)
{
    if (atomic_load_explicit(&ledger->records, memory_order_relaxed) == NULL) {
        struct fsafe_records *records = first;
        records->capacity = capacity;
        ledger->room = room_of(records);
        atomic_store_explicit(&ledger->records, records, memory_order_release);
    }
    for (uint32_t i = fsafe_ledger_depth(ledger); i > 0; i--)
        atomic_store_explicit(&fsafe_ledger_record(ledger, i)->lock, 0, memory_order_relaxed);
    atomic_store_explicit(&ledger->depth, 0, memory_order_release);
    if (ledger->index != NULL)
        ledger->index->covers = 0;
}

uint32_t fsafe_ledger_find(const struct fsafe_ledger *ledger, uintptr_t lock)
{
    for (uint32_t i = fsafe_ledger_depth(ledger); i > 0; i--)
        if (address_of(load_lock(fsafe_ledger_record(ledger, i))) == address_of(lock))
            return i;
    return 0;
}

enum { NEAR = 32, PROBES = 32 };

static uint32_t key_of(uintptr_t lock)
{
    return (uint32_t)((uint64_t)(address_of(lock) >> 2) * 0x9e3779b97f4a7c15u >> 32);
}

static bool is_live(const struct fsafe_ledger *ledger, struct entry entry)
{
    return entry.record <= fsafe_ledger_depth(ledger) &&
           key_of(load_lock(fsafe_ledger_record(ledger, entry.record))) == entry.key;
}

static void put(struct fsafe_ledger *ledger, struct fsafe_ledger_index *index, uint32_t record)
{
    struct entry entry = {key_of(load_lock(fsafe_ledger_record(ledger, record))), record};
    for (uint32_t i = 0; i < PROBES; i++) {
        struct entry *at = &index->entry[(entry.key + i) & (index->slots - 1)];
        if (at->record != 0 && at->key != entry.key && is_live(ledger, *at))
            continue;
        index->used += at->record == 0;
        *at = entry;
        return;
    }
}

/* NULL without memory. An old index stays mapped: this may be a signal handler, which interrupted a reader of it. */
static struct fsafe_ledger_index *fit_index(struct fsafe_ledger *ledger)
{
    struct fsafe_ledger_index *index = ledger->index;
    if (index == NULL || index->slots < 2 * ledger->room) {
        uint32_t slots = 4 * NEAR;
        while (slots < 2 * ledger->room)
            slots *= 2;
        index = fsafe_pages_map(sizeof *index + slots * sizeof index->entry[0]);
        if (index == NULL)
            return NULL;
        index->slots = slots;
        ledger->index = index;
    }
    if (index->used > index->slots / 4 * 3) {
        memset(index->entry, 0, index->slots * sizeof index->entry[0]);
        index->used = index->covers = 0;
    }
    return index;
}

/* Takes a time that does not grow with the depth, if the thread has done so before. */
static uint32_t find_deep(struct fsafe_ledger *ledger, uintptr_t lock)
{
    uint32_t depth = fsafe_ledger_depth(ledger);
    struct fsafe_ledger_index *index = fit_index(ledger);
    if (index == NULL)
        return fsafe_ledger_find(ledger, lock);
    uint32_t covers = index->covers < depth ? index->covers : depth;
    while (covers < depth)
        put(ledger, index, ++covers);
    index->covers = covers;
    uint32_t key = key_of(lock);
    for (uint32_t i = 0; i < PROBES; i++) {
        struct entry entry = index->entry[(key + i) & (index->slots - 1)];
        if (entry.record == 0)
            break;
        if (entry.key == key && entry.record <= depth &&
            address_of(load_lock(fsafe_ledger_record(ledger, entry.record))) == address_of(lock))
            return entry.record;
    }
    /* The record has moved to the place of one that was removed: mostly near the latest. */
    for (uint32_t i = depth; i > 0; i--) {
        put(ledger, index, i);
        if (address_of(load_lock(fsafe_ledger_record(ledger, i))) == address_of(lock))
            return i;
    }
    return 0;
}

static uint32_t find_to_remove(struct fsafe_ledger *ledger, uintptr_t lock)
{
    uint32_t depth = fsafe_ledger_depth(ledger);
    if (depth <= NEAR)
        return fsafe_ledger_find(ledger, lock);
    for (uint32_t i = depth; i > depth - NEAR; i--)
        if (address_of(load_lock(fsafe_ledger_record(ledger, i))) == address_of(lock))
            return i;
    return find_deep(ledger, lock);
}

void fsafe_ledger_remove(struct fsafe_ledger *ledger, uint32_t index)
{
    /*
     * A fork or a signal handler between two of these stores finds the latest record twice, or the removed one gone.
     * Both will do: a record is an index and never proof.
     */
    uint32_t latest = fsafe_ledger_depth(ledger);
    struct fsafe_record *last = fsafe_ledger_record(ledger, latest);
    if (index != latest) {
        copy_record(fsafe_ledger_record(ledger, index), last);
        if (ledger->index != NULL)
            put(ledger, ledger->index, index);
    }
    FSAFE_ORDER();
    atomic_store_explicit(&last->lock, 0, memory_order_release);
    FSAFE_ORDER();
    atomic_store_explicit(&ledger->depth, latest - 1, memory_order_release);
    ledger->hint = index + 1;
}

bool fsafe_ledger_read(const struct fsafe_ledger *ledger, uint32_t index, uintptr_t *lock, uintptr_t *site)
{
    const struct fsafe_records *records = atomic_load_explicit(&ledger->records, memory_order_acquire);
    if (records == NULL || index == 0 || index >= records->capacity ||
        index > atomic_load_explicit(&ledger->depth, memory_order_acquire))
        return false;
    *lock = fsafe_ledger_unmarked(atomic_load_explicit(&records->record[index].lock, memory_order_acquire));
    *site = atomic_load_explicit(&records->record[index].site, memory_order_relaxed);
    return *lock != 0;
}

void fsafe_ledger_clear(struct fsafe_ledger *ledger, uint32_t index, uintptr_t lock)
{
    struct fsafe_records *records = atomic_load_explicit(&ledger->records, memory_order_acquire);
    if (records == NULL || index >= records->capacity)
        return;
    /* Empty and marked: an empty record without a mark looks as if its thread had reserved it. */
    uintptr_t seen = lock;
    if (!atomic_compare_exchange_strong(&records->record[index].lock, &seen, FSAFE_EMPTIED) &&
        fsafe_ledger_unmarked(seen) == lock)
        atomic_compare_exchange_strong(&records->record[index].lock, &seen, FSAFE_EMPTIED);
}

/*
 * Empties all but the latest record of each lock; of an rwlock all records stay. A set of addresses beside the array
 * keeps this linear: a thread may hold very many locks.
 */
static void drop_repeated(struct fsafe_ledger *ledger)
{
    uint32_t depth = fsafe_ledger_depth(ledger);
    uintptr_t few[64] = {0}; /* as many as the first records need: no system call */
    size_t slots = sizeof few / sizeof *few;
    while (slots < 2 * (size_t)depth)
        slots *= 2;
    const bool is_large = slots > sizeof few / sizeof *few;
    uintptr_t *seen = is_large ? fsafe_pages_map(slots * sizeof *seen) : few;
    if (seen == NULL)
        return;
    for (uint32_t i = depth; i > 0; i--) {
        struct fsafe_record *record = fsafe_ledger_record(ledger, i);
        if (fsafe_ledger_is_of_rwlock(load_lock(record)))
            continue;
        uintptr_t address = address_of(load_lock(record));
        size_t slot = (address >> 3) * 0x9e3779b1u & (slots - 1);
        while (seen[slot] != 0 && seen[slot] != address)
            slot = (slot + 1) & (slots - 1);
        if (seen[slot] == address)
            atomic_store_explicit(&record->lock, 0, memory_order_release);
        seen[slot] = address;
    }
    if (is_large)
        fsafe_pages_unmap(seen, slots * sizeof *seen);
}

/* Drops empty, repeated and stale records, keeping the order of the rest. */
static void compact(struct fsafe_ledger *ledger, fsafe_ledger_is_stale *is_stale, void *context)
{
    drop_repeated(ledger);
    uint32_t depth = fsafe_ledger_depth(ledger);
    uint32_t kept = 0;
    for (uint32_t i = 1; i <= depth; i++) {
        struct fsafe_record *record = fsafe_ledger_record(ledger, i);
        uintptr_t lock = load_lock(record);
        if (lock == 0 || is_stale(lock, context))
            continue;
        kept++;
        if (kept != i)
            copy_record(fsafe_ledger_record(ledger, kept), record);
    }
    for (uint32_t i = depth; i > kept; i--)
        atomic_store_explicit(&fsafe_ledger_record(ledger, i)->lock, 0, memory_order_release);
    atomic_store_explicit(&ledger->depth, kept, memory_order_release);
    if (ledger->index != NULL)
        ledger->index->covers = 0;
}

uint32_t fsafe_ledger_tidy(struct fsafe_ledger *ledger, fsafe_ledger_is_stale *is_stale, void *context)
{
    if (fsafe_ledger_depth(ledger) > 0)
        compact(ledger, is_stale, context);
    return fsafe_ledger_depth(ledger);
}

bool fsafe_ledger_drop_inner(struct fsafe_ledger *ledger, uintptr_t lock)
{
    /* Near the end of the array a signal handler could make room, which moves the record that was found. */
    bool near_end = fsafe_ledger_depth(ledger) + FSAFE_LEDGER_SPARE >= ledger->room;
    struct fsafe_sigset old;
    if (near_end)
        fsafe_sys_block_signals(&old);
    uint32_t index = ledger->hint;
    if (index == 0 || index > fsafe_ledger_depth(ledger) || load_lock(fsafe_ledger_record(ledger, index)) != lock)
        index = find_to_remove(ledger, lock);
    if (index != 0)
        fsafe_ledger_remove(ledger, index);
    if (near_end)
        fsafe_sys_restore_signals(&old);
    return index != 0;
}

bool fsafe_ledger_drop_inner_stage(struct fsafe_ledger *ledger, uintptr_t lock)
{
    uint32_t index = fsafe_ledger_depth(ledger);
    while (index > 0 && fsafe_ledger_word(ledger, index) != lock)
        index--;
    if (index > 0)
        fsafe_ledger_remove(ledger, index);
    return index > 0;
}

static bool grow(struct fsafe_ledger *ledger)
{
    uint32_t capacity = (ledger->room + 1 + FSAFE_LEDGER_SPARE) * 2;
    struct fsafe_records *grown =
        fsafe_pages_map(sizeof *grown + (size_t)capacity * sizeof grown->record[0]);
    if (grown == NULL)
        return false;
    grown->capacity = capacity;
    for (uint32_t i = fsafe_ledger_depth(ledger); i > 0; i--)
        copy_record(&grown->record[i], fsafe_ledger_record(ledger, i));
    /* The old array stays: another thread may be reading it. Each is twice as large, so all old ones are smaller. */
    atomic_store_explicit(&ledger->records, grown, memory_order_release);
    ledger->room = room_of(grown);
    return true;
}

static bool has_empty(const struct fsafe_ledger *ledger)
{
    for (uint32_t i = fsafe_ledger_depth(ledger); i > 0; i--)
        if (load_lock(fsafe_ledger_record(ledger, i)) == 0)
            return true;
    return false;
}

bool fsafe_ledger_push_full(struct fsafe_ledger *ledger, uintptr_t lock, uintptr_t site,
                            fsafe_ledger_is_stale *is_stale, void *context)
{
    struct fsafe_sigset old;
    fsafe_sys_block_signals(&old);
    uint32_t depth = fsafe_ledger_depth(ledger);
    /*
     * An empty record may be a reserved one. This is a signal handler then, and the push that it interrupted knows
     * where its record is. So no record moves before the spare records are used up as well.
     */
    uint32_t room = ledger->room + (depth >= ledger->room && has_empty(ledger) ? FSAFE_LEDGER_SPARE - 1 : 0);
    if (depth >= room) {
        compact(ledger, is_stale, context);
        if (fsafe_ledger_depth(ledger) > ledger->room / 2)
            grow(ledger);
        depth = fsafe_ledger_depth(ledger);
        room = ledger->room;
    }
    bool fits = depth < room;
    if (fits) {
        atomic_store_explicit(&ledger->depth, depth + 1, memory_order_release);
        fsafe_ledger_fill(ledger, depth + 1, lock, site);
    }
    fsafe_sys_restore_signals(&old);
    return fits;
}

void fsafe_ledger_mark_outlasted(struct fsafe_ledger *ledger)
{
    struct fsafe_records *records = atomic_load_explicit(&ledger->records, memory_order_acquire);
    for (uint32_t i = fsafe_ledger_depth(ledger); records != NULL && i > 0; i--) {
        if (i >= records->capacity)
            continue;
        uintptr_t lock = load_lock(&records->record[i]);
        if (lock != 0)
            fsafe_ledger_mark(&records->record[i], lock, true);
        else /* its thread gets no processor to fill the record in, or has left the push by a longjmp */
            fsafe_ledger_clear(ledger, i, lock);
    }
}
