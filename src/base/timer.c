#include "config.h"

#include "base/timer.h"

#include <stdatomic.h>
#include <string.h>

FSAFE_ARCH_DEFINE_RESTORER;

/* libc's SIGSETXID, whose handler is of use to processes with several threads only. */
enum { SIGNAL = 33 };

/* The kernel's struct sigaction. */
struct action {
    void (*handler)(int number, siginfo_t *info, void *context);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static struct action before; /* what libc does about the signal */

enum { LISTENERS = 2 };
static fsafe_timer_listener *_Atomic listeners[LISTENERS];

static long act(const struct action *now, struct action *was)
{
    return FSAFE_SYS(SYS_rt_sigaction, SIGNAL, now, was, FSAFE_SIGSET_BYTES);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    for (unsigned i = 0; info->si_code == SI_TIMER && i < LISTENERS; i++) {
        fsafe_timer_listener *listener = atomic_load(&listeners[i]);
        if (listener != NULL && listener(info, context))
            return;
    }
    if (before.handler != NULL && (before.flags & SA_SIGINFO) != 0)
        before.handler(number, info, context);
}

static bool is_noted(fsafe_timer_listener *listener)
{
    for (unsigned i = 0; i < LISTENERS; i++) {
        fsafe_timer_listener *none = NULL;
        if (atomic_load(&listeners[i]) == listener || atomic_compare_exchange_strong(&listeners[i], &none, listener))
            return true;
    }
    return false;
}

bool fsafe_timer_listen(fsafe_timer_listener *listener)
{
    const struct action ours = {.handler = on_signal,
                                .flags = SA_SIGINFO | SA_RESTART | FSAFE_ARCH_RESTORER_FLAG,
                                .restorer = FSAFE_ARCH_RESTORER,
                                .mask = ~((uint64_t)1 << (SIGSYS - 1))};
    struct action was;
    if (!FSAFE_ARCH_INTERRUPTED || !is_noted(listener) || act(NULL, &was) != 0)
        return false;
    if (was.handler == on_signal)
        return true;
    before = was; /* first: libc may need its signal the next moment */
    return act(&ours, NULL) == 0;
}

void fsafe_timer_stop_listening(fsafe_timer_listener *listener)
{
    struct action now;
    bool any = false;
    for (unsigned i = 0; i < LISTENERS; i++) {
        fsafe_timer_listener *stops = listener;
        atomic_compare_exchange_strong(&listeners[i], &stops, NULL);
        any |= atomic_load(&listeners[i]) != NULL;
    }
    if (!any && act(NULL, &now) == 0 && now.handler == on_signal)
        act(&before, NULL);
}

bool fsafe_timer_make(int *timer, void *value)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGNAL;
    event.sigev_value.sival_ptr = value;
#ifdef sigev_notify_thread_id
    event.sigev_notify_thread_id = fsafe_sys_gettid();
#else
    event._sigev_un._tid = fsafe_sys_gettid();
#endif
    return FSAFE_SYS(SYS_timer_create, CLOCK_MONOTONIC, &event, timer) == 0;
}

void fsafe_timer_set(int timer, uint64_t ns)
{
    const struct itimerspec span = {.it_value = fsafe_sys_timespec(ns)};
    FSAFE_SYS(FSAFE_SYS_TIMER_SETTIME, timer, 0, &span, 0);
}

void fsafe_timer_delete(int timer)
{
    FSAFE_SYS(SYS_timer_delete, timer);
}

bool fsafe_timer_has_left(const void *context, uintptr_t stack, uintptr_t frame)
{
    const stack_t *alternate = &((const ucontext_t *)context)->uc_stack;
    uintptr_t lowest = (uintptr_t)alternate->ss_sp;
    bool is_there = stack - lowest < alternate->ss_size, was_there = frame - lowest < alternate->ss_size;
    return is_there == was_there ? stack > frame : was_there;
}
