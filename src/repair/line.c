#include "config.h"

#include "base/options.h"
#include "repair/children.h"
#include "repair/line.h"
#include "repair/waits.h"
#include "report/report.h"
#include "track/join.h"
#include "track/slots.h"

/*
 * Puts into the event the vanished thread of the youngest generation that has a record of the object, and the place of
 * its latest one; false: none has.
 */
static bool name_vanished(struct fsafe_event *event, uintptr_t object)
{
    const struct fsafe_thread *found = NULL;
    for (unsigned of = 0; object != 0 && of < FSAFE_LEDGERS; of++) {
        struct fsafe_thread_records at = fsafe_thread_records(FSAFE_VANISHED, of);
        while (fsafe_thread_record(&at)) {
            if (at.address != object || at.of.thread == found ||
                (found != NULL && at.of.generation < fsafe_thread_generation(found)))
                continue;
            found = at.of.thread;
            event->holder = fsafe_thread_as_holder(found, at.record.site);
            event->holder.stack = 0; /* where the thread came from says nothing of this wait */
            event->fork = fsafe_lineage_fork_after(at.of.generation);
        }
    }
    return found != NULL;
}

/* The thread that `self` joins, if that one waits at a barrier, without slices, and writes no line; else `self`. */
static struct fsafe_thread *whose_line(struct fsafe_thread *self)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_LIVING); self->sleeping.joins && fsafe_thread_next(&at);)
        if (at.thread->has_handle && (uintptr_t)at.thread->handle == self->sleeping.object &&
            atomic_load(&at.thread->sleeping.object) != 0 && atomic_load(&at.thread->sleeping.until_ns) == 0)
            return at.thread;
    return self;
}

void fsafe_line_say(struct fsafe_thread *caller, bool by_handler, bool spins)
{
    struct fsafe_thread *self = whose_line(caller);
    struct fsafe_sleeping *sleeping = &self->sleeping;
    uintptr_t object = atomic_load_explicit(&sleeping->object, memory_order_relaxed);
    atomic_store_explicit(&sleeping->said, true, memory_order_relaxed);
    fsafe_children_said(true);
    if (sleeping->has_line || self->told_of == object ||
        (by_handler && !fsafe_report_is_new_place(sleeping->site)))
        return;
    struct fsafe_event event = {
        .deed = by_handler ? FSAFE_WAITS_FOR_HANDLER : spins ? FSAFE_GIVES_WAY : FSAFE_HANGS,
        .lock = sleeping->lock,
        .kind = sleeping->kind,
        .address = object,
        .wanted_at = sleeping->site,
        .in_use = true,
        .pid = self != caller ? fsafe_sys_getpid() : 0,
        .tid = self->tid,
        .fork = fsafe_lineage_latest_fork(),
    };
    uintptr_t mutex = atomic_load_explicit(&sleeping->mutex, memory_order_relaxed);
    if (!name_vanished(&event, object) && !fsafe_waits_recall(object, &event) && !name_vanished(&event, mutex))
        event.why = "no record shows that a vanished thread had it";
    else
        event.why = "it may be an event, which only that thread would announce";
    fsafe_report_event(&event);
    if (!by_handler && !spins && fsafe_options.mode == FSAFE_MODE_ABORT)
        fsafe_sys_abort();
    sleeping->has_line = true;
}

void fsafe_line_ended(struct fsafe_sleeping *sleeping)
{
    if (!sleeping->has_line)
        return;
    sleeping->has_line = false;
    fsafe_children_said(false);
    struct fsafe_event event = {
        .deed = FSAFE_WENT_ON,
        .lock = sleeping->lock,
        .kind = sleeping->kind,
        .address = atomic_load_explicit(&sleeping->object, memory_order_relaxed),
        .wanted_at = sleeping->site,
    };
    fsafe_report_event(&event);
}
