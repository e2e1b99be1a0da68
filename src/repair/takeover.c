#include "config.h"

#include "base/compiler.h"
#include "base/maps.h"
#include "base/options.h"
#include "base/pages.h"
#include "base/patterns.h"
#include "libc/modules.h"
#include "repair/children.h"
#include "repair/takeover.h"
#include "report/report.h"
#include "track/join.h"
#include "track/slots.h"
#include "track/waiting.h"

struct fsafe_latch fsafe_takeover_latch FSAFE_FORK_STATE = FSAFE_LATCH_FREE;

/* Goes on to a thread's next record of the lock, the latest first. An rwlock at that address is another lock. */
static bool next_record(struct fsafe_ledger_walk *at, enum fsafe_ledger_of of, uintptr_t lock)
{
    while (fsafe_ledger_next(at))
        if ((at->lock & ~FSAFE_STAGE_MASK) == lock && (of != FSAFE_LOCKS || !fsafe_ledger_is_of_rwlock(at->lock)))
            return true;
    return false;
}

/* Whether the thread has a record of it besides its latest and those of waits that its signal handlers interrupted. */
static bool is_at_it_twice(const struct fsafe_thread *self, enum fsafe_ledger_of of, uintptr_t lock)
{
    struct fsafe_ledger_walk at = fsafe_ledger_walk(&self->ledgers[of]);
    uint32_t others = 1;
    for (uint32_t i = 0; i < self->waits; i++)
        others += self->waiting[i].of == of && self->waiting[i].record == lock;
    while (next_record(&at, of, lock))
        if (others-- == 0)
            return true;
    return false;
}

/*
 * Whether a vanished thread had just come back from a wait for a condition, with this mutex: it has left the condition
 * variable, and its latest record of a wait is the mutex. A thread that is in the condition variable and has the mutex
 * does not count: it was cancelled, and perhaps is in a cleanup handler, or the wait did not release a recursive mutex.
 */
static bool was_waiting_with(struct fsafe_thread *thread, uintptr_t lock)
{
    const struct fsafe_ledger *waits = fsafe_thread_waits(thread);
    uintptr_t at, site;
    return fsafe_ledger_read(waits, fsafe_ledger_depth(waits), &at, &site) && at == (lock | FSAFE_INSIDE_MUTEX);
}

/*
 * An index of the vanished threads' records of mutexes and rwlocks by the lock's address, because a child may take over
 * very many locks of very many threads. Made once in each generation: vanished threads make no new records. Each answer
 * is compared with the ledger. Under the latch.
 */
static struct {
    uint32_t generation; /* 0: there is none */
    size_t slots;        /* a power of two */
    struct place {
        uint32_t thread; /* the slot + 1; 0: free */
        uint32_t record;
    } *places;
} vanished_records;

enum { WORTH_AN_INDEX = 64 };

static size_t home_of(uintptr_t lock)
{
    return (size_t)((lock >> 3) * (uintptr_t)0x9e3779b97f4a7c15u >> 16) & (vanished_records.slots - 1);
}

/* Keeps the order in which records are found without an index: by threads, and of each thread the latest first. */
static void fill_index(void)
{
    struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_LOCKS);
    while (fsafe_thread_record(&at)) {
        size_t home = home_of(at.address);
        while (vanished_records.places[home].thread != 0)
            home = (home + 1) & (vanished_records.slots - 1);
        vanished_records.places[home] = (struct place){at.of.index + 1, at.record.index};
    }
}

static bool has_index(void)
{
    uint32_t now = fsafe_lineage_generation();
    if (vanished_records.generation == now)
        return vanished_records.places != NULL;
    if (vanished_records.places != NULL)
        fsafe_pages_unmap(vanished_records.places, vanished_records.slots * sizeof *vanished_records.places);
    vanished_records.places = NULL;
    vanished_records.generation = now;
    size_t records = 0;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);)
        records += fsafe_ledger_depth(fsafe_thread_locks(at.thread));
    if (records < WORTH_AN_INDEX)
        return false;
    for (vanished_records.slots = 1; vanished_records.slots < 2 * records;)
        vanished_records.slots *= 2;
    vanished_records.places = fsafe_pages_map(vanished_records.slots * sizeof *vanished_records.places);
    if (vanished_records.places != NULL)
        fill_index();
    return vanished_records.places != NULL;
}

bool fsafe_takeover_find_vanished(uintptr_t lock, fsafe_takeover_see *see, void *context)
{
    if (!has_index())
        return false;
    for (size_t at = home_of(lock); vanished_records.places[at].thread != 0;
         at = (at + 1) & (vanished_records.slots - 1)) {
        struct fsafe_thread *thread = fsafe_thread_slot(vanished_records.places[at].thread - 1);
        uint32_t index = vanished_records.places[at].record;
        uintptr_t word, site;
        if (fsafe_thread_is_vanished(thread) && fsafe_ledger_read(fsafe_thread_locks(thread), index, &word, &site) &&
            (word & ~FSAFE_STAGE_MASK) == lock && !fsafe_ledger_is_of_rwlock(word))
            see(thread, index, context);
    }
    return true;
}

struct asked {
    struct fsafe_claims claims;
    enum fsafe_ledger_of of;
    uintptr_t lock;
    int owner;
    uint32_t best_generation;
    bool best_holds;
};

static void consider_vanished(struct asked *asked, struct fsafe_thread *thread, enum fsafe_stage stage, uintptr_t site)
{
    struct fsafe_claims *claims = &asked->claims;
    uint32_t generation = fsafe_thread_generation(thread);
    bool named = fsafe_thread_is_or_was(thread, asked->owner);
    claims->vanished_held |= stage == FSAFE_HELD;
    claims->vanished_owner_had_it |= named;
    /* If the lock names no owner, any of them may have been the owner. */
    if (asked->of == FSAFE_LOCKS && (named || asked->owner == 0))
        claims->was_waiting = was_waiting_with(thread, asked->lock) &&
                              (claims->was_waiting || named || claims->vanished == NULL);
    /* The record to name is one of the youngest generation, and in that rather a holder's than a waiter's. */
    bool holds = stage == FSAFE_HELD || named;
    if (claims->vanished == NULL || generation > asked->best_generation ||
        (generation == asked->best_generation && holds && !asked->best_holds)) {
        claims->vanished = thread;
        claims->since = site;
        asked->best_generation = generation;
        asked->best_holds = holds;
    }
}

static void consider_record(struct fsafe_thread *thread, uint32_t index, void *asked)
{
    uintptr_t word, site;
    if (fsafe_ledger_read(fsafe_thread_locks(thread), index, &word, &site))
        consider_vanished(asked, thread, (enum fsafe_stage)(word & FSAFE_STAGE_MASK), site);
}

struct fsafe_claims fsafe_takeover_claims(const struct fsafe_thread *self, enum fsafe_ledger_of of, uintptr_t lock,
                                          int owner)
{
    struct asked asked = {.of = of, .lock = lock, .owner = owner};
    struct fsafe_claims *claims = &asked.claims;
    /* Not asked where another is the owner: the caller may hold very many locks. */
    claims->own_at_it = self != NULL && (owner == 0 || fsafe_thread_is_or_was(self, owner)) &&
                        is_at_it_twice(self, of, lock);
    bool by_index = of == FSAFE_LOCKS && fsafe_takeover_find_vanished(lock, consider_record, &asked);
    unsigned rest = !by_index ? FSAFE_ANYBODY : fsafe_thread_joined() > 1 ? FSAFE_LIVING | FSAFE_ENDED : 0;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(rest); rest != 0 && fsafe_thread_next(&at);) {
        struct fsafe_thread *thread = at.thread;
        bool vanished = at.generation < fsafe_lineage_generation();
        if (thread == self)
            continue;
        bool named = fsafe_thread_is_or_was(thread, owner);
        claims->living_was_owner |= !vanished && named;
        struct fsafe_ledger_walk record = fsafe_ledger_walk(&thread->ledgers[of]);
        if (!next_record(&record, of, lock))
            continue;
        if (vanished) {
            consider_vanished(&asked, thread, (enum fsafe_stage)(record.lock & FSAFE_STAGE_MASK), record.site);
        } else if (thread->ended) {
            claims->died_with_it = true;
        } else {
            claims->living_owner_has_it |= named;
            claims->living_is_at_it |= atomic_load_explicit(&thread->asking, memory_order_acquire) != lock;
        }
    }
    return *claims;
}

bool fsafe_takeover_is_alone(void)
{
    return fsafe_sys_getpid() == fsafe_lineage_pid() && fsafe_sys_single_threaded();
}

bool fsafe_takeover_is_shared(uintptr_t lock)
{
    int shared = fsafe_maps_is_shared(lock);
    return shared >= 0 ? shared != 0 : fsafe_maps_probe_shared(lock);
}

bool fsafe_takeover_is_known_shared(uintptr_t lock)
{
    static _Atomic uintptr_t known[16];
    _Atomic uintptr_t *kept = &known[lock / sizeof(pthread_mutex_t) % (sizeof known / sizeof *known)];
    /* In each generation anew: the parent may have mapped other memory there before it forked. */
    uintptr_t here = lock ^ fsafe_lineage_generation() * (uintptr_t)0x9e3779b97f4a7c15u;
    if (atomic_load_explicit(kept, memory_order_relaxed) == here)
        return true;
    if (!fsafe_takeover_is_shared(lock))
        return false;
    atomic_store_explicit(kept, here, memory_order_relaxed);
    return true;
}

enum fsafe_verdict fsafe_takeover_judge(struct fsafe_question *question, fsafe_takeover_judges *judge)
{
    _Atomic uintptr_t *asking = &question->self->asking;
    enum fsafe_verdict verdict;
    atomic_store_explicit(asking, question->event.address, memory_order_release);
    {
        FSAFE_HOLD(&fsafe_takeover_latch);
        verdict = judge(question);
    }
    if (verdict != FSAFE_STUCK)
        atomic_store(asking, 0); /* before the real call takes the lock, on any machine */
    if (verdict == FSAFE_UNDECIDED)
        question->event.worth_a_line = false; /* the caller asks again */
    fsafe_takeover_tell(&question->event);
    return verdict;
}

/*
 * Whether the child has tried orphaned locks in vain, again and again, for FORKSAFE_HANG_MS: a child that goes on when
 * a try fails tries seldom, if at all. A loop of MANY tries may lose the processor for longer than the others may
 * pause. Under the latch.
 */
static bool has_tried_for_long(void)
{
    static uint64_t since_ms, latest_ms;
    static uint32_t generation, tries;
    enum { OFTEN = 20, MANY = 100 };
    uint64_t now_ms = fsafe_sys_now_ns() / 1000000, pause_ms = fsafe_options.hang_ms / (tries < MANY ? OFTEN : 1);
    tries++;
    if (generation != fsafe_lineage_generation() || now_ms - latest_ms > pause_ms) {
        since_ms = now_ms;
        tries = 0;
    }
    generation = fsafe_lineage_generation();
    latest_ms = now_ms;
    return fsafe_options.hang_ms != 0 && now_ms - since_ms >= fsafe_options.hang_ms;
}

enum { PLACES = 3 };

/* Mapped, because it is too much for the stack of a small thread. */
struct work {
    struct fsafe_mapping mappings[PLACES];
    struct fsafe_place places[PLACES];
};

static bool is_named(const struct work *work, const char *patterns)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (fsafe_patterns_match(patterns, work->places[i].module) ||
            fsafe_patterns_match(patterns, work->places[i].symbol))
            return true;
    return false;
}

/*
 * Why the user wants the lock left alone (FORKSAFE_EXCLUDE, FORKSAFE_ONLY), in words that follow "because"; NULL: the
 * user does not. The patterns are compared with the modules and exported symbols of the lock, of the place that wants
 * it and of the place that took it.
 */
static const char *find_objection(const struct fsafe_event *event)
{
    const char *exclude = fsafe_options.exclude, *only = fsafe_options.only;
    if (exclude[0] == '\0' && only[0] == '\0')
        return NULL;
    struct work *work = fsafe_pages_map(sizeof *work);
    if (work == NULL)
        return "there is no memory to compare it with FORKSAFE_EXCLUDE and FORKSAFE_ONLY";
    work->mappings[0].address = event->address;
    work->mappings[1].address = event->wanted_at;
    work->mappings[2].address = event->holder.since;
    fsafe_maps_find(work->mappings, PLACES);
    for (unsigned i = 0; i < PLACES; i++)
        if (work->mappings[i].address != 0)
            fsafe_modules_place(&work->mappings[i], i != 0, &work->places[i]);
    const char *objection = NULL;
    if (exclude[0] != '\0' && is_named(work, exclude))
        objection = "FORKSAFE_EXCLUDE names it";
    else if (only[0] != '\0' && !is_named(work, only))
        objection = "FORKSAFE_ONLY does not name it";
    fsafe_pages_unmap(work, sizeof *work);
    return objection;
}

bool fsafe_takeover_is_worth_a_line(bool would_wait)
{
    return would_wait || has_tried_for_long();
}

bool fsafe_takeover_decide(struct fsafe_event *event, const struct fsafe_claims *claims, bool would_wait)
{
    if (claims->vanished != NULL) {
        event->holder = fsafe_thread_as_holder(claims->vanished, claims->since);
        event->fork = fsafe_lineage_fork_after(fsafe_thread_generation(claims->vanished));
    } else {
        event->fork = fsafe_lineage_latest_fork();
    }
    event->worth_a_line = would_wait;
    /* What a thread left locked when it ended fails a try in the parent, too: the fork is not the cause. */
    if (!would_wait && claims->vanished != NULL && claims->vanished->ended)
        return false;
    if (fsafe_takeover_is_shared(event->address)) {
        event->deed = FSAFE_REFUSED;
        event->why = "it lies in memory shared with other processes";
        return false;
    }
    event->worth_a_line = fsafe_takeover_is_worth_a_line(would_wait);
    event->why = find_objection(event);
    if (event->why != NULL) {
        event->deed = FSAFE_REFUSED;
        return false;
    }
    if (fsafe_options.mode != FSAFE_MODE_REPAIR) {
        event->deed = FSAFE_WOULD_HANG;
        return false;
    }
    event->deed = FSAFE_TOOK_OVER;
    event->worth_a_line = !claims->was_waiting || fsafe_options.verbose;
    return true;
}

enum fsafe_hope fsafe_takeover_hope(bool (*may_be_interrupted)(void))
{
    if (!fsafe_takeover_is_alone())
        return FSAFE_HOPES_FOR_THREAD;
    return may_be_interrupted() ? FSAFE_HOPES_FOR_HANDLER : FSAFE_HOPES_FOR_NOBODY;
}

const char *fsafe_takeover_why_not(enum fsafe_hope hope)
{
    static const char *const why[] = {
        [FSAFE_HOPES_FOR_NOBODY] = NULL,
        [FSAFE_HOPES_FOR_HANDLER] = "a signal handler may be meant to release it",
        [FSAFE_HOPES_FOR_THREAD] = "another thread of the child may be meant to release it",
    };
    return why[hope];
}

bool fsafe_takeover_gives_time(enum fsafe_hope hope, uintptr_t object, struct timespec *until)
{
    bool waits_anyhow = hope == FSAFE_HOPES_FOR_THREAD && fsafe_options.mode == FSAFE_MODE_REPAIR;
    if (hope == FSAFE_HOPES_FOR_NOBODY || waits_anyhow || fsafe_options.hang_ms == 0)
        return false;
    struct fsafe_again *again = &fsafe_self->again;
    uint64_t now = fsafe_sys_now_ns();
    if (!fsafe_thread_waits_again(fsafe_self, object, FSAFE_INTERRUPTED, now))
        *again = (struct fsafe_again){.object = object, .value = FSAFE_INTERRUPTED, .since_ns = now,
                                      .generation = fsafe_lineage_generation()};
    *until = fsafe_sys_timespec(again->since_ns + fsafe_options_hang_ns());
    return true;
}

void fsafe_takeover_tell(const struct fsafe_event *event)
{
    if (!event->worth_a_line)
        return;
    if (event->deed == FSAFE_REFUSED) {
        /* One line: processes may contend for a lock in shared memory all day. */
        static _Atomic uintptr_t refused;
        if (atomic_exchange_explicit(&refused, event->address, memory_order_relaxed) == event->address)
            return;
    }
    /* One line: the thread may ask for the lock again and again, with a limit or by tries. */
    if (event->deed == FSAFE_WOULD_HANG && fsafe_self != NULL && fsafe_self->told_of == event->address)
        return;
    fsafe_report_event(event);
    if (event->deed == FSAFE_WOULD_HANG)
        fsafe_children_said(true);
    if (event->deed == FSAFE_WOULD_HANG && fsafe_self != NULL)
        fsafe_self->told_of = event->address;
    if (event->deed == FSAFE_WOULD_HANG && fsafe_options.mode == FSAFE_MODE_ABORT)
        fsafe_sys_abort();
}
