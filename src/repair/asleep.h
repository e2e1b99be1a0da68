/*
 * repair/asleep: whether the other threads of a child sleep so that none of them can end a wait of the one that asks:
 * what the kernel says of them, and what each says of its own wait (struct fsafe_sleeping). Owns nothing.
 * Context of all: child, any thread, no latch held.
 */
#pragma once

#include "track/thread.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether all other threads sleep without a limit where no other process reaches. `unblocked`: the signals that some
 * thread would take; set when it is true. Slow.
 */
bool fsafe_asleep_all(const struct fsafe_thread *self, uint64_t *unblocked);

/*
 * The caller is about to give another process its memory (CLONE_VM without CLONE_THREAD), and goes on itself: from then
 * on that process may end any wait of this one, and nothing is said.
 */
void fsafe_asleep_lend_memory(void);

/*
 * Whether `count` words that somebody waits for by the system call futex_waitv are for no other process to reach. Slow.
 */
bool fsafe_asleep_is_private(uintptr_t waiters, unsigned long count);

/* Whether a thread that went to sleep after this one looks, or has looked, and tells the user what it sees. */
bool fsafe_asleep_is_left_to_another(const struct fsafe_thread *self);

/* Whether a thread that we know of is in no wait without a limit: nothing else is worth asking then. */
bool fsafe_asleep_is_anybody_awake(const struct fsafe_thread *self);

/* Whether another thread waits for a lock that it gets as soon as it looks: it may end this wait then. */
bool fsafe_asleep_will_another_be_given(const struct fsafe_thread *self);
