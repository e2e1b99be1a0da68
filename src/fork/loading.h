/*
 * fork/loading: the dynamic loader at a fork. A child made in the middle of another thread's dlopen or dlclose has a
 * list of objects that is half changed, and crashes or hangs in the loader. So the fork holds the loader's lock: a
 * thread that is in the loader gets out first, and no thread gets in. The drain waits for the lock as for a thread that
 * is inside.
 *
 * The lock's owner may have to pass the gate on its way out: the gate lets it through. A thread that is about to enter
 * the loader stops at the gate (wrap/loader), or a thread that loads without end would never leave the lock free.
 *
 * Forks at the same time hold the lock together: its bytes name one of the threads, which names another at its end.
 */
#pragma once

#include "base/compiler.h"
#include "track/thread.h"

/*
 * Takes the lock for the fork that `self` is about to make, unless that fork has it. False: a thread is in the loader.
 * Context: parent, before fork, gate closed.
 */
bool fsafe_loading_try(struct fsafe_thread *self);

/* Releases the lock, if the fork has it; called before the gate is opened. Context: the same thread, in the parent. */
void fsafe_loading_end(struct fsafe_thread *self);

/*
 * In the child, where libc does not renew the lock: ends the hold that was for the fork. If a constructor forked, the
 * child's thread still has the lock: makes that thread the owner. `former`: the owner that libc wrote for `self` in the
 * parent; `self` is NULL if the thread never joined. Context: child, alone.
 */
FSAFE_AT_FORK void fsafe_loading_adopt(struct fsafe_thread *self, int former);
