/* track/waiting: which waits a thread is in, which of them a longjmp has left, and which it makes again. */
#pragma once

#include "track/thread.h"

/*
 * Before and after a wait for the lock whose record in ledger `of` is `record`; end gets what begin returned. Both are
 * called in one function, which is not inlined. Context: the thread.
 */
uint32_t fsafe_thread_begin_wait_at(struct fsafe_thread *self, const struct fsafe_wait *wait);

static FSAFE_INLINE uint32_t fsafe_thread_begin_wait(struct fsafe_thread *self, enum fsafe_ledger_of of,
                                                     uintptr_t record)
{
    return fsafe_thread_begin_wait_at(self, &(const struct fsafe_wait){
                                                .record = record,
                                                .of = of,
                                                .frame = (uintptr_t)__builtin_frame_address(0),
                                                .returns = (uintptr_t)__builtin_return_address(0),
                                            });
}

static inline void fsafe_thread_end_wait(struct fsafe_thread *self, uint32_t begun)
{
    self->waits = begun;
}

/*
 * Whether the wait for `object` that the thread begins at `now_ns` is the wait that it left a moment ago: see struct
 * fsafe_again. Context: the thread.
 */
bool fsafe_thread_waits_again(const struct fsafe_thread *self, uintptr_t object, int64_t value, uint64_t now_ns);

/*
 * Drops the records of waits that a longjmp has left: the functions that waited have no frames any more, as far as can
 * be told from `frame`, the caller's. A wait that a signal handler has interrupted stays. Context: the thread.
 */
void fsafe_thread_forget_left(struct fsafe_thread *self, uintptr_t frame);

/*
 * Whether the function with `frame` has been left, as far as can be told from a later frame, `current`: `frame` lies
 * below `current`, on the same stack. Far below may be another stack, a coroutine's. There the function has been left
 * if `returns`, the address that it returns to, no longer lies beside its frame; 0: not known, the frames alone decide.
 * Context: the thread.
 */
bool fsafe_thread_is_left(uintptr_t frame, uintptr_t returns, uintptr_t current);
