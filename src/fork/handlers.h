/*
 * fork/handlers: the program's own fork handlers (pthread_atfork), kept and run by us, between our own.
 *
 * glibc walks its list and releases the list's lock for each handler. If another thread, or the handler itself, adds or
 * removes a handler meanwhile, glibc calls what it has freed, or aborts (up to 2.36 at least). Here no entry moves
 * while a fork may be walking the list. All else is as in glibc: prepare handlers run last registered first, the others
 * first registered first. A handler that is registered during a fork does not run in that fork, and no thread holds a
 * lock for the list while a handler runs.
 *
 * So the order is certain, whenever others are registered: our own child handler runs first and our prepare handler
 * last but for the allocator's (fork/coordinator says why).
 */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

typedef void fsafe_handler(void);

/* Whether we keep all handlers; from start on we do. Context: any thread; start-up. */
bool fsafe_handlers_are_ours(void);
void fsafe_handlers_start(void);

/* Notes where the library lies that has malloc: [from, to), see libc/symbol.h. Context: start-up. */
void fsafe_handlers_know_allocator(uintptr_t from, uintptr_t to);

/* As libc's __register_atfork: any handler may be NULL. Returns 0 or ENOMEM. Context: any thread, also in a handler. */
int fsafe_handlers_add(fsafe_handler *prepare, fsafe_handler *parent, fsafe_handler *child, void *object);

/*
 * `object` is about to be unloaded: its handlers are called no more. Waits, for FORKSAFE_DRAIN_MS at most, until no
 * other thread runs one of them. Context: any thread, also in a handler.
 */
void fsafe_handlers_remove(const void *object);

/*
 * Call the handlers of one fork, in this order: the program's prepare handlers, the drain, the allocator's; after the
 * fork the allocator's parent or child handlers and then the program's. `frame`: the frame of the function that was
 * called to fork, 0: not known. Context: the forking thread.
 */
enum fsafe_handlers_of { FSAFE_OF_PROGRAM, FSAFE_OF_ALLOCATOR };
void fsafe_handlers_prepare(uintptr_t frame);
void fsafe_handlers_prepare_allocator(void);
FSAFE_AT_FORK void fsafe_handlers_after(enum fsafe_handlers_of of, bool in_child);

/* Forgets what vanished threads were doing in this file. Context: child, alone, before fsafe_handlers_after. */
FSAFE_AT_FORK void fsafe_handlers_adopt(void);
