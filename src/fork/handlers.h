/*
 * fork/handlers: the program's own fork handlers (pthread_atfork), kept and run by us, between our own.
 *
 * glibc walks its list with the lock given back for each handler. A handler that comes or goes meanwhile, in another
 * thread or in the handler itself, makes it call what it has freed, or abort (up to 2.36 at least). Here nothing that
 * somebody may be walking moves. The meaning is glibc's: prepare last registered first, the others first registered
 * first, a handler registered during a fork is not for that fork, none is called under a lock.
 *
 * It also makes the order certain: whoever registers when, our own child handler runs first and our prepare handler
 * last. Only the allocator's come after us there, as those of libc's own do: whoever waits for malloc inside a lock
 * could not be let out of that any more.
 */
#ifndef FSAFE_FORK_HANDLERS_H
#define FSAFE_FORK_HANDLERS_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

typedef void fsafe_handler(void);

/* Whether handlers are ours to keep: from here on all are. Context: any thread; start-up. */
bool fsafe_handlers_are_ours(void);
void fsafe_handlers_start(void);

/* The library that malloc is of lies here; see symbol.h. Context: start-up. */
void fsafe_handlers_know_allocator(uintptr_t from, uintptr_t to);

/* As libc's __register_atfork: any handler may be NULL. Returns 0 or ENOMEM. Context: any thread, also in a handler. */
int fsafe_handlers_add(fsafe_handler *prepare, fsafe_handler *parent, fsafe_handler *child, void *object);

/*
 * `object` is about to be unloaded: its handlers are called no more. One that another thread is in is waited for, for
 * FORKSAFE_DRAIN_MS at most. Context: any thread, also in a handler.
 */
void fsafe_handlers_remove(const void *object);

/*
 * Call the handlers of one fork, in this order: the program's prepare, the drain, the allocator's; and when it is over
 * the allocator's parent or child and then the program's. `frame`: of the function that was called to fork, 0: not
 * known. Context: the forking thread.
 */
void fsafe_handlers_prepare(uintptr_t frame);
void fsafe_handlers_prepare_allocator(void);
void fsafe_handlers_parent_allocator(void);
FSAFE_AT_FORK void fsafe_handlers_child_allocator(void);
void fsafe_handlers_parent(void);
FSAFE_AT_FORK void fsafe_handlers_child(void);

/* Forgets what vanished threads were about here. Context: child, alone, before fsafe_handlers_child. */
FSAFE_AT_FORK void fsafe_handlers_adopt(void);

#endif
