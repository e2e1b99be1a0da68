/*
 * libc/loader: the two locks of the dynamic loader, which have no symbol. Each is found by what it does: it is the one
 * recursive mutex in the loader's data that the calling thread holds once while the loader calls a function of ours
 * back, twice while the loader does so within such a call, and that is free before and after.
 *
 *   the list's     held while dl_iterate_phdr runs, which calls back, and while objects are added or removed. glibc
 *                  leaves it as it is in a forked child.
 *   the loading's  held by dlopen and dlclose, constructors included, and by dlsym, which calls back for an indirect
 *                  function (ifunc). glibc's fork() renews it in the child.
 */
#pragma once

#include "base/compiler.h"

#include <link.h>
#include <pthread.h>
#include <stdbool.h>

struct fsafe_loader_calls {
    int (*iterate)(int (*callback)(struct dl_phdr_info *info, size_t size, void *data), void *data);
    int (*trylock)(pthread_mutex_t *mutex);
    int (*unlock)(pthread_mutex_t *mutex);
};

/* Looks for both, after layout's self-test. Context: start-up, single-threaded. */
void fsafe_loader_find(const struct fsafe_loader_calls *calls);

/* The locks; NULL: no mutex, or more than one, behaved so. */
extern pthread_mutex_t *fsafe_loader_list_lock;
extern pthread_mutex_t *fsafe_loader_loading_lock;

/* Takes the loading's lock. Returns false if the lock is not known or another thread has it. */
bool fsafe_loader_try(void);

/* Releases the loading's lock once. Context: the thread that holds it. */
void fsafe_loader_release(void);

/* The owner of the loading's lock, as libc names owners; 0: it has none, or the lock is not known. */
FSAFE_AT_FORK int fsafe_loader_owner(void);
