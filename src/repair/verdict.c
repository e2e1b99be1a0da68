/*
 * repair/verdict: see verdict.h, which has the table.
 *
 * Measured. A lock that the forking thread holds names, in the child, an id that no thread of the child has. To the
 * child's *other* threads that owner looks vanished: so the ids that a thread had before it forked count, too.
 *
 * After a raw fork libc goes on with the parent's id. The child's second thread took a living writer of an rwlock,
 * whose id was that one, for a vanished thread: so the id that a thread writes now counts as well as those that it
 * wrote before. doc/reliability says how children in random states fared.
 */
#include "config.h"

#include "base/sys.h"
#include "repair/verdict.h"
#include "track/join.h"
#include "track/slots.h"

static bool is_alive(int owner)
{
    return fsafe_sys_thread_alive(fsafe_lineage_pid(), owner);
}

static enum fsafe_held_by of_named(const struct fsafe_thread *self, int owner, const struct fsafe_claims *claims)
{
    if (claims->own_at_it && fsafe_thread_is_or_was(self, owner))
        return FSAFE_CALLERS;
    if (claims->living_owner_has_it)
        return FSAFE_LIVINGS;
    if (claims->vanished_owner_had_it)
        return FSAFE_VANISHEDS;
    if (owner == self->owner)
        return FSAFE_CALLERS;
    if (claims->living_was_owner || is_alive(owner))
        return FSAFE_LIVINGS;
    if (fsafe_thread_was(self, owner))
        return FSAFE_CALLERS;
    return claims->died_with_it || fsafe_thread_forgot_ended() ? FSAFE_LIVINGS : FSAFE_VANISHEDS;
}

static enum fsafe_held_by of_unnamed(enum fsafe_ledger_of of, const struct fsafe_claims *claims, bool alone)
{
    if (claims->died_with_it || claims->own_at_it)
        return FSAFE_LIVINGS;
    /* The survey has marked the records of such mutexes as held. While the caller is alone no mark is needed. */
    bool known = of == FSAFE_LOCKS ? alone || claims->vanished_held : claims->vanished != NULL;
    if (!known)
        return FSAFE_LIVINGS;
    return claims->living_is_at_it ? FSAFE_UNSURE : FSAFE_VANISHEDS;
}

enum fsafe_held_by fsafe_verdict(const struct fsafe_thread *self, enum fsafe_ledger_of of, int owner,
                                const struct fsafe_claims *claims, bool alone)
{
    return owner != 0 ? of_named(self, owner, claims) : of_unnamed(of, claims, alone);
}

enum fsafe_held_by fsafe_verdict_of_guard(const struct fsafe_claims *claims)
{
    return claims->living_was_owner && !claims->vanished_owner_had_it ? FSAFE_LIVINGS : FSAFE_VANISHEDS;
}

/* Whether a vanished thread had that id. */
static bool has_vanished_namesake(int owner)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); fsafe_thread_next(&at);)
        if (fsafe_thread_is_or_was(at.thread, owner))
            return true;
    return false;
}

enum fsafe_held_by fsafe_verdict_soon(struct fsafe_thread *self, int owner)
{
    /*
     * Each owner is looked up once: no thread vanishes from this process any more, and a lock whose owner ends later is
     * as stuck as it would be without a fork.
     */
    int *known = &self->living_owners[(unsigned)owner % (sizeof self->living_owners / sizeof *self->living_owners)];
    bool own = owner == self->owner;
    if (*known != owner) {
        if (fsafe_thread_was(self, owner) || (!own && !is_alive(owner)) || has_vanished_namesake(owner))
            return FSAFE_UNSURE;
        *known = owner;
    }
    return own ? FSAFE_CALLERS : FSAFE_LIVINGS;
}
