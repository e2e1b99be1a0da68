/*
 * fork/loading: the dynamic loader at a fork. A child made in the middle of another thread's dlopen or dlclose has a list
 * of objects that is half changed, and crashes or hangs in the loader. So the fork holds the loader's lock: who is in
 * there gets out first, and nobody gets in. Bounded: see libforksafe(7), FORKSAFE_DRAIN_MS.
 *
 * Who comes out of the loader may have to pass the gate on the way: it lets the lock's owner through. Who is about to
 * enter it stops there (fsafe_loading_enter), or a thread that loads without end would never leave the lock free.
 */
#ifndef FSAFE_FORK_LOADING_H
#define FSAFE_FORK_LOADING_H

#include "track/thread.h"

/* Takes the lock for this fork, unless an outer fork of `self` has it. Context: parent, before fork, gate closed. */
void fsafe_loading_prepare(struct fsafe_thread *self);

/* Releases it, if the fork that ends is the one that took it; before that fork is counted out. Context: parent. */
void fsafe_loading_end(struct fsafe_thread *self);

/*
 * The child has the lock as its one thread has it: where libc does not renew it, the hold for the fork is over, and one
 * of a constructor that forked is the child's. `former`: what libc called `self` before. Context: child, alone.
 */
void fsafe_loading_adopt(struct fsafe_thread *self, int former);

#endif
