#include "config.h"

#include "base/options.h"
#include "base/tasks.h"
#include "base/timer.h"
#include "repair/children.h"
#include "repair/elsewhere.h"
#include "repair/watch.h"

/* In static memory, not in the wrapper's frame: a longjmp may leave a wait. */
struct fsafe_watch {
    _Atomic uint64_t taker; /* the thread that waits, see fsafe_lineage_thread; 0: the place is free */
    uint32_t generation;    /* of the process that has the timer; 0: there is none */
    int timer;
    unsigned early;         /* how many signals in a row have found the thread outside system calls */
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
static void set_timer(struct fsafe_watch *watch, uint64_t ns)
{
    enum { SOON_NS = 100000 };
    watch->early = 0;
    fsafe_timer_set(watch->timer, ns > SOON_NS ? ns : SOON_NS);
}

/* Later each time: a longjmp may have left the wait, and the thread computes. */
static void set_timer_again(struct fsafe_watch *watch)
{
    enum { SOON_NS = 100000, MOST = 14 };
    fsafe_timer_set(watch->timer, (uint64_t)SOON_NS << watch->early);
    watch->early += watch->early < MOST;
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
    FSAFE_SYS(SYS_rt_sigpending, &pending, FSAFE_SIGSET_BYTES);
    uint64_t come = fsafe_sys_signals(&pending) & ~fsafe_sys_signals(&context->uc_sigmask);
    return come != 0 && (come & fsafe_tasks_handled().interrupting) != 0;
}

/*
 * A look in the middle of a wait, which ends where it would have ended without the look. Context: signals are blocked,
 * until our handler returns.
 */
static void look_in_wait(struct fsafe_watch *watch, const struct fsafe_arch_call *call, ucontext_t *context)
{
    bool ends = has_end_come(context);
    uint64_t open = fsafe_elsewhere_signals() & ~fsafe_sys_signals(&context->uc_sigmask);
    FSAFE_SYS(SYS_rt_sigprocmask, SIG_UNBLOCK, &open, NULL, FSAFE_SIGSET_BYTES);
    uint64_t next_ns = fsafe_children_look();
    /* Another thread may fork a child that is to be looked at. */
    set_timer(watch, next_ns != 0 ? next_ns : fsafe_options_hang_ns());
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
    if (fsafe_timer_has_left(context, call.stack, watch->frame) || (is_call && !may_wait(call.number)))
        withdraw(watch);
    else if (is_call)
        look_in_wait(watch, &call, context);
    else
        set_timer_again(watch);
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

struct fsafe_watch *fsafe_watch_begin(pid_t child, uintptr_t frame)
{
    if (!fsafe_children_has(child))
        return NULL;
    struct fsafe_watch *watch = take_place(fsafe_lineage_thread(fsafe_sys_gettid()), frame);
    if (watch == NULL)
        return NULL;
    watch->frame = frame;
    if (!fsafe_timer_listen(on_timer) || !fsafe_timer_make(&watch->timer, watch)) {
        withdraw(watch);
        return NULL;
    }
    watch->generation = fsafe_lineage_generation();
    may_have_watch = true; /* now: a handler that waited in the middle of this has found no timer, and noted that */
    set_timer(watch, fsafe_children_due_ns());
    return watch;
}

/* Returns whether the watch is the thread's. */
static bool rest(struct fsafe_watch *watch, uint64_t self, bool rests)
{
    if (atomic_load_explicit(&watch->taker, memory_order_relaxed) != self ||
        watch->generation != fsafe_lineage_generation())
        return false;
    uint64_t due_ns = rests ? 0 : fsafe_children_due_ns();
    if (due_ns == 0)
        fsafe_timer_set(watch->timer, 0);
    else
        set_timer(watch, due_ns);
    return true;
}

void fsafe_watch_rest(bool rests)
{
    if (FSAFE_LIKELY(!may_have_watch))
        return;
    uint64_t self = fsafe_lineage_thread(fsafe_sys_gettid());
    bool any = false;
    for (unsigned i = 0; i < FIRST + MORE; i++)
        any |= rest(i < FIRST ? &first[i] : &more[i - FIRST], self, rests);
    may_have_watch = any;
}

void fsafe_watch_end(struct fsafe_watch *watch, pid_t ended)
{
    if (watch != NULL &&
        atomic_load_explicit(&watch->taker, memory_order_relaxed) == fsafe_lineage_thread(fsafe_sys_gettid()))
        withdraw(watch);
    if (ended > 0)
        fsafe_children_ended(ended);
    fsafe_children_look();
}
