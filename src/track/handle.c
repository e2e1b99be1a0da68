#include "config.h"

#include "base/compiler.h"
#include "base/sys.h"
#include "track/handle.h"
#include "track/slots.h"

_Atomic unsigned fsafe_handle_creations FSAFE_FORK_STATE;

/* Whether living and vanished threads have a handle, as their slots say. */
struct called {
    bool living, vanished;
};

/*
 * An ended thread's slot that was kept does not count: its handle may be that of the very thread that forked.
 * `withdraw`: a new thread has the handle, so vanished threads lose it.
 */
static struct called look_up(pthread_t handle, bool withdraw)
{
    struct called called = {false, false};
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING | FSAFE_VANISHED); fsafe_thread_next(&at);) {
        if (at.thread->ended || !at.thread->has_handle || at.thread->handle != handle)
            continue;
        if (!fsafe_thread_is_vanished(at.thread))
            called.living = true;
        else if (withdraw)
            at.thread->has_handle = false;
        else
            called.vanished = true;
    }
    return called;
}

bool fsafe_handle_has_vanished(pthread_t handle)
{
    if (!look_up(handle, false).vanished)
        return false;
    /* A thread that is being created may have the handle; its creator soon notes which one it has. */
    for (unsigned patience = 0; atomic_load(&fsafe_handle_creations) != 0; patience++) {
        if (patience == 1000)
            return false;
        fsafe_sys_pause_us(100);
    }
    struct called called = look_up(handle, false);
    return called.vanished && !called.living;
}

struct fsafe_thread *fsafe_handle_find_vanished(pthread_t handle)
{
    struct fsafe_thread *last = NULL;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);)
        if (at.thread->has_handle && at.thread->handle == handle &&
            (last == NULL || at.generation > fsafe_thread_generation(last)))
            last = at.thread;
    return last;
}

static bool read_word(uintptr_t address, uint32_t *word)
{
    bool readable = address % sizeof *word == 0 && fsafe_sys_may_be_readable(address);
    if (readable)
        *word = *(const volatile uint32_t *)address;
    return readable;
}

/* Where a thread's id lies behind the address in its handle, as the caller's own handle shows; 0: not found. */
static uintptr_t find_id(void)
{
    enum { MOST = 4096 };
    uint32_t word, own = (uint32_t)fsafe_sys_gettid();
    for (uintptr_t at = sizeof word; at < MOST && read_word((uintptr_t)pthread_self() + at, &word); at += sizeof word)
        if (word == own)
            return at;
    return 0;
}

bool fsafe_handle_is_alive(pthread_t handle)
{
    static _Atomic uintptr_t place; /* 0: not looked for yet, or not found; the same for all threads */
    uintptr_t at = atomic_load_explicit(&place, memory_order_relaxed);
    if (at == 0)
        atomic_store_explicit(&place, at = find_id(), memory_order_relaxed);
    uint32_t id;
    return at != 0 && read_word((uintptr_t)handle + at, &id) && id != 0 && id <= INT32_MAX &&
           fsafe_sys_thread_alive(fsafe_lineage_pid(), (pid_t)id);
}

static _Atomic bool was_any_created;

bool fsafe_handle_was_any_created(void)
{
    return atomic_load_explicit(&was_any_created, memory_order_relaxed);
}

uint32_t fsafe_handle_begin_creation(void)
{
    uint32_t now = fsafe_lineage_generation();
    atomic_store_explicit(&was_any_created, true, memory_order_relaxed);
    atomic_fetch_add(&fsafe_handle_creations, 1);
    return now;
}

void fsafe_handle_end_creation(uint32_t begun_in, const pthread_t *handle)
{
    if (handle != NULL && fsafe_lineage_is_child())
        look_up(*handle, true);
    if (begun_in == fsafe_lineage_generation())
        atomic_fetch_sub(&fsafe_handle_creations, 1);
}
