/* Semaphores used as locks, held at fork by threads that do not exist in the child. */
#include "semaphore_kind.h"

enum { GENERATIONS = 10 };

static sem_t lock, second, chain[GENERATIONS];

static void one_holder(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    struct scn_holder worker;
    semaphore_make(&lock, 1);
    scn_hold(&worker, semaphore_wait, semaphore_post, &lock, 1);
    SCN_IN_CHILD {
        SCN_IS(entry->take(&lock), 0);
        semaphore_check_none(&lock); /* granted once, not to everybody */
        SCN_IS(semaphore_post(&lock), 0);
        semaphore_check_tokens(&lock, 1);
        for (int i = 0; i < SEMAPHORE_ENTRIES; i++)
            semaphore_use(semaphore_entries[i].take, &lock);
        scn_exclusion(semaphore_wait, semaphore_post, &lock, 4, 1000);
        semaphore_check_tokens(&lock, 1);
        SCN_CHECK(sem_destroy(&lock) == 0);
    }
    semaphore_check_none(&lock);
    scn_let_go(&worker);
    semaphore_check_tokens(&lock, 1);
}

/* The worker takes it by each of the four calls. */
static void taken_by(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    semaphore_make(&lock, 1);
    SCN_IN_CHILD_WHILE_HELD(entry->take, semaphore_post, &lock) {
        semaphore_use(semaphore_wait, &lock);
    }
}

/* Others of the vanished were asleep waiting for it. */
static void waited_for(const struct scn_case *self)
{
    struct scn_holder worker;
    struct scn_waiter queue[3];
    semaphore_make(&lock, 1);
    scn_hold(&worker, semaphore_wait, semaphore_post, &lock, 1);
    for (int i = 0; i < 3; i++)
        scn_want(&queue[i], semaphore_try_then_wait, semaphore_post, &lock);
    SCN_IN_CHILD {
        semaphore_use(semaphore_wait, &lock);
        semaphore_check_tokens(&lock, 1);
    }
    scn_let_go(&worker);
    for (int i = 0; i < 3; i++)
        scn_join(queue[i].thread);
    semaphore_check_tokens(&lock, 1);
}

static void two_holders(const struct scn_case *self)
{
    struct scn_holder worker, other;
    semaphore_make(&lock, 1);
    semaphore_make(&second, 1);
    scn_hold(&worker, semaphore_wait, semaphore_post, &lock, 1);
    scn_hold(&other, semaphore_wait, semaphore_post, &second, 1);
    SCN_IN_CHILD {
        SCN_IS(semaphore_wait(&second), 0);
        SCN_IS(semaphore_wait(&lock), 0);
        semaphore_check_none(&lock);
        semaphore_check_none(&second);
        SCN_IS(semaphore_post(&lock), 0);
        SCN_IS(semaphore_post(&second), 0);
        semaphore_check_tokens(&lock, 1);
        semaphore_check_tokens(&second, 1);
    }
    scn_let_go(&worker);
    scn_let_go(&other);
}

static void *fork_from_thread(void *unused)
{
    SCN_IN_CHILD {
        semaphore_use(semaphore_wait, &lock);
    }
    return NULL;
}

static void main_holds(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    SCN_IS(semaphore_wait(&lock), 0);
    scn_join(scn_start(fork_from_thread, NULL));
    semaphore_check_none(&lock);
    SCN_IS(semaphore_post(&lock), 0);
}

/* Forks fall between the token's move and its record, both ways. */
static void hammered(const struct scn_case *self)
{
    struct scn_hammer hammer;
    semaphore_make(&lock, 1);
    scn_hammer_start(&hammer, self->number ? semaphore_try_then_wait : semaphore_wait, semaphore_post, &lock, 4);
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            semaphore_use(semaphore_try_then_wait, &lock);
            semaphore_use(semaphore_wait, &lock);
            SCN_IS(semaphore_wait(&lock), 0);
            SCN_IS(scn_elsewhere(semaphore_trywait, &lock), EAGAIN);
            SCN_IS(semaphore_post(&lock), 0);
            SCN_CHECK(semaphore_value(&lock) == 1);
        }
    }
    scn_hammer_stop(&hammer);
    semaphore_check_tokens(&lock, 1);
}

/* The child is threaded before anyone touches the orphan; 50 times, four threads come for it at once. */
static void race_for_grant(const struct scn_case *self)
{
    semaphore_make_used(&lock);
    SCN_WHILE_HELD(semaphore_wait, semaphore_post, &lock)
        for (int i = scn_often(50); i > 0; i--) {
            SCN_IN_CHILD {
                scn_exclusion(semaphore_try_then_wait, semaphore_post, &lock, 4, 100);
                semaphore_check_tokens(&lock, 1);
            }
        }
}

/* Granted to a living thread of the child: now an ordinary lock that others wait for. */
static void granted_then_waited_for(const struct scn_case *self)
{
    semaphore_make_used(&lock);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        struct scn_holder alive;
        scn_hold(&alive, semaphore_wait, semaphore_post, &lock, 1);
        semaphore_check_none(&lock);
        scn_must_wait(semaphore_wait, semaphore_post, &lock, scn_let_go, &alive);
        semaphore_check_tokens(&lock, 1);
    }
}

/* Nobody ever gave it back, so a thread of the child may be meant to: it is had when they all sleep without a limit. */
static void nobody_left(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    semaphore_make(&second, 0);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        struct scn_waiter others[3];
        for (long i = 0; i < self->number; i++)
            scn_want(&others[i], semaphore_try_then_wait, semaphore_post, i == 0 ? &lock : &second);
        if (self->number == 1) {
            scn_join(others[0].thread);
        } else {
            semaphore_use(semaphore_wait, &lock);
            SCN_IS(semaphore_post(&second), 0);
            for (long i = 0; i < self->number; i++)
                scn_join(others[i].thread);
        }
        semaphore_check_tokens(&lock, 1);
    }
}

static void grandchild_takes(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    semaphore_make(&lock, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        SCN_IN_CHILD {
            semaphore_use(entry->take, &lock);
        }
        semaphore_use(entry->take, &lock);
    }
}

/* The child forks while it holds what it was granted: the grandchild inherits it as its own. */
static void child_holds_orphan(const struct scn_case *self)
{
    semaphore_make(&lock, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        SCN_IS(semaphore_wait(&lock), 0);
        SCN_IN_CHILD {
            semaphore_check_none(&lock);
            SCN_IS(semaphore_post(&lock), 0);
            semaphore_check_tokens(&lock, 1);
        }
        SCN_IS(semaphore_post(&lock), 0);
        semaphore_check_tokens(&lock, 1);
    }
}

static void childs_thread_holds(const struct scn_case *self)
{
    sem_t *const wanted = self->number ? &lock : &second; /* lock: after its grant */
    semaphore_make_used(&lock);
    semaphore_make(&second, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &lock) {
        struct scn_holder childs;
        scn_hold(&childs, semaphore_wait, semaphore_post, wanted, 1);
        SCN_IN_CHILD {
            semaphore_use(semaphore_wait, wanted);
            semaphore_check_tokens(wanted, 1);
        }
        semaphore_check_none(wanted);
        scn_let_go(&childs);
        semaphore_check_tokens(wanted, 1);
    }
}

static void descend(int generation, bool only_last)
{
    struct scn_holder worker;
    scn_hold(&worker, semaphore_wait, semaphore_post, &chain[generation], 1);
    SCN_IN_CHILD {
        const bool last = generation + 1 == GENERATIONS;
        if (last || !only_last)
            for (int i = 0; i <= generation; i++)
                semaphore_use(semaphore_wait, &chain[i]);
        if (!last)
            descend(generation + 1, only_last);
    }
    SCN_IS(semaphore_trywait(&chain[generation]), EAGAIN);
    scn_let_go(&worker);
}

static void ten_generations(const struct scn_case *self)
{
    for (int i = 0; i < GENERATIONS; i++)
        semaphore_make(&chain[i], 1);
    descend(0, self->number != 0);
}

void scn_cases(void)
{
    static const struct scn_row situations[] = {
        {"waited-for", waited_for, 0, SEMAPHORE_TAKEN_FROM_WORKER},
        {"two-holders", two_holders, 0, SEMAPHORE_TAKEN_FROM_WORKER},
        {"main-holds", main_holds, 0, SEMAPHORE_TAKEN},
        {"hammered-wait", hammered, 0, NULL},
        {"hammered-try-then-wait", hammered, 1, NULL},
        {"race-for-grant", race_for_grant, 0, SEMAPHORE_TAKEN_FROM_WORKER},
        {"granted-then-waited-for", granted_then_waited_for, 0, SEMAPHORE_TAKEN_FROM_WORKER},
        {"unproven-and-joined", nobody_left, 1, SEMAPHORE_TAKEN_FROM_WORKER},
        {"unproven-and-two-want-it", nobody_left, 2, SEMAPHORE_TAKEN_FROM_WORKER},
        {"unproven-beside-an-event", nobody_left, 3, SEMAPHORE_TAKEN_FROM_WORKER},
        {"child-holds-orphan", child_holds_orphan, 0, SEMAPHORE_TAKEN_FROM_WORKER},
        {"childs-thread", childs_thread_holds, 0, SEMAPHORE_TAKEN_FROM_WORKER},
        {"childs-thread-on-orphan", childs_thread_holds, 1, SEMAPHORE_TAKEN_FROM_WORKER},
        {"ten-generations", ten_generations, 0, SEMAPHORE_TAKEN_FROM_WORKER},
        {"ten-generations-untouched", ten_generations, 1, SEMAPHORE_TAKEN_FROM_WORKER},
    };
    for (int i = 0; i < SEMAPHORE_ENTRIES; i++) {
        const struct scn_entry *entry = &semaphore_entries[i];
        scn_add(SCN_CASE(.bare = entry->bare, .says = SEMAPHORE_TAKEN_FROM_WORKER, .run = one_holder, .entry = entry),
                "%s", entry->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = SEMAPHORE_TAKEN_FROM_WORKER, .run = taken_by, .entry = entry),
                "taken-by-%s", entry->name);
        scn_add(SCN_CASE(.bare = entry->bare, .says = SEMAPHORE_TAKEN_FROM_WORKER, .run = grandchild_takes,
                         .entry = entry), "grandchild-%s", entry->name);
    }
    scn_add_rows(SCN_ROWS(situations), (struct scn_case){.bare = "hangs", .env = "FORKSAFE_HANG_MS=150"}, NULL);
}
