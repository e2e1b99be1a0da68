/*
 * track/lineage: which process of the family this one is: how many forks lie between it and the one we were
 * started in, and what is known of each. Written in the child, alone; read by any thread.
 */
#pragma once

#include "base/compiler.h"
#include "report/event.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* 1 where we were started, one more for each fork down the line. Only thread's adopt writes it. */
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
 * The process this one is, as of its adoption. A vfork child sees the process whose memory it shares: the one that the
 * locks in it belong to.
 */
pid_t fsafe_lineage_pid(void);

/* Maps the page that only an unnoticed fork empties. `self`: this process. Context: start-up. */
void fsafe_lineage_start(pid_t self);

/*
 * Points to FSAFE_ADOPTED, in a page that a fork wipes; where the kernel cannot wipe pages in one that it does not. Or
 * there to FSAFE_UNKNOWABLE, in an emulator: the process has to be asked who it is, and can be, because a vfork child
 * shares no memory there.
 */
enum { FSAFE_UNADOPTED, FSAFE_ADOPTING, FSAFE_ADOPTED, FSAFE_UNKNOWABLE };
extern FSAFE_HIDDEN _Atomic uint32_t *fsafe_adopted;

/* One system call. */
bool fsafe_lineage_is_another_process(void);

/*
 * Whether this is a new process that nobody has adopted yet: a fork that went past its handlers, or whose
 * handlers have yet to run. Always false where a kernel cannot wipe pages.
 */
static inline bool fsafe_lineage_is_unadopted(void)
{
    uint32_t state = atomic_load_explicit(fsafe_adopted, memory_order_relaxed);
    return FSAFE_UNLIKELY(state != FSAFE_ADOPTED) && (state != FSAFE_UNKNOWABLE || fsafe_lineage_is_another_process());
}

/*
 * Whether the caller runs in memory that belongs to another process, and mostly in a thread of it: a vfork child. False
 * where the kernel cannot wipe pages. One system call.
 */
bool fsafe_lineage_is_guest(void);

/*
 * Returns whether the process has yet to be adopted, and if so has somebody do it: the caller. A signal handler that
 * comes before adopted is called is told the same. Context: child, alone.
 */
FSAFE_AT_FORK bool fsafe_lineage_begin_adoption(void);

/* Notes that the process is adopted and which fork ended the generation before it. Context: child, alone. */
FSAFE_AT_FORK void fsafe_lineage_adopted(const struct fsafe_fork *fork);

/* The fork in which the threads of `generation` vanished; all zero when it is too long ago. */
struct fsafe_fork fsafe_lineage_fork_after(uint32_t generation);
