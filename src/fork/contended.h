/*
 * fork/contended: the locks that Rust, GLib and Qt make of a futex, at a fork. Nothing is seen of such a lock until a
 * thread sleeps on it, and who has it is never seen: so the drain can wait for nobody, and what the lock guards would
 * be copied half changed. But one that several threads want has a sleeper, whose call says what kind of lock lies
 * where. The fork takes that lock as the sleeper would, waits for it as it waits for locks that threads hold, keeps it
 * until the child is made, and gives it back; the child finds it free.
 *
 * A sleeper is kept in its call meanwhile: as long as somebody is in there the lock exists. Forks that are made at the
 * same time have such a lock together.
 */
#ifndef FSAFE_FORK_CONTENDED_H
#define FSAFE_FORK_CONTENDED_H

#include "track/thread.h"

#include <stdbool.h>

/*
 * Around a wait by syscall(SYS_futex) without a limit, both in one function. enter returns whether leave is to be
 * called, which may wait until forks have been made. errno kept. Context: any thread.
 */
bool fsafe_contended_enter(const long *arguments, uintptr_t site);
void fsafe_contended_leave(void);

/* The caller is about to wake who waits in `word`, and has perhaps released a lock. errno kept. Context: any thread. */
void fsafe_contended_hand_over(uintptr_t word);

/*
 * Takes those locks for the fork that `self` is about to make. Returns how many it has not got yet. Context: parent,
 * before fork, gate closed, nobody inside.
 */
unsigned fsafe_contended_try(struct fsafe_thread *self);

/* No later fork waits for those that this one did not get, as long as their sleepers sleep. Context: as above. */
void fsafe_contended_give_up(struct fsafe_thread *self);

/* Gives back what was taken. Context: the same thread, in the parent. */
void fsafe_contended_end(struct fsafe_thread *self);

/* What was taken is free. `self` may be NULL. Context: child, alone. */
FSAFE_AT_FORK void fsafe_contended_adopt(struct fsafe_thread *self);

#endif
