/*
 * wrap/ready: the calls that wait until a descriptor is ready or a signal comes: poll, select, epoll_wait, sigwait and
 * their like. A parent may wait here for its children, for example in asyncio, or in a ProcessPoolExecutor. So a wait
 * without a limit is made in slices, and the parent looks at its children in between (repair/children.h). After a wait
 * with a limit it looks as one that asks.
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
    struct timespec span;
    const struct timespec *limit; /* this slice's; NULL: there is no child to look at */
};

static void set_limit(struct sliced *sliced, uint64_t next_ns)
{
    sliced->span = fsafe_sys_timespec(next_ns);
    sliced->limit = next_ns != 0 ? &sliced->span : NULL;
}

/*
 * Whether a signal has come, and its handler has run: it ends the wait. `mask`: the program's while the thread sleeps.
 * Context: signals are blocked.
 */
static bool has_come(const void *mask)
{
    static const struct timespec at_once;
    return FSAFE_SYS(FSAFE_SYS_PPOLL, NULL, 0, &at_once, mask, FSAFE_SIGSET_BYTES, 0) == -EINTR;
}

/* `*result`: that of the slice, or of a signal that came after it. Returns whether there is another slice. */
static bool goes_on(struct sliced *sliced, int *result)
{
    struct fsafe_sigset before;
    if (*result != 0 || sliced->limit == NULL)
        return false;
    fsafe_sys_block_signals(&before);
    set_limit(sliced, fsafe_children_look());
    bool came = has_come(sliced->mask != NULL ? (const void *)sliced->mask : &before);
    fsafe_sys_restore_signals(&before);
    if (came) {
        errno = EINTR;
        *result = -1;
    }
    return !came;
}

/* Returns what the wait returns. `slice`: the real call, with sliced.limit. */
#define IN_SLICES(program_mask, slice)                    \
    do {                                                  \
        struct sliced sliced = {.mask = (program_mask)}; \
        int result;                                       \
        set_limit(&sliced, fsafe_children_due_ns());      \
        do                                                \
            result = (slice);                             \
        while (goes_on(&sliced, &result));                \
        return result;                                    \
    } while (0)

static int ms_of(const struct timespec *limit)
{
    uint64_t ms = limit != NULL ? fsafe_sys_ns(limit) / 1000000 + 1 : 0;
    return limit == NULL ? -1 : ms < INT_MAX ? (int)ms : INT_MAX;
}

/* `has_limit`: whether the program's call has one. `call`: that call. */
#define UNLESS_WATCHING(has_limit, call)                    \
    do {                                                    \
        if (FSAFE_LIKELY(!fsafe_children_any()))            \
            return call;                                    \
        if (has_limit) {                                    \
            int answer = call;                              \
            if (answer == 0)                                \
                fsafe_children_look();                      \
            return answer;                                  \
        }                                                   \
    } while (0)

/* --- poll ------------------------------------------------------------------------------------------------------- */

FSAFE_EXPORT int ppoll(struct pollfd *entries, nfds_t count, const struct timespec *limit, const sigset_t *mask)
{
    UNLESS_WATCHING(limit != NULL, FSAFE_NEXT(ppoll)(entries, count, limit, mask));
    IN_SLICES(mask, FSAFE_NEXT(ppoll)(entries, count, sliced.limit, mask));
}

FSAFE_EXPORT int poll(struct pollfd *entries, nfds_t count, int limit_ms)
{
    UNLESS_WATCHING(limit_ms >= 0, FSAFE_NEXT(poll)(entries, count, limit_ms));
    IN_SLICES(NULL, FSAFE_NEXT(poll)(entries, count, ms_of(sliced.limit)));
}

/* --- epoll ------------------------------------------------------------------------------------------------------ */

/*
 * One slice. Where a signal comes as epoll_wait's time ends Linux says that the time is over, not that a handler has
 * run, unlike poll: so the thread sleeps in poll. Returns 0 also where another thread has taken what came.
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
    result = FSAFE_NEXT(ppoll)(&ready, 1, limit, mask);
    return result > 0 ? FSAFE_NEXT(epoll_pwait)(epoll, events, most, 0, NULL) : result;
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
        memcpy(&self->sleeping.held_back, asleep, sizeof self->sleeping.held_back);
        self->sleeping.held_back = ~self->sleeping.held_back;
        more = fsafe_secluded_epoll(epoll) && fsafe_hopeless_goes_on(&slices);
        self->sleeping.held_back = 0;
        came = has_come(asleep);
        fsafe_sys_restore_signals(&before);
        errno = came ? EINTR : errno;
    }
    fsafe_hopeless_end(&slices);
    return result;
}

static bool may_be_secluded(void)
{
    return FSAFE_UNLIKELY(fsafe_lineage_is_child()) && !fsafe_children_had_any() && fsafe_handle_was_any_created();
}

static int epoll_in_slices(int epoll, struct epoll_event *events, int most, const sigset_t *mask)
{
    IN_SLICES(mask, epoll_once(epoll, events, most, sliced.limit, mask));
}

FSAFE_EXPORT int epoll_wait(int epoll, struct epoll_event *events, int most, int limit)
{
    if (limit < 0 && may_be_secluded())
        return epoll_in_child(epoll, events, most, NULL, FSAFE_CALLER());
    UNLESS_WATCHING(limit >= 0, FSAFE_NEXT(epoll_wait)(epoll, events, most, limit));
    return epoll_in_slices(epoll, events, most, NULL);
}

FSAFE_EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int most, int limit, const sigset_t *mask)
{
    if (limit < 0 && may_be_secluded())
        return epoll_in_child(epoll, events, most, mask, FSAFE_CALLER());
    UNLESS_WATCHING(limit >= 0, FSAFE_NEXT(epoll_pwait)(epoll, events, most, limit, mask));
    return epoll_in_slices(epoll, events, most, mask);
}

#ifdef HAVE_EPOLL_PWAIT2
FSAFE_EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int most, const struct timespec *limit,
                              const sigset_t *mask)
{
    UNLESS_WATCHING(limit != NULL, FSAFE_NEXT(epoll_pwait2)(epoll, events, most, limit, mask));
    return epoll_in_slices(epoll, events, most, mask);
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
                        const sigset_t *mask)
{
    bool again = false;
    IN_SLICES(mask, (again ? put_back(asked, count, sets) : (void)0, again = true,
                     FSAFE_NEXT(pselect)(count, sets[0], sets[1], sets[2], sliced.limit, mask)));
}

static int select_in_slices(int count, fd_set *const sets[SETS], const sigset_t *mask)
{
    unsigned long asked[SETS][MOST / WORD];
    for (unsigned i = 0; i < SETS; i++)
        if (sets[i] != NULL && !fsafe_sys_peek((uintptr_t)sets[i], asked[i], bytes_of(count)))
            return FSAFE_NEXT(pselect)(count, sets[0], sets[1], sets[2], NULL, mask); /* an error, as bare */
    int result = select_again(asked, count, sets, mask);
    if (result < 0 && errno == EINTR) /* between two slices, of which the first has emptied the sets */
        put_back(asked, count, sets);
    return result;
}

FSAFE_EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *other, struct timeval *limit)
{
    UNLESS_WATCHING(limit != NULL || !is_copied(count), FSAFE_NEXT(select)(count, in, out, other, limit));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, NULL);
}

FSAFE_EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *other, const struct timespec *limit,
                         const sigset_t *mask)
{
    UNLESS_WATCHING(limit != NULL || !is_copied(count),
                    FSAFE_NEXT(pselect)(count, in, out, other, limit, mask));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, mask);
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
    struct sliced sliced;
    struct fsafe_sigset before;
    fsafe_sys_block_signals(&before);
    set_limit(&sliced, fsafe_children_look());
    bool came = has_come(&before);
    fsafe_sys_restore_signals(&before);
    if (!came)
        return sigtimedwait(set, info, sliced.limit);
    errno = EINTR;
    return -1;
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
    UNLESS_WATCHING(limit_ms >= 0 || room / sizeof *entries < count,
                    FSAFE_NEXT(__poll_chk)(entries, count, limit_ms, room));
    return poll(entries, count, limit_ms);
}

FSAFE_EXPORT int __ppoll_chk(struct pollfd *entries, nfds_t count, const struct timespec *limit, const sigset_t *mask,
                             size_t room)
{
    UNLESS_WATCHING(limit != NULL || room / sizeof *entries < count,
                    FSAFE_NEXT(__ppoll_chk)(entries, count, limit, mask, room));
    return ppoll(entries, count, NULL, mask);
}
#endif

#ifdef FSAFE_TIME64
FSAFE_EXPORT int __ppoll64(struct pollfd *entries, nfds_t count, const struct fsafe_timespec64 *limit,
                           const sigset_t *mask)
{
    UNLESS_WATCHING(limit != NULL, FSAFE_NEXT(__ppoll64)(entries, count, limit, mask));
    return ppoll(entries, count, NULL, mask);
}

FSAFE_EXPORT int __select64(int count, fd_set *in, fd_set *out, fd_set *other, void *limit)
{
    UNLESS_WATCHING(limit != NULL || !is_copied(count), FSAFE_NEXT(__select64)(count, in, out, other, limit));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, NULL);
}

FSAFE_EXPORT int __pselect64(int count, fd_set *in, fd_set *out, fd_set *other, const struct fsafe_timespec64 *limit,
                             const sigset_t *mask)
{
    UNLESS_WATCHING(limit != NULL || !is_copied(count), FSAFE_NEXT(__pselect64)(count, in, out, other, limit, mask));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, mask);
}

FSAFE_EXPORT int __epoll_pwait2_time64(int epoll, struct epoll_event *events, int most,
                                       const struct fsafe_timespec64 *limit, const sigset_t *mask)
{
    UNLESS_WATCHING(limit != NULL, FSAFE_NEXT(__epoll_pwait2_time64)(epoll, events, most, limit, mask));
    return epoll_in_slices(epoll, events, most, mask);
}
#endif
