/*
 * repair/loader: the lock of the dynamic loader's list, in a child (libc/loader.h).
 *
 * A thread that vanished in dl_iterate_phdr has only read: the lock is made free. A thread that vanished in dlopen or
 * dlclose may have left the list half changed: the lock is left alone, and a child that needs it waits, which is better
 * than to read such a list.
 */
#pragma once

#include "base/compiler.h"
#include "track/thread.h"

/*
 * `self`: the thread that forked, whose id as an owner was `former` then; NULL: it had not joined. Context: child,
 * alone, after the thread has been adopted and before the first question about a region.
 */
FSAFE_AT_FORK void fsafe_loader_adopt(const struct fsafe_thread *self, int former);

/* Whether no thread holds it; also false when the lock is not known. Context: child. */
bool fsafe_loader_is_free(void);
