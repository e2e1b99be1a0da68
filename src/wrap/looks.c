#include "config.h"

#include "repair/elsewhere.h"
#include "wrap/looks.h"
#include "wrap/time64.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* A limit of more years than 30 is none. */
static bool is_endless(const struct timespec *limit)
{
    return limit == NULL || limit->tv_sec > 1000000000;
}

/* The kernel reads the limit of a wait that it then refuses, because the word is another: the thread never sleeps. */
bool fsafe_looks_read(const void *from, void *into, size_t bytes)
{
    static const uint32_t word = 1;
    long number = FSAFE_SYS_FUTEX;
#ifdef FSAFE_TIME64
    if (bytes != sizeof(struct timespec))
        number = SYS_futex_time64;
#endif
    long answer = from != NULL ? FSAFE_SYS(number, &word, FUTEX_WAIT_PRIVATE, 0, from) : -EFAULT;
    bool is_read = answer == -EAGAIN || answer == -EINVAL; /* EINVAL: it is not valid */
    if (is_read)
        memcpy(into, from, bytes);
    return is_read;
}

bool fsafe_looks_is_long(const struct timespec *limit)
{
    return is_endless(limit) || (limit->tv_sec >= 0 && fsafe_sys_is_valid(limit) &&
                                 fsafe_sys_ns(limit) > fsafe_children_due_ns());
}

void fsafe_looks_set_limit(struct fsafe_looks *sliced, uint64_t next_ns)
{
    uint64_t left = sliced->end_ns != 0 ? fsafe_sys_left_ns(sliced->end_ns) : UINT64_MAX;
    if (next_ns == 0 || left < next_ns)
        next_ns = left;
    sliced->span = fsafe_sys_timespec(next_ns);
    sliced->limit = next_ns != UINT64_MAX ? &sliced->span : NULL;
}

void fsafe_looks_begin(struct fsafe_looks *sliced, const struct timespec *limit)
{
    sliced->end_ns = is_endless(limit) ? 0 : fsafe_sys_now_ns() + fsafe_sys_ns(limit);
    fsafe_looks_set_limit(sliced, fsafe_children_due_ns());
}

bool fsafe_looks_has_come(const void *mask, const struct fsafe_sigset *before)
{
    static const struct timespec at_once;
    bool came = FSAFE_SYS(FSAFE_SYS_PPOLL, NULL, 0, &at_once, mask, FSAFE_SIGSET_BYTES) == -EINTR;
    fsafe_sys_restore_signals(before);
    if (came) {
        pthread_testcancel();
        errno = EINTR;
    }
    return came;
}

bool fsafe_looks_goes_on(struct fsafe_looks *sliced, int *result)
{
    struct fsafe_sigset before;
    if (*result != 0 || sliced->limit == NULL)
        return false;
    if (sliced->end_ns != 0 && fsafe_sys_left_ns(sliced->end_ns) == 0) {
        fsafe_children_look();
        return false;
    }
    fsafe_elsewhere_hold(&before);
    fsafe_looks_set_limit(sliced, fsafe_children_look());
    *result = fsafe_looks_has_come(sliced->mask != NULL ? (const void *)sliced->mask : &before, &before) ? -1 : 0;
    return *result == 0;
}
