#include "config.h"

#include "base/options.h"
#include "libc/layout.h"
#include "libc/loader.h"
#include "repair/loader.h"
#include "report/report.h"
#include "track/region.h"
#include "track/slots.h"

/* Whether the thread that vanished at this fork with that id was in dl_iterate_phdr. */
static bool was_iterating(int owner)
{
    for (struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, FSAFE_LOCKS); fsafe_thread_record(&at);)
        if (at.of.generation == fsafe_lineage_generation() - 1 && at.of.thread->owner == owner &&
            fsafe_ledger_is_of_call(at.record.lock) && fsafe_region_of(at.record.lock) == FSAFE_REGION_LOADER)
            return true;
    return false;
}

void fsafe_loader_adopt(const struct fsafe_thread *self, int former)
{
    pthread_mutex_t *lock = fsafe_loader_list_lock;
    if (lock == NULL || fsafe_options.mode != FSAFE_MODE_REPAIR || !fsafe_layout_mutex_locked(lock))
        return;
    int owner = fsafe_layout_mutex_owner(lock);
    if (self != NULL && owner == former) {
        /* This thread forked in a callback of dl_iterate_phdr, and releases the lock when the callback returns. */
        fsafe_layout_mutex_set_owner(lock, self->owner);
        return;
    }
    /*
     * Without an owner, or with depth 0, the lock was just being taken or released, and nothing is half done. At depth
     * 2 a callback of dl_iterate_phdr was in dlopen.
     */
    unsigned depth = fsafe_layout_mutex_depth(lock);
    if (owner != 0 && depth > 0 && (depth > 1 || !was_iterating(owner)))
        return;
    fsafe_layout_mutex_reset(lock);
    if (fsafe_options.verbose)
        fsafe_report_note("the loader's lock, left by a thread in dl_iterate_phdr, is free again");
}

bool fsafe_loader_is_free(void)
{
    return fsafe_loader_list_lock != NULL && !fsafe_layout_mutex_locked(fsafe_loader_list_lock);
}
