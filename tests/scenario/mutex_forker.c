/* Mutexes held at fork by the forking thread: in the child they are still its own, whatever thread id it has there. */
#include "mutex_kind.h"

static pthread_mutex_t own, other;

static void finish(void)
{
    SCN_IS(pthread_mutex_unlock(&own), 0);
    mutex_use(mutex_lock, &own);
}

/* After the child's unlock everything works as with a new lock. */
static void check_released(pthread_mutex_t *mutex)
{
    mutex_check_free(mutex);
    mutex_use(mutex_lock, mutex);
    scn_exclusion(mutex_lock, mutex_unlock, mutex, 2, 1000);
    SCN_IS(pthread_mutex_destroy(mutex), 0);
}

static void *unlocks(void *raw)
{
    mutex_make(raw, &own);
    SCN_IS(pthread_mutex_lock(&own), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_unlock(&own), 0);
        SCN_IS(pthread_mutex_lock(&own), 0);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        check_released(&own);
    }
    finish();
    return NULL;
}

static void main_forks(const struct scn_case *self)
{
    unlocks((void *)self->kind);
}

static void thread_forks(const struct scn_case *self)
{
    scn_join(scn_start(unlocks, (void *)self->kind));
}

/* Without handlers: glibc's wrapper gives the child a new id all the same. */
static void without_handlers(const struct scn_case *self)
{
    struct scn_holder worker;
    mutex_make(self->kind, &own);
    mutex_make(self->kind, &other);
    SCN_IS(pthread_mutex_lock(&own), 0);
    scn_hold(&worker, mutex_lock, mutex_unlock, &other, 1);
    const pid_t child = _Fork();
    if (child == 0) {
        scn_arm();
        SCN_IS(pthread_mutex_unlock(&own), 0);
        check_released(&own);
        SCN_IS(pthread_mutex_lock(&other), 0);
        SCN_IS(pthread_mutex_unlock(&other), 0);
        check_released(&other);
        scn_fine();
    }
    scn_reap(child);
    finish();
    scn_let_go(&worker);
}

/* The child keeps holding: its other threads must be kept out until it unlocks. */
static void keeps_out(const struct scn_case *self)
{
    mutex_make(self->kind, &own);
    SCN_IS(pthread_mutex_lock(&own), 0);
    SCN_IN_CHILD {
        mutex_check_held(&own);
        SCN_IS(scn_elsewhere(mutex_time_and_unlock, &own), ETIMEDOUT);
        SCN_IS(pthread_mutex_destroy(&own), LIBC_DESTROY_IN_USE);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        check_released(&own);
    }
    finish();
}

/* A holder's own second call: what it gives is the kind's contract. */
static void relocks(const struct scn_case *self)
{
    const struct mutex_kind *kind = self->kind;
    const struct scn_entry *entry = self->entry;
    int expected = EBUSY;
    if (kind->type == PTHREAD_MUTEX_RECURSIVE)
        expected = 0;
    else if (entry->take != mutex_trylock)
        expected = kind->type == PTHREAD_MUTEX_ERRORCHECK ? EDEADLK : ETIMEDOUT;
    mutex_make(kind, &own);
    SCN_IS(pthread_mutex_lock(&own), 0);
    SCN_IN_CHILD {
        SCN_IS(entry->take(&own), expected);
        if (expected == 0)
            SCN_IS(pthread_mutex_unlock(&own), 0);
        mutex_check_held(&own);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        check_released(&own);
    }
    finish();
}

static void goes_deeper(const struct scn_case *self)
{
    mutex_make(self->kind, &own);
    SCN_IS(pthread_mutex_lock(&own), 0);
    SCN_IS(pthread_mutex_lock(&own), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_lock(&own), 0);
        for (int i = 0; i < 3; i++) {
            mutex_check_held(&own);
            SCN_IS(pthread_mutex_unlock(&own), 0);
        }
        check_released(&own);
    }
    SCN_IS(pthread_mutex_unlock(&own), 0);
    SCN_IS(pthread_mutex_unlock(&own), 0);
    mutex_use(mutex_lock, &own);
}

static void grandchild_unlocks(const struct scn_case *self)
{
    mutex_make(self->kind, &own);
    SCN_IS(pthread_mutex_lock(&own), 0);
    SCN_IN_CHILD {
        SCN_IN_CHILD {
            SCN_IS(pthread_mutex_unlock(&own), 0);
            check_released(&own);
        }
        mutex_check_held(&own);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        check_released(&own);
    }
    finish();
}

/* More forks than a thread remembers ids of its own; none before the last child asks for the mutex. */
static void descend(int generation)
{
    if (generation == 10) {
        SCN_IS(pthread_mutex_unlock(&own), 0);
        check_released(&own);
        return;
    }
    SCN_IN_CHILD {
        descend(generation + 1);
    }
}

static void tenth_generation_unlocks(const struct scn_case *self)
{
    mutex_make(self->kind, &own);
    SCN_IS(pthread_mutex_lock(&own), 0);
    descend(0);
    finish();
}

/* Vanished threads were asleep waiting for the forking thread's lock. */
static void waited_for(const struct scn_case *self)
{
    struct scn_waiter queue[3];
    mutex_make(self->kind, &own);
    SCN_IS(pthread_mutex_lock(&own), 0);
    for (int i = 0; i < 3; i++)
        scn_want(&queue[i], mutex_lock, mutex_unlock, &own);
    SCN_IN_CHILD {
        mutex_check_held(&own);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        /* Locked, owner not yet written: such bytes now belong to a living thread, not to one that only waited. */
        scn_exclusion(mutex_lock, mutex_unlock, &own, 4, 20000);
        check_released(&own);
    }
    SCN_IS(pthread_mutex_unlock(&own), 0);
    for (int i = 0; i < 3; i++)
        scn_join(queue[i].thread);
    mutex_use(mutex_lock, &own);
}

static void beside_vanished(const struct scn_case *self)
{
    mutex_make(self->kind, &own);
    mutex_make(self->kind, &other);
    SCN_IS(pthread_mutex_lock(&own), 0);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &other) {
        SCN_IS(pthread_mutex_lock(&other), 0);
        mutex_check_held(&own);
        mutex_check_held(&other);
        SCN_IS(pthread_mutex_unlock(&own), 0);
        SCN_IS(pthread_mutex_unlock(&other), 0);
        check_released(&own);
        check_released(&other);
    }
    SCN_IS(pthread_mutex_unlock(&own), 0);
}

void scn_cases(void)
{
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        /* Where glibc needs no help, the library has nothing to say. */
        const char *bare = kind->owned ? "fails EPERM" : "fine";
        const char *says = kind->owned ? NULL : SCN_SILENT;
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = main_forks, .kind = kind), "unlock-%s", kind->name);
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = thread_forks, .kind = kind), "thread-%s", kind->name);
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = keeps_out, .kind = kind), "keeps-out-%s", kind->name);
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = grandchild_unlocks, .kind = kind),
                "grandchild-%s", kind->name);
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = tenth_generation_unlocks, .kind = kind),
                "tenth-generation-%s", kind->name);
        scn_add(SCN_CASE(.bare = bare, .says = says, .run = waited_for, .kind = kind), "waited-for-%s", kind->name);
        /* Where _Fork is the system call alone (libc.h), the child's thread still has its parent's id. */
        const bool has_new_id = kind->owned && LIBC_HAS_BARE_FORK;
        scn_add(SCN_CASE(.bare = has_new_id ? "fails EPERM" : "hangs", .says = mutex_line(kind),
                         .run = without_handlers, .kind = kind), "without-handlers-%s", kind->name);
        for (int j = 1; j < MUTEX_ENTRIES; j++) {
            const struct scn_entry *entry = &mutex_entries[j];
            const char *second = bare;
            if (kind->type == PTHREAD_MUTEX_RECURSIVE || (kind->owned && entry->take != mutex_trylock))
                second = entry->bare;
            scn_add(SCN_CASE(.bare = second, .says = says, .run = relocks, .kind = kind, .entry = entry),
                    "%s-again-%s", entry->name, kind->name);
        }
        if (kind->owned) /* the others deadlock by contract */
            scn_add(SCN_CASE(.bare = "hangs", .run = relocks, .kind = kind, .entry = &mutex_entries[0]),
                    "lock-again-%s", kind->name);
        if (kind->type == PTHREAD_MUTEX_RECURSIVE)
            scn_add(SCN_CASE(.bare = "hangs", .run = goes_deeper, .kind = kind), "deeper-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = mutex_line(kind), .run = beside_vanished, .kind = kind),
                "beside-vanished-%s", kind->name);
    }
}
