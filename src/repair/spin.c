/*
 * The record of a spin lock needs no stages, because a thread of the child that takes such a lock drops the vanished
 * threads' records before it releases the lock.
 */
#include "config.h"

#include "repair/filter.h"
#include "repair/spin.h"
#include "repair/verdict.h"
#include "track/slots.h"

#include <errno.h>

static __typeof__(pthread_spin_trylock) *try_for_real;

void fsafe_spin_start(__typeof__(pthread_spin_trylock) *trylock)
{
    try_for_real = trylock;
}

/* Whether the memory is there and a copy of the lock cannot be taken. */
static bool is_locked(uintptr_t lock)
{
    pthread_spinlock_t copy;
    return try_for_real != NULL && fsafe_sys_peek(lock, (void *)(uintptr_t)&copy, sizeof copy) &&
           try_for_real(&copy) == EBUSY;
}

/* The addresses of which vanished threads have records. */
static _Atomic uint64_t filter_words[FSAFE_FILTER_WORDS];
static struct fsafe_filter recorded = {.words = filter_words};

/*
 * Under the latch. A living thread that takes the lock settles it before releasing it, under the latch: so while there
 * is a vanished thread's record, either that thread has the lock or a living thread's record is there to see.
 */
static enum fsafe_verdict judge(struct fsafe_question *question)
{
    uintptr_t lock = question->event.address;
    if (!fsafe_filter_ask(&recorded, FSAFE_SPINS, lock))
        return FSAFE_PROCEED;
    struct fsafe_claims claims = fsafe_takeover_claims(question->self, FSAFE_SPINS, lock, 0);
    enum fsafe_held_by holder = fsafe_verdict(question->self, FSAFE_SPINS, 0, &claims, false);
    if (holder != FSAFE_VANISHEDS)
        return holder == FSAFE_UNSURE ? FSAFE_UNDECIDED : FSAFE_PROCEED;
    if (!is_locked(lock))
        return FSAFE_UNDECIDED; /* it has become free: the caller tries again */
    if (!fsafe_takeover_decide(&question->event, &claims, question->would_wait)) {
        if (question->event.deed == FSAFE_REFUSED) {
            /* Most likely it is process-shared, which its bytes do not say: no line. */
            question->event.worth_a_line = false;
            fsafe_filter_drop(&recorded, FSAFE_SPINS, lock);
        }
        return FSAFE_PROCEED;
    }
    fsafe_filter_drop(&recorded, FSAFE_SPINS, lock);
    return FSAFE_TAKEN;
}

enum fsafe_verdict fsafe_spin_judge(pthread_spinlock_t *spin, struct fsafe_thread *self, uintptr_t site,
                                    bool would_wait)
{
    if (!fsafe_filter_may_have(&recorded, (uintptr_t)spin))
        return FSAFE_PROCEED;
    struct fsafe_question question = {
        .self = self,
        .would_wait = would_wait,
        .event = {.lock = "spin lock", .kind = "private", .address = (uintptr_t)spin, .wanted_at = site},
    };
    return fsafe_takeover_judge(&question, judge);
}

void fsafe_spin_settle(pthread_spinlock_t *spin)
{
    if (!fsafe_filter_may_have(&recorded, (uintptr_t)spin))
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    fsafe_filter_drop(&recorded, FSAFE_SPINS, (uintptr_t)spin);
}

void fsafe_spin_handed_over(pthread_spinlock_t *spin)
{
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_ANYBODY, FSAFE_SPINS); fsafe_thread_record(&at);)
        if (at.address == (uintptr_t)spin)
            fsafe_thread_clear(&at);
}

void fsafe_spin_survey(void)
{
    static _Atomic uint32_t surveyed; /* the latest generation that was */
    if (atomic_load_explicit(&surveyed, memory_order_acquire) == fsafe_lineage_generation())
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    if (!fsafe_takeover_is_alone())
        return;
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_SPINS); fsafe_thread_record(&at);)
        if (!is_locked(at.address))
            fsafe_thread_clear(&at);
    fsafe_filter_fill(&recorded, FSAFE_SPINS);
    atomic_store_explicit(&surveyed, fsafe_lineage_generation(), memory_order_release);
}

bool fsafe_spin_is_stale(uintptr_t lock, void *context)
{
    (void)context;
    return !is_locked(lock & ~FSAFE_STAGE_MASK);
}
