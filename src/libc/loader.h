/*
 * libc/loader: the lock that the dynamic loader holds while dl_iterate_phdr runs, and while it adds or removes objects.
 * It has no symbol, and glibc leaves it as it is in a forked child. It is found by observation: in the loader's own
 * data it is the one recursive mutex that reads "held once, by me" in a callback of dl_iterate_phdr, "twice" in a
 * nested one, and "free" before and after.
 */
#ifndef FSAFE_LIBC_LOADER_H
#define FSAFE_LIBC_LOADER_H

#include <link.h>
#include <pthread.h>

typedef int fsafe_loader_iterate(int (*callback)(struct dl_phdr_info *info, size_t size, void *data), void *data);

/* Looks for it; needs layout's answers. Context: start-up, single-threaded. */
void fsafe_loader_find(fsafe_loader_iterate *iterate);

/* The lock, or NULL when none or more than one behaved so. */
extern pthread_mutex_t *fsafe_loader_lock;

#endif
