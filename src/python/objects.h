/*
 * python/objects: what several files of this room do with the interpreter's objects.
 * Context of all: has the GIL. Where a function returns NULL it leaves an error of the interpreter's, but for borrow.
 */
#pragma once

#include "python/interpreter.h"

#include <stddef.h>

/*
 * The object of that name in a module that is loaded; NULL: there is none, or the module is not loaded. Imports
 * nothing: an import may wait for a vanished thread. The reference is the module's.
 */
FSAFE_AT_FORK struct fsafe_object *fsafe_python_borrow(const char *module, const char *name);

/* The code of a method of `type`, or NULL, that is written in Python, as a new reference; NULL: there is none. */
struct fsafe_object *fsafe_python_code_of(struct fsafe_object *type, const char *method);

/* Which variable of the code's functions has that name; -1: none. */
int fsafe_python_variable_of(struct fsafe_object *code, const char *name);

/* An error of the interpreter's, kept while we ask it for things; what these leave behind is dropped. */
struct fsafe_python_error {
    struct fsafe_object *type, *value, *traceback;
};

static inline struct fsafe_python_error fsafe_python_keep_error(void)
{
    struct fsafe_python_error error;
    fsafe_python.PyErr_Fetch(&error.type, &error.value, &error.traceback);
    return error;
}

static inline void fsafe_python_restore_error(const struct fsafe_python_error *error)
{
    fsafe_python.PyErr_Restore(error->type, error->value, error->traceback);
}

/* One reference less; NULL is nothing. */
static inline void fsafe_python_drop(struct fsafe_object *object)
{
    if (object != NULL)
        fsafe_python.Py_DecRef(object);
}

/* The type of what lies there; NULL: nothing does. */
FSAFE_AT_FORK struct fsafe_object *fsafe_python_type_of(const struct fsafe_object *object);

/*
 * The interpreter's own type `name` of its module _thread, which calls it `called`, in "_thread.lock"; NULL: none is
 * found. The module may be changed: gevent and eventlet put types of their own there. The reference is the type's.
 */
void *fsafe_python_thread_type(const char *called, const char *name);

/* How many bytes an object of that type has; -1 unknown. */
long fsafe_python_size_of(void *type);

/*
 * Whether `type` is `base`, which may be NULL, or a class of the program's that is made from it: its objects begin
 * like those of `base`. Whatever lies at `type` is only read. Context: any.
 */
bool fsafe_python_is_made_from(const void *type, const void *base);

/* Notes which thread forks, for fsafe_python_vanished. Context: parent, before fork; an interpreter is bound. */
void fsafe_python_know_forker(void);

/*
 * The newest state of a thread that vanished at an earlier fork, in the list because whoever forked did not tell the
 * interpreter; NULL: there is none. It and those behind it may not be read any more: the stacks of their threads, which
 * they point to, are about to be a new thread's. Context: child, alone, about to make a thread.
 */
void fsafe_python_leave(void *state);

/*
 * The states of the main interpreter's threads but the forking thread's:
 *     for (void *state = fsafe_python_vanished(NULL); state != NULL; state = fsafe_python_vanished(state))
 * That is all threads that vanished at this fork, until PyOS_AfterFork_Child. Context: child, alone.
 */
FSAFE_AT_FORK void *fsafe_python_vanished(void *after);
