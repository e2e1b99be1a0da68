/*
 * Where those libraries keep a monitor's members, in bytes from its mutex. Measured on x86-64, with a thread-safe HDF5
 * 1.14.5 (handle, mutex, condition variable, count), libxml2 2.9.14 (mutex, count, waiters, handle, condition
 * variable), NSPR 4.35 (mutex, handle, two condition variables, references, count), and Perl 5.32 to 5.42 with lock()
 * and with the lock of all shared variables (mutex, interpreter, count, condition variable): each child hangs without
 * the library and goes on with it. All of them look again when they are woken, and the mutex, which the caller has,
 * guards all members.
 *
 * Not possible, because nothing in their memory names an owner: QReadWriteLock, boost::shared_mutex (counts) and
 * g_once_init_enter (a list of addresses to which no symbol leads).
 */
#include "config.h"

#include "base/maps.h"
#include "repair/census.h"
#include "repair/monitor.h"
#include "track/handle.h"

#include <string.h>

#define MUTEX ((int)sizeof(pthread_mutex_t))
#define CONDVAR ((int)sizeof(pthread_cond_t))
#define HANDLE ((int)sizeof(pthread_t))

static const struct library {
    const char *kind;   /* in reports */
    const char *module; /* part of the path of the module that waits */
    int condvar, owner, count;
    bool alone; /* the owner is no handle: in a child with one thread it is not the waiter, so a vanished thread */
} libraries[] = {
    {"HDF5", "/libhdf5", MUTEX, -HANDLE, MUTEX + CONDVAR, false},
    {"libxml2", "/libxml2", MUTEX + 8 + HANDLE, MUTEX + 8, MUTEX, false},
    {"NSPR", "/libnspr4", MUTEX + HANDLE, MUTEX, MUTEX + HANDLE + 2 * CONDVAR + 4, false},
    {"Perl", "/threads/shared/shared.so", MUTEX + 2 * (int)sizeof(void *), MUTEX, MUTEX + (int)sizeof(void *), true},
};

/* Whether the owner lies on the mutex's page, which can be read. */
static bool is_same_page(uintptr_t mutex, int owner)
{
    return owner >= 0 || mutex % 4096 >= (uintptr_t)-owner;
}

/*
 * Whether a vanished thread is in the monitor; sets *owner to it if it is known. Any mutex may have a condition
 * variable at that distance: it is a monitor if an owner stands there and the module is that library's.
 */
static bool find_owner(const struct library *library, uintptr_t mutex, uintptr_t site, struct fsafe_thread **owner)
{
    pthread_t handle;
    char path[FSAFE_PATH_BYTES];
    struct fsafe_mapping at = {.address = site, .path = path};
    if (!is_same_page(mutex, library->owner))
        return false;
    memcpy(&handle, (void *)(mutex + (uintptr_t)library->owner), sizeof handle);
    *owner = library->alone || !fsafe_handle_has_vanished(handle) ? NULL : fsafe_handle_find_vanished(handle);
    if (library->alone ? handle == 0 || fsafe_census_is_surveyed() || !fsafe_takeover_is_alone() : *owner == NULL)
        return false;
    return fsafe_maps_find(&at, 1) && at.found && strstr(path, library->module) != NULL;
}

static bool leave(const struct library *library, uintptr_t mutex, uintptr_t site, struct fsafe_thread *owner)
{
    unsigned *count = (unsigned *)(mutex + (uintptr_t)library->count);
    if (*count == 0)
        return false;
    struct fsafe_event event = {.lock = "monitor", .kind = library->kind,
                                .address = mutex + (uintptr_t)library->condvar, .wanted_at = site};
    bool take = fsafe_takeover_decide(&event, &(const struct fsafe_claims){.vanished = owner}, true);
    if (take)
        *count = 0;
    if (take && library->alone)
        memset((void *)(mutex + (uintptr_t)library->owner), 0, HANDLE);
    fsafe_takeover_tell(&event);
    return take;
}

bool fsafe_monitor_judge(const pthread_cond_t *condvar, const pthread_mutex_t *mutex, uintptr_t site)
{
    uintptr_t inside = (uintptr_t)mutex;
    struct fsafe_thread *owner;
    for (const struct library *at = libraries; at < libraries + sizeof libraries / sizeof *libraries; at++)
        if ((uintptr_t)condvar - inside == (uintptr_t)at->condvar && find_owner(at, inside, site, &owner))
            return leave(at, inside, site, owner);
    return false;
}
