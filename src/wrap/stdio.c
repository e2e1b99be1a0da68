/*
 * wrap/stdio: flockfile, ftrylockfile, funlockfile, and fflush of all streams. One record stands for all the depth of a
 * stream's lock. The locks that printf and its like take during a call we do not see: glibc's fork() frees them.
 */
#include "config.h"

#include "fork/coordinator.h"
#include "repair/stdio.h"
#include "track/join.h"
#include "wrap/acquire.h"
#include "wrap/next.h"
#include "wrap/undeclared.h"

#include <errno.h>

static int ask_libc(FILE *stream, bool would_wait)
{
    if (!would_wait)
        return FSAFE_NEXT(ftrylockfile)(stream);
    FSAFE_NEXT(flockfile)(stream);
    return 0;
}

static enum fsafe_verdict judge(void *stream, struct fsafe_thread *self, uintptr_t site,
                                const struct fsafe_attempt *attempt)
{
    return fsafe_stdio_judge(stream, self, site, attempt->how != FSAFE_HOW_TRY);
}

static int try(void *stream, const struct fsafe_attempt *attempt)
{
    (void)attempt;
    return FSAFE_NEXT(ftrylockfile)(stream) == 0 ? 0 : EBUSY;
}

static FSAFE_COLD int ask_in_child(FILE *stream, struct fsafe_thread *self, uintptr_t site, bool would_wait)
{
    static const struct fsafe_acquired kind = {judge, try};
    const struct fsafe_attempt attempt = {.how = would_wait ? FSAFE_HOW_WAIT : FSAFE_HOW_TRY};
    int result = fsafe_acquire_in_child(&kind, stream, self, site, &attempt);
    return result == FSAFE_ASK_LIBC ? ask_libc(stream, would_wait) : result;
}

static int acquire(FILE *stream, uintptr_t site, bool would_wait)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t lock = (uintptr_t)stream;
    if (self == NULL || !fsafe_layout_stream.known)
        return ask_libc(stream, would_wait);
    fsafe_fork_notice();
    if (fsafe_stdio_is_own(stream, self))
        return ask_libc(stream, would_wait);
    bool child = fsafe_lineage_is_child();
    if (child)
        fsafe_stdio_is_lost(stream, self);
    if (!fsafe_ledger_push(fsafe_thread_files(self), lock, site) &&
        !fsafe_ledger_push_full(fsafe_thread_files(self), lock, site, fsafe_stdio_is_stale, self))
        return ask_libc(stream, would_wait);
    int result = child ? ask_in_child(stream, self, site, would_wait) : ask_libc(stream, would_wait);
    /* No record inside a printf of this thread (a callback of fopencookie's): that call unlocks last. */
    if (result != 0 || !fsafe_layout_stream_is_once(stream))
        fsafe_ledger_drop(fsafe_thread_files(self), lock);
    return result;
}

FSAFE_EXPORT void flockfile(FILE *stream)
{
    acquire(stream, FSAFE_CALLER(), true);
}

FSAFE_EXPORT int ftrylockfile(FILE *stream)
{
    return acquire(stream, FSAFE_CALLER(), false);
}

FSAFE_EXPORT void funlockfile(FILE *stream)
{
    struct fsafe_thread *self = fsafe_self;
    bool last = false;
    if (self != NULL && fsafe_layout_stream.known && fsafe_ledger_depth(fsafe_thread_files(self)) != 0) {
        fsafe_fork_notice();
        if (fsafe_lineage_is_child() && fsafe_stdio_is_lost(stream, self))
            return;
        last = fsafe_layout_stream_owner(stream) == (uintptr_t)self->handle && fsafe_layout_stream_is_once(stream);
    }
    FSAFE_NEXT(funlockfile)(stream); /* after it the stream may be gone */
    if (last)
        fsafe_ledger_drop(fsafe_thread_files(self), (uintptr_t)stream);
}

/* fork() waits for a thread that flushes all streams: see fsafe_stdio_await_flush. */
FSAFE_EXPORT int fflush(FILE *stream)
{
    struct fsafe_thread *self = stream == NULL ? fsafe_thread_join() : NULL;
    if (self == NULL)
        return FSAFE_NEXT(fflush)(stream);
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    /* Not every machine keeps the return address there. */
    if (*(const uintptr_t *)(frame + sizeof frame) != FSAFE_CALLER())
        frame = 0;
    atomic_store_explicit(&self->flush_frame, frame, memory_order_relaxed);
    atomic_store_explicit(&self->flushing, FSAFE_CALLER(), memory_order_release);
    int result = FSAFE_NEXT(fflush)(NULL);
    atomic_store_explicit(&self->flushes, atomic_load_explicit(&self->flushes, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&self->flushing, 0, memory_order_release);
    return result;
}

#ifdef HAVE__IO_FLOCKFILE
FSAFE_DEFINE_ALIAS(_IO_flockfile, flockfile);
FSAFE_DEFINE_ALIAS(_IO_ftrylockfile, ftrylockfile);
FSAFE_DEFINE_ALIAS(_IO_funlockfile, funlockfile);
#endif
