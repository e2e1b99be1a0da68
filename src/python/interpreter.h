/*
 * python/interpreter: finds CPython in the process, whether it is the program, a library, or comes later by dlopen, and
 * gives the room the functions that it exports. In a process without CPython nothing is looked up and nothing runs.
 *
 * CPython is found by a call that it makes: it creates the condition variable of its GIL with an attribute, which few
 * programs do, and each code that does is looked at when the next thread or child is made. So we never ask the loader,
 * whose lock another thread may hold.
 *
 * FORKSAFE_PYTHON=0, a version that is not known, a free-threaded build and any deviation switch the room off, the last
 * three with one line.
 */
#pragma once

#include "base/compiler.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct fsafe_object; /* a Python object; only the interpreter's functions and a self-tested layout look inside */

struct fsafe_python {
#define FSAFE_PYTHON(result, name, parameters) result(*name) parameters;
#define FSAFE_PYTHON_MAYBE(result, name, parameters) result(*name) parameters;
#define FSAFE_PYTHON_DATA(name) void *name;
#include "python/interpreter.def"
};

/* The interpreter's functions. They can be read once is_bound has returned true. */
extern struct fsafe_python fsafe_python;

enum fsafe_python_state {
    FSAFE_PYTHON_NONE,    /* no interpreter so far */
    FSAFE_PYTHON_BOUND,   /* found; fsafe_python can be called */
    FSAFE_PYTHON_STARTED, /* the room does its work */
    FSAFE_PYTHON_OFF,
};
extern _Atomic int fsafe_python_state;

/* Whether there is an interpreter and the room is not off. One load. */
static inline FSAFE_AT_FORK bool fsafe_python_is_bound(void)
{
    int state = atomic_load_explicit(&fsafe_python_state, memory_order_acquire);
    return state == FSAFE_PYTHON_BOUND || state == FSAFE_PYTHON_STARTED;
}

static inline bool fsafe_python_is_started(void)
{
    return atomic_load_explicit(&fsafe_python_state, memory_order_acquire) == FSAFE_PYTHON_STARTED;
}

/*
 * The caller at `site` makes a condition variable as an interpreter does: notes the site and the first such variable.
 */
FSAFE_AT_FORK void fsafe_python_meet(const pthread_cond_t *condvar, uintptr_t site);

/* The first condition variable that the interpreter made, which is its GIL's; NULL before the interpreter is bound. */
extern const void *fsafe_python_first_condvar;

/*
 * Looks at the noted sites, and binds the interpreter that one of them is in. Two loads where nothing is new, else
 * slow. Context: any thread, with no lock of ours.
 */
void fsafe_python_find(void);

/* The interpreter has been unloaded: the next one that is met is bound. */
void fsafe_python_unbind(void);

/* Its version, as 0x030d for 3.13; 0 before it is bound. */
FSAFE_AT_FORK unsigned fsafe_python_version(void);

/* Whether the code at `site` is the interpreter's own. Two loads. */
extern uintptr_t fsafe_python_text, fsafe_python_text_bytes;
static inline bool fsafe_python_is_text(uintptr_t site)
{
    return site - fsafe_python_text < fsafe_python_text_bytes;
}

/* Whether the interpreter is initialized and not being finalized. */
FSAFE_AT_FORK bool fsafe_python_is_running(void);

/* The state of the calling thread, if it has the GIL; else NULL. Two short calls. */
FSAFE_AT_FORK void *fsafe_python_state_with_gil(void);

/*
 * Whether the calling thread holds the GIL of the main interpreter, which runs and is not being finalized: then its
 * functions may be called. False in a thread of a sub-interpreter. Context: any thread, also in a child.
 */
FSAFE_AT_FORK bool fsafe_python_has_gil(void);

/* Switches the room off; `why` says in one line what it cannot cope with. */
void fsafe_python_off(const char *why);
