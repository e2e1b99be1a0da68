/*
 * repair/stdio: streams that were locked by flockfile when the process was forked.
 *
 * glibc makes the locks of all streams free in a child, also those that the forking thread holds; its funlockfile then
 * leaves a count that never comes back to zero, and the next thread that prints has the stream for ever. So the forking
 * thread's holds are put back first of all. Streams that glibc leaves out keep the locks of vanished threads: those of
 * open_memstream are made free at once, too; those with FSETLOCKING_BYCALLER, which only flockfile locks, are taken
 * over when the child asks for them.
 *
 * The owner in a stream is a pthread_self(), and the child's new threads may have the same as vanished threads: the
 * ledgers show which thread is meant.
 */
#pragma once

#include "base/compiler.h"
#include "libc/layout-stream.h"
#include "repair/takeover.h"

/* Notes which streams the forking thread holds, and how deep. Context: parent, before fork. */
void fsafe_stdio_prepare(struct fsafe_thread *self);

/* Drops these notes. Context: parent, after fork. */
void fsafe_stdio_parent(struct fsafe_thread *self);

/* Puts the forking thread's holds back, frees vanished threads' streams. Context: child, alone, before all handlers. */
FSAFE_AT_FORK void fsafe_stdio_child(struct fsafe_thread *self);

/* Whether this thread has the stream and a record of it. */
bool fsafe_stdio_is_own(const FILE *stream, struct fsafe_thread *self);

/*
 * Whether this thread has a record of a stream that it does not hold, because a fork has freed the stream and the hold
 * could not be put back: drops the record. An unlock would damage the lock. Context: child, any thread.
 */
bool fsafe_stdio_is_lost(const FILE *stream, struct fsafe_thread *self);

/*
 * Says what to do about a stream that the caller, which has a record that it wants it, is about to lock. FSAFE_FREED:
 * it was a vanished thread's and is free now. Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_stdio_judge(FILE *stream, struct fsafe_thread *self, uintptr_t site, bool would_wait);

/* For fsafe_ledger_push_full: whether the recorded stream does not name the thread `context`. */
bool fsafe_stdio_is_stale(uintptr_t lock, void *context);

/*
 * libc keeps its list of streams locked while a thread flushes them all (fflush(NULL)), and fork() waits for that lock:
 * for ever, if the thread writes to a pipe that nobody reads. This function waits, as fork() would, while there is such
 * a thread and none has finished; after FORKSAFE_HANG_MS it writes a line that names the thread. Context: parent,
 * before fork.
 */
void fsafe_stdio_await_flush(const struct fsafe_thread *self);
