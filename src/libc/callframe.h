/*
 * libc/callframe: where a function's frame keeps what its caller needs, by the call frame information that compilers
 * put into every module (.eh_frame). The formats are those of DWARF as the System V ABIs for x86-64 and i386 use it.
 * It understands what compilers emit for functions; there are no rules where the information is an expression (the PLT,
 * signal frames, i386's main). x86-64 and i386 only. Takes no lock of the loader's and reads memory by copies only.
 * Context: any thread, also in a signal handler.
 */
#pragma once

#include "base/window.h"

enum { FSAFE_UNWIND_RANGES = 256, FSAFE_UNWIND_KEPT = 4, FSAFE_UNWIND_WORDS = 128 };

/* The search for each frame reads the same few places of a module's tables. A power of two. */
enum { FSAFE_UNWIND_WINDOWS = 16 };

/* The numbers of registers, by their names on x86-64. RIP stands for the return address and is the last. */
#ifdef __x86_64__
#define FSAFE_CALLFRAME 1
enum { FSAFE_CALLFRAME_RBP = 6, FSAFE_CALLFRAME_RSP = 7, FSAFE_CALLFRAME_RIP = 16 };
#else
#ifdef __i386__
#define FSAFE_CALLFRAME 1
#endif
enum { FSAFE_CALLFRAME_RBP = 5, FSAFE_CALLFRAME_RSP = 4, FSAFE_CALLFRAME_RIP = 8 };
#endif
enum { FSAFE_CALLFRAME_REGISTERS = FSAFE_CALLFRAME_RIP + 1 };

/* A frame's address (CFA) is a register's value plus an offset; the frame saves a register at an offset from it. */
struct fsafe_callframe {
    uintptr_t begin; /* of the function */
    uint64_t cfa_register;
    int64_t cfa_offset;
    enum {
        FSAFE_ROW_SAME,
        FSAFE_ROW_AT_OFFSET,
        FSAFE_ROW_UNDEFINED,
        FSAFE_ROW_UNKNOWN,
    } how[FSAFE_CALLFRAME_REGISTERS];
    int64_t offset[FSAFE_CALLFRAME_REGISTERS];
};

/* Working memory of libc/unwind and of this file: too much for a small stack. Begins all zero. */
struct fsafe_unwind {
    struct fsafe_window code[FSAFE_UNWIND_WINDOWS], stack;
    struct {
        uintptr_t start, end, base;
        uintptr_t table; /* of its module; 0: not looked for yet, 1: it has none */
    } ranges[FSAFE_UNWIND_RANGES]; /* the executable memory */
    unsigned count;
    struct fsafe_callframe kept[FSAFE_UNWIND_KEPT]; /* by DW_CFA_remember_state */
    uintptr_t words[FSAFE_UNWIND_WORDS];            /* of the stack that is searched */
};

/* Copies from code or tables. Returns whether all of it could be read. */
bool fsafe_callframe_read(struct fsafe_unwind *unwind, uintptr_t from, void *into, size_t bytes);

/* The index of the executable range that holds `pc`, or -1. */
int fsafe_callframe_range(struct fsafe_unwind *unwind, uintptr_t pc);

/* The address of the function's entry (FDE) that should hold `pc`, or 0. */
uintptr_t fsafe_callframe_entry(struct fsafe_unwind *unwind, uintptr_t pc);

/* The rules at the call that returns to `pc`. Returns whether there are any. */
bool fsafe_callframe_rules(struct fsafe_unwind *unwind, uintptr_t pc, struct fsafe_callframe *row);
