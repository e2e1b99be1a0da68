/* Condition variables in which threads waited that only the parent has. */
#include "condvar_kind.h"

#include <stdlib.h>

static pthread_mutex_t lock, other;
static pthread_cond_t condition;
static const struct condvar_entry *const plainly = &condvar_entries[0];

static struct crew gathered(const struct scn_case *self, int size, int depth)
{
    const struct condvar_entry *entry = self->entry;
    struct crew crew = {.kind = self->kind, .wait = entry->wait, .condvar = &condition, .mutex = &lock,
                        .size = size, .depth = depth};
    mutex_make(&mutex_kinds[depth > 1 ? 3 : 0], &lock);
    condvar_make(self->kind, &condition);
    return crew;
}

static void finish(struct crew *crew)
{
    SCN_CHECK(!atomic_load(&crew->back));
    crew_dismiss(crew);
    condvar_use_and_destroy(crew->kind, &condition, &lock);
}

/* The first thing that the child does is FIRST. */
static void child_does(const struct scn_case *self, int size, void (*first)(const struct scn_case *self))
{
    struct crew crew = gathered(self, size, 1);
    crew_gather(&crew);
    SCN_IN_CHILD {
        first(self);
    }
    finish(&crew);
}

static void first_destroy(const struct scn_case *self)
{
    SCN_IS(pthread_cond_destroy(&condition), 0);
    SCN_IS(pthread_mutex_destroy(&lock), 0);
    mutex_make(&mutex_kinds[0], &lock);
    condvar_make(self->kind, &condition);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

static void first_signals(const struct scn_case *self)
{
    for (int i = 0; i < 20; i++)
        SCN_IS(pthread_cond_signal(&condition), 0);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

static void first_signal_then_destroy(const struct scn_case *self)
{
    SCN_IS(pthread_cond_signal(&condition), 0);
    first_destroy(self);
}

static void first_broadcasts(const struct scn_case *self)
{
    for (int i = 0; i < 20; i++)
        SCN_IS(pthread_cond_broadcast(&condition), 0);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

static void first_waits(const struct scn_case *self)
{
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

static void first_rally(const struct scn_case *self)
{
    condvar_rally(&condition, &lock, self->number != 0, 20);
}

/* The four threads that settle it come at once. */
static void first_all_at_once(const struct scn_case *self)
{
    condvar_rally(&condition, &lock, false, 200);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

/* Not the condition variable but the mutex that its waiters have left. */
static void first_mutex(const struct scn_case *self)
{
    mutex_use(mutex_lock, &lock);
    mutex_use(mutex_trylock, &lock);
    SCN_IS(pthread_mutex_destroy(&lock), 0);
}

static void destroy_1(const struct scn_case *self) { child_does(self, 1, first_destroy); }
static void destroy_5(const struct scn_case *self) { child_does(self, 5, first_destroy); }
static void signal_then_destroy(const struct scn_case *self) { child_does(self, 1, first_signal_then_destroy); }
static void signals_1(const struct scn_case *self) { child_does(self, 1, first_signals); }
static void signals_5(const struct scn_case *self) { child_does(self, 5, first_signals); }
static void broadcasts_1(const struct scn_case *self) { child_does(self, 1, first_broadcasts); }
static void broadcasts_5(const struct scn_case *self) { child_does(self, 5, first_broadcasts); }
static void waits_5(const struct scn_case *self) { child_does(self, 5, first_waits); }
static void rally_5(const struct scn_case *self) { child_does(self, 5, first_rally); }
static void all_at_once(const struct scn_case *self) { child_does(self, 5, first_all_at_once); }
static void mutex_of_5(const struct scn_case *self) { child_does(self, 5, first_mutex); }

/* The child does not touch it; the grandchild does. */
static void grandchild(const struct scn_case *self)
{
    struct crew crew = gathered(self, 2, 1);
    crew_gather(&crew);
    SCN_IN_CHILD {
        SCN_IN_CHILD {
            first_destroy(self);
        }
        first_waits(self);
    }
    finish(&crew);
}

/* The child's own threads wait in it, after it was settled, and vanish in their turn. */
static void childs_threads(const struct scn_case *self)
{
    struct crew crew = gathered(self, 2, 1);
    crew_gather(&crew);
    SCN_IN_CHILD {
        struct crew childs = {.kind = self->kind, .wait = crew.wait, .condvar = &condition, .mutex = &lock, .size = 3};
        crew_gather(&childs);
        SCN_IN_CHILD {
            first_destroy(self);
        }
        finish(&childs);
    }
    finish(&crew);
}

/* glibc does not release a recursive mutex that is locked thrice: its waiter keeps it. */
static void recursive(const struct scn_case *self)
{
    struct crew crew = gathered(self, 1, 3);
    crew_gather(&crew);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &lock);
        condvar_use_and_destroy(self->kind, &condition, &lock);
    }
    crew.go = true; /* it looks only when it is woken */
    SCN_IS(pthread_cond_signal(&condition), 0);
    crew_join(&crew);
}

/* A waiter that holds another lock meanwhile. */
static void *holds_other(void *raw)
{
    struct crew *crew = raw;
    SCN_IS(pthread_mutex_lock(&other), 0);
    crew_body(crew);
    SCN_IS(pthread_mutex_unlock(&other), 0);
    return NULL;
}

static void with_other_lock(const struct scn_case *self)
{
    struct crew crew = gathered(self, 0, 1);
    mutex_make(&mutex_kinds[0], &other);
    crew_gather(&crew);
    crew.size = 1;
    crew.thread[0] = scn_start(holds_other, &crew);
    scn_await_sleeper(&crew.tid);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &other);
        first_destroy(self);
    }
    finish(&crew);
}

/* Woken, and asleep again: the mutex it needs back is the forking thread's. */
static void already_signalled(const struct scn_case *self)
{
    struct crew crew = gathered(self, 1, 1);
    crew_gather(&crew);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    crew.go = true;
    SCN_IS(pthread_cond_signal(&condition), 0);
    usleep(50000);
    scn_await_asleep(atomic_load(&crew.tid), NULL);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_unlock(&lock), 0);
        condvar_use_and_destroy(self->kind, &condition, &lock);
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    crew_join(&crew);
    condvar_use_and_destroy(self->kind, &condition, &lock);
}

/* exit() in the child destroys what is static, as a C++ program's does. */
static atomic_int destroy_at_exit;

__attribute__((destructor)) static void destroy_static(void)
{
    if (atomic_load(&destroy_at_exit) == (int)getpid())
        pthread_cond_destroy(&condition);
}

static void exits(const struct scn_case *self)
{
    struct crew crew = gathered(self, 2, 1);
    crew_gather(&crew);
    const pid_t child = scn_fork();
    if (child == 0) {
        atomic_store(&destroy_at_exit, (int)getpid());
        exit(0);
    }
    scn_reap(child);
    finish(&crew);
}

/* A thread that vanishes inside signal or broadcast has the inner lock: under a storm, sooner or later. */
struct storm {
    atomic_int stop;
    bool by_signal;
};

static void *storm_waiter(void *raw)
{
    struct storm *storm = raw;
    SCN_IS(pthread_mutex_lock(&lock), 0);
    while (!atomic_load(&storm->stop)) {
        const struct timespec soon = scn_in_ms(CLOCK_REALTIME, 1);
        pthread_cond_timedwait(&condition, &lock, &soon);
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
    return NULL;
}

static void *storm_waker(void *raw)
{
    struct storm *storm = raw;
    while (!atomic_load(&storm->stop))
        SCN_IS((storm->by_signal ? pthread_cond_signal : pthread_cond_broadcast)(&condition), 0);
    return NULL;
}

static void storm(const struct scn_case *self)
{
    struct storm storm = {.by_signal = self->number != 0};
    pthread_t thread[4];
    mutex_make(&mutex_kinds[0], &lock);
    condvar_make(self->kind, &condition);
    for (int i = 0; i < 4; i++)
        thread[i] = scn_start(i < 2 ? storm_waiter : storm_waker, &storm);
    for (int i = scn_often(60); i > 0; i--) {
        SCN_IN_CHILD {
            if (i % 2 == 0)
                condvar_rally(&condition, &lock, storm.by_signal, 20);
            else
                condvar_use_and_destroy(self->kind, &condition, &lock);
        }
    }
    atomic_store(&storm.stop, 1);
    for (int i = 0; i < 4; i++)
        scn_join(thread[i]);
}

void scn_cases(void)
{
    const struct {
        const char *name, *bare, *says;
        void (*run)(const struct scn_case *);
        long number;
    } rows[] = {
        {"signal-then-destroy", CONDVAR_BARE("hangs"), CONDVAR_DESTROYED, signal_then_destroy, 0},
        {"signals-1", CONDVAR_BARE("hangs"), CONDVAR_FORGOT_ONCE, signals_1, 0},
        {"signals-5", CONDVAR_BARE("hangs"), CONDVAR_FORGOT_ONCE, signals_5, 0},
        {"broadcasts-1", CONDVAR_BARE("hangs"), CONDVAR_FORGOT_ONCE, broadcasts_1, 0},
        {"broadcasts-5", CONDVAR_BARE("hangs"), CONDVAR_FORGOT_ONCE, broadcasts_5, 0},
        {"waits-5", "hangs", CONDVAR_FORGOT_ONCE, waits_5, 0},
        {"rally-by-signal", "hangs", CONDVAR_FORGOT_ONCE, rally_5, 1},
        {"rally-by-broadcast", scn_glibc_since(41) ? "fine" : CONDVAR_BARE("hangs"), CONDVAR_FORGOT_ONCE, rally_5, 0},
        {"all-at-once", CONDVAR_BARE("hangs"), CONDVAR_FORGOT_ONCE, all_at_once, 0},
        {"mutex-of-5", CONDVAR_BARE("fails EBUSY"), SCN_SILENT, mutex_of_5, 0},
        {"grandchild", "hangs", CONDVAR_FORGOT, grandchild, 0},
        {"childs-threads", "hangs", CONDVAR_FORGOT, childs_threads, 0},
        {"recursive", "hangs", CONDVAR_FORGOT_ONCE " ;; once:" MUTEX_TAKEN, recursive, 0},
        {"with-other-lock", "hangs",
         LIBC_WAITS_INSIDE ? CONDVAR_FORGOT_ONCE " ;; once:" MUTEX_TAKEN : "once:" MUTEX_TAKEN " ;; never:child forgot",
         with_other_lock, 0},
        {"already-signalled", CONDVAR_BARE("fails EBUSY"), NULL, already_signalled, 0},
        {"exit", CONDVAR_BARE("hangs"), CONDVAR_DESTROYED, exits, 0},
    };
    for (int i = 0; i < CONDVAR_KINDS; i++) {
        const struct condvar_kind *kind = &condvar_kinds[i];
        for (int j = 0; j < CONDVAR_ENTRIES; j++) {
            const struct condvar_entry *entry = &condvar_entries[j];
            scn_add(SCN_CASE(.bare = CONDVAR_BARE("hangs"), .says = CONDVAR_DESTROYED, .run = destroy_1, .kind = kind,
                             .entry = entry), "destroy-1-%s-%s", entry->name, kind->name);
            scn_add(SCN_CASE(.bare = CONDVAR_BARE("hangs"), .says = CONDVAR_DESTROYED, .run = destroy_5, .kind = kind,
                             .entry = entry), "destroy-5-%s-%s", entry->name, kind->name);
        }
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
            scn_add(SCN_CASE(.bare = rows[r].bare, .says = rows[r].says, .run = rows[r].run, .kind = kind,
                             .entry = plainly, .number = rows[r].number), "%s-%s", rows[r].name, kind->name);
    }
    scn_add(SCN_CASE(.bare = "hangs", .run = storm, .kind = &condvar_kinds[0], .number = 1), "storm-signal");
    scn_add(SCN_CASE(.bare = "hangs", .run = storm, .kind = &condvar_kinds[0]), "storm-broadcast");
}
