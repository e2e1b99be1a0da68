/*
 * wrap/start: the constructor: settings, bindings, self-test, registry, handlers, in that order. With
 * -z initfirst it runs before every other library's, libc's own included, so libc's environ is still empty.
 */
#include "config.h"

#include "base/options.h"
#include "fork/coordinator.h"
#include "libc/layout.h"
#include "repair/mutex.h"
#include "repair/semaphore.h"
#include "repair/spin.h"
#include "report/report.h"
#include "wrap/next.h"

#include <stdlib.h>
#include <sys/auxv.h>

/* Whether the thread dies with locks that only the records can explain. */
static bool leave(struct fsafe_thread *self)
{
    bool locks = fsafe_ledger_tidy(fsafe_thread_locks(self), fsafe_mutex_is_stale, self) > 0;
    bool tokens = fsafe_ledger_tidy(fsafe_thread_tokens(self), fsafe_semaphore_is_stale, self) > 0;
    bool spins = fsafe_ledger_tidy(fsafe_thread_spins(self), fsafe_spin_is_stale, self) > 0;
    return locks || tokens || spins;
}

static void start(char *const *environment)
{
    fsafe_options_read(environment, fsafe_report_bad_option);
    if (fsafe_options.mode == FSAFE_MODE_OFF)
        return;
    fsafe_next_bind_all();
    fsafe_layout_self_test(&(const struct fsafe_layout_calls){
        .mutex_init = fsafe_next.pthread_mutex_init,
        .mutex_destroy = fsafe_next.pthread_mutex_destroy,
        .mutex_lock = fsafe_next.pthread_mutex_lock,
        .mutex_trylock = fsafe_next.pthread_mutex_trylock,
        .mutex_unlock = fsafe_next.pthread_mutex_unlock,
        .rwlock_init = fsafe_next.pthread_rwlock_init,
        .rwlock_destroy = fsafe_next.pthread_rwlock_destroy,
        .rwlock_rdlock = fsafe_next.pthread_rwlock_rdlock,
        .rwlock_tryrdlock = fsafe_next.pthread_rwlock_tryrdlock,
        .rwlock_wrlock = fsafe_next.pthread_rwlock_wrlock,
        .rwlock_trywrlock = fsafe_next.pthread_rwlock_trywrlock,
        .rwlock_unlock = fsafe_next.pthread_rwlock_unlock,
        .sem_init = fsafe_next.sem_init,
        .sem_destroy = fsafe_next.sem_destroy,
        .sem_trywait = fsafe_next.sem_trywait,
        .sem_post = fsafe_next.sem_post,
    });
    fsafe_spin_start(fsafe_next.pthread_spin_trylock);
    fsafe_lineage_start();
    const struct fsafe_thread_calls of_rooms = {.probe_owner = fsafe_layout_probe_owner, .leave = leave};
    if (!fsafe_thread_start(&of_rooms) || !fsafe_fork_start()) {
        fsafe_report_note("cannot start (no memory or no thread key left): this program runs unprotected");
        return;
    }
    fsafe_thread_join();
    if (!fsafe_layout.mutex_bytes)
        fsafe_report_note("this C library's mutexes are unknown: nothing will be taken over");
    else if (!fsafe_layout.rwlock_bytes)
        fsafe_report_note("this C library's rwlocks are unknown: they will not be taken over");
    else if (fsafe_options.verbose)
        fsafe_report_note("started");
}

__attribute__((constructor)) static void construct(int count, char **arguments, char **environment)
{
    (void)count, (void)arguments;
    start(getauxval(AT_SECURE) ? NULL : environment);
}
