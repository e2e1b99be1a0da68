/*
 * track/lineage: which process of its family this one is: how many forks lie between it and the process that we were
 * started in, and what is known of each fork. The child writes this, alone; any thread reads it.
 */
#pragma once

#include "base/compiler.h"
#include "report/event.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* 1 where we were started; a child has its parent's plus one. Only fsafe_thread_adopt writes it. */
extern FSAFE_HIDDEN _Atomic uint32_t fsafe_generation;

static inline FSAFE_AT_FORK uint32_t fsafe_lineage_generation(void)
{
    return atomic_load_explicit(&fsafe_generation, memory_order_relaxed);
}

/* Whether the process is the child of a fork that we know of, so that a lock may be a vanished thread's. */
static inline bool fsafe_lineage_is_child(void)
{
    return fsafe_lineage_generation() > 1;
}

/*
 * The id of this process, as of its adoption. A vfork child gets the id of the process whose memory it shares: the
 * locks in that memory belong to that process.
 */
pid_t fsafe_lineage_pid(void);

/*
 * A thread of this process as one word, the generation shifted by 32 and the thread's id: what a thread takes for
 * itself by one compare-and-swap bears no other process's thread. Never 0.
 */
static inline uint64_t fsafe_lineage_thread(pid_t tid)
{
    return (uint64_t)fsafe_lineage_generation() << 32 | (uint32_t)tid;
}

/* Whether that is a living thread of this process. One system call, if it is of this generation. */
bool fsafe_lineage_has(uint64_t thread);

/* Maps the page that a fork wipes. `self`: the id of this process. Context: start-up. */
void fsafe_lineage_start(pid_t self);

/*
 * Points to FSAFE_ADOPTED in a page that a fork wipes, so that a new child finds FSAFE_UNADOPTED. Where the kernel
 * cannot wipe pages it points to a word that always is FSAFE_ADOPTED. In an emulator that word is FSAFE_UNKNOWABLE: the
 * kernel has to be asked which process this is, and can be, because a vfork child shares no memory there.
 */
enum { FSAFE_UNADOPTED, FSAFE_ADOPTING, FSAFE_ADOPTED, FSAFE_UNKNOWABLE };
extern FSAFE_HIDDEN _Atomic uint32_t *fsafe_adopted;

/* Whether fsafe_lineage_is_unadopted may be true: one load. Always true in an emulator. */
static inline bool fsafe_lineage_may_be_unadopted(void)
{
    return FSAFE_UNLIKELY(atomic_load_explicit(fsafe_adopted, memory_order_relaxed) != FSAFE_ADOPTED);
}

/* Whether this process, which is not known to be adopted, is new. May make a system call. */
bool fsafe_lineage_is_new(void);

/*
 * Whether this is a new process that is not adopted yet: its fork went past our handlers, or they have yet to run.
 * False where the kernel cannot wipe pages, except in an emulator.
 */
static inline bool fsafe_lineage_is_unadopted(void)
{
    return fsafe_lineage_may_be_unadopted() && fsafe_lineage_is_new();
}

/*
 * Whether the caller is a vfork child: it runs in the memory of another process, mostly as a thread of that process.
 * False where the kernel cannot wipe pages. One system call.
 */
bool fsafe_lineage_is_guest(void);

/*
 * Returns whether the caller has to adopt the process. A signal handler that asks before fsafe_lineage_adopted is
 * called gets the same answer. Context: child, alone.
 */
FSAFE_AT_FORK bool fsafe_lineage_begin_adoption(void);

/* Notes that the process is adopted, and which fork ended the generation before. Context: child, alone. */
FSAFE_AT_FORK void fsafe_lineage_adopted(const struct fsafe_fork *fork);

/* The fork in which the threads of `generation` vanished; all zero when that fork is too long ago. */
struct fsafe_fork fsafe_lineage_fork_after(uint32_t generation);
struct fsafe_fork fsafe_lineage_latest_fork(void); /* the one that made this process */
