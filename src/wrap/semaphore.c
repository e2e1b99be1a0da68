/*
 * wrap/semaphore: sem_*. A semaphore that is used as a lock has its owner in words of its own; a call for an event goes
 * on to libc after one look at the note. After a real wait or post the semaphore may be gone.
 *
 * Measured, where a pair takes 1 without the library. A semaphore as a lock: trywait and post 1.17, wait and post 1.19
 * to 1.20 (with a record 2.0 to 2.9); an event 1.08. sem_trywait is a leaf function: with the look for a place in
 * Python in it 1.22. sem_wait is none, because it calls pthread_testcancel: with that call in take_slowly 1.25. glibc
 * 2.36's sem_clockwait takes a token in spite of a pending cancellation; sem_wait and sem_timedwait do not.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "python/orphans.h"
#include "python/places.h"
#include "python/wanted.h"
#include "repair/children.h"
#include "repair/semaphore.h"
#include "track/join.h"
#include "wrap/acquire.h"
#include "wrap/next.h"
#include "wrap/slices.h"

#include <errno.h>
#include <time.h>

static int ask_libc(sem_t *semaphore, uintptr_t site, const struct fsafe_attempt *attempt)
{
    switch (attempt->how) {
    case FSAFE_HOW_TRY:
        return FSAFE_NEXT(sem_trywait)(semaphore);
    case FSAFE_HOW_UNTIL:
        return FSAFE_NEXT(sem_timedwait)(semaphore, attempt->until);
#ifdef HAVE_SEM_CLOCKWAIT
    case FSAFE_HOW_BY_CLOCK:
        return FSAFE_NEXT(sem_clockwait)(semaphore, attempt->clock, attempt->until);
#endif
    default:
        return fsafe_slices_sem_wait(semaphore, fsafe_thread_join(), site);
    }
}

#ifdef HAVE_SEM_CLOCKWAIT
static int64_t ns_left(clockid_t clock, const struct timespec *until)
{
    struct timespec now;
    if (!fsafe_sys_clock(clock, &now))
        return 0;
    return (int64_t)(until->tv_sec - now.tv_sec) * 1000000000 + (until->tv_nsec - now.tv_nsec);
}

/*
 * Waits until `until`, by CLOCK_MONOTONIC, whether a signal handler posts the semaphore. Returns whether that time is
 * over; if not, the wait is over with `result`: a wait with a limit of its own may end before.
 */
static bool gave_time(sem_t *semaphore, uintptr_t site, const struct fsafe_attempt *attempt,
                      const struct timespec *until,
                      int (*wait)(sem_t *, uintptr_t, const struct fsafe_attempt *), int *result)
{
    int saved = errno;
    const struct fsafe_attempt first = {.how = FSAFE_HOW_BY_CLOCK, .clock = CLOCK_MONOTONIC, .until = until};
    bool ends_before =
        attempt->until != NULL && ns_left(attempt->clock, attempt->until) <= ns_left(CLOCK_MONOTONIC, until);
    errno = saved;
    *result = wait(semaphore, site, ends_before ? attempt : &first);
    fsafe_self->again.left_ns = *result != 0 && errno == EINTR ? fsafe_sys_now_ns() : 0;
    if (ends_before || *result == 0 || errno != ETIMEDOUT)
        return false;
    errno = saved;
    return true;
}
#endif

/*
 * For a semaphore that is no lock: threads of an interpreter wait for one when they wait for the interpreter's locks.
 */
static int wait_for_event(sem_t *semaphore, uintptr_t site, const struct fsafe_attempt *attempt)
{
    struct timespec until;
    enum fsafe_python_parking parking = attempt->how == FSAFE_HOW_TRY ? FSAFE_PYTHON_SLEEPS
                                       : fsafe_python_parks(semaphore, site, attempt->until == NULL, &until);
#ifdef HAVE_SEM_CLOCKWAIT
    int result;
    if (parking == FSAFE_PYTHON_SLEEPS_UNTIL) {
        if (!gave_time(semaphore, site, attempt, &until, ask_libc, &result))
            return result;
        parking = fsafe_python_parks(semaphore, site, attempt->until == NULL, NULL);
    }
#endif
    if (parking != FSAFE_PYTHON_LOOKS_AGAIN)
        return ask_libc(semaphore, site, attempt);
    errno = EINTR;
    return -1;
}

/* Takes a token of a settled lock, if there is one. */
static inline bool take_in_place(sem_t *semaphore, struct fsafe_sem_words *words, struct fsafe_thread *self,
                                 uint32_t *count, uintptr_t site)
{
    uintptr_t outer = fsafe_semaphore_begin(self, semaphore);
    bool taken = fsafe_layout_sem_try(semaphore);
    if (FSAFE_LIKELY(taken))
        fsafe_semaphore_taken(words, self, count, site);
    fsafe_semaphore_end(self, outer);
    return taken;
}

/*
 * Who may post a lock whose token may be a vanished thread's. An interpreter makes each lock with a token, also those
 * that its programs use as events; a C program makes a semaphore with a token to have a lock.
 */
static enum fsafe_hope hope_for(sem_t *semaphore)
{
    return fsafe_python_is_started() && fsafe_semaphore_is_unproven(semaphore) &&
                   fsafe_layout_sem_value(semaphore) == 0 && !fsafe_python_wants_rlock((uintptr_t)semaphore)
               ? fsafe_takeover_hope(fsafe_python_may_be_interrupted)
               : FSAFE_HOPES_FOR_NOBODY;
}

/*
 * After a wait that was cancelled, or left by siglongjmp, tokens.at still names the semaphore: that counts only while
 * the token is gone and has no owner. (A cleanup handler here would outlive its frame under siglongjmp.)
 */
static int wait_at_token(sem_t *semaphore, uintptr_t site, const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t outer = fsafe_semaphore_begin(self, semaphore);
    int result = ask_libc(semaphore, site, attempt);
    if (result == 0 && fsafe_semaphore_is_lock(semaphore))
        fsafe_semaphore_taken(fsafe_layout_sem_words(semaphore), self,
                              fsafe_semaphore_count(fsafe_layout_sem_words(semaphore), semaphore, self), site);
    fsafe_semaphore_end(self, outer);
    return result;
}

/* For a lock that is not settled. Returns whether its token is the caller's now, or the wait is over with `result`. */
static bool judge(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site, const struct fsafe_attempt *attempt,
                  int *result)
{
    enum fsafe_hope hope = hope_for(semaphore);
#ifdef HAVE_SEM_CLOCKWAIT
    struct timespec until;
    if (attempt->how != FSAFE_HOW_TRY && fsafe_takeover_gives_time(hope, (uintptr_t)semaphore, &until)) {
        if (!gave_time(semaphore, site, attempt, &until, wait_at_token, result))
            return true;
        hope = FSAFE_HOPES_FOR_NOBODY;
    }
#endif
    *result = 0;
    return fsafe_semaphore_judge(semaphore, self, site, fsafe_takeover_why_not(hope), attempt->how != FSAFE_HOW_TRY) ==
           FSAFE_TAKEN;
}

/* There is no token, or the semaphore is no plain lock: new, not settled in this child, or an event. */
static FSAFE_COLD int take_slowly(sem_t *semaphore, uintptr_t caller, const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_thread_join();
    struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    if (self == NULL || !fsafe_semaphore_is_lock(semaphore))
        return wait_for_event(semaphore, caller, attempt);
    uintptr_t site = fsafe_python_site(caller);
    fsafe_fork_notice();
    int result;
    if (!fsafe_semaphore_is_settled(words, semaphore) && judge(semaphore, self, site, attempt, &result))
        return result;
    if (take_in_place(semaphore, words, self, fsafe_semaphore_count(words, semaphore, self), site))
        return 0;
    if (attempt->how != FSAFE_HOW_TRY && fsafe_semaphore_owner(words) == self->ticket) {
        /* Only another thread's post can end this wait: CPython's Condition parks its waiters so. */
        fsafe_semaphore_is_event(semaphore);
        return ask_libc(semaphore, site, attempt);
    }
    return wait_at_token(semaphore, site, attempt);
}

/* Takes a token of a plain lock, if there is one. */
static FSAFE_INLINE bool take_plain(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site)
{
    return take_in_place(semaphore, fsafe_layout_sem_words(semaphore), self, &self->tokens.proven, site);
}

/* The note of a lock; 0: the semaphore is no lock. */
static inline uint32_t note_of(sem_t *semaphore)
{
    struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    return words != NULL ? fsafe_semaphore_note(words) : 0;
}

/* There was no token: looks again before libc puts the caller to sleep. */
static FSAFE_APART int take_in_a_moment(sem_t *semaphore, uintptr_t caller, const struct fsafe_attempt *attempt)
{
    struct fsafe_thread *self = fsafe_self;
    for (int looks = 0; looks < FSAFE_RELAX_LOOKS && fsafe_semaphore_is_plain(note_of(semaphore), semaphore, self);
         looks++) {
        fsafe_arch_relax(self->owner);
        /* Another thread may have made the semaphore an event meanwhile. */
        if (fsafe_layout_sem_value(semaphore) != 0 &&
            fsafe_semaphore_is_plain(note_of(semaphore), semaphore, self) &&
            take_plain(semaphore, self, fsafe_python_site(caller)))
            return 0;
    }
    return take_slowly(semaphore, caller, attempt);
}

/*
 * Whether to jump to libc: the semaphore is an event, and the row is bound. The slow paths do the rest, and waits that
 * may be an interpreter's.
 */
#define PASSES(note, name) ((note) == 0 && FSAFE_LIKELY(fsafe_next.name != NULL))

/* The real wait acts upon a cancellation also when there is a token; glibc's sem_clockwait does not. */
static FSAFE_INLINE int wait_for(sem_t *semaphore, uintptr_t site, const struct fsafe_attempt *attempt)
{
    if (attempt->how != FSAFE_HOW_BY_CLOCK)
        pthread_testcancel();
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_LIKELY(fsafe_semaphore_is_plain(note_of(semaphore), semaphore, self)) &&
        FSAFE_LIKELY(take_plain(semaphore, self, fsafe_python_site(site))))
        return 0;
    return take_in_a_moment(semaphore, site, attempt);
}

FSAFE_EXPORT int sem_wait(sem_t *semaphore)
{
    static const struct fsafe_attempt attempt = {.how = FSAFE_HOW_WAIT};
    if (PASSES(note_of(semaphore), sem_wait) &&
        FSAFE_LIKELY(!fsafe_python_is_started() && !fsafe_lineage_is_child() && !fsafe_children_any()))
        return fsafe_next.sem_wait(semaphore);
    return wait_for(semaphore, FSAFE_CALLER(), &attempt);
}

/*
 * For an interpreter's call, whose place is that of its program, and for a plain lock without a token: CPython's
 * Condition asks at each notify whether its own thread has the lock.
 */
static FSAFE_APART int try_slowly(sem_t *semaphore, uint32_t note, uintptr_t caller)
{
    static const struct fsafe_attempt attempt = {.how = FSAFE_HOW_TRY};
    struct fsafe_thread *self = fsafe_self;
    bool plain = fsafe_semaphore_is_plain(note, semaphore, self);
    if (plain && fsafe_layout_sem_value(semaphore) != 0 && take_plain(semaphore, self, fsafe_python_site(caller)))
        return 0;
    if (!plain || fsafe_lineage_may_be_unadopted())
        return take_slowly(semaphore, caller, &attempt);
    errno = EAGAIN;
    return -1;
}

FSAFE_EXPORT int sem_trywait(sem_t *semaphore)
{
    uint32_t note = note_of(semaphore);
    struct fsafe_thread *self = fsafe_self;
    if (FSAFE_LIKELY(fsafe_semaphore_is_plain(note, semaphore, self) && !fsafe_python_is_text(FSAFE_CALLER())) &&
        take_plain(semaphore, self, FSAFE_CALLER()))
        return 0;
    return PASSES(note, sem_trywait) ? fsafe_next.sem_trywait(semaphore)
                                     : try_slowly(semaphore, note, FSAFE_CALLER());
}

/* libc refuses an impossible time even when there is a token. */
static int wait_until(sem_t *semaphore, uintptr_t site, const struct fsafe_attempt *attempt)
{
    return fsafe_acquire_is_valid(attempt) ? wait_for(semaphore, site, attempt) : ask_libc(semaphore, site, attempt);
}

FSAFE_TIMED(sem_timedwait, __sem_timedwait64, (sem_t *semaphore), (semaphore),
            wait_until(semaphore, FSAFE_CALLER(),
                       &(const struct fsafe_attempt){.how = FSAFE_HOW_UNTIL, .clock = CLOCK_REALTIME, .until = until}))

#ifdef HAVE_SEM_CLOCKWAIT
FSAFE_TIMED(sem_clockwait, __sem_clockwait64, (sem_t *semaphore, clockid_t clock), (semaphore, clock),
            wait_until(semaphore, FSAFE_CALLER(),
                       &(const struct fsafe_attempt){.how = FSAFE_HOW_BY_CLOCK, .clock = clock, .until = until}))
#endif

static FSAFE_COLD int finish_post(sem_t *semaphore, enum fsafe_posted posted)
{
    if (posted == FSAFE_POST_WAKE) {
        fsafe_layout_sem_wake(semaphore);
        return 0;
    }
    fsafe_semaphore_is_event(semaphore); /* a post that we did not see has given it a token */
    return FSAFE_NEXT(sem_post)(semaphore);
}

/* The calling thread has the token. */
static FSAFE_INLINE int post_own(sem_t *semaphore, struct fsafe_thread *self, uint32_t *count)
{
    uintptr_t outer = fsafe_semaphore_begin(self, semaphore);
    fsafe_semaphore_leaving(fsafe_layout_sem_words(semaphore), count);
    enum fsafe_posted posted = fsafe_layout_sem_post(semaphore);
    fsafe_semaphore_end(self, outer);
    return FSAFE_LIKELY(posted == FSAFE_POSTED) ? 0 : finish_post(semaphore, posted);
}

static FSAFE_COLD int post_slowly(sem_t *semaphore)
{
    struct fsafe_thread *self = fsafe_thread_join();
    struct fsafe_sem_words *words = fsafe_layout_sem_words(semaphore);
    if (self == NULL || !fsafe_semaphore_is_lock(semaphore))
        return FSAFE_NEXT(sem_post)(semaphore);
    fsafe_fork_notice();
    if (!fsafe_semaphore_is_own(semaphore, self))
        return FSAFE_NEXT(sem_post)(semaphore);
    uint32_t *count = fsafe_semaphore_count(words, semaphore, self);
    fsafe_semaphore_goes_back(words, semaphore);
    return post_own(semaphore, self, count);
}

FSAFE_EXPORT int sem_post(sem_t *semaphore)
{
    struct fsafe_thread *self = fsafe_self;
    uint32_t note = note_of(semaphore);
    if (FSAFE_LIKELY(fsafe_semaphore_is_plain(note, semaphore, self) &&
                     fsafe_semaphore_owner(fsafe_layout_sem_words(semaphore)) == self->ticket))
        return post_own(semaphore, self, &self->tokens.proven);
    return PASSES(note, sem_post) ? fsafe_next.sem_post(semaphore) : post_slowly(semaphore);
}

FSAFE_EXPORT int sem_init(sem_t *semaphore, int process_shared, unsigned value)
{
    int result = FSAFE_NEXT(sem_init)(semaphore, process_shared, value);
    if (result == 0)
        fsafe_semaphore_initialised(semaphore, process_shared, value);
    return result;
}

FSAFE_EXPORT int sem_destroy(sem_t *semaphore)
{
    fsafe_semaphore_destroyed(semaphore);
    return FSAFE_NEXT(sem_destroy)(semaphore);
}
