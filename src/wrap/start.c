/*
 * wrap/start: the constructor: settings, bindings, self-test, registry, handlers, in that order. With
 * -z initfirst it runs before every other library's, libc's own included, so libc's environ is still empty.
 */
#include "config.h"

#include "base/options.h"
#include "fork/coordinator.h"
#include "fork/handlers.h"
#include "libc/fresh.h"
#include "libc/layout-stream.h"
#include "libc/layout.h"
#include "libc/loader.h"
#include "libc/symbol.h"
#include "repair/hopeless.h"
#include "repair/mutex.h"
#include "repair/rescue.h"
#include "repair/semaphore.h"
#include "repair/spin.h"
#include "report/report.h"
#include "report/tally.h"
#include "track/gate.h"
#include "wrap/next.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* Is there where the program was built with ThreadSanitizer. */
extern void __tsan_init(void) __attribute__((weak));

/*
 * A checker of locks wants to see every lock itself, also those that we take in place, and what we do to them would be
 * the program's fault to it. Returns what to say, or NULL when nobody watches.
 */
static const char *watched(char *const *environment)
{
    if (__tsan_init != NULL)
        return "ThreadSanitizer is in this program: it runs unprotected";
    const char *preload = fsafe_options_look_up(environment, "LD_PRELOAD");
    if (preload != NULL && (strstr(preload, "/vgpreload_helgrind") != NULL || strstr(preload, "/vgpreload_drd") != NULL))
        return "Valgrind checks the locks of this program: it runs unprotected";
    return NULL;
}

static bool is_stale(uintptr_t lock, void *self)
{
    return !fsafe_gate_is_region(lock) && fsafe_mutex_is_stale(lock, self);
}

/*
 * A thread that ends is in no call any more, however it came out. What it holds is looked at in a child only, where it
 * decides over a takeover: elsewhere there is no need, and a sandbox may kill whoever looks.
 */
static bool is_stale_at_end(uintptr_t lock, void *self)
{
    return fsafe_gate_is_region(lock) || (fsafe_lineage_is_child() && fsafe_mutex_is_stale(lock, self));
}

static bool is_stale_token_at_end(uintptr_t lock, void *self)
{
    return (lock & FSAFE_STAGE_MASK) != FSAFE_HELD ||
           (fsafe_lineage_is_child() && fsafe_semaphore_is_stale(lock, self));
}

/* Whether the thread dies with locks that only the records can explain. */
static bool leave(struct fsafe_thread *self)
{
    fsafe_hopeless_leave(self);
    bool locks = fsafe_ledger_tidy(fsafe_thread_locks(self), is_stale_at_end, self) > 0;
    bool tokens = fsafe_ledger_tidy(fsafe_thread_tokens(self), is_stale_token_at_end, self) > 0;
    bool spins = fsafe_ledger_tidy(fsafe_thread_spins(self), fsafe_spin_is_stale, self) > 0;
    return locks || tokens || spins;
}

static int register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object)
{
#ifdef FSAFE_LIBC_GLIBC
    return fsafe_next.__register_atfork(prepare, parent, child, object);
#else
    (void)object;
    return pthread_atfork(prepare, parent, child);
#endif
}

static void start(char *const *environment)
{
    fsafe_report_know_stderr();
    fsafe_options_read(environment, fsafe_report_bad_option);
    fsafe_report_start();
    /* Also when we are off: bound later, a function would wait for whoever is in dlopen then. */
    fsafe_next_bind_all();
    if (fsafe_options.mode == FSAFE_MODE_OFF)
        return;
    const char *watcher = watched(environment);
    if (watcher != NULL) {
        fsafe_report_note(watcher);
        return;
    }
    uintptr_t from, to;
    fsafe_symbol_library("malloc", &from, &to);
    fsafe_handlers_know_allocator(from, to);
    fsafe_fresh_learn(&(const struct fsafe_fresh_calls){
        .mutex_lock = fsafe_next.pthread_mutex_lock,
        .mutex_unlock = fsafe_next.pthread_mutex_unlock,
        .cond_init = fsafe_next.pthread_cond_init,
        .cond_timedwait = fsafe_next.pthread_cond_timedwait,
        .cond_signal = fsafe_next.pthread_cond_signal,
        .cond_broadcast = fsafe_next.pthread_cond_broadcast,
        .barrier_init = fsafe_next.pthread_barrier_init,
        .barrier_wait = fsafe_next.pthread_barrier_wait,
    });
    fsafe_layout_self_test(&(const struct fsafe_layout_calls){
        .mutex_init = fsafe_next.pthread_mutex_init,
        .mutex_destroy = fsafe_next.pthread_mutex_destroy,
        .mutex_lock = fsafe_next.pthread_mutex_lock,
        .mutex_trylock = fsafe_next.pthread_mutex_trylock,
        .mutex_unlock = fsafe_next.pthread_mutex_unlock,
        .cond_signal = fsafe_next.pthread_cond_signal,
        .cond_broadcast = fsafe_next.pthread_cond_broadcast,
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
    fsafe_layout_stream_self_test(fsafe_next.flockfile, fsafe_next.funlockfile);
#ifdef FSAFE_LIBC_GLIBC
    fsafe_loader_find(&(const struct fsafe_loader_calls){
        .iterate = fsafe_next.dl_iterate_phdr,
        .trylock = fsafe_next.pthread_mutex_trylock,
        .unlock = fsafe_next.pthread_mutex_unlock,
    });
    if (fsafe_loader_loading_lock == NULL && fsafe_options.verbose)
        fsafe_report_note("this C library's lock of dlopen is unknown: a fork beside one is not drained");
#endif
    fsafe_spin_start(fsafe_next.pthread_spin_trylock);
    fsafe_tally_start();
    fsafe_lineage_start();
    fsafe_gate_start();
    fsafe_rescue_start();
    const struct fsafe_thread_calls of_rooms = {.probe_owner = fsafe_layout_probe_owner, .leave = leave, .is_stale = is_stale,
                                               .clear_stale = fsafe_mutex_clear_stale};
    if (!fsafe_thread_start(&of_rooms) || !fsafe_fork_start(register_atfork)) {
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
