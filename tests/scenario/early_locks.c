/*
 * Locks that are held since before the library's own constructor ran: by a module that is preloaded behind it and whose
 * constructor runs before all others. No ledger knows of them; the bytes do.
 */
#include "scenario.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t *mutexes, *robust;
static pthread_rwlock_t *rwlocks;

/* Begins anew with the module, once; under the library that is preloaded too. */
static void with_module(const struct scn_case *self)
{
    const char *preloaded = getenv("LD_PRELOAD");
    char both[4096];
    if (dlsym(RTLD_DEFAULT, "early_mutexes") == NULL) {
        SCN_CHECK(preloaded == NULL || strstr(preloaded, EARLY_MODULE) == NULL);
        snprintf(both, sizeof both, "%s %s", preloaded != NULL ? preloaded : "", EARLY_MODULE);
        setenv("LD_PRELOAD", both, 1);
        execl("/proc/self/exe", "early_locks", self->name, NULL);
        scn_wrong(SCN_WHERE, "exec");
    }
    mutexes = dlsym(RTLD_DEFAULT, "early_mutexes");
    robust = dlsym(RTLD_DEFAULT, "early_robust");
    rwlocks = dlsym(RTLD_DEFAULT, "early_rwlocks");
}

static int try_mutex(void *mutex)
{
    const int error = pthread_mutex_trylock(mutex);
    return error != 0 ? error : pthread_mutex_unlock(mutex);
}

static int try_rwlock(void *rwlock)
{
    const int error = pthread_rwlock_tryrdlock(rwlock);
    return error != 0 ? error : pthread_rwlock_unlock(rwlock);
}

static int lock(void *mutex)
{
    return pthread_mutex_lock(mutex);
}

static int unlock(void *mutex)
{
    return pthread_mutex_unlock(mutex);
}

static void mutex_of_vanished(void *mutex)
{
    SCN_IS(pthread_mutex_lock(mutex), 0);
    SCN_IS(scn_elsewhere(try_mutex, mutex), EBUSY);
    SCN_IS(pthread_mutex_unlock(mutex), 0);
    scn_exclusion(lock, unlock, mutex, 4, 500);
}

static void vanished(const struct scn_case *self)
{
    with_module(self);
    SCN_IN_CHILD {
        if (self->number < 3) {
            mutex_of_vanished(&mutexes[self->number]);
        } else if (self->number == 3) {
            SCN_IS(pthread_rwlock_rdlock(&rwlocks[0]), 0);
            SCN_IS(pthread_rwlock_unlock(&rwlocks[0]), 0);
            SCN_IS(pthread_rwlock_wrlock(&rwlocks[0]), 0);
            SCN_IS(scn_elsewhere(try_rwlock, &rwlocks[0]), EBUSY);
            SCN_IS(pthread_rwlock_unlock(&rwlocks[0]), 0);
        } else {
            SCN_IS(pthread_mutex_lock(&robust[0]), EOWNERDEAD);
            SCN_IS(pthread_mutex_consistent(&robust[0]), 0);
            SCN_IS(pthread_mutex_unlock(&robust[0]), 0);
            mutex_of_vanished(&robust[0]);
        }
    }
    scn_fine();
}

static void forkers(const struct scn_case *self)
{
    with_module(self);
    SCN_IN_CHILD {
        if (self->number < 3) {
            pthread_mutex_t *mutex = &mutexes[3 + self->number];
            if (self->number == 1)
                SCN_IS(pthread_mutex_unlock(mutex), 0);
            SCN_IS(scn_elsewhere(try_mutex, mutex), EBUSY);
            SCN_IS(pthread_mutex_unlock(mutex), 0);
            mutex_of_vanished(mutex);
        } else if (self->number == 3) {
            SCN_IS(pthread_rwlock_rdlock(&rwlocks[1]), EDEADLK);
            SCN_IS(pthread_rwlock_unlock(&rwlocks[1]), 0);
            SCN_IS(scn_elsewhere(try_rwlock, &rwlocks[1]), 0);
            SCN_IS(pthread_rwlock_wrlock(&rwlocks[1]), 0);
        } else {
            SCN_IS(scn_elsewhere(try_mutex, &robust[1]), EBUSY);
            SCN_IS(pthread_mutex_unlock(&robust[1]), 0);
            mutex_of_vanished(&robust[1]);
        }
    }
    scn_fine();
}

void scn_cases(void)
{
    static const struct {
        const char *name, *forkers_bare;
    } locks[] = {
        {"normal", "fine"}, {"recursive", "fails EPERM"}, {"errorcheck", "fails EPERM"}, {"rwlock", "hangs"},
        {"robust", "fails EPERM"},
    };
    for (long i = 0; i < 5; i++) {
        scn_add(SCN_CASE(.bare = "hangs", .says = "once:child took over (mutex|rwlock) ", .run = vanished, .number = i),
                "vanished-%s", locks[i].name);
        scn_add(SCN_CASE(.bare = locks[i].forkers_bare, .says = SCN_NEVER_TAKES, .run = forkers, .number = i),
                "forkers-%s", locks[i].name);
    }
}
