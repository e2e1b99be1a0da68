/*
 * Measured. Sharing the memory takes some 20 us of the 500 in which `true` starts, and most programs never fork: so it
 * is shared at the first fork.
 */
#include "config.h"

#include "base/compiler.h"
#include "base/pages.h"
#include "base/text.h"
#include "report/tally.h"

#include <stddef.h>
#include <string.h>

static struct fsafe_tally unshared __attribute__((aligned(4096))); /* forksafe status looks where each page begins */
struct fsafe_tally *_Atomic fsafe_tally = &unshared;

void fsafe_tally_start(pid_t pid)
{
    unshared.mark = FSAFE_TALLY_MARK;
    unshared.first = pid;
}

/* What another thread counts between the copy and the exchange is lost: hardly anything, before the first fork. */
void fsafe_tally_share(void)
{
    struct fsafe_tally *before = &unshared;
    if (FSAFE_LIKELY(atomic_load_explicit(&fsafe_tally, memory_order_relaxed) != before))
        return;
    struct fsafe_tally *shared = fsafe_pages_map_shared(sizeof *shared);
    if (shared == NULL)
        return;
    /* The pages that only events fill are left alone if nothing has happened: each would be two page faults. */
    memcpy(shared, &unshared, fsafe_tally_is_empty() ? offsetof(struct fsafe_tally, kinds) : sizeof *shared);
    if (atomic_compare_exchange_strong(&fsafe_tally, &before, shared))
        unshared.mark = 0;
    else
        fsafe_pages_unmap(shared, sizeof *shared);
}

void fsafe_tally_raise(enum fsafe_total total, uint64_t value)
{
    uint64_t seen = atomic_load_explicit(&fsafe_tally->totals[total], memory_order_relaxed);
    while (seen < value && !atomic_compare_exchange_weak_explicit(&fsafe_tally->totals[total], &seen, value,
                                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

bool fsafe_tally_is_empty(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FSAFE_TOTALS; i++)
        sum += fsafe_tally->totals[i];
    for (unsigned i = 0; i < FSAFE_DEEDS; i++)
        sum += fsafe_tally->deeds[i];
    return sum == 0;
}

static FSAFE_APART uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static uint64_t mix_string(uint64_t hash, const char *string)
{
    for (; *string != '\0'; string++)
        hash = mix(hash, (unsigned char)*string);
    return mix(hash, 0);
}

static uint64_t mix_source(uint64_t hash, const struct fsafe_source *source)
{
    if (source == NULL)
        return mix(hash, 0);
    return mix(mix_string(mix_string(hash, source->file), source->function), source->line);
}

/* A hash of the event's places, which are the same in all processes of the tree. */
static uint64_t key_of(const struct fsafe_event *event)
{
    uint64_t hash = mix(mix(mix(0, event->deed), event->wanted_at), event->holder.since);
    hash = mix_string(mix_string(hash, event->lock), event->kind);
    return mix_source(mix_source(hash, event->wanted_in), event->holder.source);
}

/*
 * Looks for `key` in a table whose slots begin with a key each; a free slot has 0. With `add` puts the key into a free
 * slot if it is not there. NULL: the key is not there, and there is no free slot, or `add` is false.
 */
static void *find(void *table, size_t slots, size_t bytes, uint64_t key, bool add, bool *added)
{
    *added = false;
    key |= 1;
    for (size_t i = 0; i < slots; i++) {
        _Atomic uint64_t *slot = (void *)((char *)table + ((key >> 1) + i) % slots * bytes);
        uint64_t seen = atomic_load_explicit(slot, memory_order_relaxed);
        if (seen == 0 && !add)
            return NULL;
        if (seen == 0)
            *added = atomic_compare_exchange_strong_explicit(slot, &seen, key, memory_order_relaxed,
                                                             memory_order_relaxed);
        if (*added || seen == key)
            return slot;
    }
    return NULL;
}

/* The text ends with a zero at every moment: another process may be reading it. */
static void put_source(char text[FSAFE_KIND_SOURCE], const struct fsafe_source *source)
{
    if (source == NULL || source->file[0] == '\0')
        return;
    struct fsafe_text line;
    fsafe_text_begin(&line, text, FSAFE_KIND_SOURCE - 1);
    fsafe_text_clean(&line, fsafe_text_last_part(source->file), FSAFE_KIND_SOURCE - 12);
    fsafe_text_put(&line, ":%u", source->line);
}

static struct fsafe_kind *find_kind(uint64_t key, const struct fsafe_event *event, bool add)
{
    bool added;
    struct fsafe_kind *kind = find(fsafe_tally->kinds, FSAFE_KINDS, sizeof *fsafe_tally->kinds, key, add, &added);
    if (added) {
        kind->deed = event->deed;
        kind->lock = event->address;
        kind->wanted_at = event->wanted_at;
        kind->since = event->holder.since;
        put_source(kind->wanted_in, event->wanted_in);
        put_source(kind->held_in, event->holder.source);
    }
    return kind;
}

uint64_t fsafe_tally_count(const struct fsafe_event *event)
{
    enum { LOCKS_OF_THEIR_OWN = 4 };
    atomic_fetch_add_explicit(&fsafe_tally->deeds[event->deed], 1, memory_order_relaxed);
    uint64_t places = key_of(event), exactly = mix(places, event->address);
    struct fsafe_kind *kind = find_kind(exactly, event, false);
    if (kind == NULL) {
        struct fsafe_kind *all = find_kind(places, event, true);
        bool own = all != NULL && all->locks < LOCKS_OF_THEIR_OWN;
        if (own)
            atomic_fetch_add_explicit(&all->locks, 1, memory_order_relaxed);
        kind = own ? find_kind(exactly, event, true) : all;
    }
    return 1 + atomic_fetch_add_explicit(kind != NULL ? &kind->count : &fsafe_tally->rest, 1, memory_order_relaxed);
}

bool fsafe_tally_is_new_module(const char *path)
{
    bool added;
    find(fsafe_tally->modules, FSAFE_TOLD_MODULES, sizeof *fsafe_tally->modules, mix_string(0, path), true, &added);
    return added;
}
