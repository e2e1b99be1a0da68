/*
 * repair/asleep: whether all other threads of a child sleep, so that none of them can end a wait of the thread that
 * asks: what the kernel says of them, and what each notes of its own wait (struct fsafe_sleeping); and whether a signal
 * handler can. Context of all: child, any thread, no latch held.
 */
#pragma once

#include "track/thread.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether all other threads sleep without a limit on futexes that no other process reaches. If so `unblocked` becomes
 * the signals that some thread would take. Slow.
 */
bool fsafe_asleep_all(const struct fsafe_thread *self, uint64_t *unblocked);

/*
 * Only one thread at a time asks fsafe_asleep_all whether it may be given what it waits for: several would each find
 * another awake. begin_turn returns the calling thread's turn, 0: another has it. end_turn, with `asleep` as
 * fsafe_asleep_all answered, returns whether the thread may be given it: from then on it counts as awake.
 */
uint64_t fsafe_asleep_begin_turn(void);
bool fsafe_asleep_end_turn(struct fsafe_thread *self, uint64_t turn, bool asleep);

/* Whether the program handles one of the signals `unblocked`, so that its handler may end a wait. */
bool fsafe_asleep_may_be_handled(uint64_t unblocked);

/*
 * From now on `is_default` says whether SIGINT's handler is one that nobody in the program has asked for and that ends
 * the program, as the default action would. It is asked where only that handler could end a wait. Context: any.
 */
void fsafe_asleep_know_interrupt(bool (*is_default)(void));

/*
 * The caller is about to make a process that shares its memory (CLONE_VM without CLONE_THREAD) and goes on itself. From
 * then on that process may end any wait of this one, so that fsafe_asleep_all is false.
 */
void fsafe_asleep_lend_memory(void);

/* Whether no other process reaches any of the `count` words at `waiters`, an array for futex_waitv. Slow. */
bool fsafe_asleep_is_private(uintptr_t waiters, unsigned long count);

/* Whether another thread writes, or has written, the line about these waits, because it went to sleep later. */
bool fsafe_asleep_is_left_to_another(const struct fsafe_thread *self);

/* Whether a thread that we know of is in no wait without a limit: then nothing else needs to be asked. */
bool fsafe_asleep_is_anybody_awake(const struct fsafe_thread *self);

/* Whether another thread waits for a lock that it gets at the end of its slice: then it may end this wait. */
bool fsafe_asleep_will_another_be_given(const struct fsafe_thread *self);
