/*
 * libc/layout-stream: questions to the lock of a stdio stream, as layout.h has them for mutexes. The public member
 * _lock of glibc's FILE points to the lock; with other libraries nothing is known and nothing is asked.
 *
 * A FILE * is a stream that the program has just passed to a wrapper; a uintptr_t may be of a stream that is closed by
 * now. Nothing here waits, allocates or changes errno.
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The lock of a stream, by value. */
struct fsafe_stream_lock {
    int word;        /* 0 free, 1 locked, 2 locked and waited for */
    int count;       /* `once` below, and one more for each time that its owner has locked it again */
    uintptr_t owner; /* the pthread_self() of the thread that has it; 0 also for a moment while it is being taken */
};

/* What the self-test found; written at start-up only. */
struct fsafe_layout_stream {
    bool known; /* what the functions below answer is true of this libc */
    int once;   /* `count` of a stream that is locked once: 1, from glibc 2.37 on 0 */
};
extern FSAFE_HIDDEN struct fsafe_layout_stream fsafe_layout_stream;

/* Compares with what the next definitions do to a stream of our own making. Context: start-up. */
void fsafe_layout_stream_self_test(__typeof__(flockfile) *flock, __typeof__(funlockfile) *funlock);

#ifdef FSAFE_LAYOUT_GLIBC

/* _IO_lock_t, which the public headers keep opaque. */
struct fsafe_glibc_stream_lock {
    int word;
    int count;
    void *owner;
};

static inline struct fsafe_glibc_stream_lock *fsafe_glibc_stream_lock(const FILE *stream)
{
    return (struct fsafe_glibc_stream_lock *)stream->_lock;
}

static inline struct fsafe_stream_lock fsafe_layout_stream_lock(const FILE *stream)
{
    const struct fsafe_glibc_stream_lock *lock = fsafe_glibc_stream_lock(stream);
    return (struct fsafe_stream_lock){.word = __atomic_load_n(&lock->word, __ATOMIC_RELAXED),
                                      .count = lock->count,
                                      .owner = (uintptr_t)__atomic_load_n(&lock->owner, __ATOMIC_RELAXED)};
}

/* The owner that the lock names; 0: none. */
static inline uintptr_t fsafe_layout_stream_owner(const FILE *stream)
{
    return (uintptr_t)__atomic_load_n(&fsafe_glibc_stream_lock(stream)->owner, __ATOMIC_RELAXED);
}

/* Whether its owner, the caller, has it locked exactly once. */
static inline bool fsafe_layout_stream_is_once(const FILE *stream)
{
    return fsafe_glibc_stream_lock(stream)->count == fsafe_layout_stream.once;
}

#else

FSAFE_BEGIN_ANSWERS
static inline struct fsafe_stream_lock fsafe_layout_stream_lock(const FILE *stream)
{
    return (struct fsafe_stream_lock){.word = 0};
}
static inline uintptr_t fsafe_layout_stream_owner(const FILE *stream) { return 0; }
static inline bool fsafe_layout_stream_is_once(const FILE *stream) { return true; }
FSAFE_END_ANSWERS

#endif

/* Reads the lock of what was a stream at that address; false when it cannot be read: never faults. */
bool fsafe_layout_stream_peek(uintptr_t stream, struct fsafe_stream_lock *lock);

/* Locks a free stream `count` deep for `owner`. Context: child, alone. */
void fsafe_layout_stream_set(FILE *stream, int count, uintptr_t owner);

/* Makes a vanished thread's stream free and wakes a waiter. Context: child, any thread. */
void fsafe_layout_stream_reset(FILE *stream);
