/*
 * repair/guard: the guards of C++ static locals (the Itanium C++ ABI's __cxa_guard_*) and what a child does about a
 * guard whose initialiser was running in a vanished thread.
 *
 * The ABI fixes the first byte only: compilers test it inline, and nonzero means initialised. The rest belongs to the
 * C++ runtime, and for guards that is us: all modules are bound to our definition, also a C++ library that a C program
 * loads later. The bits in the first four bytes are libstdc++'s, and so is the kind of futex: a library with a hidden
 * libstdc++ of its own may share a guard with us, that of an inline function. libstdc++ does not use the four bytes
 * behind them: they name the owner. One 64-bit store takes the guard and names the owner: no fork sees one without the
 * other.
 */
#pragma once

#include "repair/takeover.h"

/* Guards have 64 bits, on 32-bit ARM 32. Most 32-bit machines cannot store 64 bits cheaply: left alone. */
#if defined(__LP64__) || defined(__i386__)
#define FSAFE_GUARDS
#endif

#define FSAFE_GUARD_BIT(byte) \
    ((uint64_t)1 << (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 56 - 8 * (byte) : 8 * (byte)))
#define FSAFE_GUARD_DONE FSAFE_GUARD_BIT(0)    /* initialised */
#define FSAFE_GUARD_RUNNING FSAFE_GUARD_BIT(1) /* a thread runs the initialiser */
#define FSAFE_GUARD_WAITING FSAFE_GUARD_BIT(2) /* and others wait for it */
#define FSAFE_GUARD_OWNER_SHIFT (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 0 : 32)

/* The number that stands for the thread `self` in a guard; 0: it has none. */
uint32_t fsafe_guard_owner(const struct fsafe_thread *self);

/* Whether the owner that `word` names is the calling thread, perhaps before it forked. */
bool fsafe_guard_is_own(uint64_t word, const struct fsafe_thread *self);

/*
 * Says what to do about a guard whose initialiser runs in another thread: `word` was seen in it. FSAFE_TAKEN: that
 * thread has vanished, and the guard is the caller's, who has to run the initialiser again. Context: child, any thread,
 * no latch held.
 */
enum fsafe_verdict fsafe_guard_judge(_Atomic uint64_t *guard, uint64_t word, struct fsafe_thread *self, uintptr_t site);

/* For fsafe_ledger_push_full: whether the guard of this record does not name the thread `context` as its owner. */
bool fsafe_guard_is_stale(uintptr_t lock, void *context);
