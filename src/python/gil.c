#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "python/frames.h"
#include "python/gil.h"
#include "python/interpreter.h"
#include "repair/takeover.h"
#include "track/handle.h"
#include "track/join.h"

/* Both pairs of condition variable and mutex lie side by side, after the words. The same from 3.9 on to 3.15. */
struct gil {
    unsigned long interval_us;
    _Atomic uintptr_t last_holder; /* a thread's state */
    _Atomic int locked;
    unsigned long switches;
    pthread_cond_t wanted;
    pthread_mutex_t mutex;
    pthread_cond_t switched;
    pthread_mutex_t switch_mutex;
};

/* No program seen sets an interval of more than a second. */
static bool looks_like_one(const struct gil *gil)
{
    return gil->interval_us >= 1 && gil->interval_us <= 1000000 && (gil->locked == 0 || gil->locked == 1) &&
           gil->last_holder != 0 && gil->last_holder % sizeof(uintptr_t) == 0;
}

static const struct gil *main_gil; /* NULL: unknown */

void fsafe_python_gil_find(void)
{
    const struct gil *gil = (const struct gil *)((uintptr_t)fsafe_python_first_condvar - offsetof(struct gil, wanted));
    struct gil copy;
    bool found = fsafe_sys_peek((uintptr_t)gil, &copy, sizeof copy) && looks_like_one(&copy) && copy.locked == 1 &&
                 copy.last_holder == (uintptr_t)fsafe_python.PyGILState_GetThisThreadState();
    main_gil = found ? gil : NULL;
}

bool fsafe_python_gil_is_free(void)
{
    return main_gil != NULL && fsafe_python_is_running() && main_gil->locked == 0;
}

/* Whether the caller is a signal handler that came as its thread took the GIL or let it go. */
static bool is_in_the_middle(void)
{
    struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_locks(fsafe_self));
    while (fsafe_ledger_next(&at))
        if ((at.lock & ~FSAFE_STAGE_MASK) - (uintptr_t)main_gil < sizeof *main_gil)
            return true;
    return false;
}

bool fsafe_python_gil_takes_free(void)
{
    void *own = fsafe_python.PyGILState_GetThisThreadState();
    if (!fsafe_python_gil_is_free() || own == NULL || fsafe_python_state_with_gil() != NULL || fsafe_self == NULL ||
        is_in_the_middle())
        return false;
    fsafe_python.PyEval_RestoreThread(own);
    return true;
}

/*
 * Whether the GIL's owner has vanished. A caller that is alone waits for a vanished owner, or for itself: that would be
 * a fault of the program's, and stays.
 */
static bool holder_vanished(const struct gil *gil)
{
    if (gil->last_holder == (uintptr_t)fsafe_python.PyGILState_GetThisThreadState())
        return false;
    if (fsafe_takeover_is_alone())
        return true;
    uintptr_t thread = fsafe_python_frames_thread((const void *)gil->last_holder);
    return thread != 0 && fsafe_handle_has_vanished((pthread_t)thread);
}

/* Whether a thread of this process has had the GIL since the fork. Asked often, so a yes is kept. */
static bool is_settled(struct gil *gil)
{
    static _Atomic uintptr_t settled;
    static _Atomic uint32_t generation;
    uint32_t now = fsafe_lineage_generation();
    if (atomic_load_explicit(&settled, memory_order_relaxed) == (uintptr_t)gil &&
        atomic_load_explicit(&generation, memory_order_relaxed) == now)
        return true;
    if (holder_vanished(gil))
        return false;
    atomic_store_explicit(&generation, now, memory_order_relaxed);
    atomic_store_explicit(&settled, (uintptr_t)gil, memory_order_relaxed);
    return true;
}

static void find_holder(const struct gil *gil, struct fsafe_event *event)
{
    uintptr_t handle = fsafe_python_frames_thread((const void *)gil->last_holder);
    const struct fsafe_thread *thread = handle != 0 ? fsafe_handle_find_vanished((pthread_t)handle) : NULL;
    event->fork = fsafe_lineage_latest_fork();
    if (thread != NULL) {
        event->holder = fsafe_thread_as_holder(thread, 0);
        event->fork = fsafe_lineage_fork_after(fsafe_thread_generation(thread));
    }
}

/* Under the GIL's own mutex. No drain could stop the thread that was changing what the GIL guards. */
static bool take_over(struct gil *gil, uintptr_t site)
{
    struct fsafe_event event = {
        .deed = FSAFE_TOOK_OVER,
        .worth_a_line = true,
        .lock = "Python GIL",
        .kind = "interpreter",
        .address = (uintptr_t)gil,
        .wanted_at = site,
    };
    if (fsafe_options.mode != FSAFE_MODE_REPAIR) {
        static _Atomic bool told; /* the wait is begun anew every few milliseconds */
        event.deed = FSAFE_WOULD_HANG;
        event.worth_a_line = !atomic_exchange(&told, true);
    } else {
        atomic_store(&gil->locked, 0);
    }
    find_holder(gil, &event);
    fsafe_takeover_tell(&event);
    return event.deed == FSAFE_TOOK_OVER;
}

bool fsafe_python_gil_ends_wait(const pthread_cond_t *condvar, const pthread_mutex_t *mutex, bool timed, uintptr_t site)
{
    size_t at = timed ? offsetof(struct gil, wanted) : offsetof(struct gil, switched);
    struct gil *gil = (struct gil *)((uintptr_t)condvar - at);
    if (mutex != (timed ? &gil->mutex : &gil->switch_mutex) || !looks_like_one(gil) || !fsafe_python_is_running())
        return false;
    if (timed)
        return gil->locked == 1 && !is_settled(gil) && take_over(gil, site);
    /* A vanished thread had asked for the GIL, and the thread that is left would have to ask again. */
    return fsafe_options.mode == FSAFE_MODE_REPAIR && fsafe_takeover_is_alone();
}
