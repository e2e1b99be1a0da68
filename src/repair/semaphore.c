/*
 * Measured. sem_init, sem_post, sem_wait, sem_trywait and sem_destroy write the first 12 bytes of the 32 of a sem_t and
 * no other. The words at 16 are ours (repair/semaphore.h).
 */
#include "config.h"

#include "repair/semaphore.h"
#include "track/slots.h"

#include <stddef.h>

static uint32_t settled_note(uintptr_t address, uint32_t seen)
{
    uint32_t first = (seen ^ (uint32_t)address << 13) & FSAFE_NOTE_FIRST;
    return fsafe_semaphore_note_of(address, fsafe_lineage_generation()) ^ first;
}

bool fsafe_semaphore_is_lock(sem_t *semaphore)
{
    const struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    uintptr_t address = (uintptr_t)semaphore;
    if (words == NULL || !fsafe_layout.sem_bytes)
        return false;
    uint32_t note = fsafe_semaphore_note(words);
    uint32_t generation = ((note ^ (uint32_t)address << 13) & ~FSAFE_NOTE_FIRST);
    return note != 0 && generation - 1 < fsafe_lineage_generation();
}

void fsafe_semaphore_initialised(sem_t *semaphore, int process_shared, unsigned value)
{
    if (!fsafe_layout.sem_bytes)
        return;
    bool may_be_lock = !process_shared && value == 1;
    struct fsafe_sem_words *words =
        may_be_lock ? fsafe_layout_sem_words_begin(semaphore) : fsafe_layout_sem_words(semaphore);
    if (words == NULL)
        return;
    uint32_t note = fsafe_semaphore_note_of((uintptr_t)semaphore, fsafe_lineage_generation()) ^ FSAFE_NOTE_FIRST;
    atomic_store_explicit(&words->owner, 0, memory_order_relaxed);
    atomic_store_explicit(&words->note, may_be_lock ? note : 0, memory_order_release);
}

/* Clears the owner, and counts that its token has gone. */
static FSAFE_AT_FORK void forget_owner(struct fsafe_sem_words *words, const sem_t *semaphore)
{
    if (fsafe_semaphore_owner(words) == 0)
        return;
    struct fsafe_thread *owner =
        fsafe_thread_of_ticket(atomic_exchange_explicit(&words->owner, 0, memory_order_relaxed));
    if (owner != NULL)
        atomic_fetch_add_explicit(fsafe_semaphore_is_first(words, semaphore) ? &owner->tokens.first_gone
                                                                             : &owner->tokens.proven_gone,
                                  1, memory_order_relaxed);
}

void fsafe_semaphore_is_event(sem_t *semaphore)
{
    struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    forget_owner(words, semaphore);
    atomic_store_explicit(&words->note, 0, memory_order_relaxed);
}

void fsafe_semaphore_destroyed(sem_t *semaphore)
{
    if (fsafe_semaphore_is_lock(semaphore))
        fsafe_semaphore_is_event(semaphore);
    if (fsafe_layout.sem_bytes)
        fsafe_layout_sem_words_end(semaphore);
}

static FSAFE_APART void settle(struct fsafe_sem_words *words, const sem_t *semaphore)
{
    uint32_t seen = fsafe_semaphore_note(words);
    while (seen != 0 && /* another thread may be making it an event */
           !atomic_compare_exchange_weak_explicit(&words->note, &seen, settled_note((uintptr_t)semaphore, seen),
                                                  memory_order_release, memory_order_relaxed))
        ;
}

void fsafe_semaphore_goes_back(struct fsafe_sem_words *words, const sem_t *semaphore)
{
    uint32_t seen = fsafe_semaphore_note(words);
    if (seen != 0 && fsafe_semaphore_is_first(words, semaphore)) /* another thread may be making it an event */
        atomic_compare_exchange_strong_explicit(&words->note, &seen, seen ^ FSAFE_NOTE_FIRST, memory_order_relaxed,
                                                memory_order_relaxed);
}

/* Whether the thread vanished at a fork, and had not ended before. */
static bool is_vanished(const struct fsafe_thread *thread)
{
    return fsafe_thread_is_vanished(thread) && !thread->ended;
}

static bool is_at(const struct fsafe_thread *thread, uintptr_t semaphore)
{
    uintptr_t at = atomic_load_explicit(&thread->tokens.at, memory_order_relaxed);
    return at == semaphore ||
           (at != 0 && atomic_load_explicit(&thread->tokens.outer, memory_order_relaxed) == semaphore);
}

/*
 * The latest vanished thread that was taking or posting it; NULL: none, or the caller is, in a call that this signal
 * handler interrupted.
 */
static const struct fsafe_thread *find_at_it(uintptr_t semaphore, const struct fsafe_thread *self)
{
    const struct fsafe_thread *found = NULL;
    if (self != NULL && is_at(self, semaphore))
        return NULL;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);)
        if (!at.thread->ended && is_at(at.thread, semaphore) &&
            (found == NULL || fsafe_thread_generation(found) < at.generation))
            found = at.thread;
    return found;
}

/*
 * The vanished thread that has the token of a lock that is not settled; NULL: none. Because no thread of the child
 * takes a lock before it is settled, the words are of before the fork. A thread that ended with the token does not
 * count: another thread was meant to post it.
 */
static const struct fsafe_thread *find_vanished(sem_t *semaphore, const struct fsafe_thread *self)
{
    uint32_t owner = fsafe_semaphore_owner(fsafe_layout_sem_words(semaphore));
    if (fsafe_layout_sem_value(semaphore) != 0)
        return NULL;
    if (owner == 0)
        return find_at_it((uintptr_t)semaphore, self);
    const struct fsafe_thread *thread = fsafe_thread_of_ticket(owner);
    return thread != NULL && is_vanished(thread) ? thread : NULL;
}

/* Under the latch. Whether the lock may be taken from the vanished thread; completes the event. */
static bool decide(struct fsafe_sem_words *words, const struct fsafe_thread *vanished, struct fsafe_event *event,
                   const char *why, bool would_wait)
{
    const struct fsafe_claims claims = {
        .vanished = (struct fsafe_thread *)vanished,
        .since = fsafe_semaphore_owner(words) != 0 ? atomic_load_explicit(&words->site, memory_order_relaxed) : 0,
    };
    if (!fsafe_takeover_decide(event, &claims, would_wait))
        return false;
    if (why == NULL)
        return true;
    event->deed = FSAFE_REFUSED;
    event->why = why;
    event->worth_a_line = fsafe_takeover_is_worth_a_line(would_wait);
    return false;
}

struct question {
    struct fsafe_question asked;
    const char *why; /* why it may not be taken over; NULL: it may */
};

/* Under the latch. */
static enum fsafe_verdict judge(struct fsafe_question *asked)
{
    sem_t *semaphore = (sem_t *)asked->event.address;
    struct fsafe_thread *self = asked->self;
    struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    if (!fsafe_semaphore_is_lock(semaphore) || fsafe_semaphore_is_settled(words, semaphore))
        return FSAFE_PROCEED;
    const struct fsafe_thread *vanished = find_vanished(semaphore, self);
    if (vanished == NULL) {
        if (fsafe_layout_sem_value(semaphore) != 0)
            forget_owner(words, semaphore); /* a post that we did not see gave the token back */
        settle(words, semaphore);
        return FSAFE_PROCEED;
    }
    if (!decide(words, vanished, &asked->event, ((struct question *)asked)->why, asked->would_wait))
        return FSAFE_STUCK;
    forget_owner(words, semaphore);
    fsafe_semaphore_taken(words, self, fsafe_semaphore_count(words, semaphore, self), asked->event.wanted_at);
    settle(words, semaphore);
    return FSAFE_TAKEN;
}

static FSAFE_APART struct fsafe_event event_of(sem_t *semaphore, uintptr_t site)
{
    struct fsafe_event event = {
        .lock = "semaphore",
        .kind = "used as a lock",
        .address = (uintptr_t)semaphore,
        .wanted_at = site,
    };
    return event;
}

enum fsafe_verdict fsafe_semaphore_judge(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site, const char *why,
                                         bool would_wait)
{
    struct question question = {
        .asked = {.self = self, .would_wait = would_wait, .event = event_of(semaphore, site)}, .why = why};
    return fsafe_takeover_judge(&question.asked, judge);
}

bool fsafe_semaphore_is_unproven(sem_t *semaphore)
{
    const struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    return fsafe_semaphore_is_lock(semaphore) && !fsafe_semaphore_is_settled(words, semaphore) &&
           fsafe_semaphore_is_first(words, semaphore);
}

bool fsafe_semaphore_gives_up(sem_t *semaphore, uintptr_t site)
{
    struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    struct fsafe_event event = event_of(semaphore, site);
    struct fsafe_sigset old;
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    const struct fsafe_thread *vanished =
        fsafe_semaphore_is_unproven(semaphore) ? find_vanished(semaphore, NULL) : NULL;
    bool gives_up = vanished != NULL && decide(words, vanished, &event, NULL, true);
    if (gives_up) {
        forget_owner(words, semaphore);
        settle(words, semaphore);
    }
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    if (gives_up)
        fsafe_takeover_tell(&event);
    return gives_up;
}

/* Under the latch, where the lock is not settled. */
static bool settle_for_post(sem_t *semaphore, const struct fsafe_thread *self)
{
    struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    bool own = fsafe_semaphore_owner(words) == self->ticket;
    if (own || find_vanished(semaphore, self) != NULL) {
        if (!own)
            forget_owner(words, semaphore);
        settle(words, semaphore);
    } else {
        fsafe_semaphore_is_event(semaphore);
    }
    return own;
}

bool fsafe_semaphore_is_own(sem_t *semaphore, const struct fsafe_thread *self)
{
    const struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    if (!fsafe_semaphore_is_settled(words, semaphore)) {
        FSAFE_HOLD(&fsafe_takeover_latch);
        if (fsafe_semaphore_is_lock(semaphore) && !fsafe_semaphore_is_settled(words, semaphore))
            return settle_for_post(semaphore, self);
    }
    if (fsafe_semaphore_owner(words) == self->ticket)
        return true;
    fsafe_semaphore_is_event(semaphore);
    return false;
}
