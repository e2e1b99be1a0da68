/* repair/semaphore: see semaphore.h. */
#include "config.h"

#include "repair/filter.h"
#include "repair/semaphore.h"
#include "repair/verdict.h"

#include <stddef.h>

/* Which semaphores vanished threads may have records of. */
static struct fsafe_filter filter;

/* Whether a vanished thread may have a record of it; never wrong when it says no. Under the latch. */
static bool may_be_orphaned(uintptr_t lock)
{
    return fsafe_filter_ask(&filter, FSAFE_TOKENS, lock);
}

/* The note has room for the low bits of a generation only; nobody keeps a semaphore over 32,000 of them. */
static uint32_t born(uint32_t generation)
{
    return generation & FSAFE_NOTE_BORN;
}

static uint32_t generation_of(uint32_t note)
{
    uint32_t now = fsafe_lineage_generation();
    return now - ((now - note) & FSAFE_NOTE_BORN);
}

/* Empties the records of threads of this process, or of those that ended, that say they hold it. */
static void clear_held(uintptr_t lock, bool of_ended_only)
{
    uintptr_t held = lock | FSAFE_HELD;
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        if (fsafe_thread_generation(thread) == 0 || (of_ended_only && !thread->ended))
            continue;
        uintptr_t word, site;
        for (uint32_t k = fsafe_ledger_depth(fsafe_thread_tokens(thread)); k > 0; k--)
            if (fsafe_ledger_read(fsafe_thread_tokens(thread), k, &word, &site) && word == held)
                fsafe_ledger_clear(fsafe_thread_tokens(thread), k, held);
    }
}

void fsafe_semaphore_born(sem_t *semaphore, int process_shared, unsigned value)
{
    _Atomic uint32_t *note = fsafe_layout_sem_note(semaphore);
    if (note == NULL)
        return;
    if (process_shared) {
        atomic_store_explicit(note, 0, memory_order_relaxed); /* the address may have been a lock's */
        return;
    }
    /* Threads that ended with an older one at this address in their hands say nothing about this one. */
    if (fsafe_thread_any_ended())
        clear_held((uintptr_t)semaphore, true);
    uint32_t text = fsafe_semaphore_note_of((uintptr_t)semaphore) | born(fsafe_lineage_generation());
    atomic_store_explicit(note, value == 1 ? text : text | FSAFE_NOTE_EVENT, memory_order_relaxed);
}

void fsafe_semaphore_dies(sem_t *semaphore)
{
    _Atomic uint32_t *note = fsafe_layout_sem_note(semaphore);
    if (note != NULL && fsafe_semaphore_is_lock(semaphore))
        atomic_store_explicit(note, 0, memory_order_relaxed);
}

void fsafe_semaphore_is_event(sem_t *semaphore)
{
    atomic_fetch_or_explicit(fsafe_layout_sem_note(semaphore), FSAFE_NOTE_EVENT, memory_order_relaxed);
}

void fsafe_semaphore_handed_over(sem_t *semaphore)
{
    fsafe_semaphore_is_event(semaphore);
    clear_held((uintptr_t)semaphore, false);
}

/* Whether it began, or was settled, in this very generation. */
static bool is_settled(sem_t *semaphore)
{
    uint32_t note = atomic_load_explicit(fsafe_layout_sem_note(semaphore), memory_order_relaxed);
    return (note & FSAFE_NOTE_BORN) == born(fsafe_lineage_generation());
}

static void settle(sem_t *semaphore)
{
    _Atomic uint32_t *note = fsafe_layout_sem_note(semaphore);
    uint32_t seen = atomic_load_explicit(note, memory_order_relaxed);
    uint32_t settled;
    do /* another thread may be marking it as an event */
        settled = (seen & ~FSAFE_NOTE_BORN) | born(fsafe_lineage_generation());
    while (!atomic_compare_exchange_weak_explicit(note, &seen, settled, memory_order_relaxed,
                                                  memory_order_relaxed));
}

static struct fsafe_claims claims_of(sem_t *semaphore, const struct fsafe_thread *self)
{
    uint32_t note = atomic_load_explicit(fsafe_layout_sem_note(semaphore), memory_order_relaxed);
    return fsafe_takeover_claims(self, FSAFE_TOKENS, (uintptr_t)semaphore, generation_of(note), 0);
}

/* Under the latch. */
static enum fsafe_verdict judge(sem_t *semaphore, const struct fsafe_thread *self, bool would_wait,
                                struct fsafe_event *event)
{
    if (fsafe_layout_sem_value(semaphore) != 0 || !fsafe_semaphore_is_lock(semaphore) ||
        !may_be_orphaned((uintptr_t)semaphore))
        return FSAFE_PROCEED;
    struct fsafe_claims claims = claims_of(semaphore, self);
    /*
     * There is one token: where a living thread has it, the dead have none. And one that a thread took and
     * never gave back before it ended was no lock's: somebody is to post it.
     */
    enum fsafe_held_by holder = fsafe_verdict(self, FSAFE_TOKENS, 0, &claims, false);
    if (holder != FSAFE_VANISHEDS)
        return holder == FSAFE_UNSURE ? FSAFE_UNDECIDED : FSAFE_PROCEED;
    if (!fsafe_takeover_decide(event, &claims, would_wait))
        return FSAFE_STUCK;
    settle(semaphore);
    return FSAFE_TAKEN;
}

enum fsafe_verdict fsafe_semaphore_judge(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site,
                                         bool would_wait)
{
    if (is_settled(semaphore))
        return FSAFE_PROCEED;
    struct fsafe_event event = {
        .lock = "semaphore",
        .kind = "used as a lock",
        .address = (uintptr_t)semaphore,
        .wanted_at = site,
    };
    struct fsafe_sigset old;
    atomic_store_explicit(&self->asking, (uintptr_t)semaphore, memory_order_release);
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    enum fsafe_verdict verdict = judge(semaphore, self, would_wait, &event);
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    if (verdict == FSAFE_PROCEED || verdict == FSAFE_TAKEN)
        atomic_store(&self->asking, 0); /* before the real call takes it, on any machine */
    fsafe_takeover_tell(&event);
    return verdict;
}

bool fsafe_semaphore_settle(sem_t *semaphore, const struct fsafe_thread *self)
{
    if (is_settled(semaphore))
        return false;
    bool had = false;
    struct fsafe_sigset old;
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    if (may_be_orphaned((uintptr_t)semaphore))
        had = claims_of(semaphore, self).vanished != NULL;
    settle(semaphore);
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    return had;
}

/* A copy of the semaphore, if its memory is still there and the copy is one of a lock that is taken. */
static bool peek_taken_lock(uintptr_t address)
{
    sem_t bytes;
    if (!fsafe_sys_peek(address, &bytes, sizeof bytes))
        return false;
    const _Atomic uint32_t *note = fsafe_layout_sem_note(&bytes);
    return note != NULL && fsafe_layout_sem_value(&bytes) == 0 &&
           (*note & ~FSAFE_NOTE_BORN) == fsafe_semaphore_note_of(address);
}

bool fsafe_semaphore_is_stale(uintptr_t lock, void *context)
{
    (void)context;
    return (lock & FSAFE_STAGE_MASK) != FSAFE_HELD || !peek_taken_lock(lock & ~FSAFE_STAGE_MASK);
}
