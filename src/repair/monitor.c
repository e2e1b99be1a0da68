/*
 * Where those libraries keep what they know, in bytes from their mutex. Tried on x86-64 with a thread-safe HDF5 1.14.5
 * (handle, mutex, condition variable, count), libxml2 2.9.14 (mutex, count, waiters, handle, condition variable) and
 * NSPR 4.35 (mutex, handle, two condition variables, references, count): each child hangs bare and goes on. All three
 * ask for the count again when they are woken, and the mutex, which the caller has, guards all they know.
 *
 * Looked at and left, for nothing in their memory says whose they are: QReadWriteLock, boost::shared_mutex (counts),
 * g_once_init_enter (a list of addresses that no symbol leads to), Perl's lock (its owner is an interpreter).
 */
#include "config.h"

#include "base/maps.h"
#include "repair/monitor.h"
#include "track/handle.h"

#include <string.h>

#define MUTEX ((int)sizeof(pthread_mutex_t))
#define CONDVAR ((int)sizeof(pthread_cond_t))
#define HANDLE ((int)sizeof(pthread_t))

static const struct library {
    const char *kind;   /* in reports */
    const char *module; /* how the name of the module begins that waits */
    int condvar, owner, count;
} libraries[] = {
    {"HDF5", "libhdf5", MUTEX, -HANDLE, MUTEX + CONDVAR},
    {"libxml2", "libxml2", MUTEX + 8 + HANDLE, MUTEX + 8, MUTEX},
    {"NSPR", "libnspr4", MUTEX + HANDLE, MUTEX, MUTEX + HANDLE + 2 * CONDVAR + 4},
};

static struct fsafe_thread *find_vanished(pthread_t handle)
{
    if (!fsafe_handle_has_vanished(handle))
        return NULL;
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);)
        if (at.thread->has_handle && at.thread->handle == handle)
            return at.thread;
    return NULL;
}

/* Whether what lies before the mutex can be read because the mutex can. */
static bool is_same_page(uintptr_t mutex, int owner)
{
    return owner >= 0 || mutex % 4096 >= (uintptr_t)-owner;
}

/*
 * Any mutex may have a condition variable so near. What lies around them is a monitor's when a vanished thread's
 * handle is in there and the module says so.
 */
static struct fsafe_thread *find_owner(const struct library *library, uintptr_t mutex, uintptr_t site)
{
    pthread_t handle;
    struct fsafe_mapping at = {.address = site};
    if (!is_same_page(mutex, library->owner))
        return NULL;
    memcpy(&handle, (void *)(mutex + (uintptr_t)library->owner), sizeof handle);
    struct fsafe_thread *owner = find_vanished(handle);
    return owner != NULL && fsafe_maps_find(&at, 1) && at.found &&
                   strncmp(at.module, library->module, strlen(library->module)) == 0
               ? owner : NULL;
}

static bool leave(const struct library *library, uintptr_t condvar, unsigned *count, uintptr_t site,
                  struct fsafe_thread *owner)
{
    struct fsafe_event event = {.lock = "monitor", .kind = library->kind, .address = condvar, .wanted_at = site};
    bool take = fsafe_takeover_decide(&event, &(const struct fsafe_claims){.vanished = owner}, true);
    if (take)
        *count = 0;
    fsafe_takeover_tell(&event);
    return take;
}

bool fsafe_monitor_judge(const pthread_cond_t *condvar, const pthread_mutex_t *mutex, uintptr_t site)
{
    uintptr_t inside = (uintptr_t)mutex;
    for (const struct library *at = libraries; at < libraries + sizeof libraries / sizeof *libraries; at++) {
        if ((uintptr_t)condvar - inside != (uintptr_t)at->condvar)
            continue;
        struct fsafe_thread *owner = find_owner(at, inside, site);
        unsigned *count = (unsigned *)(inside + (uintptr_t)at->count);
        return owner != NULL && *count != 0 && leave(at, (uintptr_t)condvar, count, site, owner);
    }
    return false;
}
