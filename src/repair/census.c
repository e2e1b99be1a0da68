#include "config.h"

#include "base/pages.h"
#include "libc/layout.h"
#include "repair/census.h"
#include "repair/verdict.h"
#include "track/slots.h"

#include <string.h>

/* Which record the line names, the one with the highest rank: of the youngest generation, then a holder's. */
static uint64_t rank(const struct fsafe_thread *thread, enum fsafe_stage stage, int writer)
{
    bool is_writer = fsafe_thread_is_or_was(thread, writer);
    return (uint64_t)fsafe_thread_generation(thread) << 2 | (uint64_t)is_writer << 1 | (stage == FSAFE_READING);
}

/* Adds a record of a thread other than the caller. `named`: the thread has the id of the writer that the bytes name. */
static void count_others(struct fsafe_census *census, struct fsafe_thread *thread, bool reads, bool named)
{
    struct fsafe_claims *claims = &census->claims;
    if (fsafe_thread_is_vanished(thread)) {
        claims->vanished_owner_had_it |= named && !reads;
        *(reads ? &census->vanished_reads : &census->vanished_writes) += 1;
        return;
    }
    claims->living_owner_has_it |= named && !reads;
    claims->died_with_it |= thread->ended && !reads;
    if (reads || !thread->ended)
        *(reads ? &census->living_reads : &census->living_writes) += 1;
}

struct fsafe_census fsafe_census_take(const struct fsafe_thread *self, uintptr_t lock, int writer,
                                      enum fsafe_stage stage)
{
    struct fsafe_census census;
    memset(&census, 0, sizeof census);
    uint64_t best = 0;
    for (struct fsafe_thread_walk of = fsafe_thread_walk(FSAFE_ANYBODY); fsafe_thread_next(&of);) {
        struct fsafe_thread *thread = of.thread;
        bool vanished = fsafe_thread_is_vanished(thread);
        bool named = thread != self && fsafe_thread_is_or_was(thread, writer);
        census.claims.living_was_owner |= named && !vanished;
        /* The latest record of a thread that asks for the lock now does not mean that it has it. */
        bool asks = thread == self ? stage != FSAFE_WANTED
                                   : !vanished && atomic_load_explicit(&thread->asking, memory_order_acquire) == lock;
        for (struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_locks(thread)); fsafe_ledger_next(&at);) {
            if (!fsafe_ledger_is_of_rwlock(at.lock) || (at.lock & ~FSAFE_STAGE_MASK) != lock)
                continue;
            enum fsafe_stage what = (enum fsafe_stage)(at.lock & FSAFE_STAGE_MASK);
            if (asks && (thread != self || what == stage)) {
                asks = false;
                continue;
            }
            if (thread == self) {
                *(what == FSAFE_READING ? &census.own_reads : &census.own_writes) += 1;
                census.claims.own_at_it |= what == FSAFE_WRITING;
                continue;
            }
            count_others(&census, thread, what == FSAFE_READING, named);
            if (vanished && rank(thread, what, writer) >= best) {
                best = rank(thread, what, writer);
                census.claims.vanished = thread;
                census.claims.since = at.site;
            }
        }
    }
    return census;
}

/* What the survey found, a hash table, half full at most. Written under the latch. */
static struct {
    _Atomic uint32_t generation;
    _Atomic uint32_t count; /* of orphans that are still there */
    uint32_t slots;
    struct fsafe_orphan *orphans;
} survey;

bool fsafe_census_is_surveyed(void)
{
    return atomic_load_explicit(&survey.generation, memory_order_acquire) == fsafe_lineage_generation();
}

/* Whether the survey found an orphan that is still there. */
static bool has_orphans(void)
{
    return fsafe_census_is_surveyed() && atomic_load_explicit(&survey.count, memory_order_relaxed) != 0;
}

static struct fsafe_orphan *slot_of(uintptr_t lock)
{
    uint32_t slot = (uint32_t)(lock >> 3) * 0x9e3779b1u & (survey.slots - 1);
    while (survey.orphans[slot].lock != 0 && survey.orphans[slot].lock != lock)
        slot = (slot + 1) & (survey.slots - 1);
    return &survey.orphans[slot];
}

static bool is_empty(const struct fsafe_orphan *orphan)
{
    return orphan->lock == 0 || (orphan->reads == 0 && orphan->waiting == 0 && !orphan->writer);
}

bool fsafe_census_may_have(uintptr_t lock)
{
    return has_orphans() && slot_of(lock)->lock == lock;
}

struct fsafe_orphan *fsafe_census_find(uintptr_t lock)
{
    if (!has_orphans())
        return NULL;
    struct fsafe_orphan *orphan = slot_of(lock);
    return is_empty(orphan) ? NULL : orphan;
}

static struct {
    uint32_t generation;
    uint32_t count;
} records;

uint32_t fsafe_census_records(void)
{
    if (records.generation == fsafe_lineage_generation())
        return records.count;
    records.count = 0;
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_LOCKS); fsafe_thread_record(&at);)
        records.count += fsafe_ledger_is_of_rwlock(at.record.lock);
    records.generation = fsafe_lineage_generation();
    return records.count;
}

/* Reads an rwlock where the memory may be anything by now; false when it is certainly no private rwlock. */
static bool peek(uintptr_t lock, struct fsafe_rwlock_state *state)
{
    pthread_rwlock_t bytes;
    if (!fsafe_sys_peek(lock, &bytes, sizeof bytes) || !fsafe_layout_rwlock_is_private(&bytes))
        return false;
    *state = fsafe_layout_rwlock_look(&bytes);
    return true;
}

/* The thread that makes the survey, and the lock that it asks for meanwhile; 0: none. */
struct surveyor {
    struct fsafe_thread *self;
    uintptr_t asked;
    enum fsafe_stage stage;
    bool alone;
};

/* Looks at bytes and ledgers. With other threads about, the bytes have to be the same before and after. */
static bool look(const struct surveyor *by, uintptr_t lock, struct fsafe_rwlock_state *state,
                 struct fsafe_census *census)
{
    enum { LOOKS = 8, APART_US = 50 };
    for (unsigned i = 0; peek(lock, state); i++) {
        struct fsafe_rwlock_state again;
        *census = fsafe_census_take(by->self, lock, state->writer, lock == by->asked ? by->stage : FSAFE_WANTED);
        if (by->alone || i == LOOKS)
            return true;
        fsafe_sys_pause_us(APART_US);
        if (peek(lock, &again) && again.word == state->word && again.writer == state->writer)
            return true;
    }
    return false;
}

/* What vanished threads left in the lock, by its bytes; of readers, how many there can be at most. */
static struct fsafe_orphan assess(const struct surveyor *by, uintptr_t lock)
{
    struct fsafe_orphan orphan = {.lock = lock, .assessed = true};
    struct fsafe_rwlock_state state;
    struct fsafe_census census;
    if (!look(by, lock, &state, &census))
        return orphan;
    unsigned reads = census.own_reads + census.living_reads;
    bool living = state.writer != 0 && fsafe_verdict(by->self, FSAFE_LOCKS, state.writer, &census.claims, by->alone) !=
                                           FSAFE_VANISHEDS;
    orphan.torn = state.is_torn;
    orphan.most = state.readers > reads ? state.readers - reads : 0;
    if (!living && census.own_writes + census.living_writes > 0)
        return orphan; /* a thread is in a call, perhaps the caller, if a signal handler in that call forked */
    orphan.writer = state.is_locked && !living;
    orphan.waiting = state.waiting;
    return orphan;
}

/* Adds a vanished thread's record; false when the bytes contradict it. */
static bool note(const struct surveyor *by, uintptr_t word)
{
    uintptr_t lock = word & ~FSAFE_STAGE_MASK;
    struct fsafe_orphan *orphan = slot_of(lock);
    if (!orphan->assessed)
        *orphan = assess(by, lock);
    if ((word & FSAFE_STAGE_MASK) == FSAFE_WRITING)
        return orphan->writer || orphan->waiting != 0;
    if (orphan->reads == orphan->most)
        return false;
    orphan->reads++;
    return true;
}

void fsafe_census_survey(struct fsafe_thread *self, uintptr_t asked, enum fsafe_stage stage)
{
    const struct surveyor by = {self, asked, stage, fsafe_takeover_is_alone()};
    uint32_t slots = 64;
    while (slots < 2 * fsafe_census_records())
        slots *= 2;
    if (survey.orphans != NULL)
        fsafe_pages_unmap(survey.orphans, survey.slots * sizeof *survey.orphans);
    survey.orphans = fsafe_census_records() != 0 ? fsafe_pages_map(slots * sizeof *survey.orphans) : NULL;
    survey.slots = slots;
    uint32_t count = 0;
    struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_LOCKS);
    while (survey.orphans != NULL && fsafe_thread_record(&at))
        if (fsafe_ledger_is_of_rwlock(at.record.lock) && !note(&by, at.record.lock))
            fsafe_thread_clear(&at);
    for (uint32_t i = 0; survey.orphans != NULL && i < slots; i++)
        count += !is_empty(&survey.orphans[i]);
    atomic_store_explicit(&survey.count, count, memory_order_relaxed);
    atomic_store_explicit(&survey.generation, fsafe_lineage_generation(), memory_order_release);
}

void fsafe_census_forget(uintptr_t lock)
{
    struct fsafe_orphan *orphan = fsafe_census_find(lock);
    if (orphan != NULL) {
        *orphan = (struct fsafe_orphan){.lock = lock};
        atomic_fetch_sub_explicit(&survey.count, 1, memory_order_relaxed);
    }
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_LOCKS); fsafe_thread_record(&at);)
        if (at.address == lock && fsafe_ledger_is_of_rwlock(at.record.lock))
            fsafe_thread_clear(&at);
}

/* Drops one record of a vanished thread, or of a thread of this process that is not `self`. */
static bool drop_one(const struct fsafe_thread *self, uintptr_t word, bool vanished)
{
    unsigned whom = vanished ? FSAFE_VANISHED : FSAFE_LIVING | FSAFE_ENDED;
    for (struct fsafe_thread_records at = fsafe_thread_records(whom, FSAFE_LOCKS); fsafe_thread_record(&at);) {
        if (at.of.thread != self && at.record.lock == word) {
            fsafe_thread_clear(&at);
            return true;
        }
    }
    return false;
}

void fsafe_census_hand_over(const struct fsafe_thread *self, uintptr_t lock)
{
    struct fsafe_orphan *orphan = fsafe_lineage_is_child() ? fsafe_census_find(lock) : NULL;
    if (fsafe_lineage_is_child() && drop_one(self, lock | FSAFE_READING, true)) {
        if (orphan != NULL && orphan->reads > 0 && (--orphan->reads, is_empty(orphan)))
            atomic_fetch_sub_explicit(&survey.count, 1, memory_order_relaxed);
        return;
    }
    drop_one(self, lock | FSAFE_READING, false);
}
