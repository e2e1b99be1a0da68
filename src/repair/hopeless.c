#include "config.h"

#include "base/maps.h"
#include "base/tasks.h"
#include "repair/asleep.h"
#include "repair/hopeless.h"
#include "repair/line.h"
#include "repair/takeover.h"
#include "report/tally.h"
#include "track/handle.h"
#include "track/join.h"
#include "track/slots.h"
#include "track/waiting.h"

#include <semaphore.h>

/* When the latest waiter was given what it waited for. */
static _Atomic uint64_t latest_gift_ns;

static void end_slice_at(struct fsafe_slices *slices, uint64_t until_ns)
{
    slices->until = fsafe_sys_timespec(until_ns);
    atomic_store_explicit(&slices->self->sleeping.until_ns, until_ns, memory_order_relaxed);
}

/*
 * A signal that comes when a slice has just ended interrupts no system call: its handler runs, and the wait goes on
 * (where signals are not blocked: see repair/held.h). Signals often come at full seconds, and a slice of
 * FORKSAFE_HANG_MS would often end there: beside alarm(1) 19 of 40 children of Python 3.11 on busy processors waited
 * for ever for an Event that a handler had set; with slices that end later 0 of 48.
 *
 * A thread that looks at the others must not find them awake because they look, too. So threads that began to wait at
 * one moment come to the ends of their slices one after the other: of 8 threads of a child that each waited for a
 * Python Lock of its own the last got it after 5 to 8 s, or not within 40; now after 1.2 to 1.6.
 */
static uint64_t first_slice_ns(const struct fsafe_thread *self)
{
    enum { PAST = 16, APART = 256, TIMES = 32 };
    uint64_t span_ns = fsafe_options_hang_ns();
    return span_ns + span_ns / PAST + span_ns / APART * ((unsigned)self->tid % TIMES);
}

bool fsafe_hopeless_begin_in_child(struct fsafe_slices *slices, struct fsafe_thread *self,
                                   const struct fsafe_untimed_wait *wait)
{
    struct fsafe_sleeping *sleeping = &self->sleeping;
    /* A wait that a longjmp or a cancellation left is over, too. */
    if (FSAFE_UNLIKELY(sleeping->has_line) && atomic_load_explicit(&sleeping->until_ns, memory_order_relaxed) == 0)
        fsafe_line_ended(sleeping);
    slices->self = self;
    slices->looked_ns = 0;
    slices->second_looks = 0;
    slices->had_no_turn = slices->looked_hopeless = false;
    slices->gift_ns = atomic_load_explicit(&latest_gift_ns, memory_order_relaxed);
    slices->give = wait->give;
    slices->given = false;
    slices->outer = *sleeping;
    sleeping->held_back = 0;
    atomic_store_explicit(&sleeping->is_between, false, memory_order_relaxed);
    atomic_store_explicit(&sleeping->object, 0, memory_order_release);
    uint64_t now = fsafe_sys_now_ns();
    sleeping->lock = wait->lock;
    sleeping->kind = wait->kind;
    sleeping->site = wait->site;
    sleeping->has_line = false;
    atomic_store_explicit(&sleeping->said, false, memory_order_relaxed);
    atomic_store_explicit(&sleeping->may_be_given, wait->give != NULL, memory_order_relaxed);
    atomic_store_explicit(&sleeping->mutex, wait->mutex, memory_order_relaxed);
    atomic_store_explicit(&sleeping->joins, wait->joins, memory_order_relaxed);
    atomic_store_explicit(&sleeping->bytes, wait->bytes, memory_order_relaxed);
    slices->resumed = fsafe_thread_waits_again(self, wait->object, FSAFE_INTERRUPTED, now);
    if (FSAFE_UNLIKELY(slices->resumed)) {
        slices->looked_hopeless = self->again.looked_hopeless;
        sleeping->has_line = self->again.has_line;
    }
    atomic_store_explicit(&sleeping->since_ns, slices->resumed ? self->again.since_ns : now, memory_order_relaxed);
    end_slice_at(slices, slices->resumed ? self->again.until_ns : now + first_slice_ns(self));
    atomic_store_explicit(&sleeping->object, wait->object, memory_order_release);
    return true;
}

void fsafe_hopeless_end(struct fsafe_slices *slices)
{
    struct fsafe_sleeping *sleeping = &slices->self->sleeping;
    if (FSAFE_UNLIKELY(sleeping->has_line))
        fsafe_line_ended(sleeping);
    if (FSAFE_UNLIKELY(slices->resumed))
        slices->self->again.object = 0;
    slices->self->told_of = 0;
    *sleeping = slices->outer;
}

void fsafe_hopeless_end_interrupted(struct fsafe_slices *slices)
{
    struct fsafe_sleeping *sleeping = &slices->self->sleeping;
    const struct fsafe_again again = {
        .object = atomic_load_explicit(&sleeping->object, memory_order_relaxed),
        .value = FSAFE_INTERRUPTED,
        .generation = fsafe_lineage_generation(),
        .since_ns = atomic_load_explicit(&sleeping->since_ns, memory_order_relaxed),
        .left_ns = fsafe_sys_now_ns(),
        .until_ns = atomic_load_explicit(&sleeping->until_ns, memory_order_relaxed),
        .has_line = sleeping->has_line && slices->resumed,
        .looked_hopeless = slices->looked_hopeless,
    };
    sleeping->has_line &= !slices->resumed; /* a thread that came back before comes back now */
    fsafe_hopeless_end(slices);
    slices->self->again = again;
}

bool fsafe_hopeless_begin_again(struct fsafe_slices *slices, struct fsafe_thread *self,
                                const struct fsafe_untimed_wait *wait, uint32_t value, uint64_t limit_ns)
{
    if (!fsafe_hopeless_begin(slices, self, wait))
        return false;
    struct fsafe_again *again = &self->again;
    struct fsafe_sleeping *sleeping = &self->sleeping;
    uint64_t now = atomic_load_explicit(&sleeping->since_ns, memory_order_relaxed);
    if (!fsafe_thread_waits_again(self, wait->object, value, now)) {
        *again = (struct fsafe_again){.object = wait->object, .value = value, .since_ns = now,
                                      .generation = fsafe_lineage_generation()};
        return true;
    }
    uint64_t due = again->since_ns + first_slice_ns(self);
    atomic_store_explicit(&sleeping->since_ns, again->since_ns, memory_order_relaxed);
    sleeping->has_line = again->has_line;
    atomic_store_explicit(&sleeping->said, again->has_line, memory_order_relaxed);
    end_slice_at(slices, again->has_line ? limit_ns : due > now ? due : now + (limit_ns - now) / 2);
    return true;
}

void fsafe_hopeless_end_again(struct fsafe_slices *slices, bool reached_limit)
{
    struct fsafe_again *again = &slices->self->again;
    struct fsafe_sleeping *sleeping = &slices->self->sleeping;
    again->left_ns = fsafe_sys_now_ns();
    again->has_line = sleeping->has_line;
    if (reached_limit)
        sleeping->has_line = false;
    else
        again->object = 0;
    fsafe_hopeless_end(slices);
}

/* --- The end of a slice ------------------------------------------------------------------------------------- */

/*
 * Whether only a handler can end this thread's wait, as the kernel shows at the ends of two slices in a row; writes the
 * line then. At the end of one slice the thread that is about to end the wait may sleep itself, for the mutex of a
 * condition variable, which the waiter has between two slices; or that thread has ended, and the waiter joins it.
 */
static bool is_hopeless(struct fsafe_slices *slices)
{
    struct fsafe_thread *self = slices->self;
    uint64_t unblocked = 0;
    bool before = slices->looked_hopeless;
    slices->looked_hopeless = !fsafe_asleep_will_another_be_given(self) && fsafe_asleep_all(self, &unblocked);
    if (!before || !slices->looked_hopeless)
        return false;
    fsafe_line_say(self, fsafe_asleep_may_be_handled(unblocked), false);
    return true;
}

/* If no other thread can release the lock that this thread waits for, has the waiter's function give it. */
static bool is_given(struct fsafe_slices *slices)
{
    struct fsafe_thread *self = slices->self;
    uint64_t unblocked;
    slices->had_no_turn = false;
    if (!atomic_load_explicit(&self->sleeping.may_be_given, memory_order_relaxed) ||
        fsafe_asleep_is_anybody_awake(self))
        return false;
    uint64_t turn = fsafe_asleep_begin_turn();
    slices->had_no_turn = turn == 0;
    if (turn == 0 || !fsafe_asleep_end_turn(self, turn, fsafe_asleep_all(self, &unblocked)))
        return false;
    atomic_store_explicit(&self->sleeping.may_be_given, false, memory_order_relaxed);
    slices->given = slices->give(self->sleeping.object, self->sleeping.site);
    if (slices->given)
        atomic_store(&latest_gift_ns, fsafe_sys_now_ns());
    return slices->given;
}

/*
 * How long the next slice is, for a wait that began at `since_ns`, in a thread that `looks` at the others at the end of
 * each. Where all threads that we know of are in such waits, one of them was perhaps just looking, too. So the next
 * look comes soon, but only a few times: a thread may sleep in something that we do not see. When a thread is given
 * what it waits for, all this begins anew.
 */
static uint64_t next_slice(struct fsafe_slices *slices, uint64_t now_ns, uint64_t since_ns, bool looks)
{
    enum { SECOND_LOOKS = 4, SOON = 16 };
    uint64_t gift_ns = atomic_load_explicit(&latest_gift_ns, memory_order_relaxed);
    if (gift_ns != slices->gift_ns)
        slices->second_looks = 0;
    slices->gift_ns = gift_ns;
    if (slices->looked_hopeless || slices->had_no_turn)
        return fsafe_options_hang_ns() / SOON;
    if (!looks || slices->second_looks == SECOND_LOOKS || fsafe_asleep_is_anybody_awake(slices->self)) {
        slices->second_looks = 0;
        return now_ns - (gift_ns > since_ns && gift_ns < now_ns ? gift_ns : since_ns);
    }
    return fsafe_options_hang_ns() / (4u << slices->second_looks++);
}

/*
 * Whether nothing can be known of other threads for want of a descriptor. A parent sees that all threads of its child
 * sleep if their waits have no limit.
 */
static bool is_left_to_parent(const struct fsafe_slices *slices)
{
    return !slices->looked_hopeless && !slices->self->sleeping.may_be_given && fsafe_tasks_has_no_descriptor();
}

bool fsafe_hopeless_goes_on(struct fsafe_slices *slices)
{
    struct fsafe_thread *self = slices->self;
    uint64_t until = 0;
    int saved = errno;
    atomic_store(&self->sleeping.is_between, self->sleeping.bytes == sizeof(sem_t) && self->sleeping.may_be_given);
    bool is_ours = !fsafe_asleep_is_left_to_another(self);
    slices->looked_hopeless &= is_ours;
    if (!fsafe_takeover_is_shared(self->sleeping.object) &&
        (is_given(slices) || !((is_ours && is_hopeless(slices)) || is_left_to_parent(slices)))) {
        uint64_t now = fsafe_sys_now_ns();
        until = now + next_slice(slices, now, self->sleeping.since_ns, is_ours || self->sleeping.may_be_given);
    }
    end_slice_at(slices, until);
    atomic_store(&self->sleeping.is_between, false);
    errno = saved;
    return until != 0;
}

static bool look_for_shared(const struct fsafe_maps_line *line, void *found)
{
    *(bool *)found |= line->shared && line->writable && line->start != (uintptr_t)fsafe_tally;
    return true;
}

/* Whether the process never had another thread, or other processes may write to some of its memory, besides our own. */
static bool may_loop_end(void)
{
    bool found = false;
    return !fsafe_handle_was_any_created() || !fsafe_maps_each(look_for_shared, &found) || found;
}

void fsafe_hopeless_asked(const struct fsafe_untimed_wait *wait)
{
    static struct {
        _Atomic uintptr_t object;
        _Atomic uint32_t generation; /* of the process that asked */
        _Atomic uint64_t since_ns, latest_ns;
    } asked;
    struct fsafe_thread *self = fsafe_thread_join();
    uint64_t span = fsafe_options_hang_ns(), now = fsafe_sys_now_ns();
    if (self == NULL || span == 0 || self->told_of == wait->object || fsafe_thread_has_company(self))
        return;
    uint32_t generation = fsafe_lineage_generation();
    bool is_new = atomic_exchange(&asked.object, wait->object) != wait->object;
    is_new |= atomic_exchange(&asked.generation, generation) != generation;
    if (is_new || now - atomic_load(&asked.latest_ns) >= span)
        atomic_store(&asked.since_ns, now);
    atomic_store(&asked.latest_ns, now);
    if (now - atomic_load(&asked.since_ns) < span)
        return;
    struct fsafe_slices slices;
    uint64_t unblocked;
    int saved = errno;
    fsafe_hopeless_begin_in_child(&slices, self, wait);
    bool hopeless =
        fsafe_takeover_is_alone() && fsafe_asleep_all(self, &unblocked) && !(wait->spins && may_loop_end());
    if (hopeless)
        fsafe_line_say(self, fsafe_asleep_may_be_handled(unblocked), wait->spins);
    self->sleeping = slices.outer; /* we do not see when the loop is over */
    if (hopeless)
        self->told_of = wait->object;
    else
        atomic_store(&asked.since_ns, now);
    errno = saved;
}

void fsafe_hopeless_hold_back(struct fsafe_slices *slices, bool (*needs_nobody)(const void *object))
{
    enum { LOOKS = 10 };
    uint64_t unblocked;
    struct fsafe_thread *self = slices->self;
    int saved = errno;
    uint64_t begun = atomic_load_explicit(&self->sleeping.since_ns, memory_order_relaxed);
    uint64_t span = fsafe_options_hang_ns();
    const void *object = (const void *)atomic_load_explicit(&self->sleeping.object, memory_order_relaxed);
    /*
     * needs_nobody is asked when all others sleep: before that one of them may come, so that this call does not wait.
     */
    for (uint64_t i = 1; !fsafe_asleep_is_anybody_awake(self) && fsafe_asleep_all(self, &unblocked) &&
                         !needs_nobody(object); i++) {
        if (i > LOOKS) {
            slices->looked_hopeless = true;
            if (!fsafe_asleep_is_left_to_another(self) &&
                !fsafe_takeover_is_shared(atomic_load_explicit(&self->sleeping.object, memory_order_relaxed)))
                is_hopeless(slices);
            break;
        }
        uint64_t until = begun + span / LOOKS * i;
        const struct timespec next = fsafe_sys_timespec(until);
        while (FSAFE_SYS(FSAFE_SYS_CLOCK_NANOSLEEP, CLOCK_MONOTONIC, TIMER_ABSTIME, &next, 0) == -EINTR)
            ;
    }
    end_slice_at(slices, 0);
    errno = saved;
}

bool fsafe_hopeless_restarts(void)
{
    uint64_t interrupting = fsafe_tasks_handled().interrupting;
    const uint64_t of_other_threads = (uint64_t)1 << (SIGPROF - 1) | (uint64_t)1 << (SIGVTALRM - 1) |
                                      (uint64_t)1 << (SIGXCPU - 1); /* they run, and use up processor time */
    return (fsafe_tasks_of_others(interrupting) | (interrupting & of_other_threads)) == 0;
}

uintptr_t fsafe_hopeless_futex_in_slices(uintptr_t *site)
{
    const struct fsafe_thread *self = fsafe_self;
    uintptr_t word = self == NULL ? 0 : atomic_load_explicit(&self->sleeping.object, memory_order_acquire);
    if (word == 0 || atomic_load_explicit(&self->sleeping.bytes, memory_order_relaxed) != sizeof(uint32_t))
        return 0;
    *site = self->sleeping.site;
    return word;
}

void fsafe_hopeless_leave(struct fsafe_thread *self)
{
    fsafe_line_ended(&self->sleeping);
    atomic_store_explicit(&self->sleeping.object, 0, memory_order_relaxed);
}
