/* repair/mutex: see mutex.h. */
#include "config.h"

#include "libc/layout.h"
#include "repair/mutex.h"

static bool is_own(const struct fsafe_thread *self, int owner)
{
    return owner == self->owner || fsafe_thread_was(self, owner);
}

void fsafe_mutex_rehome(pthread_mutex_t *mutex, const struct fsafe_thread *self)
{
    if (fsafe_layout_mutex_kind(mutex) == FSAFE_MUTEX_FOREIGN)
        return;
    int owner = fsafe_layout_mutex_owner(mutex);
    if (owner != self->owner && fsafe_thread_was(self, owner) && !fsafe_sys_thread_alive(owner))
        fsafe_layout_mutex_set_owner(mutex, self->owner);
}

bool fsafe_mutex_is_stale(uintptr_t lock, void *context)
{
    const struct fsafe_thread *self = context;
    pthread_mutex_t bytes;
    return !fsafe_sys_peek(lock & ~FSAFE_STAGE_MASK, &bytes, sizeof bytes) ||
           !is_own(self, fsafe_layout_mutex_owner(&bytes));
}

static const char *kind_name(enum fsafe_mutex_kind kind)
{
    static const char *const names[] = {
        [FSAFE_MUTEX_NORMAL] = "normal",
        [FSAFE_MUTEX_RECURSIVE] = "recursive",
        [FSAFE_MUTEX_ERRORCHECK] = "errorcheck",
        [FSAFE_MUTEX_ADAPTIVE] = "adaptive",
        [FSAFE_MUTEX_FOREIGN] = "other",
    };
    return names[kind];
}

/* What the bytes and the kernel say, without the ledgers. */
enum holder { NOBODY, LIVING, OWN, DEAD, UNNAMED };

static enum holder look(const pthread_mutex_t *mutex, const struct fsafe_thread *self, int *owner)
{
    if (!fsafe_layout_mutex_locked(mutex))
        return NOBODY;
    *owner = fsafe_layout_mutex_owner(mutex);
    if (*owner == 0)
        return UNNAMED;
    if (*owner == self->owner)
        return OWN;
    if (fsafe_sys_thread_alive(*owner))
        return LIVING;
    return fsafe_thread_was(self, *owner) ? OWN : DEAD;
}

/* Under the latch. */
static enum fsafe_verdict judge(pthread_mutex_t *mutex, const struct fsafe_thread *self, bool would_wait,
                                struct fsafe_event *event)
{
    int owner = 0;
    enum holder holder = look(mutex, self, &owner);
    if (holder != DEAD && holder != UNNAMED)
        return FSAFE_PROCEED;
    struct fsafe_claims claims =
        fsafe_takeover_claims(self, FSAFE_LOCKS, (uintptr_t)mutex, 0, owner);
    if (holder == UNNAMED) {
        /* Unnamed passes in an instant where the one who is at it lives. */
        if (claims.living_is_at_it)
            return FSAFE_UNDECIDED;
        /* Somebody we never saw has it: nobody can, but the dead, while we are alone. */
        if (claims.vanished == NULL && !fsafe_sys_single_threaded())
            return FSAFE_PROCEED;
    } else if (claims.died_with_it) {
        return FSAFE_PROCEED; /* as stuck as it would be without any fork */
    }
    event->holder.tid = owner;
    if (claims.vanished != NULL && owner != 0 && claims.vanished->owner != owner)
        claims.vanished = NULL; /* somebody who waited for it: not the one to name */
    if (!fsafe_takeover_decide(event, &claims, would_wait))
        return FSAFE_PROCEED;
    fsafe_takeover_void(FSAFE_LOCKS, (uintptr_t)mutex);
    fsafe_layout_mutex_reset(mutex);
    return FSAFE_TAKEN;
}

enum fsafe_verdict fsafe_mutex_judge(pthread_mutex_t *mutex, struct fsafe_thread *self, uintptr_t site,
                                     bool would_wait)
{
    int owner;
    enum fsafe_mutex_kind kind = fsafe_layout_mutex_kind(mutex);
    if (kind == FSAFE_MUTEX_FOREIGN)
        return FSAFE_PROCEED;
    switch (look(mutex, self, &owner)) {
    case OWN:
        fsafe_mutex_rehome(mutex, self);
        return FSAFE_PROCEED;
    case NOBODY:
    case LIVING:
        return FSAFE_PROCEED;
    case DEAD:
    case UNNAMED:
        break;
    }
    struct fsafe_event event = {
        .lock = "mutex",
        .kind = kind_name(kind),
        .address = (uintptr_t)mutex,
        .wanted_at = site,
    };
    struct fsafe_sigset old;
    atomic_store_explicit(&self->asking, (uintptr_t)mutex, memory_order_release);
    fsafe_latch_acquire(&fsafe_takeover_latch, &old);
    enum fsafe_verdict verdict = judge(mutex, self, would_wait, &event);
    fsafe_latch_release(&fsafe_takeover_latch, &old);
    if (verdict != FSAFE_UNDECIDED)
        atomic_store_explicit(&self->asking, 0, memory_order_release);
    fsafe_takeover_tell(&event);
    return verdict;
}
