/*
 * track/join: which slot the calling thread has, and since when. A thread joins at the first call of ours that needs
 * its slot, leaves when it ends, and moves into the child's generation when it forks. No function here waits.
 */
#pragma once

#include "track/thread.h"

/* This thread's slot, or NULL before it joins, after it left, and where we are switched off. */
extern FSAFE_HIDDEN __thread struct fsafe_thread *fsafe_self __attribute__((tls_model("initial-exec")));

/* What this room has to ask of rooms that know locks. */
struct fsafe_thread_calls {
    /* What libc writes as owner when the calling thread takes a mutex. */
    int (*probe_owner)(void);
    /* The thread ends: drops records of what it does not hold, returns whether it holds locks or tokens. */
    bool (*leave)(struct fsafe_thread *self);
    /* For a full ledger of locks: whether the thread certainly does not hold `lock` any more. */
    bool (*is_stale)(uintptr_t lock, void *self);
    /* Clears the vanished thread's records that no lock bears out any more. Context: child, signals blocked. */
    void (*clear_stale)(struct fsafe_thread *vanished);
};

/* is_stale of struct fsafe_thread_calls. */
bool fsafe_thread_is_stale(uintptr_t lock, void *self);

/* From now on threads can join. False: none can, because pthread_key_create failed. Context: start-up. */
bool fsafe_thread_start(const struct fsafe_thread_calls *calls);

/*
 * Returns this thread's slot; a thread without one joins first. NULL where we are switched off, where there is no
 * memory, and in a thread that has withdrawn or is past its last destructor. A vfork child joins for its parent's
 * thread. errno kept. Context: any thread, slow path.
 */
FSAFE_AT_FORK struct fsafe_thread *fsafe_thread_join(void);

/*
 * From here on the calling thread has no slot and does not join: seccomp's strict mode forbids our system calls. Its
 * slot stays, with what the thread holds now. withdraw returns the slot; return gets it and ends the withdrawal.
 */
struct fsafe_thread *fsafe_thread_withdraw(void);
void fsafe_thread_return(struct fsafe_thread *self);
bool fsafe_thread_is_withdrawn(void);

/* The thread that starts us joins, in fewer system calls. Context: start-up, before any signal handler can run. */
void fsafe_thread_join_first(void);

/*
 * Begins the next generation and moves the forking thread into it; `self` is NULL if the thread never joined.
 * `by_libc`: libc made the fork, so libc knows the thread's new id. Context: child, alone.
 */
FSAFE_AT_FORK void fsafe_thread_adopt(struct fsafe_thread *self, bool by_libc);

/*
 * What libc calls the thread, asked anew where that is not the thread's id. After a raw fork libc goes on with the old
 * id, until the program writes the new id into libc's memory itself: Chromium does. Context: its thread.
 */
void fsafe_thread_ask_owner(struct fsafe_thread *self);
static inline int fsafe_thread_owner(struct fsafe_thread *self)
{
    if (FSAFE_UNLIKELY(self->owner != self->tid))
        fsafe_thread_ask_owner(self);
    return self->owner;
}

/* Whether a thread of this generation ended with locks in its hands and its slot was not kept. Context: any. */
bool fsafe_thread_forgot_ended(void);

/* How many threads of this generation have joined so far, whether or not they left. */
uint32_t fsafe_thread_joined(void);

/* What a report says of a thread that took a lock at `since`. */
struct fsafe_holder fsafe_thread_as_holder(const struct fsafe_thread *thread, uintptr_t since);
