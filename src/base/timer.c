/* base/timer: see timer.h. */
#include "config.h"

#include "base/timer.h"

#include <string.h>

#ifdef FSAFE_ARCH_INTERRUPTED

FSAFE_ARCH_DEFINE_RESTORER;

/* libc's SIGSETXID, whose handler is of use to processes with several threads only. */
enum { SIGNAL = 33, SECOND = 1000000000 };

static long act(const struct fsafe_listener *now, struct fsafe_listener *before)
{
    return FSAFE_SYS(SYS_rt_sigaction, SIGNAL, now, before, FSAFE_SIGSET_BYTES, 0, 0);
}

bool fsafe_timer_listen(void (*handler)(int number, siginfo_t *info, void *context), struct fsafe_listener *before)
{
    const struct fsafe_listener ours = {.handler = handler,
                                        .flags = SA_SIGINFO | SA_RESTART | FSAFE_ARCH_RESTORER_FLAG,
                                        .restorer = FSAFE_ARCH_RESTORER};
    struct fsafe_listener was;
    if (act(&ours, &was) != 0)
        return false;
    if (was.handler != handler)
        *before = was;
    return true;
}

void fsafe_timer_stop_listening(void (*handler)(int number, siginfo_t *info, void *context),
                                const struct fsafe_listener *before)
{
    struct fsafe_listener now;
    if (act(NULL, &now) == 0 && now.handler == handler)
        act(before, NULL);
}

void fsafe_timer_hand_on(const struct fsafe_listener *before, int number, siginfo_t *info, void *context)
{
    if (before->handler != NULL && (before->flags & SA_SIGINFO) != 0)
        before->handler(number, info, context);
}

bool fsafe_timer_make(int *timer, void *value)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGNAL;
    event.sigev_value.sival_ptr = value;
    event._sigev_un._tid = fsafe_sys_gettid();
    return FSAFE_SYS(SYS_timer_create, CLOCK_MONOTONIC, &event, timer, 0, 0, 0) == 0;
}

void fsafe_timer_set(int timer, uint64_t ns)
{
    const struct itimerspec span = {.it_value = {.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)}};
    FSAFE_SYS(SYS_timer_settime, timer, 0, &span, 0, 0, 0);
}

void fsafe_timer_delete(int timer)
{
    FSAFE_SYS(SYS_timer_delete, timer, 0, 0, 0, 0, 0);
}

#endif
