/*
 * wrap/ready: the calls that wait until a descriptor is ready or a signal comes: poll, select, epoll_wait, sigwait and
 * their like. A parent may wait here for its children, for example in asyncio, or in a ProcessPoolExecutor. So a wait
 * that lasts until a look is due is made in slices, and the parent looks at its children in between
 * (repair/children.h). After a shorter one it looks as one that asks.
 *
 * A signal whose handler ran between two slices would interrupt nothing. So the thread blocks its signals while it
 * looks, and then asks whether one has come, which ends the wait. It does not block them around its sleep: a thread
 * that is cancelled there would run its cleanup handlers with the signals blocked (musl, glibc since 2.41).
 */
#include "config.h"

#include "base/sys.h"
#include "python/places.h"
#include "repair/children.h"
#include "repair/hopeless.h"
#include "repair/secluded.h"
#include "track/handle.h"
#include "track/join.h"
#include "track/slots.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>

struct sliced {
    const sigset_t *mask; /* the program's, while the thread sleeps; NULL: as it is */
    uint64_t end_ns;      /* of the program's limit; 0: it has none */
    struct timespec span;
    const struct timespec *limit; /* this slice's; NULL: there is no child to look at, and no end */
};

/* A limit of more years than 30 is none. */
static bool is_endless(const struct timespec *limit)
{
    return limit == NULL || limit->tv_sec > 1000000000;
}

/* Whether a look is due before the limit ends. It is not before one that libc refuses. */
static bool is_long(const struct timespec *limit)
{
    return is_endless(limit) || (limit->tv_sec >= 0 && limit->tv_nsec >= 0 && limit->tv_nsec < 1000000000 &&
                                 fsafe_sys_ns(limit) > fsafe_children_due_ns());
}

static uint64_t left_ns(uint64_t end_ns)
{
    uint64_t now_ns = fsafe_sys_now_ns();
    return end_ns > now_ns ? end_ns - now_ns : 0;
}

static void set_limit(struct sliced *sliced, uint64_t next_ns)
{
    uint64_t left = sliced->end_ns != 0 ? left_ns(sliced->end_ns) : UINT64_MAX;
    if (next_ns == 0 || left < next_ns)
        next_ns = left;
    sliced->span = fsafe_sys_timespec(next_ns);
    sliced->limit = next_ns != UINT64_MAX ? &sliced->span : NULL;
}

static void begin(struct sliced *sliced, const struct timespec *limit)
{
    sliced->end_ns = is_endless(limit) ? 0 : fsafe_sys_now_ns() + fsafe_sys_ns(limit);
    set_limit(sliced, fsafe_children_due_ns());
}

/*
 * Lets the signals come again. Returns whether one has come, and its handler has run: it ends the wait, with errno.
 * musl, and glibc since 2.41, cancel a thread by a signal: then this call does not return, as the wait would not.
 * `mask`: the program's while the thread sleeps.
 */
static bool has_come(const void *mask, const struct fsafe_sigset *before)
{
    static const struct timespec at_once;
    bool came = FSAFE_SYS(FSAFE_SYS_PPOLL, NULL, 0, &at_once, mask, FSAFE_SIGSET_BYTES, 0) == -EINTR;
    fsafe_sys_restore_signals(before);
    if (came) {
        pthread_testcancel();
        errno = EINTR;
    }
    return came;
}

/* `*result`: that of the slice, or of a signal that came after it. Returns whether there is another slice. */
static bool goes_on(struct sliced *sliced, int *result)
{
    struct fsafe_sigset before;
    if (*result != 0 || sliced->limit == NULL)
        return false;
    if (sliced->end_ns != 0 && left_ns(sliced->end_ns) == 0) {
        fsafe_children_look();
        return false;
    }
    fsafe_children_hold_signals(&before);
    set_limit(sliced, fsafe_children_look());
    *result = has_come(sliced->mask != NULL ? (const void *)sliced->mask : &before, &before) ? -1 : 0;
    return *result == 0;
}

/* Returns what the wait returns. `slice`: the real call, with sliced.limit. */
#define IN_SLICES(program_mask, program_limit, slice)     \
    do {                                                  \
        struct sliced sliced = {.mask = (program_mask)}; \
        int result;                                       \
        begin(&sliced, program_limit);                    \
        fsafe_children_rest(true);                        \
        do                                                \
            result = (slice);                             \
        while (goes_on(&sliced, &result));                \
        fsafe_children_rest(false);                       \
        return result;                                    \
    } while (0)

/* `in_slices`: whether the wait is long enough. `call`: the program's. */
#define UNLESS_WATCHING(in_slices, call)                    \
    do {                                                    \
        if (FSAFE_LIKELY(!fsafe_children_any()))            \
            return call;                                    \
        if (!(in_slices)) {                                 \
            fsafe_children_rest(true);                      \
            int answer = call;                              \
            fsafe_children_rest(false);                     \
            if (answer == 0)                                \
                fsafe_children_look();                      \
            return answer;                                  \
        }                                                   \
    } while (0)

/* NULL: no limit. */
static const struct timespec *of_ms(int limit_ms, struct timespec *limit)
{
    if (limit_ms < 0)
        return NULL;
    *limit = fsafe_sys_timespec((uint64_t)limit_ms * 1000000);
    return limit;
}

/* --- poll ------------------------------------------------------------------------------------------------------- */

FSAFE_EXPORT int ppoll(struct pollfd *entries, nfds_t count, const struct timespec *limit, const sigset_t *mask)
{
    UNLESS_WATCHING(is_long(limit), FSAFE_NEXT(ppoll)(entries, count, limit, mask));
    IN_SLICES(mask, limit, FSAFE_NEXT(ppoll)(entries, count, sliced.limit, mask));
}

FSAFE_EXPORT int poll(struct pollfd *entries, nfds_t count, int limit_ms)
{
    struct timespec limit;
    UNLESS_WATCHING(is_long(of_ms(limit_ms, &limit)), FSAFE_NEXT(poll)(entries, count, limit_ms));
    return ppoll(entries, count, of_ms(limit_ms, &limit), NULL);
}

/* --- epoll ------------------------------------------------------------------------------------------------------ */

/* NULL: no limit. */
static int ms_of(const struct timespec *limit)
{
    uint64_t ms = limit != NULL ? fsafe_sys_ns(limit) / 1000000 + 1 : 0;
    return limit == NULL ? -1 : ms < INT_MAX ? (int)ms : INT_MAX;
}

/* How many threads sleep in slices for an epoll, by its number; more where a thread was cancelled there. */
static _Atomic unsigned sleepers[64];

/*
 * One slice. Where a signal comes as epoll_wait's time ends Linux says that the time is over, not that a handler has
 * run, unlike poll: so the thread sleeps in poll. But an event wakes all that sleep in poll, and one that sleeps in
 * epoll_wait (64 threads took 27 times as long): so a thread that is not the first sleeps there. Returns 0 also where
 * another thread has taken what came.
 */
static int epoll_once(int epoll, struct epoll_event *events, int most, const struct timespec *limit,
                      const sigset_t *mask)
{
    struct pollfd ready = {.fd = epoll, .events = POLLIN};
    if (limit == NULL)
        return FSAFE_NEXT(epoll_pwait)(epoll, events, most, -1, mask);
    int result = FSAFE_NEXT(epoll_pwait)(epoll, events, most, 0, NULL);
    if (result != 0)
        return result;
    _Atomic unsigned *count = &sleepers[(unsigned)epoll % (sizeof sleepers / sizeof *sleepers)];
    bool is_first = atomic_fetch_add_explicit(count, 1, memory_order_relaxed) == 0;
    result = is_first ? FSAFE_NEXT(ppoll)(&ready, 1, limit, mask)
                      : FSAFE_NEXT(epoll_pwait)(epoll, events, most, ms_of(limit), mask);
    atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    return result > 0 && is_first ? FSAFE_NEXT(epoll_pwait)(epoll, events, most, 0, NULL) : result;
}

/* In a child whose only thread this is: perhaps nobody else can make a descriptor ready (repair/secluded.h). */
static FSAFE_COLD int epoll_in_child(int epoll, struct epoll_event *events, int most, const sigset_t *mask,
                                     uintptr_t caller)
{
    struct fsafe_slices slices;
    struct fsafe_thread *self = fsafe_thread_join();
    const struct fsafe_untimed_wait wait = {.lock = "epoll", .kind = "for its own sockets",
                                            .object = (uintptr_t)events, .site = fsafe_python_site(caller)};
    if (self == NULL || fsafe_thread_has_company(self) || !fsafe_hopeless_begin(&slices, self, &wait))
        return FSAFE_NEXT(epoll_pwait)(epoll, events, most, -1, mask);
    int result;
    for (bool more = true, came = false;;) {
        const struct timespec span = fsafe_sys_span_until(&slices.until);
        result = came ? -1 : epoll_once(epoll, events, most, more ? &span : NULL, mask);
        if (result != 0 || !more)
            break;
        struct fsafe_sigset before;
        fsafe_sys_block_signals(&before);
        const void *asleep = mask != NULL ? (const void *)mask : &before;
        self->sleeping.held_back = ~fsafe_sys_signals(asleep);
        more = fsafe_secluded_epoll(epoll) && fsafe_hopeless_goes_on(&slices);
        self->sleeping.held_back = 0;
        came = has_come(asleep, &before);
    }
    fsafe_hopeless_end(&slices);
    return result;
}

static bool may_be_secluded(void)
{
    return FSAFE_UNLIKELY(fsafe_lineage_is_child()) && !fsafe_children_had_any() && fsafe_handle_was_any_created();
}

static int epoll_in_slices(int epoll, struct epoll_event *events, int most, const struct timespec *limit,
                           const sigset_t *mask)
{
    IN_SLICES(mask, limit, epoll_once(epoll, events, most, sliced.limit, mask));
}

FSAFE_EXPORT int epoll_wait(int epoll, struct epoll_event *events, int most, int limit)
{
    if (limit < 0 && may_be_secluded())
        return epoll_in_child(epoll, events, most, NULL, FSAFE_CALLER());
    struct timespec span;
    UNLESS_WATCHING(is_long(of_ms(limit, &span)), FSAFE_NEXT(epoll_wait)(epoll, events, most, limit));
    return epoll_in_slices(epoll, events, most, of_ms(limit, &span), NULL);
}

FSAFE_EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int most, int limit, const sigset_t *mask)
{
    if (limit < 0 && may_be_secluded())
        return epoll_in_child(epoll, events, most, mask, FSAFE_CALLER());
    struct timespec span;
    UNLESS_WATCHING(is_long(of_ms(limit, &span)), FSAFE_NEXT(epoll_pwait)(epoll, events, most, limit, mask));
    return epoll_in_slices(epoll, events, most, of_ms(limit, &span), mask);
}

#ifdef HAVE_EPOLL_PWAIT2
FSAFE_EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int most, const struct timespec *limit,
                              const sigset_t *mask)
{
    if (limit == NULL && may_be_secluded())
        return epoll_in_child(epoll, events, most, mask, FSAFE_CALLER());
    UNLESS_WATCHING(is_long(limit), FSAFE_NEXT(epoll_pwait2)(epoll, events, most, limit, mask));
    return epoll_in_slices(epoll, events, most, limit, mask);
}
#endif

/* --- select, which writes to the sets also when nothing is ready -------------------------------------------------- */

enum { SETS = 3, WORD = 8 * sizeof(long), MOST = 4096 };

static bool is_copied(int count)
{
    return count >= 0 && count <= MOST;
}

static size_t bytes_of(int count)
{
    return ((size_t)count + WORD - 1) / WORD * sizeof(long);
}

static void put_back(unsigned long asked[SETS][MOST / WORD], int count, fd_set *const sets[SETS])
{
    for (unsigned i = 0; i < SETS; i++)
        if (sets[i] != NULL)
            memcpy(sets[i], asked[i], bytes_of(count));
}

static int select_again(unsigned long asked[SETS][MOST / WORD], int count, fd_set *const sets[SETS],
                        const struct timespec *limit, const sigset_t *mask)
{
    bool again = false;
    IN_SLICES(mask, limit, (again ? put_back(asked, count, sets) : (void)0, again = true,
                            FSAFE_NEXT(pselect)(count, sets[0], sets[1], sets[2], sliced.limit, mask)));
}

static int select_in_slices(int count, fd_set *const sets[SETS], const struct timespec *limit, const sigset_t *mask)
{
    unsigned long asked[SETS][MOST / WORD];
    for (unsigned i = 0; i < SETS; i++)
        if (sets[i] != NULL && !fsafe_sys_peek((uintptr_t)sets[i], asked[i], bytes_of(count)))
            return FSAFE_NEXT(pselect)(count, sets[0], sets[1], sets[2], limit, mask); /* an error, as bare */
    int result = select_again(asked, count, sets, limit, mask);
    if (result < 0 && errno == EINTR) /* between two slices, of which the first has emptied the sets */
        put_back(asked, count, sets);
    return result;
}

/* As a timespec; NULL: none. A limit that is not normal, which libc takes, becomes one that is_long refuses. */
static const struct timespec *of_timeval(const struct timeval *limit, struct timespec *span)
{
    if (limit == NULL)
        return NULL;
    bool is_normal = limit->tv_usec >= 0 && limit->tv_usec < 1000000;
    *span = (struct timespec){.tv_sec = limit->tv_sec, .tv_nsec = is_normal ? limit->tv_usec * 1000 : -1};
    return span;
}

FSAFE_EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *other, struct timeval *limit)
{
    struct timespec span;
    UNLESS_WATCHING(is_copied(count) && is_long(of_timeval(limit, &span)),
                    FSAFE_NEXT(select)(count, in, out, other, limit));
    const uint64_t end_ns = limit != NULL ? fsafe_sys_now_ns() + fsafe_sys_ns(&span) : 0;
    int result = select_in_slices(count, (fd_set *const[SETS]){in, out, other}, of_timeval(limit, &span), NULL);
#ifdef FSAFE_LIBC_GLIBC
    if (limit != NULL) {
        span = fsafe_sys_timespec(left_ns(end_ns));
        *limit = (struct timeval){.tv_sec = span.tv_sec, .tv_usec = span.tv_nsec / 1000};
    }
#else
    (void)end_ns;
#endif
    return result;
}

FSAFE_EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *other, const struct timespec *limit,
                         const sigset_t *mask)
{
    UNLESS_WATCHING(is_copied(count) && is_long(limit),
                    FSAFE_NEXT(pselect)(count, in, out, other, limit, mask));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, limit, mask);
}

/* --- Signals ---------------------------------------------------------------------------------------------------- */

FSAFE_EXPORT int sigsuspend(const sigset_t *mask)
{
    if (FSAFE_LIKELY(!fsafe_children_any()))
        return FSAFE_NEXT(sigsuspend)(mask);
    return ppoll(NULL, 0, NULL, mask);
}

FSAFE_EXPORT int pause(void)
{
    if (FSAFE_LIKELY(!fsafe_children_any()))
        return FSAFE_NEXT(pause)();
    return ppoll(NULL, 0, NULL, NULL);
}

/*
 * One slice; signals of the set that come between two of them stay pending, and one with a handler ends the wait.
 * Returns as sigtimedwait does.
 */
static int take_signal(const sigset_t *set, siginfo_t *info)
{
    struct sliced sliced = {.end_ns = 0};
    struct fsafe_sigset before;
    fsafe_children_hold_signals(&before);
    set_limit(&sliced, fsafe_children_look());
    if (has_come(&before, &before))
        return -1;
    fsafe_children_rest(true);
    int number = sigtimedwait(set, info, sliced.limit);
    fsafe_children_rest(false);
    return number;
}

FSAFE_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    int saved = errno;
    while (fsafe_children_any()) {
        int number = take_signal(set, info);
        if (number > 0 || errno != EAGAIN)
            return number;
        errno = saved;
    }
    return FSAFE_NEXT(sigwaitinfo)(set, info);
}

FSAFE_EXPORT int sigwait(const sigset_t *set, int *number)
{
    int saved = errno;
    while (fsafe_children_any()) {
        int came = take_signal(set, NULL), error = came > 0 ? 0 : errno;
        if (came > 0)
            *number = came;
        errno = saved;
        if (error != EAGAIN && error != EINTR)
            return error;
    }
    return FSAFE_NEXT(sigwait)(set, number);
}

#ifdef FSAFE_LIBC_GLIBC
FSAFE_DEFINE_ALIAS(__poll, poll);
FSAFE_DEFINE_ALIAS(__select, select);
FSAFE_DEFINE_ALIAS(__sigsuspend, sigsuspend);

FSAFE_EXPORT int __poll_chk(struct pollfd *entries, nfds_t count, int limit_ms, size_t room)
{
    UNLESS_WATCHING(room / sizeof *entries >= count, FSAFE_NEXT(__poll_chk)(entries, count, limit_ms, room));
    return poll(entries, count, limit_ms);
}

FSAFE_EXPORT int __ppoll_chk(struct pollfd *entries, nfds_t count, const struct timespec *limit, const sigset_t *mask,
                             size_t room)
{
    UNLESS_WATCHING(room / sizeof *entries >= count, FSAFE_NEXT(__ppoll_chk)(entries, count, limit, mask, room));
    return ppoll(entries, count, limit, mask);
}
#endif

#ifdef FSAFE_TIME64
/* `limit`: the program's; `call`: libc's function; `narrow`: ours, with `until` for a limit. */
#define NARROWED(call, narrow)                                                                   \
    do {                                                                                         \
        struct timespec by;                                                                      \
        const struct timespec *until;                                                            \
        return fsafe_children_any() && fsafe_time64_narrow(limit, &by, &until) ? narrow : call; \
    } while (0)

FSAFE_EXPORT int __ppoll64(struct pollfd *entries, nfds_t count, const struct fsafe_timespec64 *limit,
                           const sigset_t *mask)
{
    NARROWED(FSAFE_NEXT(__ppoll64)(entries, count, limit, mask), ppoll(entries, count, until, mask));
}

FSAFE_EXPORT int __select64(int count, fd_set *in, fd_set *out, fd_set *other, void *limit)
{
    UNLESS_WATCHING(limit == NULL && is_copied(count), FSAFE_NEXT(__select64)(count, in, out, other, limit));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, NULL, NULL);
}

FSAFE_EXPORT int __pselect64(int count, fd_set *in, fd_set *out, fd_set *other, const struct fsafe_timespec64 *limit,
                             const sigset_t *mask)
{
    NARROWED(FSAFE_NEXT(__pselect64)(count, in, out, other, limit, mask),
             pselect(count, in, out, other, until, mask));
}

FSAFE_EXPORT int __epoll_pwait2_time64(int epoll, struct epoll_event *events, int most,
                                       const struct fsafe_timespec64 *limit, const sigset_t *mask)
{
    if (limit == NULL && may_be_secluded())
        return epoll_in_child(epoll, events, most, mask, FSAFE_CALLER());
    NARROWED(FSAFE_NEXT(__epoll_pwait2_time64)(epoll, events, most, limit, mask),
             epoll_pwait2(epoll, events, most, until, mask));
}
#endif
