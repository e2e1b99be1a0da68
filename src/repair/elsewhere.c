#include "config.h"

#include "base/tasks.h"
#include "repair/elsewhere.h"

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

void fsafe_elsewhere_note(void)
{
    struct fsafe_handled handled = fsafe_tasks_handled();
    struct elsewhere elsewhere = {.handled = handled.interrupting | handled.restarting};
    if (elsewhere.handled != 0 && !fsafe_tasks_each(0, note_taken, &elsewhere))
        elsewhere.taken = UINT64_MAX;
    atomic_store_explicit(&taken_elsewhere, fsafe_tasks_of_others(elsewhere.taken), memory_order_relaxed);
}

uint64_t fsafe_elsewhere_signals(void)
{
    return atomic_load_explicit(&taken_elsewhere, memory_order_relaxed);
}

void fsafe_elsewhere_hold(struct fsafe_sigset *before)
{
    fsafe_sys_block_but(fsafe_elsewhere_signals(), before);
}
