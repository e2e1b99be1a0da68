/*
 * wrap/sleep: a parent may sleep for longer than its child takes to hang. It is in wrap/select's select
 * then, which looks at the children; the last millisecond is in the call that the program made.
 */
#include "config.h"

#include "base/sys.h"
#include "libc/symbol.h"
#include "repair/children.h"
#include "repair/watch.h"
#include "wrap/looks.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <errno.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

/*
 * Sleeps for most of `span`, if a look is due by then: in select, because nanosleep's time may be over as a signal
 * comes, of which it then says nothing. glibc's select also says what is left, without the time that the signal's
 * handler took. Returns whether no signal came. *left: what is left.
 */
static bool sleep_most(const struct timespec *span, struct timespec *left)
{
    enum { LAST_NS = 1000000, US_NS = 1000, S_US = 1000000 };
    uint64_t span_ns = fsafe_sys_ns(span), end_ns = fsafe_sys_now_ns() + span_ns;
    uint64_t due_ns = fsafe_children_due_ns(), most_us = span_ns > LAST_NS ? (span_ns - LAST_NS) / US_NS : 0;
    *left = *span;
    if (due_ns == 0 || most_us * US_NS <= due_ns)
        return true;
    struct timeval rest = {.tv_sec = (time_t)(most_us / S_US), .tv_usec = (long)(most_us % S_US)};
    bool came = select(0, NULL, NULL, NULL, &rest) != 0 && errno == EINTR;
    uint64_t left_ns = fsafe_sys_left_ns(end_ns);
#ifdef FSAFE_LIBC_GLIBC
    if (came)
        left_ns = span_ns - (most_us - ((uint64_t)rest.tv_sec * S_US + (uint64_t)rest.tv_usec)) * US_NS;
#endif
    *left = fsafe_sys_timespec(left_ns);
    return !came;
}

/* Whether a parent with a child to look at sleeps for a time that can be read, and that libc takes: sets *span. */
static bool is_watched(const struct timespec *time, struct timespec *span)
{
    enum { LONG_S = 1000000000 };
    return fsafe_children_any() && fsafe_looks_read(time, span, sizeof *span) && span->tv_sec >= 0 &&
           span->tv_sec < LONG_S && fsafe_sys_is_valid(span);
}

/* What a sleep that a signal has ended answers, as the kernel, after it has written what is left. */
static int interrupted(const void *rest, void *left, size_t bytes)
{
    if (left == NULL)
        return EINTR;
    if (FSAFE_SYS(SYS_rt_sigprocmask, SIG_BLOCK, NULL, left, FSAFE_SIGSET_BYTES) != 0) /* writes there */
        return EFAULT;
    memcpy(left, rest, bytes);
    return EINTR;
}

FSAFE_EXPORT int nanosleep(const struct timespec *time, struct timespec *left)
{
    struct timespec span, rest;
    if (!is_watched(time, &span))
        return FSAFE_NEXT(nanosleep)(time, left);
    if (sleep_most(&span, &rest)) {
        fsafe_watch_rest(true);
        int result = FSAFE_NEXT(nanosleep)(&rest, left);
        fsafe_children_look();
        fsafe_watch_rest(false);
        return result;
    }
    errno = interrupted(&rest, left, sizeof rest);
    return -1;
}

/* *span: until when on the program's clock, which a library that makes times up may have changed; then how long. */
static bool is_ahead(clockid_t clock, struct timespec *span)
{
    const struct timespec until = *span;
    struct timespec now;
    /* By its name, which costs a start nothing. */
    __typeof__(clock_gettime) *reads = (__typeof__(clock_gettime) *)fsafe_symbol_variable("clock_gettime", NULL);
    if (reads == NULL || reads(clock, &now) != 0 || !fsafe_sys_is_valid(&until))
        return false;
    bool borrows = until.tv_nsec < now.tv_nsec;
    *span = (struct timespec){.tv_sec = until.tv_sec - now.tv_sec - borrows,
                              .tv_nsec = until.tv_nsec - now.tv_nsec + (borrows ? 1000000000 : 0)};
    return true;
}

/* Of the clocks that pass as CLOCK_MONOTONIC does while the thread sleeps. */
FSAFE_EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    bool absolute = (flags & TIMER_ABSTIME) != 0;
    struct timespec span, rest;
    if (FSAFE_LIKELY(!fsafe_children_any()) || (clock != CLOCK_MONOTONIC && (absolute || clock != CLOCK_REALTIME)) ||
        !fsafe_looks_read(time, &span, sizeof span) || (absolute && !is_ahead(clock, &span)) ||
        !is_watched(&span, &span))
        return FSAFE_NEXT(clock_nanosleep)(clock, flags, time, left);
    int saved = errno;
    bool none = sleep_most(&span, &rest);
    errno = saved;
    if (none) {
        fsafe_watch_rest(true);
        int error = FSAFE_NEXT(clock_nanosleep)(clock, flags, absolute ? time : &rest, left);
        fsafe_children_look();
        fsafe_watch_rest(false);
        return error;
    }
    return interrupted(&rest, absolute ? NULL : left, sizeof rest);
}

FSAFE_EXPORT unsigned sleep(unsigned seconds)
{
    struct timespec span = {.tv_sec = (time_t)seconds};
    if (span.tv_sec < 0 || !is_watched(&span, &span))
        return FSAFE_NEXT(sleep)(seconds);
    return nanosleep(&span, &span) == 0 ? 0 : (unsigned)span.tv_sec;
}

FSAFE_EXPORT int usleep(useconds_t us)
{
    struct timespec span = fsafe_sys_timespec((uint64_t)us * 1000);
    return is_watched(&span, &span) ? nanosleep(&span, NULL) : FSAFE_NEXT(usleep)(us);
}

#ifdef FSAFE_LIBC_GLIBC
FSAFE_DEFINE_ALIAS(__nanosleep, nanosleep);
#endif

#ifdef FSAFE_TIME64
FSAFE_EXPORT int __nanosleep64(const struct fsafe_timespec64 *span, struct fsafe_timespec64 *left)
{
    struct timespec by, rest = {0};
    const struct timespec *narrow;
    if (!fsafe_children_any() || !fsafe_time64_peek(span, &by, &narrow))
        return FSAFE_NEXT(__nanosleep64)(span, left);
    int result = nanosleep(narrow, &rest);
    const struct fsafe_timespec64 wide = {.tv_sec = rest.tv_sec, .tv_nsec = (int32_t)rest.tv_nsec};
    if (result < 0 && errno == EINTR)
        errno = interrupted(&wide, left, sizeof wide);
    return result;
}

FSAFE_EXPORT int __clock_nanosleep_time64(clockid_t clock, int flags, const struct fsafe_timespec64 *time,
                                          struct fsafe_timespec64 *left)
{
    struct timespec by, rest = {0};
    const struct timespec *narrow;
    if (!fsafe_children_any() || !fsafe_time64_peek(time, &by, &narrow))
        return FSAFE_NEXT(__clock_nanosleep_time64)(clock, flags, time, left);
    int result = clock_nanosleep(clock, flags, narrow, &rest);
    const struct fsafe_timespec64 wide = {.tv_sec = rest.tv_sec, .tv_nsec = (int32_t)rest.tv_nsec};
    return result == EINTR ? interrupted(&wide, (flags & TIMER_ABSTIME) == 0 ? left : NULL, sizeof wide) : result;
}
#endif
