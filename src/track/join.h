/*
 * track/join: threads join at their first lock, leave when they end, and move into a child's generation. Nothing here
 * waits for anything.
 */
#pragma once

#include "track/thread.h"

/* This thread's slot, or NULL before it joins, after it left, and where we are switched off. */
extern FSAFE_HIDDEN __thread struct fsafe_thread *fsafe_self __attribute__((tls_model("initial-exec")));

/* What the registry has to ask of rooms that know locks. */
struct fsafe_thread_calls {
    /* What libc writes as owner when the calling thread takes a mutex. */
    int (*probe_owner)(void);
    /* The thread ends: forget what it does not hold, return whether it dies holding mutexes. */
    bool (*leave)(struct fsafe_thread *self);
    /* For a full ledger of locks: whether the record says nothing any more. */
    bool (*is_stale)(uintptr_t lock, void *self);
    /* A vanished thread's slot: clear what no lock bears out any more. Called in a child, with signals blocked. */
    void (*clear_stale)(struct fsafe_thread *vanished);
};

/* Asks calls.is_stale. */
bool fsafe_thread_is_stale(uintptr_t lock, void *self);

/* Makes the registry ready. False without memory or keys: nobody can join then. Context: start-up. */
bool fsafe_thread_start(const struct fsafe_thread_calls *calls);

/*
 * Returns this thread's slot, joining it first if need be; NULL when we are switched off, when there is no
 * memory, and for a thread that is past its last destructor. A vfork child joins for its parent's thread.
 * errno kept. Context: any thread, slow path.
 */
FSAFE_AT_FORK struct fsafe_thread *fsafe_thread_join(void);

/*
 * From here on the calling thread has no slot and joins none, as one that is past its last destructor: what it may do
 * does not let us be about. Its slot stays, with what it holds now. Returns that slot, for return, which takes this
 * back.
 */
struct fsafe_thread *fsafe_thread_withdraw(void);
void fsafe_thread_return(struct fsafe_thread *self);
bool fsafe_thread_is_withdrawn(void);

/* Joins the thread that starts us, in fewer system calls. Context: start-up, before any handler can run. */
void fsafe_thread_join_first(void);

/*
 * Moves the forking thread, if it ever joined, into the next generation, which begins. `by_libc`: libc made the fork,
 * so it knows the thread's new id. Context: child, alone.
 */
FSAFE_AT_FORK void fsafe_thread_adopt(struct fsafe_thread *self, bool by_libc);

/*
 * What libc calls the calling thread, asked anew where that is not its id. After a raw fork libc goes on with the old
 * one, until the program writes the new one into libc's memory itself: Chromium does. Context: its thread.
 */
void fsafe_thread_ask_owner(struct fsafe_thread *self);
static inline int fsafe_thread_owner(struct fsafe_thread *self)
{
    if (FSAFE_UNLIKELY(self->owner != self->tid))
        fsafe_thread_ask_owner(self);
    return self->owner;
}

/* Whether threads of this generation ended with mutexes in their hands that no slot was kept of. Context: any. */
bool fsafe_thread_forgot_ended(void);

/* How many threads of this generation have joined so far, whether or not they left. */
uint32_t fsafe_thread_joined(void);

/* What a report says of a thread that took a lock at `since`. */
struct fsafe_holder fsafe_thread_as_holder(const struct fsafe_thread *thread, uintptr_t since);
