#include "config.h"

#include "base/sys.h"
#include "base/tasks.h"
#include "repair/idle.h"
#include "track/region.h"

/*
 * What programs sleep in, and libc only in calls that are regions. Not read and write, nor what sends: a stream's lock
 * is held meanwhile.
 */
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
    uint64_t blocked;
    struct fsafe_idle *found;
};

/* Also the lock of a stream, or of the list of streams: where those are written to is the program's affair. */
static bool may_have_lock(struct fsafe_thread *thread)
{
    return fsafe_region_is_inside(thread) || fsafe_ledger_depth(fsafe_thread_files(thread)) != 0 ||
           atomic_load_explicit(&thread->flushing, memory_order_acquire) != 0;
}

static bool has_lock(pid_t tid)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); fsafe_thread_next(&at);)
        if (at.thread->tid == tid && may_have_lock(at.thread))
            return true;
    return false;
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
    /*
     * A signal handler has the locks of what it interrupts, malloc's too; it runs with its signal blocked. What the
     * caller blocks as well is blocked in all threads, mostly.
     */
    bool may_be_in_handler = (task->blocked & task->caught & ~look->blocked) != 0;
    return sleeps_so && !may_be_in_handler && !has_lock(task->tid);
}

bool fsafe_idle_look(uintptr_t word, bool (*is_libcs)(uintptr_t address), uint64_t blocked, struct fsafe_idle *found)
{
    struct look look = {.word = word, .is_libcs = is_libcs, .self = fsafe_sys_gettid(), .blocked = blocked,
                        .found = found};
    *found = (struct fsafe_idle){.mark = 0};
    return fsafe_tasks_each(0, look_at, &look);
}
