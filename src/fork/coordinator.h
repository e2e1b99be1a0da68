/*
 * fork/coordinator: what happens to our own state around a fork, in one order.
 *
 *     prepare   last of all prepare handlers but an allocator's: number the fork, note who makes it and which streams
 *               that thread holds; close the gate and drain; take the loader's lock, and those that only sleepers show
 *     child     first of all child handlers: reset latch and gate, begin a generation, move its one thread into it,
 *               give that thread back its streams and the loader's lock
 *     parent    first of all parent handlers: release these locks, open the gate, forget the notes
 *
 * The handlers are registered once, when the library is loaded, before all others: glibc runs prepare handlers last
 * registered first, parent and child handlers first registered first. Our handlers call all others (fork/handlers), so
 * that the order does not depend on when those are registered.
 *
 * Where libc holds a lock while it runs handlers, our fork() does all of this but the adoption, before and after it
 * calls libc's fork(). There our daemon() and forkpty() do what stands at prepare before they call libc's; the handlers
 * do the rest.
 */
#pragma once

#include "base/compiler.h"
#include "track/thread.h"

#include <stdbool.h>

/* As __register_atfork of the C++ ABI: the last argument is the object that the handlers belong to; NULL: none. */
typedef int fsafe_register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object);

/* Registers the handlers; false: libc did not take them. `locked`: libc runs them under its lock. Context: start-up. */
bool fsafe_fork_start(fsafe_register_atfork *register_atfork, bool locked);

/*
 * A fork is about to be made from `site`, which the handlers cannot see. Returns the site that was announced before, 0:
 * none. The caller announces that site again when its fork is over: a handler of an earlier fork may have made this
 * fork. Context: the forking thread.
 */
FSAFE_AT_FORK uintptr_t fsafe_fork_announce_at(uintptr_t site, uintptr_t frame);
static FSAFE_INLINE uintptr_t fsafe_fork_announce(uintptr_t site)
{
    return fsafe_fork_announce_at(site, (uintptr_t)__builtin_frame_address(0));
}

/*
 * Before and after libc's fork, between two announcements. Prepare returns whether finish has to follow; `pid`: what
 * libc's fork returned. Context: the forking thread.
 */
bool fsafe_fork_prepare(void);
void fsafe_fork_finish(pid_t pid);

/*
 * Before and after a function of libc's that forks, between two announcements. make_ready drains before libc takes its
 * lock of handlers; what follows the fork is the handlers' work. Until forget_ready, which gets what make_ready
 * returned, the thread cannot be cancelled: forkpty first opens its terminal, a cancellation point, and no thread would
 * open the gate. forget_ready also serves where the function came back without a fork. Context: the forking thread.
 */
enum { FSAFE_NOT_READY = -1 };
int fsafe_fork_make_ready(void);
void fsafe_fork_forget_ready(int state);

/* A fork that runs no handlers. A signal handler may make it in the middle of another fork of its thread. */
struct fsafe_bare_fork {
    unsigned long number; /* the other fork's; 0: there is none */
    uintptr_t site;
};

/*
 * The three moments of such a fork; `drains`: the fork waits first until other threads are outside. Async-signal-safe;
 * errno kept. Context: the forking thread.
 */
void fsafe_fork_begin_at(struct fsafe_bare_fork *fork, uintptr_t site, uintptr_t frame, bool drains);
static FSAFE_INLINE void fsafe_fork_begin(struct fsafe_bare_fork *fork, uintptr_t site, bool drains)
{
    fsafe_fork_begin_at(fork, site, (uintptr_t)__builtin_frame_address(0), drains);
}
void fsafe_fork_end(const struct fsafe_bare_fork *fork); /* in the parent, also when there is no child */
void fsafe_fork_in_child(bool by_libc); /* see fsafe_thread_adopt */

/*
 * Adopts this process if it is new and neither a handler nor a wrapper has noticed that (a raw system call). Costs one
 * load otherwise. Context: any thread, before it may wait.
 */
void fsafe_fork_notice_now(void);
static inline void fsafe_fork_notice(void)
{
    if (fsafe_lineage_is_unadopted())
        fsafe_fork_notice_now();
}
