/*
 * Measured. fork() zeroes the lock of every stream in libc's list when the process has threads. We note the forking
 * thread's holds before the fork, from the bytes, and put them back in the child where the bytes have become all zero:
 * only fork() does that, so no stale address is written to. A stream that is locked once has the count 1 up to glibc
 * 2.36 and 0 from 2.37 on: the start-up test finds out. flockfile and funlockfile take 15.7 ns, without us 13.1.
 */
#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "base/pages.h"
#include "base/tasks.h"
#include "repair/filter.h"
#include "repair/stdio.h"
#include "report/report.h"
#include "track/slots.h"

#include <stdio_ext.h>
#include <string.h>

/* The streams that a thread holds when it forks. Mapped for each fork that needs it: most do not. */
struct fsafe_stdio_holds {
    size_t bytes;
    uint32_t count;
    struct {
        uintptr_t stream;
        int count;
    } hold[];
};

void fsafe_stdio_prepare(struct fsafe_thread *self)
{
    struct fsafe_ledger *files = fsafe_thread_files(self);
    uint32_t depth = fsafe_ledger_depth(files);
    if (FSAFE_LIKELY(depth == 0) || fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    fsafe_stdio_parent(self); /* perhaps a signal handler forks in the middle of a fork */
    size_t bytes = sizeof(struct fsafe_stdio_holds) + depth * sizeof self->fork_files->hold[0];
    struct fsafe_stdio_holds *holds = fsafe_pages_map(bytes);
    if (holds == NULL)
        return;
    holds->bytes = bytes;
    for (uint32_t i = depth; i > 0; i--) {
        uintptr_t stream, site;
        struct fsafe_stream_lock lock;
        /* The ledger may have a record of a closed stream; a stream whose lock names this thread is open. */
        if (!fsafe_ledger_read(files, i, &stream, &site) ||
            !fsafe_layout_stream_peek(stream & ~FSAFE_STAGE_MASK, &lock) || lock.word == 0 ||
            lock.owner != (uintptr_t)self->handle)
            continue;
        holds->hold[holds->count].stream = stream & ~FSAFE_STAGE_MASK;
        holds->hold[holds->count++].count = lock.count;
    }
    self->fork_files = holds;
}

void fsafe_stdio_parent(struct fsafe_thread *self)
{
    struct fsafe_stdio_holds *holds = self->fork_files;
    self->fork_files = NULL;
    if (holds != NULL)
        fsafe_pages_unmap(holds, holds->bytes);
}

bool fsafe_stdio_is_own(const FILE *stream, struct fsafe_thread *self)
{
    return fsafe_layout_stream_owner(stream) == (uintptr_t)self->handle &&
           fsafe_ledger_find(fsafe_thread_files(self), (uintptr_t)stream) != 0;
}

bool fsafe_stdio_is_lost(const FILE *stream, struct fsafe_thread *self)
{
    return fsafe_options.mode == FSAFE_MODE_REPAIR && fsafe_layout_stream_owner(stream) != (uintptr_t)self->handle &&
           fsafe_ledger_drop(fsafe_thread_files(self), (uintptr_t)stream);
}

bool fsafe_stdio_is_stale(uintptr_t stream, void *context)
{
    const struct fsafe_thread *self = context;
    struct fsafe_stream_lock lock;
    return !fsafe_layout_stream_peek(stream & ~FSAFE_STAGE_MASK, &lock) || lock.owner != (uintptr_t)self->handle;
}

/* The streams of which vanished threads have records. */
static _Atomic uint64_t filter_words[FSAFE_FILTER_WORDS];
static struct fsafe_filter orphans = {.words = filter_words};

/*
 * Whether a vanished thread's stream is to be made free, as libc has made those in its list. Not one with
 * FSETLOCKING_BYCALLER, which judge() sees; a printf takes any other lock without our wrapper. If the recorded stream
 * is closed, its lock no longer names the vanished thread, or its memory is gone.
 */
static bool is_to_be_free(const struct fsafe_thread *vanished, uintptr_t stream)
{
    struct fsafe_stream_lock lock;
    return fsafe_layout_stream_peek(stream, &lock) && lock.word != 0 && lock.owner == (uintptr_t)vanished->handle &&
           fsafe_maps_find_exclusive(stream) &&
           __fsetlocking((FILE *)stream, FSETLOCKING_QUERY) != FSETLOCKING_BYCALLER;
}

static FSAFE_AT_FORK void release_orphans(void)
{
    struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_FILES);
    while (fsafe_thread_record(&at)) {
        if (!is_to_be_free(at.of.thread, at.address))
            continue;
        fsafe_layout_stream_reset((FILE *)at.address);
        fsafe_thread_clear(&at);
    }
}

void fsafe_stdio_child(struct fsafe_thread *self)
{
    struct fsafe_stdio_holds *holds = self->fork_files;
    for (uint32_t i = 0; holds != NULL && i < holds->count; i++) {
        /*
         * The stream was this thread's a moment ago and is free now: only glibc's fork() does that, and only to streams
         * that are open. A stream that fork() leaves alone still names this thread.
         */
        struct fsafe_stream_lock lock;
        if (fsafe_layout_stream_peek(holds->hold[i].stream, &lock) && lock.word == 0 && lock.owner == 0 &&
            lock.count == 0)
            fsafe_layout_stream_set((FILE *)holds->hold[i].stream, holds->hold[i].count, (uintptr_t)self->handle);
    }
    fsafe_stdio_parent(self);
    if (fsafe_options.mode == FSAFE_MODE_REPAIR && fsafe_layout_stream.known)
        release_orphans();
}

/* The vanished thread that has the stream, by a record and, if its bytes name an owner (not 0), by its handle. */
static void find_vanished(struct fsafe_claims *claims, uintptr_t stream, uintptr_t owner)
{
    claims->vanished = NULL;
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_FILES); fsafe_thread_record(&at);)
        if (at.address == stream && (owner == 0 || (uintptr_t)at.of.thread->handle == owner)) {
            claims->vanished = at.of.thread;
            claims->since = at.record.site;
        }
}

/* Under the latch. */
static enum fsafe_verdict judge(struct fsafe_question *question)
{
    uintptr_t address = question->event.address;
    FILE *stream = (FILE *)address;
    struct fsafe_stream_lock lock = fsafe_layout_stream_lock(stream);
    bool recorded = fsafe_filter_ask(&orphans, FSAFE_FILES, address);
    if (lock.word == 0) {
        if (recorded) /* from now on the stream's bytes name living threads */
            fsafe_filter_drop(&orphans, FSAFE_FILES, address);
        return FSAFE_PROCEED;
    }
    struct fsafe_claims claims = fsafe_takeover_claims(question->self, FSAFE_FILES, address, 0);
    find_vanished(&claims, address, lock.owner);
    if (claims.vanished == NULL) {
        /*
         * Without a record it is a printf's lock: of a vanished thread in a process with one thread, else perhaps not.
         */
        if (lock.owner == (uintptr_t)question->self->handle || claims.own_at_it || !fsafe_takeover_is_alone())
            return FSAFE_PROCEED;
    } else if (lock.owner == 0 && (claims.living_is_at_it || claims.own_at_it)) {
        return claims.living_is_at_it ? FSAFE_UNDECIDED : FSAFE_PROCEED;
    }
    if (!fsafe_takeover_decide(&question->event, &claims, question->would_wait))
        return FSAFE_PROCEED;
    fsafe_filter_drop(&orphans, FSAFE_FILES, address);
    fsafe_layout_stream_reset(stream);
    return FSAFE_FREED;
}

enum fsafe_verdict fsafe_stdio_judge(FILE *stream, struct fsafe_thread *self, uintptr_t site, bool would_wait)
{
    struct fsafe_stream_lock lock = fsafe_layout_stream_lock(stream);
    if (!fsafe_filter_may_have(&orphans, (uintptr_t)stream) &&
        (lock.word == 0 || lock.owner == (uintptr_t)self->handle))
        return FSAFE_PROCEED;
    struct fsafe_question question = {
        .self = self,
        .would_wait = would_wait,
        .event = {.lock = "stream", .kind = "flockfile", .address = (uintptr_t)stream, .wanted_at = site},
    };
    return fsafe_takeover_judge(&question, judge);
}

/* --- Who flushes all streams ---------------------------------------------------------------------------------- */

/*
 * A thread that was cancelled in the call has left it, and libc has freed the list, while the thread runs its cleanup
 * handlers: it sleeps above the call's frame, or another return address has replaced the call's. Where that address
 * does not lie beside the frame (armhf, riscv64, s390x) such a thread counts until its handlers end.
 */
static bool is_flushing(const struct fsafe_thread *thread)
{
    enum { ONE_STACK = 64 << 10 };
    struct fsafe_task task;
    uintptr_t site = atomic_load_explicit(&thread->flushing, memory_order_acquire), beside;
    if (site == 0 || !fsafe_tasks_look(thread->tid, &task) || task.call == -1)
        return site != 0;
    uintptr_t frame = atomic_load_explicit(&thread->flush_frame, memory_order_relaxed);
    return frame == 0 || (task.stack - frame >= ONE_STACK &&
                          fsafe_sys_peek(frame + sizeof beside, &beside, sizeof beside) && beside == site);
}

/* Another thread that flushes all streams, and how often all threads together have done that; NULL: none does. */
static struct fsafe_thread *find_flusher(const struct fsafe_thread *self, uint32_t *flushes)
{
    struct fsafe_thread *found = NULL;
    *flushes = 0;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);) {
        *flushes += atomic_load_explicit(&at.thread->flushes, memory_order_relaxed);
        if (found == NULL && at.thread != self && is_flushing(at.thread))
            found = at.thread;
    }
    return found;
}

void fsafe_stdio_await_flush(const struct fsafe_thread *self)
{
    enum { PAUSE_US = 200 };
    struct fsafe_thread *flusher = NULL;
    uint32_t before = 0, flushes;
    uint64_t until_ns = 0;
    while (fsafe_options.hang_ms != 0 && (flusher = find_flusher(self, &flushes)) != NULL) {
        uint64_t now_ns = fsafe_sys_now_ns();
        if (until_ns == 0)
            until_ns = now_ns + fsafe_options_hang_ns();
        else if (flushes != before)
            return; /* one has ended: libc's fork() will get the list, however many threads go on flushing */
        before = flushes;
        if (now_ns < until_ns) {
            fsafe_sys_pause_us(PAUSE_US);
            continue;
        }
        struct fsafe_event event = {
            .deed = FSAFE_FORK_WAITS,
            .lock = "the C library's list of streams",
            .kind = "fflush",
            .wanted_at = self->forks.site,
            .holder = {.tid = flusher->tid, .pid = flusher->pid},
        };
        /* Later forks do not wait for this thread here. */
        event.holder.since = atomic_exchange(&flusher->flushing, 0);
        memcpy(event.holder.name, flusher->name, sizeof event.holder.name);
        fsafe_report_event(&event);
        return;
    }
}
