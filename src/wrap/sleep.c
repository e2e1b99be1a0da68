/*
 * wrap/sleep: a parent may sleep for longer than its child takes to hang. It sleeps in slices, between which it is in
 * wrap/ready's ppoll, which looks at the children; the last slice is in the call that the program made.
 */
#include "config.h"

#include "base/sys.h"
#include "libc/symbol.h"
#include "repair/children.h"
#include "repair/watch.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

/*
 * Sleeps until a look is due, and looks, as long as `span` lasts that long. Returns whether no signal came; else errno
 * is EINTR. *left: what is left, without the time that the signal's handler took.
 */
static bool sleep_most(const struct timespec *span, struct timespec *left)
{
    enum { LOOK_NS = 1000000 };
    const struct timespec look = fsafe_sys_timespec(LOOK_NS);
    uint64_t end_ns = fsafe_sys_now_ns() + fsafe_sys_ns(span);
    for (;;) {
        uint64_t left_ns = fsafe_sys_left_ns(end_ns), due_ns = fsafe_children_due_ns();
        *left = fsafe_sys_timespec(left_ns);
        if (due_ns == 0 || due_ns + LOOK_NS >= left_ns)
            return true;
        const struct timespec slice = fsafe_sys_timespec(due_ns);
        fsafe_watch_rest(true);
        int result = FSAFE_NEXT(nanosleep)(&slice, left);
        fsafe_watch_rest(false);
        if (result != 0) {
            *left = fsafe_sys_timespec(fsafe_sys_ns(left) + left_ns - due_ns);
            return false;
        }
        if (ppoll(NULL, 0, &look, NULL) != 0) {
            *left = fsafe_sys_timespec(left_ns - due_ns);
            return false;
        }
    }
}

/* Whether a parent with a child to look at sleeps for a time that libc takes. */
static bool is_watched(const struct timespec *span)
{
    enum { LONG_S = 1000000000 };
    return fsafe_children_any() && span != NULL && span->tv_sec >= 0 && span->tv_sec < LONG_S &&
           fsafe_sys_is_valid(span);
}

FSAFE_EXPORT int nanosleep(const struct timespec *span, struct timespec *left)
{
    struct timespec rest;
    if (!is_watched(span))
        return FSAFE_NEXT(nanosleep)(span, left);
    if (sleep_most(span, &rest)) {
        fsafe_watch_rest(true);
        int result = FSAFE_NEXT(nanosleep)(&rest, left);
        fsafe_watch_rest(false);
        fsafe_children_look();
        return result;
    }
    if (left != NULL)
        *left = rest;
    return -1;
}

/* How long it is until `until` on the program's clock, which a library that makes times up may have changed. */
static bool is_ahead(clockid_t clock, const struct timespec *until, struct timespec *span)
{
    struct timespec now;
    /* By its name, which costs a start nothing. */
    __typeof__(clock_gettime) *reads = (__typeof__(clock_gettime) *)fsafe_symbol_variable("clock_gettime", NULL);
    if (reads == NULL || reads(clock, &now) != 0 || !fsafe_sys_is_valid(until))
        return false;
    bool borrows = until->tv_nsec < now.tv_nsec;
    *span = (struct timespec){.tv_sec = until->tv_sec - now.tv_sec - borrows,
                              .tv_nsec = until->tv_nsec - now.tv_nsec + (borrows ? 1000000000 : 0)};
    return true;
}

/* Of the clocks that pass as CLOCK_MONOTONIC does while the thread sleeps. */
FSAFE_EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    bool absolute = (flags & TIMER_ABSTIME) != 0;
    struct timespec span, rest;
    if (FSAFE_LIKELY(!fsafe_children_any()) || time == NULL ||
        (clock != CLOCK_MONOTONIC && (absolute || clock != CLOCK_REALTIME)))
        return FSAFE_NEXT(clock_nanosleep)(clock, flags, time, left);
    span = *time;
    if ((absolute && !is_ahead(clock, time, &span)) || !is_watched(&span))
        return FSAFE_NEXT(clock_nanosleep)(clock, flags, time, left);
    int saved = errno;
    bool none = sleep_most(&span, &rest);
    errno = saved;
    if (none) {
        fsafe_watch_rest(true);
        int error = FSAFE_NEXT(clock_nanosleep)(clock, flags, absolute ? time : &rest, left);
        fsafe_watch_rest(false);
        fsafe_children_look();
        return error;
    }
    if (left != NULL && !absolute)
        *left = rest;
    return EINTR;
}

FSAFE_EXPORT unsigned sleep(unsigned seconds)
{
    struct timespec span = {.tv_sec = (time_t)seconds};
    if (span.tv_sec < 0 || !is_watched(&span))
        return FSAFE_NEXT(sleep)(seconds);
    return nanosleep(&span, &span) == 0 ? 0 : (unsigned)span.tv_sec;
}

FSAFE_EXPORT int usleep(useconds_t us)
{
    const struct timespec span = fsafe_sys_timespec((uint64_t)us * 1000);
    return is_watched(&span) ? nanosleep(&span, NULL) : FSAFE_NEXT(usleep)(us);
}

#ifdef FSAFE_LIBC_GLIBC
FSAFE_DEFINE_ALIAS(__nanosleep, nanosleep);
#endif

#ifdef FSAFE_TIME64
FSAFE_EXPORT int __nanosleep64(const struct fsafe_timespec64 *span, struct fsafe_timespec64 *left)
{
    struct timespec by, rest;
    const struct timespec *narrow;
    if (!fsafe_children_any() || !fsafe_time64_narrow(span, &by, &narrow))
        return FSAFE_NEXT(__nanosleep64)(span, left);
    int result = nanosleep(narrow, &rest);
    if (result < 0 && errno == EINTR && left != NULL)
        *left = (struct fsafe_timespec64){.tv_sec = rest.tv_sec, .tv_nsec = (int32_t)rest.tv_nsec};
    return result;
}

FSAFE_EXPORT int __clock_nanosleep_time64(clockid_t clock, int flags, const struct fsafe_timespec64 *time,
                                          struct fsafe_timespec64 *left)
{
    struct timespec by, rest;
    const struct timespec *narrow;
    if (!fsafe_children_any() || !fsafe_time64_narrow(time, &by, &narrow))
        return FSAFE_NEXT(__clock_nanosleep_time64)(clock, flags, time, left);
    int result = clock_nanosleep(clock, flags, narrow, &rest);
    if (result == EINTR && left != NULL && (flags & TIMER_ABSTIME) == 0)
        *left = (struct fsafe_timespec64){.tv_sec = rest.tv_sec, .tv_nsec = (int32_t)rest.tv_nsec};
    return result;
}
#endif
