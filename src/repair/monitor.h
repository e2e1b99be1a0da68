/*
 * repair/monitor: locks that a library makes of a mutex, a condition variable and a word that says who is in there. To
 * us the mutex is free at a fork and the child waits for a condition, as in any queue. But of the monitors of some
 * libraries it is known where they keep their owner: see the table in monitor.c. When that is a vanished thread, its
 * hold is dropped, and the wait, which may end for no reason, ends.
 */
#pragma once

#include "repair/takeover.h"

/*
 * The caller, at `site`, has `mutex` and is about to wait for `condvar`. Returns whether it was to wait for a vanished
 * thread to leave a monitor, which is free now. Context: child, any thread, no latch held.
 */
bool fsafe_monitor_judge(const pthread_cond_t *condvar, const pthread_mutex_t *mutex, uintptr_t site);
