#include "config.h"

#include "base/compiler.h"
#include "base/sys.h"
#include "track/waiting.h"

bool fsafe_thread_waits_again(const struct fsafe_thread *self, uintptr_t object, int64_t value, uint64_t now_ns)
{
    enum { SOON_NS = 50000000 }; /* a wait that begins later is another one */
    const struct fsafe_again *again = &self->again;
    return again->object == object && again->value == value && again->generation == fsafe_lineage_generation() &&
           now_ns - again->left_ns <= SOON_NS;
}

static bool is_overwritten(uintptr_t frame, uintptr_t returns)
{
    uintptr_t beside;
    return !fsafe_sys_peek(frame + sizeof beside, &beside, sizeof beside) || beside != returns;
}

/* Whether the function that waited has been left: its frame lies below `frame` on the same stack, or is overwritten. */
static bool is_left(const struct fsafe_wait *wait, uintptr_t frame)
{
    return (wait->returns != 0 && is_overwritten(wait->frame, wait->returns)) ||
           (wait->frame <= frame && fsafe_sys_signal_stack() == 0);
}

bool fsafe_thread_is_left(uintptr_t frame, uintptr_t returns, uintptr_t current)
{
    enum { ONE_STACK = 64 << 10 }; /* few stacks are smaller */
    return frame <= current && (current - frame < ONE_STACK || returns == 0 || is_overwritten(frame, returns)) &&
           fsafe_sys_signal_stack() == 0;
}

void fsafe_thread_forget_left(struct fsafe_thread *self, uintptr_t frame)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; FSAFE_UNLIKELY(i < self->waits); i++) {
        const struct fsafe_wait wait = self->waiting[i];
        if (is_left(&wait, frame))
            fsafe_ledger_drop_stage(&self->ledgers[wait.of], wait.record);
        else
            self->waiting[kept++] = wait;
    }
    self->waits = kept;
}

uint32_t fsafe_thread_begin_wait_at(struct fsafe_thread *self, const struct fsafe_wait *wait)
{
    fsafe_thread_forget_left(self, wait->frame);
    uint32_t begun = self->waits;
    if (begun < FSAFE_WAITS_NESTED) {
        self->waiting[begun] = *wait;
        /* Some machines do not keep the return address beside the frame. */
        if (*(const uintptr_t *)(wait->frame + sizeof(uintptr_t)) != wait->returns)
            self->waiting[begun].returns = 0;
        FSAFE_ORDER();
        self->waits = begun + 1;
    }
    return begun;
}
