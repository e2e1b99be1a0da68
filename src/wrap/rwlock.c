/*
 * wrap/rwlock: pthread_rwlock_*. A thread makes a record for each hold before it asks for the lock, and removes it
 * after the release. A reader takes the lock in place where libc would only count one reader more; libc does everything
 * else. A child tries first, and judges only a lock that it cannot have at once.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "libc/layout.h"
#include "repair/rwlock.h"
#include "track/gate.h"
#include "track/join.h"
#include "wrap/acquire.h"
#include "wrap/next.h"
#include "wrap/slices.h"
#include "wrap/undeclared.h"

#include <errno.h>
#include <time.h>

static FSAFE_INLINE int ask_libc_now(pthread_rwlock_t *rwlock, const struct fsafe_attempt *attempt)
{
    bool reads = attempt->stage == FSAFE_READING;
    switch (attempt->how) {
    case FSAFE_HOW_TRY:
        return reads ? FSAFE_NEXT(pthread_rwlock_tryrdlock)(rwlock) : FSAFE_NEXT(pthread_rwlock_trywrlock)(rwlock);
    case FSAFE_HOW_UNTIL:
        return reads ? FSAFE_NEXT(pthread_rwlock_timedrdlock)(rwlock, attempt->until)
                     : FSAFE_NEXT(pthread_rwlock_timedwrlock)(rwlock, attempt->until);
#ifdef HAVE_PTHREAD_RWLOCK_CLOCKRDLOCK
    case FSAFE_HOW_BY_CLOCK:
        return reads ? FSAFE_NEXT(pthread_rwlock_clockrdlock)(rwlock, attempt->clock, attempt->until)
                     : FSAFE_NEXT(pthread_rwlock_clockwrlock)(rwlock, attempt->clock, attempt->until);
#endif
    default:
        return reads ? FSAFE_NEXT(pthread_rwlock_rdlock)(rwlock) : FSAFE_NEXT(pthread_rwlock_wrlock)(rwlock);
    }
}

static FSAFE_COLD int ask_libc(pthread_rwlock_t *rwlock, const struct fsafe_attempt *attempt)
{
    return ask_libc_now(rwlock, attempt);
}

static inline bool is_had(const pthread_rwlock_t *rwlock)
{
    const struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    return state.is_locked || state.readers > 0;
}

/* Gives the holders a moment to release the rwlock before libc puts the caller to sleep. */
static FSAFE_COLD void wait_a_moment(const pthread_rwlock_t *rwlock, const struct fsafe_thread *self)
{
    for (int looks = 0; looks < FSAFE_RELAX_LOOKS && is_had(rwlock); looks++)
        fsafe_arch_relax(self->owner);
}

static enum fsafe_verdict judge(void *rwlock, struct fsafe_thread *self, uintptr_t site,
                                const struct fsafe_attempt *attempt)
{
    return fsafe_rwlock_judge(rwlock, self, attempt->stage, site, attempt->how != FSAFE_HOW_TRY);
}

static int try(void *rwlock, const struct fsafe_attempt *attempt)
{
    return ask_libc(rwlock, &(const struct fsafe_attempt){.how = FSAFE_HOW_TRY, .stage = attempt->stage});
}

static int wait_or_try(pthread_rwlock_t *rwlock, struct fsafe_thread *self, uintptr_t site,
                       const struct fsafe_attempt *attempt)
{
    return attempt->how == FSAFE_HOW_WAIT
               ? fsafe_slices_rwlock_lock(rwlock, attempt->stage == FSAFE_WRITING, self, site)
               : ask_libc(rwlock, attempt);
}

/* In a child: a lock that cannot be had at once may be a vanished thread's. */
static FSAFE_COLD int ask_in_child(pthread_rwlock_t *rwlock, struct fsafe_thread *self, uintptr_t site,
                                   const struct fsafe_attempt *attempt)
{
    static const struct fsafe_acquired kind = {judge, try};
    int result = try(rwlock, attempt);
    if (result == EBUSY)
        result = fsafe_acquire_in_child(&kind, rwlock, self, site, attempt);
    return result == FSAFE_ASK_LIBC ? wait_or_try(rwlock, self, site, attempt) : result;
}

static FSAFE_APART int acquire_recorded(pthread_rwlock_t *rwlock, struct fsafe_thread *self, uintptr_t site,
                                        const struct fsafe_attempt *attempt)
{
    fsafe_fork_notice();
    bool child = fsafe_lineage_is_child();
    int result = child ? ask_in_child(rwlock, self, site, attempt) : ask_libc(rwlock, attempt);
    if (result != 0)
        fsafe_ledger_drop_stage(fsafe_thread_locks(self), (uintptr_t)rwlock | attempt->stage);
    else if (attempt->stage == FSAFE_WRITING)
        fsafe_layout_rwlock_note_writer(rwlock, fsafe_thread_owner(self));
    if (result == 0 && child && attempt->stage == FSAFE_WRITING)
        fsafe_rwlock_settle(rwlock, self);
    return result;
}

/* A process-shared lock is never taken over, but a child may wait for it in vain as for any other. */
static FSAFE_COLD int ask_for_foreign(pthread_rwlock_t *rwlock, struct fsafe_thread *self, uintptr_t site,
                                      const struct fsafe_attempt *attempt)
{
    fsafe_fork_notice();
    if (attempt->how != FSAFE_HOW_WAIT || !fsafe_lineage_is_child())
        return ask_libc(rwlock, attempt);
    int result = try(rwlock, attempt);
    return result != EBUSY ? result : wait_or_try(rwlock, self, site, attempt);
}

static FSAFE_COLD int acquire_slowly(pthread_rwlock_t *rwlock, uintptr_t site, const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self != NULL && !fsafe_layout_rwlock_is_private(rwlock))
        return ask_for_foreign(rwlock, self, site, attempt);
    if (self == NULL ||
        !fsafe_gate_push_slowly(fsafe_thread_locks(self), (uintptr_t)rwlock | attempt->stage, site,
                                fsafe_thread_is_stale, self))
        return ask_libc(rwlock, attempt);
    return acquire_recorded(rwlock, self, site, attempt);
}

static FSAFE_INLINE int acquire(pthread_rwlock_t *rwlock, uintptr_t site, const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_UNLIKELY(self == NULL || !fsafe_layout_rwlock_is_private(rwlock) ||
                       !fsafe_gate_push(fsafe_thread_locks(self), (uintptr_t)rwlock | attempt->stage, site)))
        return acquire_slowly(rwlock, site, attempt);
    /* In a child, too: no hold keeps this reader out, and its record shows which hold is its own. */
    if (attempt->stage == FSAFE_READING && FSAFE_LIKELY(fsafe_layout_rwlock_read(rwlock)))
        return 0;
    if (attempt->stage == FSAFE_READING || fsafe_lineage_is_child() || fsafe_lineage_may_be_unadopted())
        return acquire_recorded(rwlock, self, site, attempt);
    if (attempt->how != FSAFE_HOW_TRY && FSAFE_UNLIKELY(is_had(rwlock)))
        wait_a_moment(rwlock, self);
    int result = ask_libc_now(rwlock, attempt);
    if (FSAFE_UNLIKELY(result != 0))
        fsafe_ledger_drop_stage(fsafe_thread_locks(self), (uintptr_t)rwlock | attempt->stage);
    else
        fsafe_layout_rwlock_note_writer(rwlock, self->owner);
    return result;
}

/* libc refuses an impossible time or clock even when the lock is free. */
static FSAFE_COLD int acquire_until(pthread_rwlock_t *rwlock, uintptr_t site, const struct fsafe_attempt *attempt)
{
    return fsafe_acquire_is_valid(attempt) ? acquire(rwlock, site, attempt) : ask_libc(rwlock, attempt);
}

#define CALL(name, how_, stage_)                                                            \
    FSAFE_EXPORT int name(pthread_rwlock_t *rwlock)                                         \
    {                                                                                       \
        static const struct fsafe_attempt attempt = {.how = (how_), .stage = (stage_)};     \
        return acquire(rwlock, FSAFE_CALLER(), &attempt);                                   \
    }
CALL(pthread_rwlock_rdlock, FSAFE_HOW_WAIT, FSAFE_READING)
CALL(pthread_rwlock_wrlock, FSAFE_HOW_WAIT, FSAFE_WRITING)
CALL(pthread_rwlock_tryrdlock, FSAFE_HOW_TRY, FSAFE_READING)
CALL(pthread_rwlock_trywrlock, FSAFE_HOW_TRY, FSAFE_WRITING)

#define UNTIL(...) acquire_until(rwlock, FSAFE_CALLER(), &(const struct fsafe_attempt){__VA_ARGS__, .until = until})
FSAFE_TIMED(pthread_rwlock_timedrdlock, __pthread_rwlock_timedrdlock64, (pthread_rwlock_t *rwlock), (rwlock),
            UNTIL(FSAFE_HOW_UNTIL, FSAFE_READING, CLOCK_REALTIME))
FSAFE_TIMED(pthread_rwlock_timedwrlock, __pthread_rwlock_timedwrlock64, (pthread_rwlock_t *rwlock), (rwlock),
            UNTIL(FSAFE_HOW_UNTIL, FSAFE_WRITING, CLOCK_REALTIME))
#ifdef HAVE_PTHREAD_RWLOCK_CLOCKRDLOCK
FSAFE_TIMED(pthread_rwlock_clockrdlock, __pthread_rwlock_clockrdlock64, (pthread_rwlock_t *rwlock, clockid_t clock),
            (rwlock, clock), UNTIL(FSAFE_HOW_BY_CLOCK, FSAFE_READING, clock))
FSAFE_TIMED(pthread_rwlock_clockwrlock, __pthread_rwlock_clockwrlock64, (pthread_rwlock_t *rwlock, clockid_t clock),
            (rwlock, clock), UNTIL(FSAFE_HOW_BY_CLOCK, FSAFE_WRITING, clock))
#endif

static bool has_record(struct fsafe_thread *self, uintptr_t record)
{
    const struct fsafe_ledger *locks = fsafe_thread_locks(self);
    for (uint32_t i = fsafe_ledger_depth(locks); i > 0; i--)
        if (fsafe_ledger_word(locks, i) == record)
            return true;
    return false;
}

/* For all other cases: another thread has the record, the record is not the latest, this is a child. */
static FSAFE_APART int unlock_with_care(pthread_rwlock_t *rwlock, struct fsafe_thread *self)
{
    if (!fsafe_layout_rwlock_is_private(rwlock))
        return FSAFE_NEXT(pthread_rwlock_unlock)(rwlock);
    fsafe_fork_notice();
    bool writes = fsafe_rwlock_is_written_by(rwlock, self);
    uintptr_t record = (uintptr_t)rwlock | (writes ? FSAFE_WRITING : FSAFE_READING);
    if (FSAFE_UNLIKELY(writes && fsafe_lineage_is_child()))
        fsafe_rwlock_settle(rwlock, self);
    if (FSAFE_UNLIKELY(!writes && !has_record(self, record)))
        fsafe_rwlock_handed_over(rwlock, self);
    if (writes)
        fsafe_layout_rwlock_note_writer(rwlock, 0);
    int result = FSAFE_NEXT(pthread_rwlock_unlock)(rwlock); /* after it the rwlock may be gone */
    if (FSAFE_LIKELY(result == 0))
        fsafe_ledger_drop_stage(fsafe_thread_locks(self), record);
    return result;
}

static FSAFE_APART int unlock_recorded(pthread_rwlock_t *rwlock, struct fsafe_thread *self, uintptr_t record, bool done)
{
    if (record == ((uintptr_t)rwlock | FSAFE_WRITING))
        fsafe_layout_rwlock_note_writer(rwlock, 0);
    int result = done ? 0 : FSAFE_NEXT(pthread_rwlock_unlock)(rwlock);
    if (FSAFE_LIKELY(result == 0))
        fsafe_ledger_drop_stage(fsafe_thread_locks(self), record);
    return result;
}

FSAFE_EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *rwlock)
{
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_UNLIKELY(self == NULL))
        return FSAFE_NEXT(pthread_rwlock_unlock)(rwlock);
    uintptr_t record = fsafe_ledger_word(fsafe_thread_locks(self), fsafe_ledger_depth(fsafe_thread_locks(self)));
    /* Whether the latest record is of this rwlock, in either stage: these differ in one bit. */
    if (FSAFE_UNLIKELY((record | 1) != ((uintptr_t)rwlock | FSAFE_WRITING) || fsafe_lineage_is_child() ||
                       fsafe_lineage_may_be_unadopted()))
        return unlock_with_care(rwlock, self);
    bool done = (record & 1) == (FSAFE_READING & 1) && fsafe_layout_rwlock_unread(rwlock);
    if (FSAFE_LIKELY(done) && FSAFE_LIKELY(fsafe_ledger_pop_latest(fsafe_thread_locks(self), record)))
        return 0;
    return unlock_recorded(rwlock, self, record, done);
}

_Static_assert((FSAFE_READING | 1) == FSAFE_WRITING, "an rwlock's stages differ in one bit");

/* Drops all records of it: it is another lock now, or none. */
static FSAFE_COLD void forget(pthread_rwlock_t *rwlock)
{
    struct fsafe_thread *self = fsafe_thread_join();
    if (self == NULL)
        return;
    while (fsafe_ledger_drop_stage(fsafe_thread_locks(self), (uintptr_t)rwlock | FSAFE_READING) ||
           fsafe_ledger_drop_stage(fsafe_thread_locks(self), (uintptr_t)rwlock | FSAFE_WRITING))
        ;
    fsafe_fork_notice();
    if (fsafe_lineage_is_child())
        fsafe_rwlock_initialised(rwlock);
}

FSAFE_EXPORT int pthread_rwlock_init(pthread_rwlock_t *rwlock, const pthread_rwlockattr_t *attributes)
{
    int result = FSAFE_NEXT(pthread_rwlock_init)(rwlock, attributes);
    if (result == 0)
        forget(rwlock);
    return result;
}

FSAFE_EXPORT int pthread_rwlock_destroy(pthread_rwlock_t *rwlock)
{
    int result = FSAFE_NEXT(pthread_rwlock_destroy)(rwlock);
    if (result == 0)
        forget(rwlock);
    return result;
}

#if HAVE_DECL_GNU_GET_LIBC_VERSION
FSAFE_DEFINE_ALIAS(__pthread_rwlock_init, pthread_rwlock_init);
FSAFE_DEFINE_ALIAS(__pthread_rwlock_destroy, pthread_rwlock_destroy);
FSAFE_DEFINE_ALIAS(__pthread_rwlock_rdlock, pthread_rwlock_rdlock);
FSAFE_DEFINE_ALIAS(__pthread_rwlock_tryrdlock, pthread_rwlock_tryrdlock);
FSAFE_DEFINE_ALIAS(__pthread_rwlock_wrlock, pthread_rwlock_wrlock);
FSAFE_DEFINE_ALIAS(__pthread_rwlock_trywrlock, pthread_rwlock_trywrlock);
FSAFE_DEFINE_ALIAS(__pthread_rwlock_unlock, pthread_rwlock_unlock);
#endif
