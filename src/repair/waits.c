/*
 * The first thread of a child that uses a condition variable settles it and makes its record in one step, under the
 * latch. So no living thread is inside of one that is not settled, except a thread whose signal handler forked during
 * its wait: its record says so, and then nothing is done.
 *
 * Measured. pthread_cond_wait does not release a recursive mutex that is locked more than once: the vanished waiter
 * holds it. Without the library pthread_cond_destroy hangs, and wake-ups are lost: 20 rounds of broadcasts among four
 * threads of a child never end.
 */
#include "config.h"

#include "base/options.h"
#include "libc/layout.h"
#include "repair/waits.h"
#include "track/slots.h"

#include <stddef.h>

static _Atomic uint64_t filter_words[FSAFE_FILTER_WORDS];
struct fsafe_filter fsafe_waits_filter FSAFE_FORK_STATE = {.words = filter_words};

/* --- The two kinds ------------------------------------------------------------------------------------------ */

const struct fsafe_waited fsafe_condvars = {.name = "condition variable", .fresh = &fsafe_fresh_condvar};
const struct fsafe_waited fsafe_barriers = {.name = "barrier", .fresh = &fsafe_fresh_barrier};

/* Whether a vanished thread inside makes a use of the object hang, perhaps: for lines only. */
static bool may_hang(const struct fsafe_waited *kind, const void *object)
{
    return kind == &fsafe_barriers || fsafe_layout_cond_has_waiters(&fsafe_fresh_condvar, object) ||
           fsafe_layout_cond_is_locked(&fsafe_fresh_condvar, object);
}

/* The same, this use for certain. */
static bool hangs(const struct fsafe_waited *kind, const void *object, enum fsafe_use use)
{
    if (use == FSAFE_USE_DESTROY)
        return kind == &fsafe_barriers || fsafe_layout_cond_has_waiters(&fsafe_fresh_condvar, object);
    return use == FSAFE_USE_WAKE && fsafe_layout_cond_is_locked(&fsafe_fresh_condvar, object);
}

/* --- Who is inside ------------------------------------------------------------------------------------------ */

/* What the ledgers say about one object. */
struct occupants {
    struct fsafe_thread *vanished; /* one of them, of the youngest generation; NULL: none */
    uintptr_t since;               /* the place where it entered */
    unsigned count;                /* of vanished threads */
    bool told;                     /* a line has named them */
    bool living;                   /* a thread of this process is inside */
};

static bool is_of_mutex(uintptr_t word)
{
    return (word & FSAFE_STAGE_MASK) == FSAFE_INSIDE_MUTEX;
}

static struct occupants look_inside(uintptr_t object)
{
    struct occupants in = {.count = 0};
    for (struct fsafe_thread_walk of = fsafe_thread_walk(FSAFE_ANYBODY); fsafe_thread_next(&of);) {
        struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_waits(of.thread));
        bool found = false;
        while (!found && fsafe_ledger_next(&at))
            found = (at.lock & ~FSAFE_STAGE_MASK) == object && !is_of_mutex(at.lock);
        if (!found)
            continue;
        if (!fsafe_thread_is_vanished(of.thread)) {
            in.living |= !of.thread->ended;
            continue;
        }
        in.count++;
        in.told |= (at.lock & FSAFE_STAGE_MASK) == FSAFE_INSIDE_TOLD;
        if (in.vanished == NULL || of.generation > fsafe_thread_generation(in.vanished)) {
            in.vanished = of.thread;
            in.since = at.site;
        }
    }
    return in;
}

/*
 * Changes the vanished threads' records of an object, or of a mutex that waiters released: notes that a line has named
 * the thread, or clears the record. Returns how many there were. Under the latch.
 */
static unsigned rewrite(uintptr_t object, bool of_mutex, bool to_told)
{
    unsigned count = 0;
    struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_WAITS);
    while (fsafe_thread_record(&at)) {
        if (at.address != object || is_of_mutex(at.record.lock) != of_mutex)
            continue;
        count++;
        atomic_store_explicit(&fsafe_ledger_record(at.record.ledger, at.record.index)->lock,
                              to_told ? at.record.lock | FSAFE_INSIDE_TOLD : 0, memory_order_release);
    }
    return count;
}

/* Under the latch. */
static unsigned forget(uintptr_t object, bool of_mutex)
{
    unsigned count = rewrite(object, of_mutex, false);
    if (count > 0)
        fsafe_filter_fill(&fsafe_waits_filter, FSAFE_WAITS);
    return count;
}

/* The latest objects that were made as new: a child may hang in one later, and then the line names who was inside. */
enum { RECALLED = 16 };
static struct {
    struct fsafe_event event;
    uint32_t generation; /* in which it was settled */
    bool untold;         /* the line is to be written when the wait ends */
} recalled[RECALLED];
static unsigned next_recalled;
_Atomic uint32_t fsafe_waits_untold;

static bool is_recalled(unsigned i, uintptr_t object)
{
    return recalled[i].event.address == object && recalled[i].generation == fsafe_lineage_generation();
}

/* Under the latch. */
static void remember(const struct fsafe_event *event, bool untold)
{
    unsigned i = next_recalled++ % RECALLED;
    fsafe_waits_untold += (uint32_t)untold - (uint32_t)recalled[i].untold;
    recalled[i].event = *event;
    recalled[i].generation = fsafe_lineage_generation();
    recalled[i].untold = untold;
}

bool fsafe_waits_recall(uintptr_t object, struct fsafe_event *event)
{
    bool found = false;
    FSAFE_HOLD(&fsafe_takeover_latch);
    for (unsigned i = 0; i < RECALLED; i++) {
        if (!is_recalled(i, object))
            continue;
        found = true;
        event->in_use = true;
        event->holder = recalled[i].event.holder;
        event->fork = recalled[i].event.fork;
    }
    return found;
}

/* The line of the object that has yet to be written; no longer to be written. Under the latch. */
static struct fsafe_event untold_of(uintptr_t object)
{
    struct fsafe_event event = {.worth_a_line = false};
    for (unsigned i = 0; i < RECALLED; i++) {
        bool of_parent = recalled[i].generation != fsafe_lineage_generation();
        if (!recalled[i].untold || (!of_parent && !is_recalled(i, object)))
            continue;
        if (!of_parent)
            event = recalled[i].event;
        recalled[i].untold = false;
        fsafe_waits_untold--;
    }
    return event;
}

void fsafe_waits_tell(uintptr_t object)
{
    struct fsafe_event event;
    {
        FSAFE_HOLD(&fsafe_takeover_latch);
        event = untold_of(object);
    }
    fsafe_takeover_tell(&event);
}

/* --- Settling ----------------------------------------------------------------------------------------------- */

/* In other modes than repair: the line says once that the use may hang, and each time that it will. */
static void watch(const struct fsafe_waited *kind, const void *object, const struct occupants *in, enum fsafe_use use,
                  struct fsafe_event *event)
{
    bool will = hangs(kind, object, use);
    if (!will && (in->told || use == FSAFE_USE_WAKE || !may_hang(kind, object)))
        return;
    struct fsafe_claims claims = {.vanished = in->vanished, .since = in->since};
    fsafe_takeover_decide(event, &claims, true);
    if (!will && event->deed == FSAFE_WOULD_HANG)
        event->deed = FSAFE_MAY_HANG;
    rewrite((uintptr_t)object, false, true);
}

/* Under the latch. */
static void settle(const struct fsafe_waited *kind, void *object, enum fsafe_use use, struct fsafe_event *event)
{
    if (!kind->fresh->known || !fsafe_filter_ask(&fsafe_waits_filter, FSAFE_WAITS, (uintptr_t)object))
        return;
    struct occupants in = look_inside((uintptr_t)object);
    /* A living thread inside: the caller, in a wait that a signal handler interrupted. */
    if (in.count == 0 || in.living)
        return;
    /* The program may have made it as new by a plain store. */
    if (fsafe_fresh_is_shared(kind->fresh, object) || fsafe_fresh_is_new(kind->fresh, object) ||
        (use == FSAFE_USE_DESTROY && !FSAFE_LAYOUT_DESTROY_WAITS)) {
        forget((uintptr_t)object, false);
        return;
    }
    if (fsafe_options.mode != FSAFE_MODE_REPAIR) {
        watch(kind, object, &in, use, event);
        return;
    }
    struct fsafe_claims claims = {.vanished = in.vanished, .since = in.since};
    bool hazard = may_hang(kind, object);
    /* To wake the one thread that vanished in there hangs nobody, until a thread waits beside it, or destroys it. */
    bool later = use == FSAFE_USE_WAIT || (use == FSAFE_USE_WAKE && in.count == 1 && !hangs(kind, object, use));
    if (fsafe_takeover_decide(event, &claims, true)) {
        event->deed = FSAFE_FORGOT;
        event->count = in.count;
        fsafe_fresh_reset(kind->fresh, object);
        event->worth_a_line = hazard;
        remember(event, hazard && later);
        hazard &= !later;
    }
    event->worth_a_line = hazard;
    forget((uintptr_t)object, false);
}

static struct fsafe_event event_of(const struct fsafe_waited *kind, const void *object, uintptr_t site)
{
    return (struct fsafe_event){
        .lock = kind->name,
        .kind = "private",
        .address = (uintptr_t)object,
        .wanted_at = site,
        .in_use = true,
    };
}

static bool is_never_stale(uintptr_t lock, void *context)
{
    (void)lock, (void)context;
    return false;
}

static bool push(struct fsafe_thread *self, uintptr_t word, uintptr_t site)
{
    return fsafe_ledger_push(fsafe_thread_waits(self), word, site) ||
           fsafe_ledger_push_full(fsafe_thread_waits(self), word, site, is_never_stale, NULL);
}

bool fsafe_waits_enter_slowly(const struct fsafe_waited *kind, void *object, enum fsafe_inside inside,
                              struct fsafe_thread *self, uintptr_t site)
{
    uintptr_t word = (uintptr_t)object | inside;
    if (!fsafe_waits_concern((uintptr_t)object))
        return push(self, word, site);
    struct fsafe_event event = event_of(kind, object, site);
    enum fsafe_use use = inside == FSAFE_INSIDE_WAIT ? FSAFE_USE_WAIT : FSAFE_USE_WAKE;
    struct fsafe_sigset old;
    /* In one step: a thread that has no record yet when another settles comes after that one. */
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    settle(kind, object, use, &event);
    bool noted = push(self, word, site);
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    fsafe_takeover_tell(&event);
    return noted;
}

void fsafe_waits_settle(const struct fsafe_waited *kind, void *object, uintptr_t site)
{
    if (FSAFE_LAYOUT_DESTROY_WAITS && FSAFE_UNLIKELY(fsafe_waits_untold != 0))
        fsafe_waits_tell((uintptr_t)object);
    if (!fsafe_waits_concern((uintptr_t)object))
        return;
    struct fsafe_event event = event_of(kind, object, site);
    struct fsafe_sigset old;
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    settle(kind, object, FSAFE_USE_DESTROY, &event);
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    fsafe_takeover_tell(&event);
}

void fsafe_waits_initialised(void *object)
{
    if (!fsafe_waits_concern((uintptr_t)object) && FSAFE_LIKELY(fsafe_waits_untold == 0))
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    untold_of((uintptr_t)object);
    forget((uintptr_t)object, false);
}

/* --- The mutexes that waiters have left --------------------------------------------------------------------- */

bool fsafe_waits_enter_mutex(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site)
{
    return push(self, (uintptr_t)mutex | FSAFE_INSIDE_MUTEX, site);
}

void fsafe_waits_forget_mutex(const pthread_mutex_t *mutex)
{
    if (fsafe_filter_ask(&fsafe_waits_filter, FSAFE_WAITS, (uintptr_t)mutex))
        forget((uintptr_t)mutex, true);
}

void fsafe_waits_release_mutex(pthread_mutex_t *mutex)
{
    if (fsafe_options.mode != FSAFE_MODE_REPAIR || !fsafe_waits_concern((uintptr_t)mutex) ||
        fsafe_layout_mutex_kind(mutex) == FSAFE_MUTEX_FOREIGN || fsafe_layout_mutex_locked(mutex) ||
        fsafe_takeover_is_shared((uintptr_t)mutex))
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    if (fsafe_filter_ask(&fsafe_waits_filter, FSAFE_WAITS, (uintptr_t)mutex))
        fsafe_layout_mutex_drop_users(mutex, forget((uintptr_t)mutex, true));
}
