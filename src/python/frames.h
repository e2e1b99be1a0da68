/*
 * python/frames: where in its program a Python thread is: file, line and function of the frame it runs, read from the
 * interpreter's memory. Nothing is allocated or counted and no Python code runs, so the thread itself may be read while
 * it waits without the GIL, and a vanished thread as long as its state is there.
 *
 * From 3.13 on the interpreter publishes where the members lie; before, each version has a row of its own. Either is
 * compared once with what the interpreter's own functions say of the frames that are running then.
 */
#pragma once

#include "python/interpreter.h"
#include "report/event.h"

#include <stdatomic.h>
#include <stddef.h>

/* Compares the layout with what the interpreter says; if they differ no place is ever known. Context: has the GIL. */
void fsafe_python_frames_start(void);

/* Which pthread_self() the thread of `state` has; 0 unknown. Context: `state` stays where it is. */
uintptr_t fsafe_python_frames_thread(const void *state);

/* A function that a thread runs: what is needed to find a line of it later. */
struct fsafe_python_function {
    uintptr_t code;
    uintptr_t now; /* the instruction that it is at */
};

/* How many functions are looked at, the innermost first. */
enum { FSAFE_PYTHON_DEEPEST = 64 };

/* All functions that the thread of `state` runs, the innermost first. Returns how many. Context: as frames_read. */
unsigned fsafe_python_frames_copy(const void *state, struct fsafe_python_function functions[FSAFE_PYTHON_DEEPEST]);

/*
 * A number by which a function that is still there is known from one that was and whose memory is another's by now; 0:
 * it is not there. Context: any; `runs`: it runs now. Never faults.
 */
FSAFE_AT_FORK uintptr_t fsafe_python_frames_mark(const struct fsafe_python_function *function, bool runs);

/* Whether the instruction is one of the function's. Context: the function's code stays where it is. */
bool fsafe_python_frames_has(const struct fsafe_python_function *function, uintptr_t instruction);

/* Of `count` functions, the innermost first, those that frames_read would give. Context: as above. */
unsigned fsafe_python_frames_choose(const struct fsafe_python_function *from, unsigned count,
                                    struct fsafe_python_function *functions, unsigned most);

/*
 * The innermost `most` functions that the thread of `state` runs, without those of the interpreter's own modules for
 * threads, queues, logs and imports; where there are no others, the innermost alone. Returns how many.
 * Context: `state` is the caller's own, or that of a thread that does not run. errno kept.
 */
unsigned fsafe_python_frames_read(const void *state, struct fsafe_python_function *functions, unsigned most);

/* File, line and name of the function at the instruction that it is at. Context: its code stays where it is. */
void fsafe_python_frames_place(const struct fsafe_python_function *function, struct fsafe_source *place);

/*
 * Walks all frames of a thread that runs no code, the innermost first:
 *     for (struct fsafe_python_frame at = {0}; fsafe_python_frames_next(state, &at);)
 * Context: as frames_read.
 */
struct fsafe_python_frame {
    uintptr_t frame;
    struct fsafe_object *code;
    uintptr_t first, now; /* the code's first instruction, and the one that the frame is at */
    unsigned depth;
};
FSAFE_AT_FORK bool fsafe_python_frames_next(const void *state, struct fsafe_python_frame *at);

/* Local variable `index` of the frame, whose code has one, parameters first; NULL: no value. Context: as above. */
FSAFE_AT_FORK struct fsafe_object *fsafe_python_frames_variable(const struct fsafe_python_frame *at, unsigned index);

/* Value `index` of the frame's stack, which has so many locals and cells; 0 where there is none. Context: as above. */
uintptr_t fsafe_python_frames_value(const struct fsafe_python_frame *at, unsigned locals, unsigned index);

/*
 * To 3.10: how deep in the stack of values the frame's open block `index` begins; -1: there is no such block. Later no
 * frame has blocks: its code has a table. Context: as above.
 */
int fsafe_python_frames_block(const struct fsafe_python_frame *at, unsigned index);

/* Copies the end of a Python string to `text`, as UTF-8; "" where it is none. Context: `string` stays where it is. */
void fsafe_python_frames_string(const void *string, char *text, size_t bytes);

/* The instruction that the thread of `state` is at, to be found again in a function; 0 unknown. Context: its thread. */
FSAFE_AT_FORK uintptr_t fsafe_python_frames_instruction(const void *state);

/*
 * The same from 3.13 on, for the methods of locks, which may cost hardly anything: a short call and three loads. The
 * offsets of a thread's frame and a frame's instruction, one in each half; 0 unknown. Context: has the GIL.
 */
extern FSAFE_HIDDEN _Atomic uint32_t fsafe_python_frames_offsets;
static inline uintptr_t fsafe_python_frames_instruction_with_gil(void)
{
    uint32_t offsets = atomic_load_explicit(&fsafe_python_frames_offsets, memory_order_relaxed);
    if (FSAFE_UNLIKELY(offsets == 0))
        return 0;
    uintptr_t state = (uintptr_t)fsafe_python.PyThreadState_GetUnchecked();
    uintptr_t frame = *(const uintptr_t *)(state + (offsets & 0xffff));
    return FSAFE_LIKELY(frame != 0) ? *(const uintptr_t *)(frame + (offsets >> 16)) : 0;
}
