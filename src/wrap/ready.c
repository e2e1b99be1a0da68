/*
 * wrap/ready: the calls that wait until a descriptor is ready or a signal comes: poll, epoll_wait, sigwait and their
 * like (wrap/select has select). A parent may wait here for its children, for example in asyncio, or in a
 * ProcessPoolExecutor: then it waits in slices (wrap/looks).
 */
#include "config.h"

#include "python/places.h"
#include "repair/elsewhere.h"
#include "repair/hopeless.h"
#include "repair/secluded.h"
#include "track/handle.h"
#include "track/join.h"
#include "track/slots.h"
#include "wrap/looks.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

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
    FSAFE_UNLESS_WATCHING(fsafe_looks_is_long(limit), FSAFE_NEXT(ppoll)(entries, count, limit, mask));
    FSAFE_IN_SLICES(mask, limit, FSAFE_NEXT(ppoll)(entries, count, sliced.limit, mask));
}

FSAFE_EXPORT int poll(struct pollfd *entries, nfds_t count, int limit_ms)
{
    struct timespec limit;
    FSAFE_UNLESS_WATCHING(fsafe_looks_is_long(of_ms(limit_ms, &limit)), FSAFE_NEXT(poll)(entries, count, limit_ms));
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
        came = fsafe_looks_has_come(asleep, &before);
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
    FSAFE_IN_SLICES(mask, limit, epoll_once(epoll, events, most, sliced.limit, mask));
}

FSAFE_EXPORT int epoll_wait(int epoll, struct epoll_event *events, int most, int limit)
{
    if (limit < 0 && may_be_secluded())
        return epoll_in_child(epoll, events, most, NULL, FSAFE_CALLER());
    struct timespec span;
    FSAFE_UNLESS_WATCHING(fsafe_looks_is_long(of_ms(limit, &span)), FSAFE_NEXT(epoll_wait)(epoll, events, most, limit));
    return epoll_in_slices(epoll, events, most, of_ms(limit, &span), NULL);
}

FSAFE_EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int most, int limit, const sigset_t *mask)
{
    if (limit < 0 && may_be_secluded())
        return epoll_in_child(epoll, events, most, mask, FSAFE_CALLER());
    struct timespec span;
    FSAFE_UNLESS_WATCHING(fsafe_looks_is_long(of_ms(limit, &span)),
                          FSAFE_NEXT(epoll_pwait)(epoll, events, most, limit, mask));
    return epoll_in_slices(epoll, events, most, of_ms(limit, &span), mask);
}

#ifdef HAVE_EPOLL_PWAIT2
FSAFE_EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int most, const struct timespec *limit,
                              const sigset_t *mask)
{
    if (limit == NULL && may_be_secluded())
        return epoll_in_child(epoll, events, most, mask, FSAFE_CALLER());
    struct timespec copy; /* of a limit that can be read */
    FSAFE_UNLESS_WATCHING(limit == NULL ||
                              (fsafe_looks_read(limit, &copy, sizeof copy) && fsafe_looks_is_long(&copy)),
                          FSAFE_NEXT(epoll_pwait2)(epoll, events, most, limit, mask));
    return epoll_in_slices(epoll, events, most, limit != NULL ? &copy : NULL, mask);
}
#endif

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
    struct fsafe_looks sliced = {.end_ns = 0};
    struct fsafe_sigset before;
    fsafe_elsewhere_hold(&before);
    fsafe_looks_set_limit(&sliced, fsafe_children_look());
    if (fsafe_looks_has_come(&before, &before))
        return -1;
    fsafe_watch_rest(true);
    int number = sigtimedwait(set, info, sliced.limit);
    fsafe_watch_rest(false);
    return number;
}

#ifdef FSAFE_LIBC_MUSL
enum { HANDLER_ENDS = false }; /* its sigwaitinfo waits again */
#else
enum { HANDLER_ENDS = true };
#endif

FSAFE_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    int saved = errno;
    while (fsafe_children_any()) {
        int number = take_signal(set, info);
        if (number > 0 || (errno != EAGAIN && (HANDLER_ENDS || errno != EINTR)))
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
FSAFE_DEFINE_ALIAS(__sigsuspend, sigsuspend);

FSAFE_EXPORT int __poll_chk(struct pollfd *entries, nfds_t count, int limit_ms, size_t room)
{
    FSAFE_UNLESS_WATCHING(room / sizeof *entries >= count, FSAFE_NEXT(__poll_chk)(entries, count, limit_ms, room));
    return poll(entries, count, limit_ms);
}

FSAFE_EXPORT int __ppoll_chk(struct pollfd *entries, nfds_t count, const struct timespec *limit, const sigset_t *mask,
                             size_t room)
{
    FSAFE_UNLESS_WATCHING(room / sizeof *entries >= count, FSAFE_NEXT(__ppoll_chk)(entries, count, limit, mask, room));
    return ppoll(entries, count, limit, mask);
}
#endif

#ifdef FSAFE_TIME64
FSAFE_EXPORT int __ppoll64(struct pollfd *entries, nfds_t count, const struct fsafe_timespec64 *limit,
                           const sigset_t *mask)
{
    FSAFE_NARROWED(FSAFE_NEXT(__ppoll64)(entries, count, limit, mask), ppoll(entries, count, until, mask));
}

FSAFE_EXPORT int __epoll_pwait2_time64(int epoll, struct epoll_event *events, int most,
                                       const struct fsafe_timespec64 *limit, const sigset_t *mask)
{
    if (limit == NULL && may_be_secluded())
        return epoll_in_child(epoll, events, most, mask, FSAFE_CALLER());
    FSAFE_NARROWED(FSAFE_NEXT(__epoll_pwait2_time64)(epoll, events, most, limit, mask),
             epoll_pwait2(epoll, events, most, until, mask));
}
#endif
