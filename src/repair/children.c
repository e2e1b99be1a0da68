#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "base/tasks.h"
#include "base/timer.h"
#include "libc/late.h"
#include "repair/children.h"
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

/* Whether this process may have `child`, or any child (<= 0), in the list. A vfork child, a guest, has none. */
static bool has_any(pid_t child)
{
    if (!fsafe_children_any() || fsafe_lineage_pid() != fsafe_sys_getpid())
        return false;
    const struct fsafe_forked *forked = child > 0 ? find(child) : NULL;
    return child <= 0 || (forked != NULL && is_mine(forked, fsafe_lineage_pid()));
}

/* Unless the place has become another child's. */
static void strike(pid_t child, pid_t me)
{
    struct fsafe_forked *forked = find(child);
    uint64_t who = both(me, child);
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
        FSAFE_SYS(SYS_kill, child, SIGABRT, 0, 0, 0, 0);
}

static void look_at_child(struct fsafe_forked *forked)
{
    pid_t child = (pid_t)(uint32_t)atomic_load_explicit(&forked->who, memory_order_relaxed);
    uint64_t seen = atomic_load_explicit(&forked->seen, memory_order_relaxed);
    struct look look = {.child = child};
    if (seen == SAID)
        return;
    if (!fsafe_tasks_is_fork(child)) {
        strike(child, fsafe_sys_getpid());
        return;
    }
    uint64_t now = fsafe_tasks_each(child, look_at, &look) && look.any ? look.mark | 2 : NOTHING;
    bool hangs = now != NOTHING && now == seen;
    if (atomic_compare_exchange_strong(&forked->seen, &seen, hangs ? SAID : now) && hangs)
        say(child, &look);
}

/*
 * The signals that another thread of this process would take if the one that looks blocked them; while nobody has
 * asked, all.
 */
static _Atomic uint64_t taken_elsewhere = UINT64_MAX;

struct elsewhere {
    uint64_t handled, taken;
    unsigned threads;
};

static bool note_taken(const struct fsafe_task *task, void *context)
{
    enum { MOST = 32 };
    struct elsewhere *elsewhere = context;
    if (!task->ended && task->tid != fsafe_sys_gettid())
        elsewhere->taken |= ~task->blocked;
    /* Until nothing can change; or for so long that the program's wait is held up: then any thread may take any. */
    return (~elsewhere->taken & elsewhere->handled) != 0 && ++elsewhere->threads < MOST;
}

/* At the end of a look, for the next one: asking takes a while. */
static void note_taken_elsewhere(void)
{
    struct fsafe_handled handled = fsafe_tasks_handled();
    struct elsewhere elsewhere = {.handled = handled.interrupting | handled.restarting};
    if (elsewhere.handled != 0 && !fsafe_tasks_each(0, note_taken, &elsewhere))
        elsewhere.taken = UINT64_MAX;
    atomic_store_explicit(&taken_elsewhere, fsafe_tasks_of_others(elsewhere.taken), memory_order_relaxed);
}

void fsafe_children_hold_signals(struct fsafe_sigset *before)
{
    fsafe_sys_block_but(atomic_load_explicit(&taken_elsewhere, memory_order_relaxed), before);
}

/* Returns whether there was any. */
static bool look_at_all(pid_t me)
{
    bool any = false;
    for (unsigned i = 0; i < FSAFE_FORKED; i++)
        if (is_mine(&fsafe_tally->forked[i], me)) {
            look_at_child(&fsafe_tally->forked[i]);
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
        if (!look_at_all(me)) {
            atomic_store(&fsafe_children_of, 0);
            if (look_at_all(me)) /* another thread has forked meanwhile */
                atomic_store(&fsafe_children_of, fsafe_lineage_generation());
        }
        note_taken_elsewhere();
        uint64_t took_ns = processor_ns() - begun_ns;
        if (took_ns * SHARE > span_ns)
            atomic_store_explicit(&next_look_ns, now_ns + took_ns * SHARE, memory_order_relaxed);
    }
    due_ns = atomic_load_explicit(&next_look_ns, memory_order_relaxed);
    now_ns = fsafe_sys_now_ns();
    return due_ns > now_ns ? due_ns - now_ns : span_ns;
}

static uint64_t look(uint64_t late_ns)
{
    if (!has_any(-1))
        return 0;
    int saved = errno;
    uint64_t next_ns = look_if_due(fsafe_lineage_pid(), late_ns);
    errno = saved;
    return fsafe_children_any() ? next_ns : 0;
}

uint64_t fsafe_children_due_ns(void)
{
    uint64_t due_ns = atomic_load_explicit(&next_look_ns, memory_order_relaxed), now_ns;
    if (!fsafe_children_any())
        return 0;
    now_ns = fsafe_sys_now_ns();
    return due_ns > now_ns ? due_ns - now_ns : 1;
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

/* --- While a thread waits ----------------------------------------------------------------------------------------- */

/* In static memory, not in the wrapper's frame: a longjmp may leave a wait. */
struct fsafe_watch {
    _Atomic uint64_t taker; /* the thread that waits, see fsafe_lineage_thread; 0: the place is free */
    uint32_t generation;    /* of the process that has the timer; 0: there is none */
    int timer;
    uintptr_t frame;        /* the wrapper's */
};

/* Most programs wait in one thread or two, right after a fork: their watches lie where the fork has written already. */
enum { FIRST = 3, MORE = 29 };
static struct fsafe_watch first[FIRST] FSAFE_FORK_STATE, more[MORE];

static void drop_timer(struct fsafe_watch *watch)
{
    if (watch->generation == fsafe_lineage_generation())
        fsafe_timer_delete(watch->timer);
    watch->generation = 0;
}

static void withdraw(struct fsafe_watch *watch)
{
    drop_timer(watch);
    atomic_store_explicit(&watch->taker, 0, memory_order_release);
}

/* Whether the system call is one that the wrappers with a watch make. */
static bool may_wait(long number)
{
    switch (number) {
    case SYS_wait4:
    case SYS_waitid:
    case SYS_read:
#ifdef SYS_socketcall
    case SYS_socketcall:
#endif
    case SYS_recvfrom:
    case SYS_recvmsg:
#ifdef SYS_accept
    case SYS_accept:
#endif
    case SYS_accept4:
        return true;
    default:
        return fsafe_sys_is_futex(number);
    }
}

/* A timer that is due goes off when the thread has begun its wait, as a rule; if not, it is set anew. */
static void set_timer(const struct fsafe_watch *watch, uint64_t ns)
{
    enum { SOON_NS = 100000 };
    fsafe_timer_set(watch->timer, ns > SOON_NS ? ns : SOON_NS);
}

/* Whether the system call may return EINTR: not one that takes a futex, to which libc knows no such answer. */
static bool may_end(const struct fsafe_arch_call *call)
{
    unsigned operation = (unsigned)call->arguments[1] & (unsigned)FUTEX_CMD_MASK;
    return !fsafe_sys_is_futex(call->number) || operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
}

/* Whether a signal has come whose handler, without SA_RESTART, ends a system call as soon as ours has returned. */
static bool has_end_come(const ucontext_t *context)
{
    struct fsafe_sigset pending = {{0}};
    FSAFE_SYS(SYS_rt_sigpending, &pending, FSAFE_SIGSET_BYTES, 0, 0, 0, 0);
    uint64_t come = fsafe_sys_signals(&pending) & ~fsafe_sys_signals(&context->uc_sigmask);
    return come != 0 && (come & fsafe_tasks_handled().interrupting) != 0;
}

/*
 * A look in the middle of a wait, which ends where it would have ended without the look. Context: signals are blocked,
 * until our handler returns.
 */
static void look_in_wait(const struct fsafe_watch *watch, const struct fsafe_arch_call *call, ucontext_t *context)
{
    bool ends = has_end_come(context);
    uint64_t open = atomic_load_explicit(&taken_elsewhere, memory_order_relaxed) &
                    ~fsafe_sys_signals(&context->uc_sigmask);
    FSAFE_SYS(SYS_rt_sigprocmask, SIG_UNBLOCK, &open, NULL, FSAFE_SIGSET_BYTES, 0, 0);
    set_timer(watch, look_if_due(fsafe_sys_getpid(), 0));
    if ((ends || has_end_come(context)) && may_end(call))
        fsafe_arch_answer(context, -EINTR);
}

static bool on_timer(siginfo_t *info, void *context)
{
    struct fsafe_watch *watch = info->si_value.sival_ptr;
    struct fsafe_arch_call call;
    if ((watch < first || watch >= first + FIRST) && (watch < more || watch >= more + MORE))
        return false;
    if (atomic_load_explicit(&watch->taker, memory_order_acquire) != fsafe_lineage_thread(fsafe_sys_gettid()))
        return true;
    int saved = errno;
    bool is_call = fsafe_arch_interrupted(context, &call);
    /*
     * A longjmp has left the wait: no further timer. A thread that makes no system call is about to make this one, or a
     * signal handler interrupts it: a signal that came in a look would not end the wait, so there is none yet.
     */
    if (call.stack > watch->frame || (is_call && !may_wait(call.number)))
        withdraw(watch);
    else if (is_call)
        look_in_wait(watch, &call, context);
    else
        set_timer(watch, 0);
    errno = saved;
    return true;
}

/*
 * Takes a place that is free, or whose wait a longjmp has left. Not that of a wait which the caller, a signal handler,
 * has interrupted, perhaps before the place had a timer: that wait goes on. NULL: there is none.
 */
static struct fsafe_watch *take_place(uint64_t self, uintptr_t frame)
{
    for (unsigned i = 0; i < FIRST + MORE; i++) {
        struct fsafe_watch *watch = i < FIRST ? &first[i] : &more[i - FIRST];
        uint64_t who = atomic_load_explicit(&watch->taker, memory_order_acquire);
        bool left = who == self && watch->generation == fsafe_lineage_generation() && watch->frame <= frame;
        if (left)
            drop_timer(watch);
        if ((left || !fsafe_lineage_has(who)) && atomic_compare_exchange_strong(&watch->taker, &who, self)) {
            drop_timer(watch); /* of a thread that was cancelled in its wait */
            return watch;
        }
    }
    return NULL;
}

/* Whether the thread has taken a place since it last had none. */
static __thread bool may_have_watch __attribute__((tls_model("initial-exec")));

struct fsafe_watch *fsafe_children_watch(pid_t child, uintptr_t frame)
{
    if (!has_any(child))
        return NULL;
    may_have_watch = true;
    struct fsafe_watch *watch = take_place(fsafe_lineage_thread(fsafe_sys_gettid()), frame);
    if (watch == NULL)
        return NULL;
    watch->frame = frame;
    if (!fsafe_timer_listen(on_timer) || !fsafe_timer_make(&watch->timer, watch)) {
        withdraw(watch);
        return NULL;
    }
    watch->generation = fsafe_lineage_generation();
    set_timer(watch, fsafe_children_due_ns());
    return watch;
}

/* Returns whether the watch is the thread's. */
static bool rest(struct fsafe_watch *watch, uint64_t self, bool rests)
{
    if (atomic_load_explicit(&watch->taker, memory_order_relaxed) != self ||
        watch->generation != fsafe_lineage_generation())
        return false;
    if (rests)
        fsafe_timer_set(watch->timer, 0);
    else
        set_timer(watch, fsafe_children_due_ns());
    return true;
}

void fsafe_children_rest(bool rests)
{
    if (FSAFE_LIKELY(!may_have_watch))
        return;
    uint64_t self = fsafe_lineage_thread(fsafe_sys_gettid());
    bool any = false;
    for (unsigned i = 0; i < FIRST + MORE; i++)
        any |= rest(i < FIRST ? &first[i] : &more[i - FIRST], self, rests);
    may_have_watch = any;
}

void fsafe_children_over(struct fsafe_watch *watch, pid_t ended)
{
    if (watch != NULL &&
        atomic_load_explicit(&watch->taker, memory_order_relaxed) == fsafe_lineage_thread(fsafe_sys_gettid()))
        withdraw(watch);
    if (ended > 0)
        strike(ended, fsafe_sys_getpid());
    fsafe_children_look(); /* perhaps no wait is long enough for one */
}
