/*
 * Measured. glibc 2.36 walks the list of fork handlers by index and takes the lock anew after each. If the list has
 * become shorter when glibc is at the 11th prepare handler, it aborts the parent ("array index 10 not less than array
 * length 2"). It does so, too, when that handler itself unloads the others. It walks parent and child handlers upwards
 * and survives that. Two threads that register and unregister while two fork: the parent aborts in 8 of 8 runs of 600
 * forks. Registering alone did not crash here in 30 runs: the window is one load after the release of the lock, when
 * the array has moved.
 */
#include "config.h"

#include "base/compiler.h"
#include "base/latch.h"
#include "base/options.h"
#include "base/pages.h"
#include "fork/handlers.h"
#include "track/waiting.h"

#include <errno.h>
#include <stddef.h>

struct handler {
    struct {
        fsafe_handler *prepare, *parent, *child;
        void *object;
        bool of_allocator;
    } is;
    _Atomic uint32_t running; /* how many forks are in one of the three */
    _Atomic bool gone;
};

/* The handlers, in the order of their registration. Slab k has FIRST << k of them and stays where it is. */
enum { FIRST = 8, SLABS = 23 };
static struct handler first_slab[FIRST] FSAFE_FORK_STATE;
static struct handler *slabs[SLABS] = {first_slab};
static _Atomic uint32_t count;

/* Where the library lies that has malloc. If that is libc, no object in there registers handlers. */
static uintptr_t allocator_from, allocator_to;

/* Guards the list and its counts. No thread holds the latch while it calls a handler. */
static struct fsafe_latch latch FSAFE_FORK_STATE = FSAFE_LATCH_FREE;
static _Atomic bool ours;

/* How many forks have handlers to call, from prepare to their end: while there is one, nothing in the list moves. */
static _Atomic uint32_t walkers FSAFE_FORK_STATE;
static bool gaps;

/* The forks that this thread is in: a fork handler or a signal handler may fork. A deeper nest never ends. */
enum { NESTED = 8 };
struct walk {
    uint32_t count; /* how many handlers there were when the fork began */
    struct handler *running;
    uintptr_t frame; /* of the function that was called to fork; 0: not known */
};
static __thread struct {
    _Atomic uint32_t depth;
    struct walk walk[NESTED];
} mine __attribute__((tls_model("initial-exec")));

static struct handler *at(uint32_t index)
{
    unsigned slab = (unsigned)(31 - __builtin_clz(index / FIRST + 1));
    return &slabs[slab][index - FIRST * ((1u << slab) - 1)];
}

bool fsafe_handlers_are_ours(void)
{
    return atomic_load_explicit(&ours, memory_order_relaxed);
}

void fsafe_handlers_start(void)
{
    atomic_store_explicit(&ours, true, memory_order_relaxed);
}

void fsafe_handlers_know_allocator(uintptr_t from, uintptr_t to)
{
    allocator_from = from;
    allocator_to = to;
}

/* Under the latch. A _Fork() in the middle of this loses a handler in the child, at worst: none is there twice. */
static void close_gaps(void)
{
    uint32_t kept = 0, all = atomic_load_explicit(&count, memory_order_relaxed);
    if (!gaps || atomic_load(&walkers) != 0)
        return;
    gaps = false;
    for (uint32_t i = 0; i < all; i++) {
        struct handler *from = at(i), *to = at(kept);
        if (atomic_load_explicit(&from->gone, memory_order_relaxed))
            continue;
        kept++;
        if (from == to)
            continue;
        to->is = from->is;
        atomic_store_explicit(&from->gone, true, memory_order_release);
        atomic_store_explicit(&to->gone, false, memory_order_release);
    }
    atomic_store_explicit(&count, kept, memory_order_release);
}

int fsafe_handlers_add(fsafe_handler *prepare, fsafe_handler *parent, fsafe_handler *child, void *object)
{
    FSAFE_HOLD(&latch);
    close_gaps();
    uint32_t index = atomic_load_explicit(&count, memory_order_relaxed);
    unsigned slab = (unsigned)(31 - __builtin_clz(index / FIRST + 1));
    bool fits = slab < SLABS;
    if (fits && slabs[slab] == NULL) {
        slabs[slab] = fsafe_pages_map(((size_t)FIRST << slab) * sizeof(struct handler));
        fits = slabs[slab] != NULL;
    }
    if (fits) {
        struct handler *added = at(index);
        added->is = (__typeof__(added->is)){
            prepare, parent, child, object, (uintptr_t)object - allocator_from < allocator_to - allocator_from};
        atomic_store_explicit(&added->running, 0, memory_order_relaxed);
        atomic_store_explicit(&added->gone, false, memory_order_relaxed);
        /* Last: a fork that comes now has the whole handler in its list, or does not have it. */
        atomic_store_explicit(&count, index + 1, memory_order_release);
    }
    return fits ? 0 : ENOMEM;
}

/* How many of this thread's forks are in the handler. */
static uint32_t count_own(const struct handler *handler)
{
    uint32_t own = 0;
    for (uint32_t i = 0; i < NESTED && i < mine.depth; i++)
        own += mine.walk[i].running == handler;
    return own;
}

/* Marks the handlers of `object` as gone. Returns whether another thread runs one of them. */
static bool mark(const void *object)
{
    bool busy = false;
    FSAFE_HOLD(&latch);
    for (uint32_t i = 0; i < atomic_load_explicit(&count, memory_order_relaxed); i++) {
        struct handler *handler = at(i);
        if (handler->is.object != object)
            continue;
        atomic_store(&handler->gone, true);
        gaps = true;
        busy |= atomic_load(&handler->running) > count_own(handler);
    }
    close_gaps();
    return busy;
}

void fsafe_handlers_remove(const void *object)
{
    if (atomic_load_explicit(&count, memory_order_relaxed) == 0)
        return;
    enum { PAUSE_US = 100 };
    for (unsigned waited_us = 0; mark(object) && waited_us < fsafe_options.drain_ms * 1000; waited_us += PAUSE_US)
        fsafe_sys_pause_us(PAUSE_US);
}

static FSAFE_AT_FORK struct walk *current(void)
{
    uint32_t depth = mine.depth;
    return depth == 0 ? NULL : &mine.walk[(depth < NESTED ? depth : NESTED) - 1];
}

/* Handlers are called without the latch: they may do anything. */
static void call(struct walk *walk, struct handler *handler, fsafe_handler *function)
{
    if (function == NULL)
        return;
    walk->running = handler;
    FSAFE_ORDER();
    /* A thread that marks the handler as gone looks at `running` afterwards. */
    atomic_fetch_add(&handler->running, 1);
    if (!atomic_load(&handler->gone))
        function();
    atomic_fetch_sub(&handler->running, 1);
    FSAFE_ORDER();
    walk->running = NULL;
}

static void end(struct walk *walk)
{
    if (walk->count != 0) {
        FSAFE_HOLD(&latch);
        walk->count = 0;
        walkers--;
    }
    FSAFE_ORDER();
    mine.depth--;
}

/* Ends the forks that a handler has left by longjmp: the function that was called to fork has no frame any more. */
static void end_left(uintptr_t frame)
{
    struct walk *walk;
    while (frame != 0 && (walk = current()) != NULL && walk->frame != 0 &&
           fsafe_thread_is_left(walk->frame, 0, frame)) {
        if (walk->running != NULL)
            atomic_fetch_sub(&walk->running->running, 1);
        walk->running = NULL;
        end(walk);
    }
}

void fsafe_handlers_prepare(uintptr_t frame)
{
    end_left(frame);
    /* Without handlers no walk begins. In the middle of a fork with handlers another finds them, too: they stay. */
    if (atomic_load_explicit(&count, memory_order_acquire) == 0)
        return;
    struct fsafe_sigset old;
    fsafe_latch_acquire(&latch, &old); /* first: a signal handler that forks has to find the walk complete */
    mine.depth++;
    struct walk *walk = current();
    walk->count = atomic_load_explicit(&count, memory_order_relaxed);
    walk->running = NULL;
    walk->frame = frame;
    walkers += walk->count != 0;
    fsafe_latch_release(&latch, &old);
    for (uint32_t i = walk->count; i-- > 0;)
        if (!at(i)->is.of_allocator)
            call(walk, at(i), at(i)->is.prepare);
}

void fsafe_handlers_prepare_allocator(void)
{
    struct walk *walk = current();
    for (uint32_t i = walk == NULL ? 0 : walk->count; i-- > 0;)
        if (at(i)->is.of_allocator)
            call(walk, at(i), at(i)->is.prepare);
}

void fsafe_handlers_after(enum fsafe_handlers_of of, bool in_child)
{
    struct walk *walk = current();
    for (uint32_t i = 0; walk != NULL && i < walk->count; i++)
        if (at(i)->is.of_allocator == (of == FSAFE_OF_ALLOCATOR))
            call(walk, at(i), in_child ? at(i)->is.child : at(i)->is.parent);
    if (walk != NULL && of == FSAFE_OF_PROGRAM)
        end(walk);
}

void fsafe_handlers_adopt(void)
{
    uint32_t own = 0;
    for (uint32_t i = 0; i < NESTED; i++)
        own += mine.walk[i].count != 0;
    fsafe_latch_reset(&latch);
    /* Written only where it changes: these pages are the parent's, too. */
    if (walkers != own)
        walkers = own;
    for (uint32_t i = own == 0 ? 0 : count; i-- > 0;)
        if (at(i)->running != 0)
            at(i)->running = count_own(at(i));
}
