#include "config.h"

#include "base/sys.h"
#include "libc/layout-stream.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

struct fsafe_layout_stream fsafe_layout_stream;

#ifdef FSAFE_LAYOUT_GLIBC

/* flockfile and funlockfile look at _lock, and since 2.35 set a bit in _flags2: a stream of zeroes is enough. */
void fsafe_layout_stream_self_test(__typeof__(flockfile) *flock, __typeof__(funlockfile) *funlock)
{
    FILE stream;
    struct fsafe_glibc_stream_lock lock = {0, 0, NULL};
    uintptr_t self = (uintptr_t)pthread_self();
    if (flock == NULL || funlock == NULL)
        return;
    memset(&stream, 0, sizeof stream);
    stream._lock = (void *)&lock;
    flock(&stream);
    int once = lock.count;
    bool known = lock.word == 1 && (uintptr_t)lock.owner == self && (once == 0 || once == 1);
    flock(&stream);
    known = known && lock.word == 1 && (uintptr_t)lock.owner == self && lock.count == once + 1;
    funlock(&stream);
    known = known && lock.word == 1 && (uintptr_t)lock.owner == self && lock.count == once;
    funlock(&stream);
    fsafe_layout_stream.known = known && lock.word == 0 && lock.owner == NULL && lock.count == 0;
    fsafe_layout_stream.once = once;
}

bool fsafe_layout_stream_peek(uintptr_t stream, struct fsafe_stream_lock *into)
{
    struct fsafe_glibc_stream_lock *at, lock;
    if (!fsafe_sys_peek(stream + offsetof(FILE, _lock), &at, sizeof at) ||
        !fsafe_sys_peek((uintptr_t)at, &lock, sizeof lock))
        return false;
    *into = (struct fsafe_stream_lock){.word = lock.word, .count = lock.count, .owner = (uintptr_t)lock.owner};
    return true;
}

void fsafe_layout_stream_set(FILE *stream, int count, uintptr_t owner)
{
    struct fsafe_glibc_stream_lock *lock = fsafe_glibc_stream_lock(stream);
    lock->count = count;
    lock->owner = (void *)owner;
    lock->word = 1;
}

void fsafe_layout_stream_reset(FILE *stream)
{
    struct fsafe_glibc_stream_lock *lock = fsafe_glibc_stream_lock(stream);
    lock->count = 0;
    __atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
    /* The word last: a thread that sees it free takes the lock. A printf of another thread may sleep on it. */
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) > 1)
        fsafe_sys_futex_wake(&lock->word, 1);
}

#else

FSAFE_BEGIN_ANSWERS
void fsafe_layout_stream_self_test(__typeof__(flockfile) *flock, __typeof__(funlockfile) *funlock) { }
bool fsafe_layout_stream_peek(uintptr_t stream, struct fsafe_stream_lock *lock) { return false; }
void fsafe_layout_stream_set(FILE *stream, int count, uintptr_t owner) { }
void fsafe_layout_stream_reset(FILE *stream) { }
FSAFE_END_ANSWERS

#endif
