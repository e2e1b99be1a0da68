/*
 * repair/stdio: streams that were locked by flockfile when the process was forked.
 *
 * glibc makes the locks of all streams free in a child, also those that the forking thread holds; its funlockfile
 * then leaves a count that never comes back to zero, and the next thread that prints has the stream for ever. The
 * thread's holds are put back before anybody can ask. Streams that glibc leaves out keep the locks of vanished threads:
 * those of open_memstream are made free at once, too; those with FSETLOCKING_BYCALLER, which nothing but flockfile
 * locks, are taken over when the child asks for them.
 *
 * The owner in a stream is a pthread_self(), and the child's new threads get those of vanished threads: the
 * ledgers tell them apart.
 */
#pragma once

#include "base/compiler.h"
#include "libc/layout-stream.h"
#include "repair/takeover.h"

/* Notes which streams the forking thread holds, and how deep. Context: parent, before fork. */
void fsafe_stdio_prepare(struct fsafe_thread *self);

/* Forgets that. Context: parent, after fork. */
void fsafe_stdio_parent(struct fsafe_thread *self);

/* Gives them back to the forking thread, frees those of vanished ones. Context: child, alone, first of all handlers. */
FSAFE_AT_FORK void fsafe_stdio_child(struct fsafe_thread *self);

/* Whether this thread has the stream and has it on record. */
bool fsafe_stdio_is_own(const FILE *stream, struct fsafe_thread *self);

/*
 * Whether this thread has a stream on record that it does not have: the hold was lost at a fork and could not
 * be put back. To unlock it would break it; the record is dropped. Context: child, any thread.
 */
bool fsafe_stdio_is_lost(const FILE *stream, struct fsafe_thread *self);

/*
 * Says what to do about a stream that the caller, who has it on record as wanted, is about to lock.
 * FSAFE_FREED: it was a vanished thread's and has been made free. Context: child, any thread, no latch held.
 */
enum fsafe_verdict fsafe_stdio_judge(FILE *stream, struct fsafe_thread *self, uintptr_t site, bool would_wait);

/* For fsafe_ledger_push_full: a record of a stream that does not name the thread `context`. */
bool fsafe_stdio_is_stale(uintptr_t lock, void *context);

/*
 * libc keeps the list of all streams locked while a thread flushes them (fflush(NULL)), and its fork() waits for that
 * lock: for ever, when that thread writes to a pipe that nobody reads. While there is such a thread, and none comes to
 * the end of its flushing, it waits, as fork() would, and when that has lasted for FORKSAFE_HANG_MS says for whom, and
 * from where. Context: parent, before fork.
 */
void fsafe_stdio_await_flush(const struct fsafe_thread *self);
