/*
 * repair/monitor: locks that a library makes of a mutex, a condition variable and a word for the owner. The mutex is
 * free at a fork, and the child waits for a condition, as for any queue. But we know where the monitors of some
 * libraries keep their owner: see the table in monitor.c. If that is a vanished thread the monitor is made free, and
 * the wait for the condition ends, as it may for no reason.
 */
#pragma once

#include "repair/takeover.h"

/*
 * The caller, at `site`, has `mutex` and is about to wait for `condvar`. Returns whether these are a monitor that a
 * vanished thread had: it is free now, and the caller need not wait. Context: child, any thread, no latch held.
 */
bool fsafe_monitor_judge(const pthread_cond_t *condvar, const pthread_mutex_t *mutex, uintptr_t site);
