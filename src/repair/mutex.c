/*
 * Measured. glibc's pthread_mutex_destroy of a mutex that a thread holds succeeds if the mutex is robust, and returns
 * EBUSY for every other kind.
 *
 * The kernel looks for the owner of an inheriting mutex, by its id, in all processes: while the parent lives the kernel
 * refuses a wait for the old id (EPERM: glibc aborts); when the parent has ended (daemon) glibc waits for ever.
 *
 * A signal handler may fork while its thread waits for a mutex, and its child goes back to the wait. Where that is
 * libc's own, adoption makes the mutex free, which ends the wait. libc then writes the parent's thread id into a robust
 * mutex, because it read the id before it began to wait.
 */
#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "libc/layout.h"
#include "repair/mutex.h"
#include "repair/rwlock.h"
#include "repair/unnamed.h"
#include "repair/verdict.h"
#include "repair/waits.h"
#include "report/tally.h"

void fsafe_mutex_rehome(pthread_mutex_t *mutex, const struct fsafe_thread *self)
{
    enum fsafe_mutex_kind kind = fsafe_layout_mutex_kind(mutex);
    if (fsafe_options.mode != FSAFE_MODE_REPAIR || kind == FSAFE_MUTEX_FOREIGN || kind == FSAFE_MUTEX_NORMAL ||
        kind == FSAFE_MUTEX_ADAPTIVE)
        return; /* libc does not compare the owner of the last two */
    int owner = fsafe_layout_mutex_owner(mutex);
    if (owner == self->owner || !fsafe_thread_was(self, owner) ||
        (fsafe_sys_thread_alive(fsafe_lineage_pid(), owner) &&
         fsafe_ledger_find(&self->ledgers[FSAFE_LOCKS], (uintptr_t)mutex) == 0) ||
        fsafe_takeover_is_shared((uintptr_t)mutex))
        return;
    if (fsafe_layout_is_by_word(kind))
        fsafe_layout_mutex_retake(mutex);
    else
        fsafe_layout_mutex_set_owner(mutex, self->owner);
    fsafe_tally_add(FSAFE_TOTAL_REHOMED, 1);
}

void fsafe_mutex_adopt(struct fsafe_thread *self)
{
    if (fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    int forgotten_next = self->former_owners[self->next_former];
    /* A thread may hold very many mutexes: most need no write before the thread asks for them. */
    if (!self->took_by_word && forgotten_next == 0)
        return;
    for (struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_locks(self)); fsafe_ledger_next(&at);) {
        pthread_mutex_t bytes;
        if (fsafe_ledger_is_of_rwlock(at.lock))
            continue;
        /*
         * The record may be stale and the memory anything by now: written to only if it still is this thread's mutex.
         */
        uintptr_t address = at.lock & ~FSAFE_STAGE_MASK;
        if (!fsafe_sys_peek(address, &bytes, sizeof bytes))
            continue;
        enum fsafe_mutex_kind kind = fsafe_layout_mutex_kind(&bytes);
        int owner = fsafe_layout_mutex_owner(&bytes);
        bool is_last_chance = owner == forgotten_next && owner != 0;
        if (!fsafe_thread_was(self, owner) || kind == FSAFE_MUTEX_FOREIGN ||
            !(fsafe_layout_is_by_word(kind) || is_last_chance) || !fsafe_maps_find_exclusive(address))
            continue;
        if (fsafe_layout_is_by_word(kind))
            fsafe_layout_mutex_retake((pthread_mutex_t *)address);
        else
            fsafe_layout_mutex_set_owner((pthread_mutex_t *)address, self->owner);
    }
}

void fsafe_mutex_initialised(pthread_mutex_t *mutex)
{
    fsafe_unnamed_is_over((uintptr_t)mutex);
    if (!fsafe_waits_concern((uintptr_t)mutex))
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    fsafe_waits_forget_mutex(mutex);
}

bool fsafe_mutex_is_stale(uintptr_t lock, void *context)
{
    struct fsafe_thread *self = context;
    pthread_mutex_t bytes;
    if (fsafe_ledger_is_of_rwlock(lock))
        return fsafe_rwlock_is_stale(lock, context);
    if (fsafe_ledger_find(fsafe_thread_waits(self), lock) != 0)
        return false; /* a signal handler runs in pthread_cond_wait, which takes the mutex again */
    return !fsafe_sys_peek(lock & ~FSAFE_STAGE_MASK, &bytes, sizeof bytes) ||
           !fsafe_thread_is_or_was(self, fsafe_layout_mutex_owner(&bytes));
}

/* Whether the bytes deny that the thread holds the mutex. */
static bool is_denied(const struct fsafe_thread *thread, uintptr_t lock)
{
    pthread_mutex_t bytes;
    if (!fsafe_sys_peek(lock & ~FSAFE_STAGE_MASK, &bytes, sizeof bytes) || !fsafe_layout_mutex_locked(&bytes))
        return true;
    int owner = fsafe_layout_mutex_owner(&bytes);
    return owner != 0 && !fsafe_thread_is_or_was(thread, owner);
}

/* For how many generations a vanished waiter of a settled condition variable counts as a user of its mutex. */
enum { KEEP_USERS = 16 };

static bool is_user_only(struct fsafe_thread *vanished)
{
    for (struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_waits(vanished)); fsafe_ledger_next(&at);)
        if ((at.lock & FSAFE_STAGE_MASK) != FSAFE_INSIDE_MUTEX)
            return false;
    return fsafe_lineage_generation() - fsafe_thread_generation(vanished) > KEEP_USERS;
}

void fsafe_mutex_clear_stale(struct fsafe_thread *vanished)
{
    struct fsafe_ledger *locks = fsafe_thread_locks(vanished), *waits = fsafe_thread_waits(vanished);
    FSAFE_HOLD(&fsafe_takeover_latch);
    if (is_user_only(vanished))
        for (struct fsafe_ledger_walk at = fsafe_ledger_walk(waits); fsafe_ledger_next(&at);)
            fsafe_ledger_clear(waits, at.index, at.lock);
    for (struct fsafe_ledger_walk at = fsafe_ledger_walk(locks); fsafe_ledger_next(&at);)
        /* Not the mutex of a waiter for a condition, which any thread may have. */
        if (!fsafe_ledger_is_of_rwlock(at.lock) && !fsafe_ledger_is_of_call(at.lock) &&
            fsafe_ledger_find(waits, at.lock) == 0 && is_denied(vanished, at.lock))
            fsafe_ledger_clear(locks, at.index, at.lock);
}

static const char *kind_name(enum fsafe_mutex_kind kind)
{
    static const char *const names[] = {
        [FSAFE_MUTEX_NORMAL] = "normal",
        [FSAFE_MUTEX_RECURSIVE] = "recursive",
        [FSAFE_MUTEX_ERRORCHECK] = "errorcheck",
        [FSAFE_MUTEX_ADAPTIVE] = "adaptive",
        [FSAFE_MUTEX_PRIO_PROTECT] = "priority protect",
        [FSAFE_MUTEX_PRIO_INHERIT] = "priority inherit",
        [FSAFE_MUTEX_ROBUST] = "robust",
        [FSAFE_MUTEX_ROBUST_PRIO_INHERIT] = "robust, priority inherit",
        [FSAFE_MUTEX_FOREIGN] = "other",
    };
    return names[kind];
}

/*
 * The owner by the bytes and the kernel. DOUBTFUL: the ledgers have to be asked, too. UNNAMED: locked without an owner.
 */
enum holder { NOBODY, LIVING, OWN, DOUBTFUL, UNNAMED };

static enum holder look(const pthread_mutex_t *mutex, struct fsafe_thread *self, int *owner)
{
    if (!fsafe_layout_mutex_locked(mutex))
        return NOBODY;
    *owner = fsafe_layout_mutex_owner(mutex);
    if (*owner == 0)
        return UNNAMED;
    switch (fsafe_verdict_soon(self, *owner)) {
    case FSAFE_CALLERS:
        return OWN;
    case FSAFE_LIVINGS:
        return LIVING;
    default:
        return DOUBTFUL;
    }
}

/*
 * With other threads about, one look proves nothing: the memory may be another mutex by now, in the moment between two
 * owners. Several looks in a row do not all find such a moment.
 */
static bool is_unnamed_still(const pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t lock)
{
    for (unsigned again = 0; again < 3; again++) {
        int owner;
        fsafe_sys_pause_us(50);
        struct fsafe_claims claims = fsafe_takeover_claims(self, FSAFE_LOCKS, lock, 0);
        if (look(mutex, self, &owner) != UNNAMED || claims.living_is_at_it)
            return false;
    }
    return true;
}

/* Under the latch. */
static enum fsafe_verdict judge(struct fsafe_question *question)
{
    struct fsafe_event *event = &question->event;
    struct fsafe_thread *self = question->self;
    uintptr_t lock = event->address;
    pthread_mutex_t *mutex = (pthread_mutex_t *)lock;
    bool alone = !fsafe_unnamed_is_surveyed() && fsafe_takeover_is_alone();
    if (!alone && !fsafe_unnamed_is_surveyed())
        fsafe_unnamed_survey(false); /* libc made the second thread without our wrapper */
    int owner = 0;
    enum holder holder = look(mutex, self, &owner);
    if (holder != DOUBTFUL && holder != UNNAMED)
        return FSAFE_PROCEED;
    struct fsafe_claims claims = fsafe_takeover_claims(self, FSAFE_LOCKS, lock, owner);
    switch (fsafe_verdict(self, FSAFE_LOCKS, owner, &claims, alone)) {
    case FSAFE_CALLERS:
        fsafe_mutex_rehome(mutex, self);
        return FSAFE_PROCEED;
    case FSAFE_LIVINGS:
        return FSAFE_PROCEED;
    case FSAFE_UNSURE:
        return FSAFE_UNDECIDED;
    case FSAFE_VANISHEDS:
        break;
    }
    event->holder.tid = owner;
    if (claims.vanished != NULL && owner != 0 && !fsafe_thread_is_or_was(claims.vanished, owner))
        claims.vanished = NULL; /* that thread waited for the mutex: the line must not name it */
    if (!fsafe_takeover_decide(event, &claims, question->would_wait))
        return FSAFE_STUCK;
    /* That took a while: the mutex must still be the same orphan. */
    int owner_now = 0;
    bool same = look(mutex, self, &owner_now) == holder && owner_now == owner;
    if (same && holder == UNNAMED && fsafe_unnamed_is_surveyed())
        same = is_unnamed_still(mutex, self, lock);
    if (!same) {
        event->worth_a_line = false;
        return FSAFE_PROCEED;
    }
    fsafe_waits_forget_mutex(mutex);
    fsafe_layout_mutex_reset(mutex);
    fsafe_unnamed_forget(lock);
    return FSAFE_FREED;
}

static struct fsafe_question question_of(pthread_mutex_t *mutex, enum fsafe_mutex_kind kind, struct fsafe_thread *self,
                                         uintptr_t site, bool would_wait)
{
    return (struct fsafe_question){
        .self = self,
        .would_wait = would_wait,
        .event = {.lock = "mutex", .kind = kind_name(kind), .address = (uintptr_t)mutex, .wanted_at = site},
    };
}

enum fsafe_verdict fsafe_mutex_judge(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site, bool would_wait)
{
    int owner;
    enum fsafe_mutex_kind kind = fsafe_layout_mutex_kind(mutex);
    if (kind == FSAFE_MUTEX_FOREIGN)
        return FSAFE_PROCEED;
    switch (look(mutex, self, &owner)) {
    case OWN:
        fsafe_mutex_rehome(mutex, self);
        return FSAFE_PROCEED;
    case UNNAMED:
        /* Under contention every third look finds this: where the survey found no such mutex it costs one load. */
        if (fsafe_unnamed_is_none())
            return FSAFE_PROCEED;
        break;
    case DOUBTFUL:
        /* The owner is in another process. If that ends with the mutex the kernel says so. */
        if (fsafe_layout_is_robust(kind) && fsafe_takeover_is_known_shared((uintptr_t)mutex))
            return FSAFE_PROCEED;
        break;
    case NOBODY:
    case LIVING:
        fsafe_unnamed_is_over((uintptr_t)mutex);
        return FSAFE_PROCEED;
    }
    struct fsafe_question question = question_of(mutex, kind, self, site, would_wait);
    return fsafe_takeover_judge(&question, judge);
}

/* The mutex that adoption made free for a wait that a signal handler interrupted, and its event. */
static uintptr_t freed;
static struct fsafe_event of_freed;

/* The mutex for which the thread waits, in the code that the signal handler interrupted; 0: none. */
static uintptr_t find_wait(const struct fsafe_thread *self)
{
    for (uint32_t i = self->waits; i-- > 0;)
        if (self->waiting[i].of == FSAFE_LOCKS && !fsafe_ledger_is_of_rwlock(self->waiting[i].record))
            return self->waiting[i].record;
    return 0;
}

void fsafe_mutex_adopt_wait(struct fsafe_thread *self)
{
    uintptr_t lock = find_wait(self);
    uint32_t record = lock == 0 ? 0 : fsafe_ledger_find(fsafe_thread_locks(self), lock);
    uintptr_t word, site;
    int owner;
    pthread_mutex_t bytes;
    /* The wait may be long over: a handler may have left it by a longjmp. */
    if (record == 0 || fsafe_options.mode == FSAFE_MODE_OFF || !fsafe_sys_peek(lock, &bytes, sizeof bytes) ||
        fsafe_layout_mutex_kind(&bytes) == FSAFE_MUTEX_FOREIGN || !fsafe_maps_find_exclusive(lock))
        return;
    enum holder holder = look(&bytes, self, &owner);
    if (fsafe_layout_in_place(&bytes) && (holder == DOUBTFUL || holder == UNNAMED))
        fsafe_layout_end_sleep((pthread_mutex_t *)lock);
    if (fsafe_layout_in_place(&bytes) || holder != DOUBTFUL || fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    fsafe_ledger_read(fsafe_thread_locks(self), record, &word, &site);
    struct fsafe_question question =
        question_of((pthread_mutex_t *)lock, fsafe_layout_mutex_kind(&bytes), self, site, true);
    FSAFE_HOLD(&fsafe_takeover_latch);
    if (judge(&question) == FSAFE_FREED) {
        freed = lock;
        of_freed = question.event;
    }
}

void fsafe_mutex_end_wait(pthread_mutex_t *mutex, const struct fsafe_thread *self)
{
    if (FSAFE_LIKELY(freed != (uintptr_t)mutex))
        return;
    freed = 0;
    fsafe_mutex_rehome(mutex, self); /* libc read the thread's id before it began to wait */
    fsafe_takeover_tell(&of_freed);
}
