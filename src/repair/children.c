#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "base/tasks.h"
#include "libc/late.h"
#include "repair/children.h"
#include "repair/elsewhere.h"
#include "report/report.h"
#include "report/tally.h"
#include "track/handle.h"

#include <time.h>

/* --- The list --------------------------------------------------------------------------------------------------- */

enum { NOTHING, SAID }; /* what `seen` of a child may be besides a mark: nothing was seen; a line was written */

static uint64_t both(pid_t parent, pid_t child)
{
    return (uint64_t)(uint32_t)parent << 32 | (uint32_t)child;
}

static struct fsafe_forked *place_of(pid_t child, unsigned probe)
{
    return &fsafe_tally->forked[((uint32_t)child + probe) % FSAFE_FORKED];
}

static struct fsafe_forked *find(pid_t child)
{
    for (unsigned i = 0; i < FSAFE_FORKED; i++) {
        struct fsafe_forked *forked = place_of(child, i);
        if ((pid_t)(uint32_t)atomic_load_explicit(&forked->who, memory_order_relaxed) == child)
            return forked;
    }
    return NULL;
}

/* Whether no thread vanished. Where libc does not say how many threads there are: whether the program made none. */
static bool had_one_thread(void)
{
    return FSAFE_SINGLE_THREADED() || (!fsafe_late_knows_threads() && !fsafe_handle_was_any_created());
}

void fsafe_children_said(bool waits)
{
    struct fsafe_forked *forked = find(fsafe_sys_getpid());
    if (forked != NULL)
        atomic_store_explicit(&forked->seen, waits ? SAID : NOTHING, memory_order_relaxed);
}

void fsafe_children_strike_self(void)
{
    struct fsafe_forked *forked = find(fsafe_sys_getpid());
    if (forked != NULL)
        atomic_store_explicit(&forked->who, 0, memory_order_relaxed);
}

_Atomic uint32_t fsafe_children_of FSAFE_FORK_STATE;

static bool is_mine(const struct fsafe_forked *forked, pid_t me)
{
    return (pid_t)(atomic_load_explicit(&forked->who, memory_order_acquire) >> 32) == me;
}

/* Whether there is room for a look, and for the signal of its timer, where a program's signal handler waits. */
static bool has_stack(void)
{
    enum { LEAST = 24 << 10 };
    uintptr_t lowest = fsafe_sys_signal_stack();
    return lowest == 0 || (uintptr_t)__builtin_frame_address(0) - lowest >= LEAST;
}

/* A vfork child, a guest, has none. */
bool fsafe_children_has(pid_t child)
{
    if (!fsafe_children_any() || fsafe_lineage_pid() != fsafe_sys_getpid() || !has_stack())
        return false;
    const struct fsafe_forked *forked = child > 0 ? find(child) : NULL;
    return child <= 0 || (forked != NULL && is_mine(forked, fsafe_lineage_pid()));
}

/* Unless the place has become another child's. */
void fsafe_children_ended(pid_t child)
{
    struct fsafe_forked *forked = find(child);
    uint64_t who = both(fsafe_sys_getpid(), child);
    if (forked != NULL)
        atomic_compare_exchange_strong(&forked->who, &who, 0);
}

/* --- Looking ---------------------------------------------------------------------------------------------------- */

/* What one look at all threads of a child found. */
struct look {
    pid_t child;
    uint64_t mark;      /* equal in two looks: no thread has woken in between */
    uint64_t unblocked; /* the signals that some thread would take */
    struct fsafe_task first;
    bool any;
};

static bool look_at(const struct fsafe_task *task, void *context)
{
    struct look *look = context;
    if (task->ended)
        return true;
    if (!fsafe_tasks_waits_for_futex(task) || task->argument[3] != 0)
        return false;
    /* A futex of robust mutexes and of pthread_join is not of the private kind. */
    if ((task->argument[1] & FUTEX_PRIVATE_FLAG) == 0 &&
        fsafe_maps_is_shared_in(look->child, task->argument[0]) != 0)
        return false;
    if (!look->any)
        look->first = *task;
    look->any = true;
    look->unblocked |= ~task->blocked;
    look->mark = fsafe_tasks_mark(look->mark, task);
    return true;
}

static void say(pid_t child, const struct look *look)
{
    bool by_handler = (fsafe_tasks_of_others(look->first.caught) & look->unblocked) != 0;
    const struct fsafe_event event = {
        .deed = by_handler ? FSAFE_WAITS_FOR_HANDLER : FSAFE_HANGS,
        .lock = "futex",
        .kind = "unknown",
        .why = "the parent, which writes this, sees only where the child sleeps",
        .address = (uintptr_t)look->first.argument[0],
        .wanted_at = fsafe_tasks_place(child, &look->first),
        .in_use = true,
        .pid = child,
        .tid = look->first.tid,
    };
    fsafe_report_event(&event);
    if (!by_handler && fsafe_options.mode == FSAFE_MODE_ABORT)
        FSAFE_SYS(SYS_kill, child, SIGABRT);
}

/* `quick`: of most children one file of the kernel's says that they do not hang, and no more is asked. */
static void look_at_child(struct fsafe_forked *forked, bool quick)
{
    pid_t child = (pid_t)(uint32_t)atomic_load_explicit(&forked->who, memory_order_relaxed);
    uint64_t seen = atomic_load_explicit(&forked->seen, memory_order_relaxed);
    struct look look = {.child = child};
    if (seen == SAID)
        return;
    bool moves = quick && fsafe_tasks_is_elsewhere(child);
    if (!moves && !fsafe_tasks_is_fork(child)) {
        fsafe_children_ended(child);
        return;
    }
    uint64_t now = !moves && fsafe_tasks_each(child, look_at, &look) && look.any ? look.mark | 2 : NOTHING;
    bool hangs = now != NOTHING && now == seen;
    if (atomic_compare_exchange_strong(&forked->seen, &seen, hangs ? SAID : now) && hangs)
        say(child, &look);
}

/* Returns whether there was any to look at. Each eighth look also sees which child has executed a program. */
static bool look_at_all(pid_t me)
{
    enum { WHOLE = 8 };
    static _Atomic unsigned looks;
    if (!fsafe_tasks_are_of_namespace())
        return false;
    bool any = false, quick = atomic_fetch_add_explicit(&looks, 1, memory_order_relaxed) % WHOLE != 0;
    for (unsigned i = 0; i < FSAFE_FORKED; i++)
        if (is_mine(&fsafe_tally->forked[i], me)) {
            look_at_child(&fsafe_tally->forked[i], quick);
            any = true;
        }
    return any;
}

/* How much processor time the calling thread has used. */
static uint64_t processor_ns(void)
{
    struct timespec ran;
    fsafe_sys_clock(CLOCK_THREAD_CPUTIME_ID, &ran);
    return fsafe_sys_ns(&ran);
}

/* When the process is to look next; 0: it has had no child to look at. */
static _Atomic uint64_t next_look_ns;

/*
 * Looks at all children of this process, if that has been due for `late_ns`: whichever of them the program waits for,
 * however short each wait is. Looks come at equal distances, so that a child which goes to sleep late is named as soon
 * as the first one; at longer distances where a look takes so long that looks would use more than a fiftieth of a
 * processor. Returns in how many ns the next look is due.
 */
static uint64_t look_if_due(pid_t me, uint64_t late_ns)
{
    enum { SHARE = 50 };
    /* Not at whole seconds, where the signals of alarm() come: one that comes during a look may interrupt no wait. */
    uint64_t span_ns = fsafe_options_hang_ns() / 10000 * 10618, now_ns = fsafe_sys_now_ns();
    uint64_t due_ns = atomic_load_explicit(&next_look_ns, memory_order_relaxed), was_due_ns = due_ns;
    if ((due_ns == 0 || now_ns >= due_ns + late_ns) &&
        atomic_compare_exchange_strong(&next_look_ns, &due_ns, now_ns + span_ns) && was_due_ns != 0) {
        uint64_t begun_ns = processor_ns();
        fsafe_tasks_close_left((uintptr_t)__builtin_frame_address(0));
        if (!look_at_all(me)) {
            atomic_store(&fsafe_children_of, 0);
            if (look_at_all(me)) /* another thread has forked meanwhile */
                atomic_store(&fsafe_children_of, fsafe_lineage_generation());
        }
        fsafe_elsewhere_note();
        uint64_t took_ns = processor_ns() - begun_ns;
        if (took_ns * SHARE > span_ns)
            atomic_store_explicit(&next_look_ns, now_ns + took_ns * SHARE, memory_order_relaxed);
    }
    uint64_t left_ns = fsafe_sys_left_ns(atomic_load_explicit(&next_look_ns, memory_order_relaxed));
    return left_ns != 0 ? left_ns : span_ns;
}

static uint64_t look(uint64_t late_ns)
{
    if (!fsafe_children_has(-1))
        return 0;
    int saved = errno;
    uint64_t next_ns = look_if_due(fsafe_lineage_pid(), late_ns);
    errno = saved;
    return fsafe_children_any() ? next_ns : 0;
}

uint64_t fsafe_children_due_ns(void)
{
    if (!fsafe_children_any())
        return 0;
    uint64_t left_ns = fsafe_sys_left_ns(atomic_load_explicit(&next_look_ns, memory_order_relaxed));
    return left_ns != 0 ? left_ns : 1;
}

/* Quick if no look is due, because a program that reads without a pause asks here each time. */
uint64_t fsafe_children_look(void)
{
    uint64_t due_ns = fsafe_children_due_ns();
    return due_ns == 1 ? look(0) : due_ns;
}

/*
 * Notes the child where no other thread or process notes one at the same moment; if the list is full, in the place of a
 * child whose parent has ended, as a daemon's has; if there is none, anywhere.
 */
static struct fsafe_forked *take_entry(pid_t me, pid_t child)
{
    pid_t alive = me;
    for (unsigned i = 0; i < 2 * FSAFE_FORKED; i++) {
        struct fsafe_forked *forked = place_of(child, i);
        uint64_t who = atomic_load_explicit(&forked->who, memory_order_relaxed);
        pid_t parent = (pid_t)(who >> 32);
        bool is_left = who == 0 || (pid_t)(uint32_t)who == child;
        if (!is_left && i >= FSAFE_FORKED && parent != alive) {
            is_left = !fsafe_sys_thread_alive(parent, parent);
            alive = is_left ? alive : parent;
        }
        if (is_left && atomic_compare_exchange_strong(&forked->who, &who, both(me, child)))
            return forked;
    }
    atomic_store_explicit(&place_of(child, 0)->who, both(me, child), memory_order_release);
    return place_of(child, 0);
}

/* The generation of the process that forked last. */
static _Atomic uint32_t forked_in FSAFE_FORK_STATE;

bool fsafe_children_had_any(void)
{
    return atomic_load_explicit(&forked_in, memory_order_relaxed) == fsafe_lineage_generation();
}

void fsafe_children_forked(pid_t child)
{
    if (child > 0)
        atomic_store_explicit(&forked_in, fsafe_lineage_generation(), memory_order_relaxed);
    if (child <= 0 || (had_one_thread() && !fsafe_lineage_is_child()) || fsafe_options.mode == FSAFE_MODE_OFF ||
        fsafe_options.hang_ms == 0)
        return;
    struct fsafe_forked *taken = take_entry(fsafe_sys_getpid(), child);
    atomic_store_explicit(&taken->seen, NOTHING, memory_order_relaxed);
    atomic_store(&fsafe_children_of, fsafe_lineage_generation());
    /*
     * A parent that ignores SIGCHLD never waits for its children, but makes more of them. One that does wait looks in
     * its waits, and is not held up here.
     */
    look(fsafe_options_hang_ns());
}
