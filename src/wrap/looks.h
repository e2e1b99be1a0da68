/*
 * wrap/looks: a wait for a descriptor or a signal, in a parent that may have a child to look at. A wait that lasts
 * until a look is due is made in slices, and the parent looks at its children in between (repair/children). After a
 * shorter one it looks as one that asks.
 *
 * A signal whose handler ran between two slices would interrupt nothing. So the thread blocks its signals while it
 * looks, and then asks whether one has come, which ends the wait. It does not block them around its sleep: a thread
 * that is cancelled there would run its cleanup handlers with the signals blocked (musl, glibc since 2.41).
 */
#pragma once

#include "base/sys.h"
#include "repair/children.h"
#include "repair/watch.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct fsafe_looks {
    const sigset_t *mask; /* the program's, while the thread sleeps; NULL: as it is */
    uint64_t end_ns;      /* of the program's limit; 0: it has none */
    struct timespec span;
    const struct timespec *limit; /* this slice's; NULL: there is no child to look at, and no end */
};

/* Copies the program's time, if it can be read: where libc lets the kernel read it a bad address is an error. */
bool fsafe_looks_read(const void *from, void *into, size_t bytes);

/* Whether a look is due before the limit ends. It is not before one that libc refuses. */
bool fsafe_looks_is_long(const struct timespec *limit);

/* The next slice's limit, where the next look is due in `next_ns`; 0: there is no child to look at. */
void fsafe_looks_set_limit(struct fsafe_looks *sliced, uint64_t next_ns);

/* Begins a wait with the program's limit. */
void fsafe_looks_begin(struct fsafe_looks *sliced, const struct timespec *limit);

/*
 * Lets the signals come again. Returns whether one has come, and its handler has run: it ends the wait, with errno.
 * musl, and glibc since 2.41, cancel a thread by a signal: then this call does not return, as the wait would not.
 * `mask`: the program's while the thread sleeps; `before`: what fsafe_elsewhere_hold() gave.
 */
bool fsafe_looks_has_come(const void *mask, const struct fsafe_sigset *before);

/* `*result`: that of the slice, or of a signal that came after it. Returns whether there is another slice. */
bool fsafe_looks_goes_on(struct fsafe_looks *sliced, int *result);

/* Returns what the wait returns. `slice`: the real call, with sliced.limit. */
#define FSAFE_IN_SLICES(program_mask, program_limit, slice)   \
    do {                                                      \
        struct fsafe_looks sliced = {.mask = (program_mask)}; \
        int result;                                           \
        fsafe_looks_begin(&sliced, program_limit);            \
        fsafe_watch_rest(true);                               \
        do                                                    \
            result = (slice);                                 \
        while (fsafe_looks_goes_on(&sliced, &result));        \
        fsafe_watch_rest(false);                              \
        return result;                                        \
    } while (0)

/* `in_slices`: whether the wait is long enough. `call`: the program's. */
#define FSAFE_UNLESS_WATCHING(in_slices, call)   \
    do {                                         \
        if (FSAFE_LIKELY(!fsafe_children_any())) \
            return call;                         \
        if (!(in_slices)) {                      \
            fsafe_watch_rest(true);              \
            int answer = call;                   \
            if (answer == 0)                     \
                fsafe_children_look();           \
            fsafe_watch_rest(false);             \
            return answer;                       \
        }                                        \
    } while (0)

/* For a call with 64-bit times. `limit`: the program's; `call`: libc's function; `narrow`: ours, with `until`. */
#define FSAFE_NARROWED(call, narrow)                                                            \
    do {                                                                                        \
        struct timespec by;                                                                     \
        const struct timespec *until;                                                           \
        return fsafe_children_any() && fsafe_time64_peek(limit, &by, &until) ? narrow : call;   \
    } while (0)
