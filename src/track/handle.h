/* track/handle: whose a pthread_t is, and which threads are being created. */
#pragma once

#include "track/thread.h"

/*
 * Whether `handle` is what a vanished thread was called, and no thread of this process is called so: libc gives the
 * vanished threads' stacks, and with them their handles, to new ones. Knows of threads that took a lock once.
 * Context: child, any thread.
 */
bool fsafe_handle_has_vanished(pthread_t handle);

/* Whether this process has a thread with the handle, which may be any number; the thread need have no slot. */
bool fsafe_handle_is_alive(pthread_t handle);

/* Threads that may be running already and whose handles nobody has noted; a child has none. */
extern FSAFE_HIDDEN _Atomic unsigned fsafe_handle_creations;

/* Around the creation of a thread: begin, then end with the new thread's handle, or NULL when there is none. */
void fsafe_handle_begin_creation(void);
void fsafe_handle_end_creation(const pthread_t *handle);

/* Whether this process, or one that it was forked from, ever created a thread. */
bool fsafe_handle_was_any_created(void);
