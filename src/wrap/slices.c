#include "config.h"

#include "base/sys.h"
#include "libc/fresh.h"
#include "libc/layout.h"
#include "python/orphans.h"
#include "repair/asleep.h"
#include "repair/children.h"
#include "repair/held.h"
#include "repair/hopeless.h"
#include "repair/monitor.h"
#include "repair/semaphore.h"
#include "repair/takeover.h"
#include "repair/watch.h"
#include "repair/woken.h"
#include "track/gate.h"
#include "wrap/call.h"
#include "wrap/next.h"
#include "wrap/slices.h"
#include "wrap/until.h"

#include <errno.h>

/* --- Waits that a signal handler ends with EINTR: semaphores and futexes ---------------------------------------- */

/*
 * The wait with signals blocked, in a process with one thread, where only a handler can end it. Once *more is false it
 * has no limit. Returns 0 when it is over, else what fsafe_held_sleep returned.
 */
static long wait_held(const struct fsafe_sliced *call, const long *a, struct fsafe_slices *slices,
                      struct fsafe_held *held, bool *more)
{
    while (!call->is_over(a)) {
        int type;
        if (call->cancels)
            pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
        long answer = fsafe_held_sleep(held, *more ? &slices->until : NULL);
        if (call->cancels)
            pthread_setcanceltype(type, NULL);
        if (answer == -ETIMEDOUT)
            *more = fsafe_hopeless_goes_on(slices);
        else if (answer != 0)
            return answer;
    }
    fsafe_held_end(held);
    return 0;
}

long fsafe_slices_wait(const struct fsafe_sliced *call, const long *a, const struct fsafe_untimed_wait *wait,
                       struct fsafe_thread *self)
{
    struct fsafe_slices slices;
    struct fsafe_held held;
    long result = -1;
    int saved = errno;
    bool more = true, over = false;
    if (!fsafe_hopeless_begin(&slices, self, wait))
        return call->make(a, NULL);
    if (call->may_be_held != NULL && call->may_be_held(a) && fsafe_held_begin(&held, self)) {
        long answer = wait_held(call, a, &slices, &held, &more);
        over = answer == 0 || answer == -EINTR;
        result = answer == 0 && call->over == 0 ? 0 : -1;
        errno = answer == 0 ? call->over : EINTR;
    }
    while (more && !over) {
        result = call->make(a, &slices.until);
        over = result >= 0 ||
               (errno != ETIMEDOUT && (errno != EINTR || call->restarts || !fsafe_hopeless_restarts()));
        if (!over && errno == ETIMEDOUT)
            more = fsafe_hopeless_goes_on(&slices);
    }
    if (!over || result >= 0)
        errno = saved;
    if (!over)
        result = call->make(a, NULL);
    if (result < 0 && errno == EINTR)
        fsafe_hopeless_end_interrupted(&slices);
    else
        fsafe_hopeless_end(&slices);
    return result;
}

/* Posts a lock for a vanished thread, after a slice in which no signal handler has posted it. */
static bool post_instead(uintptr_t object, uintptr_t site)
{
    return fsafe_semaphore_gives_up((sem_t *)object, site) && FSAFE_NEXT(sem_post)((sem_t *)object) == 0;
}

/* Posts a semaphore for a vanished thread of the interpreter's own. */
static bool post_for_interpreter(uintptr_t object, uintptr_t site)
{
    return fsafe_python_posts(object, site) && FSAFE_NEXT(sem_post)((sem_t *)object) == 0;
}

/* The function that posts or gives up for the caller once all threads sleep; NULL: none. */
static bool (*giver_of(sem_t *semaphore, uintptr_t site))(uintptr_t, uintptr_t)
{
    if (fsafe_semaphore_is_unproven(semaphore))
        return post_instead;
    if (!fsafe_lineage_is_child())
        return NULL;
    if (fsafe_python_may_be_posted((uintptr_t)semaphore, site))
        return post_for_interpreter;
    return fsafe_python_may_be_given((uintptr_t)semaphore, site) ? fsafe_python_gives_up : NULL;
}

/* A child may be meant to post it. The kernel goes on with this wait after a handler with SA_RESTART. */
static FSAFE_COLD int wait_for_children(sem_t *semaphore, uintptr_t frame)
{
    struct fsafe_watch *watch = fsafe_watch_begin(-1, frame);
    int result = FSAFE_NEXT(sem_wait)(semaphore);
    fsafe_watch_end(watch, 0);
    return result;
}

/* After such a handler the kernel goes on with this wait, too, or libc begins the wait again. */
static int join_as_asked(pthread_t thread, void **value)
{
    struct fsafe_watch *watch = fsafe_children_any() ? fsafe_watch_begin(-1, FSAFE_FRAME()) : NULL;
    int result = FSAFE_NEXT(pthread_join)(thread, value);
    fsafe_watch_end(watch, 0);
    return result;
}

static bool is_only_ours(const long *a)
{
    return fsafe_layout.sem_bytes && !fsafe_layout_sem_is_shared((sem_t *)a[0]);
}

static bool takes_token(const long *a)
{
    return fsafe_layout_sem_try((sem_t *)a[0]);
}

static long wait_for_token(const long *a, const struct timespec *until)
{
    return fsafe_until_sem_wait((sem_t *)a[0], until);
}

int fsafe_slices_sem_wait(sem_t *semaphore, struct fsafe_thread *self, uintptr_t site)
{
    static const struct fsafe_sliced call = {
        .cancels = true, .may_be_held = is_only_ours, .is_over = takes_token, .make = wait_for_token};
    bool shared = fsafe_layout_sem_is_shared(semaphore);
    const struct fsafe_untimed_wait wait = {.lock = "semaphore", .kind = shared ? "process-shared" : "private",
                                    .object = (uintptr_t)semaphore, .bytes = sizeof *semaphore, .site = site,
                                    .give = giver_of(semaphore, site)};
    /* A process-shared semaphore may lie in memory that no other process reaches. */
    if (FSAFE_LIKELY(!fsafe_lineage_is_child()) || (shared && fsafe_takeover_is_known_shared((uintptr_t)semaphore)))
        return shared && fsafe_children_any() ? wait_for_children(semaphore, FSAFE_FRAME())
                                              : FSAFE_NEXT(sem_wait)(semaphore);
    pthread_testcancel(); /* the real wait acts upon a cancellation also when there is a token */
    if (fsafe_layout.sem_bytes && fsafe_layout_sem_try(semaphore))
        return 0;
    return (int)fsafe_slices_wait(&call, (const long[]){(long)semaphore}, &wait, self);
}

/* --- Rwlocks --------------------------------------------------------------------------------------------------- */

int fsafe_slices_rwlock_lock(pthread_rwlock_t *rwlock, bool writes, struct fsafe_thread *self, uintptr_t site)
{
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "rwlock", .kind = writes ? "for writing" : "for reading",
                                    .object = (uintptr_t)rwlock, .bytes = sizeof *rwlock, .site = site};
    bool sliced = fsafe_hopeless_begin(&slices, self, &wait), more = sliced;
    int result;
    while ((result = fsafe_until_rwlock_lock(rwlock, writes, more ? &slices.until : NULL)) == ETIMEDOUT && more)
        more = fsafe_hopeless_goes_on(&slices);
    if (sliced)
        fsafe_hopeless_end(&slices);
    return result;
}

/* --- Condition variables ------------------------------------------------------------------------------------ */

static const char *kind_of(const struct fsafe_fresh *fresh, const void *object)
{
    return fsafe_fresh_is_shared(fresh, object) ? "process-shared" : "private";
}

int fsafe_slices_cond_wait(pthread_cond_t *condvar, pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site)
{
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()) && fsafe_monitor_judge(condvar, mutex, site))
        return 0;
    /* Nothing here would show a signal by another process that comes between two slices. */
    bool may_be_shared = !fsafe_fresh_condvar.known || fsafe_fresh_is_shared(&fsafe_fresh_condvar, condvar);
    if (fsafe_lineage_is_child() && may_be_shared && fsafe_takeover_is_known_shared((uintptr_t)condvar))
        return FSAFE_NEXT(pthread_cond_wait)(condvar, mutex);
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "condition variable",
                                            .kind = kind_of(&fsafe_fresh_condvar, condvar),
                                            .object = (uintptr_t)condvar, .bytes = FSAFE_LAYOUT_COND_BYTES,
                                            .mutex = (uintptr_t)mutex, .site = site};
    if (!fsafe_hopeless_begin(&slices, self, &wait))
        return FSAFE_NEXT(pthread_cond_wait)(condvar, mutex);
    int result;
    for (bool more = true;;) {
        result = fsafe_until_cond_wait(condvar, mutex, more ? &slices.until : NULL);
        if (!more || result != ETIMEDOUT)
            break;
        struct timespec ended = slices.until;
        fsafe_gate_resume(self, (uintptr_t)mutex); /* between two slices the thread has the mutex */
        more = fsafe_hopeless_goes_on(&slices);
        bool was_woken = fsafe_woken_between(&slices, &ended);
        fsafe_gate_suspend(self, (uintptr_t)mutex);
        if (was_woken) {
            result = 0;
            break;
        }
    }
    fsafe_hopeless_end(&slices);
    return result;
}

/* --- Barriers, of which no wait has a limit --------------------------------------------------------------------- */

int fsafe_slices_barrier_wait(pthread_barrier_t *barrier, struct fsafe_thread *self, uintptr_t site)
{
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "barrier", .kind = kind_of(&fsafe_fresh_barrier, barrier),
                                            .object = (uintptr_t)barrier, .bytes = sizeof *barrier, .site = site};
    if (FSAFE_LIKELY(!fsafe_lineage_is_child()) || fsafe_fresh_barrier_completes(barrier) ||
        !fsafe_hopeless_begin(&slices, self, &wait))
        return FSAFE_NEXT(pthread_barrier_wait)(barrier);
    fsafe_hopeless_hold_back(&slices, fsafe_fresh_barrier_completes);
    int result = FSAFE_NEXT(pthread_barrier_wait)(barrier);
    fsafe_hopeless_end(&slices);
    return result;
}

/* --- Threads ---------------------------------------------------------------------------------------------------- */

#ifdef HAVE_PTHREAD_TRYJOIN_NP
/*
 * Whether the thread has no id any more: it is about to end, or it has vanished, and fork() has cleared its id. Before
 * 2.43 glibc's join waits until the id is cleared; since then it waits for a word that only the thread's own end
 * changes. A thread's clock has the complement of its id above the lowest three bits.
 */
static bool has_no_id(uintptr_t thread, uintptr_t site)
{
    clockid_t clock;
    (void)site;
    return pthread_getcpuclockid((pthread_t)thread, &clock) == 0 && (clock | 7) == ~0;
}
#endif

int fsafe_slices_joined(void **value)
{
    if (value != NULL)
        *value = NULL;
    return 0;
}

#ifdef HAVE_PTHREAD_TRYJOIN_NP
static bool may_be_given(void)
{
    return fsafe_lineage_is_child() && fsafe_options.mode == FSAFE_MODE_REPAIR;
}

/*
 * A thread without an id that cannot be joined has certainly vanished if the child has one thread, or if all other
 * threads sleep without a limit; if not, it may be in its last instructions.
 */
bool fsafe_slices_join_now(pthread_t thread, void **value, uintptr_t site, int *result)
{
    if (!may_be_given() || !has_no_id((uintptr_t)thread, site) || !fsafe_takeover_is_alone())
        return false;
    *result = FSAFE_NEXT(pthread_tryjoin_np)(thread, value);
    if (*result == EBUSY)
        *result = fsafe_slices_joined(value);
    return true;
}
#endif

int fsafe_slices_join(pthread_t thread, void **value, struct fsafe_thread *self, uintptr_t site)
{
#ifdef HAVE_PTHREAD_TRYJOIN_NP
    int result;
    if (fsafe_slices_join_now(thread, value, site, &result))
        return result;
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "thread", .kind = "to be joined", .object = (uintptr_t)thread,
                                            .joins = true, .site = site, .give = may_be_given() ? has_no_id : NULL};
    if (fsafe_hopeless_begin(&slices, self, &wait)) {
        do
            result = fsafe_until_join(thread, value, &slices.until);
        while (result == ETIMEDOUT && fsafe_hopeless_goes_on(&slices) && !slices.given);
        if (result == ETIMEDOUT)
            result = slices.given ? fsafe_slices_joined(value) : join_as_asked(thread, value);
        fsafe_hopeless_end(&slices);
        return result;
    }
#endif
    (void)self, (void)site;
    return join_as_asked(thread, value);
}

/* --- Futexes ---------------------------------------------------------------------------------------------------- */

static bool is_changed(const long *a)
{
    return __atomic_load_n((const uint32_t *)a[0], __ATOMIC_SEQ_CST) != (uint32_t)a[2];
}

static bool is_private_word(const long *a)
{
    uint32_t value;
    return a[0] % (long)sizeof value == 0 && fsafe_sys_peek((uintptr_t)a[0], &value, sizeof value) &&
           (((int)a[1] & FUTEX_PRIVATE_FLAG) != 0 || !fsafe_takeover_is_shared((uintptr_t)a[0]));
}

/* FUTEX_WAIT_BITSET takes a time by the clock; with all bits it is FUTEX_WAIT. */
static long wait_for_word(const long *a, const struct timespec *until)
{
    long bits = ((int)a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT ? (long)FUTEX_BITSET_MATCH_ANY : a[5];
    if (until == NULL)
        return FSAFE_NEXT(syscall)(SYS_futex, a[0], a[1], a[2], a[3], a[4], a[5]);
    return FSAFE_NEXT(syscall)(FSAFE_SYS_FUTEX, a[0], ((int)a[1] & FUTEX_PRIVATE_FLAG) | FUTEX_WAIT_BITSET, a[2], until,
                               0L, bits);
}

long fsafe_slices_futex(const long *a, const char *lock, const char *kind, struct fsafe_thread *self, uintptr_t site)
{
    static const struct fsafe_sliced call = {
        .over = EAGAIN, .may_be_held = is_private_word, .is_over = is_changed, .make = wait_for_word};
    const struct fsafe_untimed_wait wait = {.lock = lock, .kind = kind, .object = (uintptr_t)a[0],
                                            .bytes = sizeof(uint32_t), .site = site};
    return fsafe_slices_wait(&call, a, &wait, self);
}

long fsafe_slices_futex_again(const long *a, struct fsafe_thread *self, uintptr_t site)
{
    struct fsafe_slices slices;
    const struct fsafe_untimed_wait wait = {.lock = "futex", .kind = "C++ atomic wait", .object = (uintptr_t)a[0],
                                            .bytes = sizeof(uint32_t), .site = site};
    uint64_t limit_ns = fsafe_sys_now_ns() + fsafe_sys_ns((const struct timespec *)a[3]);
    if (!fsafe_hopeless_begin_again(&slices, self, &wait, (uint32_t)a[2], limit_ns))
        return wait_for_word(a, NULL);
    long result;
    int saved = errno;
    for (bool more = true, last = false;;) {
        last = !more || fsafe_sys_ns(&slices.until) >= limit_ns;
        const struct timespec until = last ? fsafe_sys_timespec(limit_ns) : slices.until;
        result = FSAFE_NEXT(syscall)(FSAFE_SYS_FUTEX, a[0], FUTEX_WAIT_BITSET_PRIVATE, a[2], &until, 0L,
                                     (long)FUTEX_BITSET_MATCH_ANY);
        if (last || result == 0 || errno != ETIMEDOUT)
            break;
        more = fsafe_hopeless_goes_on(&slices);
        errno = saved;
    }
    int error = errno;
    fsafe_hopeless_end_again(&slices, result != 0 && error == ETIMEDOUT);
    errno = error;
    return result;
}

static long wait_for_words(const long *a, const struct timespec *until)
{
    if (until == NULL)
        return FSAFE_NEXT(syscall)(SYS_futex_waitv, a[0], a[1], a[2], a[3], a[4]);
    const int64_t by[] = {until->tv_sec, until->tv_nsec}; /* 64 bits on each machine */
    return FSAFE_NEXT(syscall)(SYS_futex_waitv, a[0], a[1], a[2], by, (long)CLOCK_MONOTONIC);
}

long fsafe_slices_futexes(const long *a, struct fsafe_thread *self, uintptr_t site)
{
    static const struct fsafe_sliced call = {.restarts = true, .make = wait_for_words};
    const struct fsafe_untimed_wait wait = {
        .lock = "futex", .kind = "one of several", .object = (uintptr_t)a[0], .site = site};
    return fsafe_asleep_is_private((uintptr_t)a[0], (unsigned long)a[1]) ? fsafe_slices_wait(&call, a, &wait, self)
                                                                        : wait_for_words(a, NULL);
}
