/* wrap/select: select and pselect in slices (wrap/looks), which write to the sets also when nothing is ready. */
#include "config.h"

#include "wrap/looks.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <errno.h>
#include <string.h>
#include <sys/select.h>

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

/* One slice. *over_ns: when it was over, without the time that a handler took then; NULL: the program's is pselect. */
static int slice(int count, fd_set *const sets[SETS], const struct timespec *limit, const sigset_t *mask,
                 uint64_t *over_ns)
{
    if (over_ns == NULL || limit == NULL)
        return FSAFE_NEXT(pselect)(count, sets[0], sets[1], sets[2], limit, mask);
    struct timeval left = {.tv_sec = limit->tv_sec, .tv_usec = limit->tv_nsec / 1000};
    uint64_t end_ns = fsafe_sys_now_ns() + fsafe_sys_ns(limit);
    int result = FSAFE_NEXT(select)(count, sets[0], sets[1], sets[2], &left);
    *over_ns = end_ns - ((uint64_t)left.tv_sec * 1000000 + (uint64_t)left.tv_usec) * 1000;
    return result;
}

static int select_again(unsigned long asked[SETS][MOST / WORD], int count, fd_set *const sets[SETS],
                        const struct timespec *limit, const sigset_t *mask, uint64_t *over_ns)
{
    bool again = false;
    FSAFE_IN_SLICES(mask, limit, (again ? put_back(asked, count, sets) : (void)0, again = true,
                            slice(count, sets, sliced.limit, mask, over_ns)));
}

static int select_in_slices(int count, fd_set *const sets[SETS], const struct timespec *limit, const sigset_t *mask,
                            uint64_t *over_ns)
{
    unsigned long asked[SETS][MOST / WORD];
    for (unsigned i = 0; i < SETS; i++)
        if (sets[i] != NULL && !fsafe_sys_peek((uintptr_t)sets[i], asked[i], bytes_of(count)))
            return FSAFE_NEXT(pselect)(count, sets[0], sets[1], sets[2], limit, mask); /* an error, as bare */
    int result = select_again(asked, count, sets, limit, mask, over_ns);
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
    FSAFE_UNLESS_WATCHING(is_copied(count) && fsafe_looks_is_long(of_timeval(limit, &span)),
                    FSAFE_NEXT(select)(count, in, out, other, limit));
    uint64_t begun_ns = fsafe_sys_now_ns(), over_ns = begun_ns;
    int result =
        select_in_slices(count, (fd_set *const[SETS]){in, out, other}, of_timeval(limit, &span), NULL, &over_ns);
#ifdef FSAFE_LIBC_GLIBC
    if (limit != NULL) {
        const struct timespec took = fsafe_sys_timespec(over_ns - begun_ns);
        const struct timeval passed = {.tv_sec = took.tv_sec, .tv_usec = took.tv_nsec / 1000};
        if (timercmp(limit, &passed, >))
            timersub(limit, &passed, limit);
        else
            timerclear(limit);
    }
#endif
    return result;
}

FSAFE_EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *other, const struct timespec *limit,
                         const sigset_t *mask)
{
    FSAFE_UNLESS_WATCHING(is_copied(count) && fsafe_looks_is_long(limit),
                    FSAFE_NEXT(pselect)(count, in, out, other, limit, mask));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, limit, mask, NULL);
}

#ifdef FSAFE_LIBC_GLIBC
FSAFE_DEFINE_ALIAS(__select, select);
#endif

#ifdef FSAFE_TIME64
FSAFE_EXPORT int __select64(int count, fd_set *in, fd_set *out, fd_set *other, void *limit)
{
    FSAFE_UNLESS_WATCHING(limit == NULL && is_copied(count), FSAFE_NEXT(__select64)(count, in, out, other, limit));
    return select_in_slices(count, (fd_set *const[SETS]){in, out, other}, NULL, NULL, NULL);
}

FSAFE_EXPORT int __pselect64(int count, fd_set *in, fd_set *out, fd_set *other, const struct fsafe_timespec64 *limit,
                             const sigset_t *mask)
{
    FSAFE_NARROWED(FSAFE_NEXT(__pselect64)(count, in, out, other, limit, mask),
             pselect(count, in, out, other, until, mask));
}
#endif
