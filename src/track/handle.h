/* track/handle: which thread a pthread_t is, and how many threads are being created. */
#pragma once

#include "track/thread.h"

/*
 * Whether a vanished thread had `handle`, and no thread of this process has it: libc gives the stacks of vanished
 * threads, and with them their handles, to new threads. Only threads that joined count. Context: child, any thread.
 */
bool fsafe_handle_has_vanished(pthread_t handle);

/* The thread that vanished last of those that had `handle`; NULL: none that joined. Context: child, any thread. */
struct fsafe_thread *fsafe_handle_find_vanished(pthread_t handle);

/* Whether this process has a thread with the handle, which may be any number; the thread need have no slot. */
bool fsafe_handle_is_alive(pthread_t handle);

/* How many threads may run already whose handles are not noted yet; 0 in a new child. */
extern FSAFE_HIDDEN _Atomic unsigned fsafe_handle_creations;

/*
 * Before and after the creation of a thread. begin returns the generation for end: a signal handler may fork meanwhile,
 * and the child counts anew. end gets the new thread's handle, or NULL when there is no thread.
 */
uint32_t fsafe_handle_begin_creation(void);
void fsafe_handle_end_creation(uint32_t begun_in, const pthread_t *handle);

/* Whether this process, or one that it was forked from, ever created a thread. */
bool fsafe_handle_was_any_created(void);
