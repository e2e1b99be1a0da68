/* base/compiler: names for what compilers offer beyond ISO C. */
#pragma once

#include <stdatomic.h>

#define FSAFE_LIKELY(x) __builtin_expect(!!(x), 1)
#define FSAFE_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* What the library exports to the program; everything else is hidden. */
#define FSAFE_EXPORT __attribute__((visibility("default")))

/* A function that the compiler always, or never, puts into its callers. */
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
 * The same for the functions that each child of a fork runs: compilers lay hot functions side by side. A child begins
 * with no page of the code mapped; the kernel maps the 64 KiB around the first instruction that the child runs, and
 * configure has the code begin at such a boundary. Measured. The functions that CPython's children run lie in one range
 * of 64 KiB, without this attribute in four.
 */
#define FSAFE_AT_FORK __attribute__((hot))

/* Around functions that answer without a look at their parameters. */
#define FSAFE_BEGIN_ANSWERS \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wunused-parameter\"")
#define FSAFE_END_ANSWERS _Pragma("GCC diagnostic pop")

/* The place in the program that called the wrapper which uses this macro. */
#define FSAFE_CALLER() ((uintptr_t)__builtin_return_address(0))

/*
 * For the declaration of a variable that another file defines: -fvisibility concerns definitions only, and without this
 * attribute each access reads the variable's address first.
 */
#define FSAFE_HIDDEN __attribute__((visibility("hidden")))

/*
 * Keeps two stores in program order, as a signal handler of this thread sees them, and a child whose fork came between
 * them. The compiler makes no instruction of it on any machine: the copied page holds a prefix of this thread's stores
 * where the machine keeps the order of stores (x86); elsewhere the release stores of the ledger see to that.
 */
#define FSAFE_ORDER() atomic_signal_fence(memory_order_seq_cst)
