/*
 * wrap/aio: the calls that wait for asynchronous input and output, or ask whether it is done. libc does that in threads
 * of its own. A child has none of them, but libc does not know that, and never makes new ones.
 */
#include "config.h"

#include "track/join.h"
#include "wrap/next.h"
#include "wrap/slices.h"

#include <errno.h>

static long wait_for_one(const long *a, const struct timespec *until)
{
    const struct timespec span = until != NULL ? fsafe_sys_span_until(until) : (struct timespec){0};
    int result = FSAFE_NEXT(aio_suspend)((const struct aiocb *const *)a[0], (int)a[1], until != NULL ? &span : NULL);
    if (result != 0 && errno == EAGAIN)
        errno = ETIMEDOUT;
    return result;
}

/* libc's two names are one function, for requests of either size. */
static int suspend(const void *list, int count, const struct timespec *limit, uintptr_t site)
{
    static const struct fsafe_sliced call = {.make = wait_for_one};
    const struct fsafe_untimed_wait wait = {.lock = "asynchronous input or output", .kind = "aio_suspend",
                                            .object = (uintptr_t)list, .site = site};
    if (FSAFE_LIKELY(!fsafe_lineage_is_child()) || limit != NULL)
        return FSAFE_NEXT(aio_suspend)(list, count, limit);
    return (int)fsafe_slices_wait(&call, (const long[]){(long)list, count}, &wait, fsafe_thread_join());
}

static int note(int error, const void *request, uintptr_t site)
{
    const struct fsafe_untimed_wait wait = {
        .lock = "asynchronous input or output", .kind = "aio_error", .object = (uintptr_t)request, .site = site};
    if (FSAFE_UNLIKELY(fsafe_lineage_is_child()) && error == EINPROGRESS)
        fsafe_hopeless_asked(&wait);
    return error;
}

FSAFE_EXPORT int aio_suspend(const struct aiocb *const list[], int count, const struct timespec *limit)
{
    return suspend(list, count, limit, FSAFE_CALLER());
}

FSAFE_EXPORT int aio_suspend64(const struct aiocb64 *const list[], int count, const struct timespec *limit)
{
    return suspend(list, count, limit, FSAFE_CALLER());
}

#ifdef FSAFE_TIME64
FSAFE_EXPORT int __aio_suspend_time64(const void *list, int count, const struct fsafe_timespec64 *limit)
{
    return limit != NULL ? FSAFE_NEXT(__aio_suspend_time64)(list, count, limit)
                         : suspend(list, count, NULL, FSAFE_CALLER());
}
#endif

FSAFE_EXPORT int aio_error(const struct aiocb *request)
{
    return note(FSAFE_NEXT(aio_error)(request), request, FSAFE_CALLER());
}

FSAFE_EXPORT int aio_error64(const struct aiocb64 *request)
{
    return note(FSAFE_NEXT(aio_error64)(request), request, FSAFE_CALLER());
}
