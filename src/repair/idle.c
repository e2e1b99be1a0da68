#include "config.h"

#include "base/sys.h"
#include "base/tasks.h"
#include "repair/idle.h"
#include "track/region.h"
#include "track/slots.h"

#include <sys/auxv.h>

/* System calls that libc makes without a lock, outside regions. Not read, write and send: libc may hold a stream's. */
static const long sleeps[] = {
    SYS_ppoll, SYS_pselect6, SYS_epoll_pwait, SYS_rt_sigtimedwait, SYS_rt_sigsuspend, SYS_nanosleep,
    SYS_clock_nanosleep, SYS_wait4, SYS_waitid, SYS_accept4,
#ifdef SYS_poll
    SYS_poll, SYS_epoll_wait, SYS_pause,
#endif
#ifdef SYS_select
    SYS_select,
#endif
#ifdef SYS_accept
    SYS_accept, SYS_recvfrom, SYS_recvmsg,
#endif
#ifdef SYS_clock_nanosleep_time64
    SYS_clock_nanosleep_time64, SYS_ppoll_time64, SYS_pselect6_time64, SYS_rt_sigtimedwait_time64,
#endif
};

struct look {
    uintptr_t word;
    bool (*is_libcs)(uintptr_t address);
    pid_t self;
    struct fsafe_handled handled;
    struct fsafe_idle *found;
};

static uintptr_t vdso;

void fsafe_idle_start(void)
{
    vdso = getauxval(AT_SYSINFO_EHDR);
}

static bool is_in_call(pid_t tid)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);)
        if (at.thread->tid == tid && fsafe_region_is_inside(at.thread))
            return true;
    return false;
}

/* Whether a signal handler may return to that place. */
static bool may_be_return(const struct look *look, uintptr_t place)
{
    enum { VDSO_BYTES = 8192 };
    for (unsigned i = 0; i < look->handled.places; i++) {
        uintptr_t known = look->handled.returns[i];
        /* Not the beginning of the vDSO: its address stands on each main thread's stack. */
        if (known != 0 ? place == known : vdso != 0 && place > vdso && place - vdso < VDSO_BYTES)
            return true;
    }
    return false;
}

/* Whether it sleeps in a call that changes, for that time, which signals the thread blocks. */
static bool may_have_mask(long call)
{
    static const long masks[] = {SYS_rt_sigsuspend, SYS_ppoll, SYS_pselect6, SYS_epoll_pwait,
#ifdef SYS_ppoll_time64
                                 SYS_ppoll_time64, SYS_pselect6_time64,
#endif
    };
    bool may_have = false;
    for (unsigned i = 0; i < sizeof masks / sizeof *masks; i++)
        may_have |= call == masks[i];
    return may_have;
}

/*
 * A thread in a signal handler has the locks that the interrupted code took, perhaps malloc's. Usually the signal is
 * blocked while its handler runs, and the place that the handler returns to stands on the stack; it may also be left
 * there by a handler that has ended.
 */
static bool may_be_in_handler(const struct look *look, const struct fsafe_task *task)
{
    enum { WORDS = 64, DEEPEST = 1 << 20 };
    uintptr_t stack = task->stack, words[WORDS], at = stack / sizeof words * sizeof words;
    if (look->handled.places == 0 ||
        ((task->blocked & task->caught) == 0 && look->handled.open == 0 && !may_have_mask(task->call)))
        return false;
    for (; at < stack + DEEPEST && fsafe_sys_peek(at, words, sizeof words); at += sizeof words)
        for (unsigned i = at < stack ? (stack - at) / sizeof *words : 0; i < WORDS; i++)
            if (may_be_return(look, words[i]))
                return true;
    return look->handled.places == FSAFE_RETURNS || at >= stack + DEEPEST;
}

static bool look_at(const struct fsafe_task *task, void *context)
{
    struct look *look = context;
    if (task->ended || task->tid == look->self)
        return true;
    bool is_futex = fsafe_tasks_waits_for_futex(task);
    if (is_futex && task->argument[0] == look->word && task->argument[3] == 0) {
        look->found->waiting++;
        return true;
    }
    look->found->mark = fsafe_tasks_mark(look->found->mark, task);
    bool sleeps_so = is_futex && !look->is_libcs(task->argument[0]);
    for (unsigned i = 0; i < sizeof sleeps / sizeof *sleeps; i++)
        sleeps_so |= task->call == sleeps[i];
    return sleeps_so && !is_in_call(task->tid) && !may_be_in_handler(look, task);
}

bool fsafe_idle_look(uintptr_t word, bool (*is_libcs)(uintptr_t address), struct fsafe_idle *found)
{
    struct look look = {.word = word, .is_libcs = is_libcs, .self = fsafe_sys_gettid(),
                        .handled = fsafe_tasks_handled(), .found = found};
    *found = (struct fsafe_idle){.mark = 0};
    return fsafe_tasks_each(0, look_at, &look);
}
