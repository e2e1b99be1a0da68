#include "config.h"

#include "repair/held.h"
#include "repair/takeover.h"
#include "track/slots.h"

#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>

static struct fsafe_sigset with(const struct fsafe_sigset *set, uint64_t bits)
{
    struct fsafe_sigset both = *set;
    bits |= fsafe_sys_signals(set);
    memcpy(both.bits, &bits, sizeof bits);
    return both;
}

void fsafe_held_end(struct fsafe_held *held)
{
    held->self->sleeping.held_back = 0;
    fsafe_sys_restore_signals(&held->before);
}

/* Blocks first, so that no signal is lost that comes while the rest is found out. */
static bool hold(struct fsafe_held *held)
{
    struct fsafe_task task;
    fsafe_sys_block_signals(&held->before);
    held->self->sleeping.held_back = ~fsafe_sys_signals(&held->before);
    held->handled = fsafe_tasks_handled();
    if ((held->handled.interrupting & ~fsafe_sys_signals(&held->before)) != 0 &&
        fsafe_tasks_look(fsafe_sys_gettid(), &task) && !task.filtered && fsafe_takeover_is_alone())
        return true;
    fsafe_held_end(held);
    return false;
}

bool fsafe_held_begin(struct fsafe_held *held, struct fsafe_thread *self)
{
    held->self = self;
    return !fsafe_thread_has_company(self) && hold(held);
}

/* A signal that the program handles makes the descriptor ready and stays pending. */
static long await_signal(const struct fsafe_sigset *handled, const struct fsafe_sigset *mask,
                         const struct timespec *until)
{
    struct timespec span = until != NULL ? fsafe_sys_span_until(until) : (struct timespec){0};
    struct pollfd ready = {.events = POLLIN};
    ready.fd = (int)FSAFE_SYS(SYS_signalfd4, -1, handled, FSAFE_SIGSET_BYTES, SFD_CLOEXEC);
    if (ready.fd < 0)
        return ready.fd;
    long answer = FSAFE_SYS(FSAFE_SYS_PPOLL, &ready, 1, until != NULL ? &span : NULL, mask, FSAFE_SIGSET_BYTES);
    fsafe_sys_close(ready.fd);
    return answer;
}

long fsafe_held_sleep(struct fsafe_held *held, const struct timespec *until)
{
    const struct fsafe_sigset nothing = {{0}};
    uint64_t open = ~fsafe_sys_signals(&held->before);
    uint64_t interrupting = held->handled.interrupting & open, all = interrupting | (held->handled.restarting & open);
    const struct fsafe_sigset handled = with(&nothing, all), mask = with(&held->before, all);
    long answer = await_signal(&handled, &mask, until);
    if (answer == 0)
        return -ETIMEDOUT;
    if (answer == -EINTR) /* by one of libc's own signals, or by a timer of ours */
        return 0;
    struct fsafe_sigset pending = {{0}};
    if (answer > 0)
        answer = FSAFE_SYS(SYS_rt_sigpending, &pending, FSAFE_SIGSET_BYTES);
    bool ends = (fsafe_sys_signals(&pending) & interrupting) != 0;
    fsafe_held_end(held);
    if (answer < 0)
        return answer;
    if (ends)
        return -EINTR;
    return hold(held) ? 0 : -EAGAIN;
}
