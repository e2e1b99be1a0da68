/* base/compiler: words that the compilers understand differently or not at all. Owns nothing; anyone may include it. */
#pragma once

#include <stdatomic.h>

#define FSAFE_LIKELY(x) __builtin_expect(!!(x), 1)
#define FSAFE_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A wrapper that the preloaded object offers to the program; everything else is hidden. */
#define FSAFE_EXPORT __attribute__((visibility("default")))

/* In its callers always, and never. */
#define FSAFE_INLINE inline __attribute__((always_inline))
#define FSAFE_APART __attribute__((noinline))

/* Kept out of the callers' hot instructions. */
#define FSAFE_COLD __attribute__((cold, noinline))

/*
 * For the variables that a fork writes, in parent and child. They lie side by side, because the kernel copies each page
 * that is written, and a page costs more than all else that we do at a fork.
 */
#define FSAFE_FORK_STATE __attribute__((section(".data.fork")))

/*
 * The same for the functions that each child of a fork runs: compilers lay hot functions side by side. A child has no
 * page of the code mapped; the kernel maps 64 KiB around the first instruction that it runs, and configure has the code
 * begin at such a boundary. What CPython's children run lay in four of them, and lies in the first one now.
 */
#define FSAFE_AT_FORK __attribute__((hot))

/* The place in the program that called the wrapper this stands in. */
#define FSAFE_CALLER() ((uintptr_t)__builtin_return_address(0))

/*
 * For the declaration of a variable that another file defines: -fvisibility speaks of definitions only, and without
 * this each access would read the variable's address first.
 */
#define FSAFE_HIDDEN __attribute__((visibility("hidden")))

/*
 * Orders stores as seen by a signal handler of this thread and by a child that a fork freezes between
 * two of them. No instruction on any machine: the copied page holds a prefix of this thread's stores
 * where the machine keeps store order (x86), and the release stores of the ledger give it elsewhere.
 */
#define FSAFE_ORDER() atomic_signal_fence(memory_order_seq_cst)
