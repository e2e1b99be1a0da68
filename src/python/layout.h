/*
 * python/layout: where the members of Python's own structures lie, by the minor version of Python 3: for python/frames,
 * which looks from inside, and for the launcher's check, which looks from outside; and how a lock's object is laid out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- Locks of 3.13 and later: see python/locks.h -------------------------------------------------------------- */

/* The bits of a lock's byte. The interpreter knows the first two and leaves the third alone until it is released. */
enum { FSAFE_PYTHON_LOCKED = 1, FSAFE_PYTHON_PARKED = 2, FSAFE_PYTHON_ORPHANED = 4 };

/* The bits of its history, which is ours. */
enum {
    FSAFE_PYTHON_EVENT = 1,   /* released by another thread than its taker, or waited for by it */
    FSAFE_PYTHON_MUTUAL = 2,  /* released by its taker before, and never otherwise */
    FSAFE_PYTHON_RELEASED = 4 /* released by somebody: whoever has it now came through us */
};

/* An object of one of the two types, as far as it is of interest. */
struct fsafe_python_lock {
    uintptr_t count;
    void *type;
    uint8_t byte, history, spare[sizeof(uintptr_t) - 2];
    unsigned long long owner; /* RLock's: its thread's pthread_t, */
    uintptr_t level; /* and how often that thread has it beyond once */
};

/* Where a type has its name and its base: PyTypeObject's tp_name and tp_base, which the C API makes public. */
enum { FSAFE_PYTHON_TYPE_NAME = 3 * sizeof(uintptr_t), FSAFE_PYTHON_TYPE_BASE = 32 * sizeof(uintptr_t) };

/* --- Threads, frames, code --------------------------------------------------------------------------------------- */

/* Where the members lie, in bytes. */
struct fsafe_python_layout {
    uint16_t state_frame;  /* in a thread's state: its frame, or what leads to it */
    int16_t indirect;      /* in what state_frame points to: the frame; -1: that is the frame */
    uint16_t frame_code, frame_back, frame_instruction, frame_locals;
    uint16_t instruction_unit; /* the instruction is an index of so many bytes; 0: an address */
    uint16_t frame_owner;      /* a byte that is 3 where no Python code runs; 0: there is none */
    uint16_t frame_stack; /* to 3.10: the address of the stack of values; 0: it follows the locals */
    uint16_t frame_blocks, frame_block_count; /* to 3.10: the blocks that are open, and how many */
    uint16_t code_file, code_name;
    uint16_t code_first; /* the instructions, or the object of bytes that has them */
    uint16_t state_thread; /* in a thread's state: its pthread_self() */
};

/* Before 3.13 the interpreter does not publish them. For addresses of 8 bytes, and of 4. */
static const struct fsafe_python_layout fsafe_python_rows[] = {
    [9] = {.state_frame = 24, .indirect = -1, .frame_code = 32, .frame_back = 24, .frame_instruction = 104,
           .frame_locals = 360, .frame_stack = 64, .frame_blocks = 120, .frame_block_count = 112,
           .instruction_unit = 1, .code_file = 104, .code_name = 112, .code_first = 48, .state_thread = 176},
    [10] = {.state_frame = 24, .indirect = -1, .frame_code = 32, .frame_back = 24, .frame_instruction = 96,
            .frame_locals = 352, .frame_stack = 64, .frame_blocks = 112, .frame_block_count = 104,
            .instruction_unit = 2, .code_file = 104, .code_name = 112, .code_first = 48, .state_thread = 176},
    [11] = {.state_frame = 56, .indirect = 8, .frame_code = 32, .frame_back = 48, .frame_instruction = 56,
            .frame_locals = 72, .code_file = 112, .code_name = 120, .code_first = 184, .state_thread = 152},
    [12] = {.state_frame = 56, .indirect = 0, .frame_code = 0, .frame_back = 8, .frame_instruction = 56,
            .frame_locals = 72, .frame_owner = 70, .code_file = 112, .code_name = 120, .code_first = 192,
            .state_thread = 136},
};
static const struct fsafe_python_layout fsafe_python_rows_4[] = {
    [11] = {.state_frame = 40, .indirect = 4, .frame_code = 16, .frame_back = 24, .frame_instruction = 28,
            .frame_locals = 40, .code_file = 80, .code_name = 84, .code_first = 116, .state_thread = 88},
};

/* The row of a version; NULL: there is none. */
static inline const struct fsafe_python_layout *fsafe_python_row(unsigned minor, unsigned address_bytes)
{
    const struct fsafe_python_layout *rows = address_bytes == 8 ? fsafe_python_rows : fsafe_python_rows_4;
    unsigned count = address_bytes == 8 ? sizeof fsafe_python_rows / sizeof *fsafe_python_rows
                                        : sizeof fsafe_python_rows_4 / sizeof *fsafe_python_rows_4;
    return minor < count && rows[minor].state_frame != 0 ? &rows[minor] : NULL;
}

/* A version's table of offsets, by the number of the 64-bit word. */
struct fsafe_python_published {
    uint8_t state_frame, state_thread, frame_back, frame_code, frame_instruction, frame_locals, code_file, code_name,
        code_first;
};
static const struct fsafe_python_published fsafe_python_published[] = {
    [13] = {23, 24, 29, 30, 31, 32, 35, 36, 43},
    [14] = {26, 27, 32, 33, 34, 35, 40, 41, 48},
    [15] = {26, 30, 40, 41, 42, 43, 48, 49, 56},
};
enum { FSAFE_PYTHON_PUBLISHED_WORDS = 57 };

/* Whether the version publishes a table, and what that says. */
static inline bool fsafe_python_publishes(unsigned minor)
{
    return minor < sizeof fsafe_python_published / sizeof *fsafe_python_published &&
           fsafe_python_published[minor].state_frame != 0;
}

static inline struct fsafe_python_layout fsafe_python_read_published(const uint64_t *table, unsigned minor)
{
    const struct fsafe_python_published *word = &fsafe_python_published[minor];
    return (struct fsafe_python_layout){
        .state_frame = (uint16_t)table[word->state_frame],
        .indirect = -1,
        .frame_code = (uint16_t)table[word->frame_code],
        .frame_back = (uint16_t)table[word->frame_back],
        .frame_instruction = (uint16_t)table[word->frame_instruction],
        .frame_locals = (uint16_t)table[word->frame_locals],
        .code_file = (uint16_t)table[word->code_file],
        .code_name = (uint16_t)table[word->code_name],
        .code_first = (uint16_t)table[word->code_first],
        .state_thread = (uint16_t)table[word->state_thread],
    };
}
