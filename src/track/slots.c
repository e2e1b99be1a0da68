#include "config.h"

#include "base/compiler.h"
#include "base/pages.h"
#include "base/sys.h"
#include "track/slots.h"

/*
 * Slab 0 is one slot, which costs no system call: a program with one thread needs no other. Slab k has FIRST_SLAB << k
 * slots; 19 slabs have nearly as many as Linux has thread ids.
 *
 * The first slot begins the page in which all of FSAFE_FORK_STATE lies: the list of sources has this file before all
 * others with such variables.
 */
enum { FIRST_SLAB = 8, SLABS = 19, PAGE_BYTES = 4096 };
static struct fsafe_thread first_slot FSAFE_FORK_STATE __attribute__((aligned(PAGE_BYTES)));
static struct fsafe_thread *_Atomic slabs[SLABS];
static _Atomic uint32_t slab_count;
static _Atomic uint32_t hint; /* where to look for a free slot first: behind the slot claimed last */

/*
 * A vanished thread's slot is kept while a lock bears out its records, but for so many generations at most: each
 * generation may add slots.
 */
enum { KEEP_GENERATIONS = 1024 };

static void (*clear_stale)(struct fsafe_thread *vanished);

static uint32_t slots_in(uint32_t count)
{
    return count == 0 ? 0 : FIRST_SLAB * ((1u << count) - 2) + 1;
}

uint32_t fsafe_thread_slots(void)
{
    return slots_in(atomic_load_explicit(&slab_count, memory_order_acquire));
}

struct fsafe_thread *fsafe_thread_slot(uint32_t index)
{
    if (index == 0)
        return &first_slot;
    unsigned slab = (unsigned)(31 - __builtin_clz((index - 1) / FIRST_SLAB + 2));
    return &atomic_load_explicit(&slabs[slab], memory_order_acquire)[index - slots_in(slab)];
}

struct fsafe_thread_walk fsafe_thread_walk(unsigned whom)
{
    return (struct fsafe_thread_walk){.index = fsafe_thread_slots(), .whom = whom};
}

struct fsafe_thread_records fsafe_thread_records(unsigned whom, enum fsafe_ledger_of ledger)
{
    return (struct fsafe_thread_records){.of = fsafe_thread_walk(whom), .record.index = 1, .ledger = ledger};
}

bool fsafe_thread_next(struct fsafe_thread_walk *at)
{
    uint32_t now = fsafe_lineage_generation();
    while (at->index-- > 0) {
        at->thread = fsafe_thread_slot(at->index);
        at->generation = fsafe_thread_generation(at->thread);
        unsigned who = at->generation == 0   ? 0
                       : at->generation < now ? FSAFE_VANISHED
                       : at->thread->ended    ? FSAFE_ENDED
                                              : FSAFE_LIVING;
        if ((who & at->whom) != 0)
            return true;
    }
    return false;
}

bool fsafe_thread_record(struct fsafe_thread_records *at)
{
    while (!fsafe_ledger_next(&at->record)) {
        if (!fsafe_thread_next(&at->of))
            return false;
        at->record = fsafe_ledger_walk(&at->of.thread->ledgers[at->ledger]);
    }
    at->address = at->record.lock & ~FSAFE_STAGE_MASK;
    return true;
}

bool fsafe_thread_has_company(const struct fsafe_thread *self)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);)
        if (at.thread != self)
            return true;
    return false;
}

/*
 * Adds a slab to the `count` slabs that the caller found full. Many threads may find so at once, and each slab is as
 * large as all slabs before it: so only the first of these threads adds one. False: none can be added.
 */
static bool add_slab(uint32_t count)
{
    if (atomic_load_explicit(&slab_count, memory_order_acquire) != count)
        return true;
    if (count == SLABS)
        return false;
    size_t bytes = ((size_t)FIRST_SLAB << count) * sizeof(struct fsafe_thread);
    struct fsafe_thread *slab = fsafe_pages_map(bytes);
    if (slab == NULL)
        return false;
    struct fsafe_thread *none = NULL;
    if (!atomic_compare_exchange_strong(&slabs[count], &none, slab))
        fsafe_pages_unmap(slab, bytes); /* another thread added this one */
    atomic_compare_exchange_strong(&slab_count, &count, count + 1);
    return true;
}

/*
 * A ticket: the slot's index, and above it how often the slot has been claimed. So no thread has the ticket of another
 * thread that left something behind: that thread's slot is kept.
 */
enum { TICKET_SLOT_BITS = 22, TICKET_CLAIMS = (1 << (32 - TICKET_SLOT_BITS)) - 1 };
_Static_assert(FIRST_SLAB * ((1u << SLABS) - 2) + 1 <= 1u << TICKET_SLOT_BITS, "each slot has its number");

static uint32_t ticket_of(uint32_t index, uint32_t claims)
{
    return (claims % TICKET_CLAIMS + 1) << TICKET_SLOT_BITS | index; /* never 0 */
}

struct fsafe_thread *fsafe_thread_of_ticket(uint32_t ticket)
{
    uint32_t index = ticket & ((1u << TICKET_SLOT_BITS) - 1);
    struct fsafe_thread *thread = index < fsafe_thread_slots() ? fsafe_thread_slot(index) : NULL;
    return thread != NULL && fsafe_thread_generation(thread) != 0 && thread->ticket == ticket ? thread : NULL;
}

static bool is_empty(const struct fsafe_thread *thread)
{
    if (fsafe_thread_tokens(thread) != 0 || atomic_load_explicit(&thread->tokens.at, memory_order_relaxed) != 0)
        return false;
    for (unsigned i = 0; i < FSAFE_LEDGERS; i++)
        if (fsafe_ledger_depth(&thread->ledgers[i]) != 0)
            return false;
    return true;
}

/* Whether the slot can be claimed: no thread needs what it says any more. `of`: the generation that it has. */
static bool is_reusable(const struct fsafe_thread *thread, uint32_t of)
{
    uint32_t now = fsafe_lineage_generation();
    of &= ~FSAFE_JOINING; /* the thread vanished while it joined */
    return of == 0 || (of < now && (is_empty(thread) || now - of > KEEP_GENERATIONS));
}

/* What a slot's word is when its lower half becomes `generation`. */
static uint64_t with_generation(uint64_t word, uint32_t generation)
{
    return (word & ~(uint64_t)UINT32_MAX) | generation;
}

static struct fsafe_thread *claim(uint32_t index)
{
    struct fsafe_thread *thread = fsafe_thread_slot(index);
    uint64_t of = atomic_load_explicit(&thread->generation, memory_order_acquire);
    if (!is_reusable(thread, (uint32_t)of))
        return NULL;
    uint64_t claimed = with_generation(of + ((uint64_t)1 << 32), fsafe_lineage_generation() | FSAFE_JOINING);
    if (!atomic_compare_exchange_strong(&thread->generation, &of, claimed))
        return NULL;
    thread->ticket = ticket_of(index, (uint32_t)(claimed >> 32));
    return thread;
}

void fsafe_slots_set_generation(struct fsafe_thread *thread, uint32_t generation)
{
    uint64_t word = atomic_load_explicit(&thread->generation, memory_order_relaxed);
    atomic_store_explicit(&thread->generation, with_generation(word, generation), memory_order_release);
}

/*
 * Frees slots whose thread ended without running destructors (a raw exit). Returns whether there were any. Also returns
 * true, and stops looking, when another thread has added to the `count` slabs.
 */
static bool sweep(uint32_t count)
{
    bool swept = false;
    for (uint32_t i = slots_in(count); i-- > 0;) {
        if (atomic_load_explicit(&slab_count, memory_order_relaxed) != count)
            return true;
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        uint64_t word = atomic_load_explicit(&thread->generation, memory_order_acquire);
        if ((uint32_t)word != fsafe_lineage_generation() || thread->ended ||
            fsafe_sys_thread_alive(fsafe_lineage_pid(), thread->tid))
            continue;
        swept |= atomic_compare_exchange_strong(&thread->generation, &word, with_generation(word, 0));
    }
    return swept;
}

/*
 * Empties slots of vanished threads whose locks have found new owners since, and returns how many. Without this each
 * server in a family where one forks the next would have more slots.
 */
static uint32_t clear_vanished(void)
{
    uint32_t cleared = 0;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);) {
        if (at.thread->ended || is_reusable(at.thread, at.generation))
            continue;
        clear_stale(at.thread);
        /* No record moves, and one store empties a ledger: other threads may be reading. */
        for (unsigned k = 0; k < FSAFE_LEDGERS; k++) {
            struct fsafe_ledger_walk record = fsafe_ledger_walk(&at.thread->ledgers[k]);
            if (!fsafe_ledger_next(&record))
                atomic_store_explicit(&at.thread->ledgers[k].depth, 0, memory_order_release);
        }
        cleared += is_empty(at.thread);
    }
    return cleared;
}

struct fsafe_thread *fsafe_slots_claim(void)
{
    for (;;) {
        uint32_t count = atomic_load_explicit(&slab_count, memory_order_acquire);
        uint32_t slots = slots_in(count);
        uint32_t from = atomic_load_explicit(&hint, memory_order_relaxed);
        for (uint32_t i = 0; i < slots; i++) {
            struct fsafe_thread *thread = claim((from + i) % slots);
            if (thread != NULL) {
                atomic_store_explicit(&hint, (from + i + 1) % slots, memory_order_relaxed);
                return thread;
            }
        }
        /* To sweep slab 0, which is one slot, is not worth a system call in each program with threads. */
        if (count > 1 && sweep(count))
            continue;
        /* If a look at all slots empties only a few, a slab is added as well: such looks must not become a habit. */
        uint32_t cleared = clear_vanished();
        if (cleared <= slots / 4 && !add_slab(count) && cleared == 0)
            return NULL;
    }
}

void fsafe_slots_start(void (*clear)(struct fsafe_thread *vanished))
{
    clear_stale = clear;
    atomic_store_explicit(&slabs[0], &first_slot, memory_order_release);
    atomic_store_explicit(&slab_count, 1, memory_order_release);
}
