/*
 * repair/watch: a thread that waits looks at its process's children (repair/children) in the middle of its wait.
 *
 * A system call that waits for a child, reads, accepts or sleeps in a futex goes on after a handler with SA_RESTART as
 * if nothing had happened. So a timer of the waiting thread (base/timer) has that thread look when the wait has lasted
 * for FORKSAFE_HANG_MS, and again each time after as long.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A wrapper with the frame `frame` is about to wait for `child`, or for any child (<= 0), in a system call that goes on
 * after a handler with SA_RESTART: for the child's end, for what the child sends, for a client, or in a futex.
 * Returns the `watch` for fsafe_watch_end; NULL: none. errno kept.
 */
struct fsafe_watch;
struct fsafe_watch *fsafe_watch_begin(pid_t child, uintptr_t frame);

/*
 * The wait is over, or there was none; the child `ended` has ended (<= 0: none has). Looks at the children if that is
 * due. errno kept. Context: the thread that began.
 */
void fsafe_watch_end(struct fsafe_watch *watch, pid_t ended);

/*
 * Stops the timers of the calling thread's watches (true), and sets them again (false): around a wait that a timer's
 * signal would end. A signal handler makes such a wait in the middle of a watched one: D's collector stops a thread so.
 * Context: errno is kept.
 */
void fsafe_watch_rest(bool rests);
