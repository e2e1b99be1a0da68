/* Orphaned mutexes in children that start threads and in children of children. */
#include "mutex_kind.h"

enum { GENERATIONS = 10 };

static pthread_mutex_t orphan, fresh, chain[GENERATIONS];

/* The child does not touch the lock; the grandchild needs it. */
static void grandchild_locks(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    mutex_make(self->kind, &orphan);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &orphan) {
        SCN_IN_CHILD {
            mutex_use(entry->take, &orphan);
        }
        mutex_use(entry->take, &orphan); /* the grandchild's takeover was its own affair */
    }
}

/* The parent has forked twice when its child makes the first fork of its own. */
static void first_fork_of_child(const struct scn_case *self)
{
    mutex_make(self->kind, &orphan);
    SCN_IN_CHILD {
    }
    SCN_IN_CHILD {
        SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &orphan)
            mutex_use(mutex_lock, &orphan);
    }
}

/* The child is threaded before anyone touches the orphan, and four threads come for it at once. */
static void threads_first(const struct scn_case *self)
{
    mutex_make(self->kind, &orphan);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &orphan) {
        int leave = scn_bell();
        const pthread_t sleeper = scn_start(scn_stay, &leave);
        scn_exclusion(mutex_lock, mutex_unlock, &orphan, 4, 5000);
        mutex_use(mutex_lock, &orphan);
        scn_ring(leave);
        scn_join(sleeper);
    }
}

/* The same 50 times, four threads leaving one gate together: the race for the takeover itself. */
static void race_for_takeover(const struct scn_case *self)
{
    mutex_make(self->kind, &orphan);
    SCN_WHILE_HELD(mutex_lock, mutex_unlock, &orphan)
        for (int i = scn_often(50); i > 0; i--) {
            SCN_IN_CHILD {
                scn_exclusion(mutex_lock, mutex_unlock, &orphan, 4, 20);
                mutex_use(mutex_lock, &orphan);
            }
        }
}

/* A living thread of the child has taken the orphan over: now it is an ordinary lock that others wait for. */
static void taken_then_waited_for(const struct scn_case *self)
{
    mutex_make(self->kind, &orphan);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &orphan) {
        struct scn_holder alive;
        scn_hold(&alive, mutex_lock, mutex_unlock, &orphan, 1);
        SCN_IS(pthread_mutex_trylock(&orphan), EBUSY);
        SCN_IS(mutex_timedlock(&orphan), ETIMEDOUT);
        scn_must_wait(mutex_lock, mutex_unlock, &orphan, scn_let_go, &alive);
        mutex_use(mutex_lock, &orphan);
    }
}

/* A thread of the child holds a lock when the child forks: that one vanishes too. */
static void childs_thread_holds(const struct scn_case *self)
{
    pthread_mutex_t *const lock = self->number ? &orphan : &fresh; /* orphan: after its takeover */
    mutex_make(self->kind, &orphan);
    mutex_make(self->kind, &fresh);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &orphan) {
        struct scn_holder childs;
        scn_hold(&childs, mutex_lock, mutex_unlock, lock, 1);
        SCN_IN_CHILD {
            mutex_use(mutex_lock, lock);
            scn_exclusion(mutex_lock, mutex_unlock, lock, 4, 1000);
        }
        mutex_check_held(lock);
        scn_let_go(&childs);
        mutex_use(mutex_lock, lock);
    }
}

/* The child takes the orphan over and forks while it holds it: the grandchild inherits it as its own. */
static void child_holds_orphan(const struct scn_case *self)
{
    mutex_make(self->kind, &orphan);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &orphan) {
        SCN_IS(pthread_mutex_lock(&orphan), 0);
        SCN_IN_CHILD {
            mutex_check_held(&orphan);
            SCN_IS(pthread_mutex_unlock(&orphan), 0);
            mutex_use(mutex_lock, &orphan);
        }
        mutex_check_held(&orphan);
        SCN_IS(pthread_mutex_unlock(&orphan), 0);
    }
}

/* Each generation has a worker of its own on a lock of its own. Every one needs all locks so far, or only the last. */
static void descend(int generation, bool only_last)
{
    struct scn_holder worker;
    scn_hold(&worker, mutex_lock, mutex_unlock, &chain[generation], 1);
    SCN_IN_CHILD {
        const bool last = generation + 1 == GENERATIONS;
        if (last || !only_last)
            for (int i = 0; i <= generation; i++)
                mutex_use(mutex_lock, &chain[i]);
        if (!last)
            descend(generation + 1, only_last);
    }
    mutex_check_held(&chain[generation]);
    scn_let_go(&worker);
}

static void ten_generations(const struct scn_case *self)
{
    for (int i = 0; i < GENERATIONS; i++)
        mutex_make(self->kind, &chain[i]);
    descend(0, self->number != 0);
}

void scn_cases(void)
{
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        const char *line = mutex_line(kind);
        if (!mutex_is_plain(kind))
            continue;
        for (int j = 0; j < MUTEX_ENTRIES; j++)
            scn_add(SCN_CASE(.bare = mutex_entries[j].bare, .says = line, .run = grandchild_locks, .kind = kind,
                             .entry = &mutex_entries[j]), "grandchild-%s-%s", mutex_entries[j].name, kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = threads_first, .kind = kind),
                "threads-first-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = race_for_takeover, .kind = kind),
                "race-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = taken_then_waited_for, .kind = kind),
                "taken-then-waited-for-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = childs_thread_holds, .kind = kind),
                "childs-thread-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = childs_thread_holds, .kind = kind, .number = 1),
                "childs-thread-on-orphan-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = child_holds_orphan, .kind = kind),
                "child-holds-orphan-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = ten_generations, .kind = kind),
                "ten-generations-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = ten_generations, .kind = kind, .number = 1),
                "ten-generations-untouched-%s", kind->name);
    }
    scn_add((struct scn_case){.bare = "hangs", .says = MUTEX_TAKEN ".* fork 1 by", .run = first_fork_of_child,
                              .kind = &mutex_kinds[0]},
            "first-fork-of-child");
}
