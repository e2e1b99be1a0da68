/*
 * fork/contended: the locks that Rust, GLib and Qt make of a futex, at a fork. We see such a lock only when a thread
 * sleeps on it, and never see its owner. So the drain cannot wait for the owner, and the child would find what the lock
 * guards half changed. But a lock that several threads want has a sleeper, whose system call says what kind of lock
 * lies where. The fork takes that lock as the sleeper would, and waits for it as it waits for locks that threads hold.
 * It keeps the lock until the child is made, and then releases it; the child finds the lock free.
 *
 * Meanwhile the fork keeps the sleeper in its call: the lock exists as long as a thread is in such a call. Forks that
 * are made at the same time own such a lock together.
 */
#pragma once

#include "track/thread.h"

#include <stdbool.h>

/*
 * Before and after a wait by syscall(SYS_futex) without a limit; one function calls both. `arguments`: the six of the
 * system call. The caller calls leave if enter returned true; leave may wait until forks have been made. errno kept.
 */
bool fsafe_contended_enter(const long *arguments, uintptr_t site);
void fsafe_contended_leave(void);

/* The caller is about to wake a waiter of the futex at `word`, and has perhaps released a lock. errno kept. */
void fsafe_contended_hand_over(uintptr_t word);

/*
 * Takes the locks that have sleepers for the fork that `self` is about to make. Returns how many locks that fork has
 * not got yet, plus how many threads may soon sleep on one. Context: parent, before fork, gate closed, no thread
 * inside.
 */
unsigned fsafe_contended_try(struct fsafe_thread *self);

/*
 * Later forks do not wait for the locks that this fork did not get, as long as their sleepers sleep. Context: as above.
 */
void fsafe_contended_give_up(struct fsafe_thread *self);

/* Releases the locks that the fork took. Context: the same thread, in the parent. */
void fsafe_contended_end(struct fsafe_thread *self);

/* Makes the locks that the fork took free. `self` may be NULL. Context: child, alone. */
FSAFE_AT_FORK void fsafe_contended_adopt(struct fsafe_thread *self);
