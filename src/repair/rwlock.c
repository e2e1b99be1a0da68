/*
 * Measured. An rwlock counts its vanished readers with the living ones, so all its vanished threads are taken out at
 * once, before the first thread of the child waits in it (see the header). Only then is a bit that says "a writer
 * waits" certainly a vanished writer's, and one compare-and-swap can change the word. glibc changes the phase in two
 * steps: the word, then the futex word. A store to the second while a living thread is between the two steps lets a
 * writer in beside readers.
 *
 * Vanished writers that wait do harm although they hold nothing: with the two writer preferences the forking thread's
 * unlock of its own lock gives the lock to them. So a child also takes them out before it releases a lock.
 */
#include "config.h"

#include "base/options.h"
#include "libc/layout.h"
#include "repair/census.h"
#include "repair/rwlock.h"
#include "repair/verdict.h"

bool fsafe_rwlock_is_written_by(const pthread_rwlock_t *rwlock, const struct fsafe_thread *self)
{
    int writer = fsafe_layout_rwlock_writer(rwlock);
    return writer == self->owner || (writer != 0 && fsafe_lineage_is_child() && fsafe_thread_was(self, writer) &&
                                     !fsafe_sys_thread_alive(fsafe_lineage_pid(), writer));
}

static bool is_alone(void)
{
    return !fsafe_census_is_surveyed() && fsafe_takeover_is_alone();
}

static uint32_t fewest(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static const char *kind_name(const pthread_rwlock_t *rwlock, bool written)
{
    static const char *const names[][2] = {
        [FSAFE_PREFERS_READERS] = {"prefer reader, held for reading", "prefer reader, held for writing"},
        [FSAFE_PREFERS_WRITERS] = {"prefer writer, held for reading", "prefer writer, held for writing"},
        [FSAFE_PREFERS_WRITERS_NONRECURSIVE] = {"prefer writer nonrecursive, held for reading",
                                                "prefer writer nonrecursive, held for writing"},
    };
    return names[fsafe_layout_rwlock_preference(rwlock)][written];
}

/* What a judge works on. */
struct question {
    struct fsafe_question asked;
    pthread_rwlock_t *rwlock;
    enum fsafe_stage stage; /* what the caller asks for */
    bool forgot;  /* the vanished writers that wait are taken out */
    bool decided; /* fsafe_takeover_decide allows to take it over */
};

static bool decide(struct question *question, const struct fsafe_census *census, const struct fsafe_rwlock_state *state)
{
    struct fsafe_event *event = &question->asked.event;
    event->kind = kind_name(question->rwlock, state->is_locked && state->is_write_phase);
    event->holder.tid = state->writer;
    question->decided = question->decided ||
                        fsafe_takeover_decide(event, &census->claims, question->asked.would_wait);
    return question->decided;
}

/* Once only: a second time would subtract living writers. */
static void forget_waiting(struct question *question, const struct fsafe_orphan *orphan)
{
    if (!question->forgot)
        fsafe_layout_rwlock_forget_waiting(question->rwlock, orphan->waiting);
    question->forgot = true;
}

/*
 * Takes the vanished threads that wait out of a lock that this thread has for writing, because its release would give
 * it to them; and writes this thread in as its owner. Under the latch.
 */
static void settle(pthread_rwlock_t *rwlock, struct fsafe_thread *self)
{
    uintptr_t lock = (uintptr_t)rwlock;
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    bool alone = is_alone();
    const struct fsafe_orphan *orphan = fsafe_census_find(lock);
    bool waited_for = alone ? state.readers != 0 || state.waiting != 0 : orphan != NULL;
    if ((state.writer == self->owner && !waited_for) || fsafe_options.mode != FSAFE_MODE_REPAIR ||
        fsafe_takeover_is_shared(lock))
        return;
    if (waited_for && alone)
        fsafe_layout_rwlock_make_written(rwlock, self->owner);
    if (waited_for && !alone) {
        fsafe_layout_rwlock_forget_waiting(rwlock, orphan->waiting);
        while (!fsafe_layout_rwlock_dismiss(rwlock, &state, fewest(orphan->reads, state.readers), false))
            state = fsafe_layout_rwlock_look(rwlock);
    }
    fsafe_layout_rwlock_set_writer(rwlock, self->owner);
    fsafe_census_forget(lock);
}

void fsafe_rwlock_settle(pthread_rwlock_t *rwlock, struct fsafe_thread *self)
{
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    if (!fsafe_thread_is_or_was(self, state.writer))
        return;
    bool surveyed = fsafe_census_is_surveyed();
    if (state.writer == self->owner &&
        (surveyed ? !fsafe_census_may_have((uintptr_t)rwlock) : state.readers == 0 && state.waiting == 0))
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    settle(rwlock, self);
}

FSAFE_AT_FORK void fsafe_rwlock_adopt(struct fsafe_thread *self)
{
    enum { LATEST = 8 }; /* the handler may hold locks of its own */
    struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_locks(self));
    pthread_rwlock_t bytes;
    for (int looks = 0; looks < LATEST; looks++) {
        if (!fsafe_ledger_next(&at))
            return;
        if (!fsafe_ledger_is_of_rwlock(at.lock))
            continue;
        uintptr_t lock = at.lock & ~FSAFE_STAGE_MASK;
        /* The unlock may be over and the memory anything by now: written to only if it still is that rwlock. */
        if ((at.lock & FSAFE_STAGE_MASK) == FSAFE_WRITING && fsafe_options.mode == FSAFE_MODE_REPAIR &&
            fsafe_sys_peek(lock, &bytes, sizeof bytes) && fsafe_layout_rwlock_is_private(&bytes) &&
            fsafe_thread_was(self, fsafe_layout_rwlock_writer(&bytes)) && !fsafe_takeover_is_shared(lock))
            fsafe_layout_rwlock_set_writer((pthread_rwlock_t *)lock, self->owner);
        return;
    }
}

/* Who holds a lock, if its bytes name a writer; if they do not: FSAFE_UNSURE. */
static enum fsafe_held_by holder_of(const struct fsafe_thread *self, const struct fsafe_rwlock_state *state,
                                   const struct fsafe_census *census)
{
    return state->writer == 0 ? FSAFE_UNSURE
                              : fsafe_verdict(self, FSAFE_LOCKS, state->writer, &census->claims, false);
}

/* The caller is the only thread: every hold that is not the caller's is a vanished thread's. */
static enum fsafe_verdict judge_alone(struct question *question)
{
    uintptr_t lock = (uintptr_t)question->rwlock;
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(question->rwlock);
    struct fsafe_census census = fsafe_census_take(question->asked.self, lock, state.writer, question->stage);
    if (holder_of(question->asked.self, &state, &census) == FSAFE_CALLERS) {
        settle(question->rwlock, question->asked.self);
        return FSAFE_PROCEED;
    }
    if (census.own_writes > 0)
        return FSAFE_PROCEED; /* a signal handler interrupted the caller's own call */
    /* Holds without a record could be the caller's. */
    uint32_t reads = state.readers > census.own_reads
                         ? fewest(state.readers - census.own_reads, census.vanished_reads) : 0;
    if (!state.is_locked && reads == 0 && state.waiting == 0)
        return FSAFE_PROCEED;
    if (!decide(question, &census, &state))
        return FSAFE_PROCEED;
    fsafe_layout_rwlock_make_free(question->rwlock, state.readers - reads);
    fsafe_census_forget(lock);
    return FSAFE_FREED;
}

/* The verdict on a lock that has a writer whom the survey did not find there. */
static enum fsafe_verdict judge_later_writer(struct question *question, const struct fsafe_rwlock_state *state,
                                             const struct fsafe_census *census)
{
    if (state->writer == 0)
        return census->living_writes > 0 ? FSAFE_UNDECIDED : FSAFE_PROCEED;
    /* The bytes name a vanished thread, which took the lock by a call that we do not see. */
    if (!state->is_write_phase || !decide(question, census, state))
        return FSAFE_PROCEED;
    fsafe_layout_rwlock_make_free(question->rwlock, state->readers);
    fsafe_census_forget((uintptr_t)question->rwlock);
    return FSAFE_FREED;
}

/* Whether a living thread is in the middle of taking or releasing it. */
static bool is_changing(const struct fsafe_orphan *orphan, const struct fsafe_rwlock_state *state,
                        const struct fsafe_census *census)
{
    if (orphan->writer && census->living_writes > 0)
        return true;
    /* A living reader, the last one to leave, may be changing the phase. */
    if (orphan->writer && state->is_write_phase)
        return state->is_torn && !orphan->torn;
    /* A living reader may have a record and not be counted in the word yet, or no longer. */
    return (uint64_t)orphan->reads + census->own_reads + census->living_reads > state->readers;
}

/*
 * Other threads may take and release it, but none waits in it: a thread that would wait comes here first. What the
 * survey found holds until it is taken out, unless the memory has become another lock: then the bytes contradict it.
 */
static enum fsafe_verdict judge_surveyed(struct question *question)
{
    pthread_rwlock_t *rwlock = question->rwlock;
    uintptr_t lock = (uintptr_t)rwlock;
    for (;;) {
        const struct fsafe_orphan *orphan = fsafe_census_find(lock);
        struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
        if (orphan == NULL && state.writer == 0)
            return FSAFE_PROCEED;
        struct fsafe_census census = fsafe_census_take(question->asked.self, lock, state.writer, question->stage);
        enum fsafe_held_by holder = holder_of(question->asked.self, &state, &census);
        if (holder == FSAFE_CALLERS) {
            settle(rwlock, question->asked.self);
            return FSAFE_PROCEED;
        }
        if (holder == FSAFE_LIVINGS) {
            if (orphan == NULL || fsafe_options.mode != FSAFE_MODE_REPAIR || fsafe_takeover_is_shared(lock))
                return FSAFE_PROCEED;
            /* A living thread has held it since before the fork: vanished waiters must not count beside the caller. */
            forget_waiting(question, orphan);
            if (!fsafe_layout_rwlock_dismiss(rwlock, &state, fewest(orphan->reads, state.readers), false))
                continue;
            fsafe_census_forget(lock);
            return FSAFE_PROCEED;
        }
        if (state.is_locked && (orphan == NULL || !orphan->writer))
            return judge_later_writer(question, &state, &census);
        if (orphan == NULL)
            return FSAFE_PROCEED;
        if ((orphan->writer && !state.is_locked) || state.readers < orphan->reads) {
            fsafe_census_forget(lock); /* it is another lock by now */
            return FSAFE_PROCEED;
        }
        if (is_changing(orphan, &state, &census))
            return FSAFE_UNDECIDED;
        if (!decide(question, &census, &state))
            return FSAFE_PROCEED;
        if (orphan->writer && state.is_write_phase) {
            fsafe_layout_rwlock_make_free(rwlock, state.readers - orphan->reads);
        } else {
            forget_waiting(question, orphan);
            /* Otherwise a living thread completes the change of the phase. */
            state.is_torn = state.is_torn && orphan->torn && orphan->reads > 0;
            if (!fsafe_layout_rwlock_dismiss(rwlock, &state, orphan->reads, orphan->writer))
                continue;
        }
        fsafe_census_forget(lock);
        return FSAFE_FREED;
    }
}

/* Whether one look is enough: the survey found nothing, and there is no writer or a living one. */
static bool is_ordinary(uintptr_t lock, const struct fsafe_rwlock_state *state, struct fsafe_thread *self)
{
    if (!fsafe_census_is_surveyed() || fsafe_census_may_have(lock))
        return false;
    return state->writer == 0 || fsafe_verdict_soon(self, state->writer) != FSAFE_UNSURE;
}

/* Under the latch. */
static enum fsafe_verdict judge(struct fsafe_question *asked)
{
    struct question *question = (struct question *)asked;
    if (is_alone())
        return judge_alone(question);
    if (!fsafe_census_is_surveyed())
        /* libc made the second thread without our wrapper. */
        fsafe_census_survey(asked->self, asked->event.address, question->stage);
    return judge_surveyed(question);
}

enum fsafe_verdict fsafe_rwlock_judge(pthread_rwlock_t *rwlock, struct fsafe_thread *self, enum fsafe_stage stage,
                                      uintptr_t site, bool would_wait)
{
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    if (is_ordinary((uintptr_t)rwlock, &state, self))
        return FSAFE_PROCEED;
    struct question question = {
        .asked = {.self = self, .would_wait = would_wait,
                  .event = {.lock = "rwlock", .address = (uintptr_t)rwlock, .wanted_at = site}},
        .rwlock = rwlock,
        .stage = stage,
    };
    return fsafe_takeover_judge(&question.asked, judge);
}

void fsafe_rwlock_handed_over(pthread_rwlock_t *rwlock, const struct fsafe_thread *self)
{
    FSAFE_HOLD(&fsafe_takeover_latch);
    fsafe_census_hand_over(self, (uintptr_t)rwlock);
}

void fsafe_rwlock_survey(struct fsafe_thread *self)
{
    if (fsafe_census_is_surveyed())
        return;
    FSAFE_HOLD(&fsafe_takeover_latch);
    if (!fsafe_census_is_surveyed())
        fsafe_census_survey(self, 0, FSAFE_WANTED);
}

void fsafe_rwlock_initialised(pthread_rwlock_t *rwlock)
{
    FSAFE_HOLD(&fsafe_takeover_latch);
    if (fsafe_census_records() != 0)
        fsafe_census_forget((uintptr_t)rwlock);
}

bool fsafe_rwlock_is_stale(uintptr_t lock, void *context)
{
    const struct fsafe_thread *self = context;
    pthread_rwlock_t bytes;
    if (!fsafe_sys_peek(lock & ~FSAFE_STAGE_MASK, &bytes, sizeof bytes) || !fsafe_layout_rwlock_is_private(&bytes))
        return true;
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(&bytes);
    return (lock & FSAFE_STAGE_MASK) == FSAFE_WRITING ? !fsafe_thread_is_or_was(self, state.writer)
                                                      : state.readers == 0;
}
