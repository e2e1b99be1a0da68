/*
 * repair/loader: the dynamic loader's lock of its list in a child (libc/loader.h).
 *
 * A thread that vanished in dl_iterate_phdr has only read: the lock is made free. One that vanished in dlopen or
 * dlclose may have left the list of objects half changed: nothing is done, and a child that needs the lock waits, which
 * is better than what it would read.
 */
#pragma once

#include "base/compiler.h"
#include "track/thread.h"

/*
 * `self` forked, and was called `former` as an owner then; NULL: it had not joined. Context: child, alone, after the
 * thread has been adopted and before the generation's regions are asked for.
 */
FSAFE_AT_FORK void fsafe_loader_adopt(const struct fsafe_thread *self, int former);

/* Whether nobody holds it; false when it is not known. Context: child. */
bool fsafe_loader_is_free(void);
