/*
 * libc/loader: the two locks of the dynamic loader, which have no symbol. Both are found by observation, as the one
 * recursive mutex in the loader's own data that reads "held once, by me" in a certain moment, "twice" in the same
 * moment within it, and "free" before and after.
 *
 *   the list's     held while dl_iterate_phdr runs, and while objects are added or removed; the moment is a callback.
 *                  glibc leaves it as it is in a forked child.
 *   the loading's  held as long as a dlopen or dlclose takes, constructors included, and for the moment of a dlsym; the
 *                  moment is the choice of an indirect function by dlsym. glibc's fork() renews it in the child.
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

/* Looks for both; needs layout's answers. Context: start-up, single-threaded. */
void fsafe_loader_find(const struct fsafe_loader_calls *calls);

/* The lock, or NULL when none or more than one behaved so. */
extern pthread_mutex_t *fsafe_loader_list_lock;
extern pthread_mutex_t *fsafe_loader_loading_lock;

/* Takes the loading's lock, if it is known, and free or the calling thread's. */
bool fsafe_loader_try(void);

/* Releases it once. Context: the thread that holds it. */
void fsafe_loader_release(void);

/* Who has the loading's lock, as libc names owners; 0: nobody, or it is not known. */
FSAFE_AT_FORK int fsafe_loader_owner(void);
