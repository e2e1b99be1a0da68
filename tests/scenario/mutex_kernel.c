/*
 * Mutexes whose holder the kernel knows, too: robust, with priority inheritance, both; and with a priority ceiling.
 * A robust one tells the child what a robust mutex is for: EOWNERDEAD, and the program's own recovery runs.
 */
#include "scenario.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct kind {
    const char *name, *word;
    int protocol, robust, type;
};

static const struct kind kinds[] = {
    {"robust", "robust", PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_NORMAL},
    {"robust-recursive", "robust", PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_RECURSIVE},
    {"robust-errorcheck", "robust", PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_ERRORCHECK},
    {"inherit", "priority inherit", PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_NORMAL},
    {"inherit-recursive", "priority inherit", PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_RECURSIVE},
    {"robust-inherit", "robust, priority inherit", PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_ROBUST, PTHREAD_MUTEX_NORMAL},
    {"protect", "priority protect", PTHREAD_PRIO_PROTECT, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_NORMAL},
    {"protect-recursive", "priority protect", PTHREAD_PRIO_PROTECT, PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_RECURSIVE},
};

enum { CEILING = 7, MANY = 20 };

static bool is_robust(const struct kind *kind)
{
    return kind->robust == PTHREAD_MUTEX_ROBUST;
}

static void make_shared(const struct kind *kind, int pshared, pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    SCN_IS(pthread_mutexattr_init(&attributes), 0);
    SCN_IS(pthread_mutexattr_settype(&attributes, kind->type), 0);
    SCN_IS(pthread_mutexattr_setprotocol(&attributes, kind->protocol), 0);
    SCN_IS(pthread_mutexattr_setrobust(&attributes, kind->robust), 0);
    SCN_IS(pthread_mutexattr_setpshared(&attributes, pshared), 0);
    if (kind->protocol == PTHREAD_PRIO_PROTECT)
        SCN_IS(pthread_mutexattr_setprioceiling(&attributes, CEILING), 0);
    SCN_IS(pthread_mutex_init(mutex, &attributes), 0);
}

static void make(const struct kind *kind, pthread_mutex_t *mutex)
{
    make_shared(kind, PTHREAD_PROCESS_PRIVATE, mutex);
}

/* glibc 2.36 refuses a thread's first locks with a ceiling (EINVAL) until it has learnt the thread's priority. */
#define INSIST(call)                                            \
    do {                                                        \
        int error = (call);                                     \
        for (int again = 0; error == EINVAL && again < 5; again++) \
            error = (call);                                     \
        return error;                                           \
    } while (0)

static int lock(void *mutex)
{
    INSIST(pthread_mutex_lock(mutex));
}

static int trylock(void *mutex)
{
    INSIST(pthread_mutex_trylock(mutex));
}

static int timedlock(void *mutex)
{
    const struct timespec deadline = scn_in_ms(CLOCK_REALTIME, 100);
    INSIST(pthread_mutex_timedlock(mutex, &deadline));
}

static int clocklock(void *mutex)
{
    const struct timespec deadline = scn_in_ms(CLOCK_MONOTONIC, 100);
    INSIST(pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &deadline));
}

static int unlock(void *mutex)
{
    return pthread_mutex_unlock(mutex);
}

static int try_and_unlock(void *mutex)
{
    const int error = trylock(mutex);
    if (error == 0)
        SCN_IS(pthread_mutex_unlock(mutex), 0);
    return error;
}

static const struct scn_entry entries[] = {
    {"lock", lock, "hangs"},
    {"trylock", trylock, "fails EBUSY"},
    {"timedlock", timedlock, "fails ETIMEDOUT"},
    {"clocklock", clocklock, "fails ETIMEDOUT"},
};

static pthread_mutex_t guarded, many[MANY];

/* Else nobody is told that the owner has ended: qemu-user has no such list. */
static void must_know_robust(void)
{
    void *list;
    size_t bytes;
    if (syscall(SYS_get_robust_list, 0, &list, &bytes) != 0 && errno == ENOSYS)
        scn_skip("the kernel keeps no list of robust mutexes");
}

static int lock_and_leave(void *mutex)
{
    SCN_IS(pthread_mutex_lock(mutex), 0);
    return 0;
}

static int is_lost(void *mutex)
{
    return entries[0].take(mutex);
}

/*
 * No fork is needed: nobody gets a mutex any more that was given back without being made consistent, and everybody is
 * told so at once. In glibc a trylock that says so leaves the mutex locked by its caller; a lock does not.
 */
static void lost(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    must_know_robust();
    make(self->kind, &guarded);
    SCN_IS(scn_elsewhere(lock_and_leave, &guarded), 0);
    SCN_IS(pthread_mutex_lock(&guarded), EOWNERDEAD);
    SCN_IS(pthread_mutex_unlock(&guarded), 0);
    SCN_IS(entry->take(&guarded), ENOTRECOVERABLE);
    if (entry->take == trylock)
        scn_fine();
    SCN_IS(scn_elsewhere(is_lost, &guarded), ENOTRECOVERABLE);
    SCN_IS(entry->take(&guarded), ENOTRECOVERABLE);
    SCN_IN_CHILD {
        SCN_IS(entry->take(&guarded), ENOTRECOVERABLE);
        SCN_IS(entry->take(&guarded), ENOTRECOVERABLE);
    }
    SCN_IS(pthread_mutex_destroy(&guarded), 0);
}


/* Takes over what a vanished thread held. */
static void inherit_from_the_dead(const struct kind *kind, scn_call *take, pthread_mutex_t *mutex)
{
    SCN_IS(take(mutex), is_robust(kind) ? EOWNERDEAD : 0);
    SCN_IS(scn_elsewhere(try_and_unlock, mutex), EBUSY);
    if (is_robust(kind))
        SCN_IS(pthread_mutex_consistent(mutex), 0);
    SCN_IS(pthread_mutex_unlock(mutex), 0);
    SCN_IS(scn_elsewhere(try_and_unlock, mutex), 0);
    if (kind->protocol == PTHREAD_PRIO_PROTECT) {
        int ceiling;
        SCN_IS(pthread_mutex_getprioceiling(mutex, &ceiling), 0);
        SCN_CHECK(ceiling == CEILING);
    }
}

static void vanished(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    struct scn_holder worker;
    make(self->kind, &guarded);
    scn_hold(&worker, lock, unlock, &guarded, (int)self->number);
    SCN_IN_CHILD {
        inherit_from_the_dead(self->kind, entry->take, &guarded);
        scn_exclusion(lock, unlock, &guarded, 4, 500);
        SCN_IS(pthread_mutex_destroy(&guarded), 0);
    }
    SCN_IS(scn_elsewhere(try_and_unlock, &guarded), EBUSY);
    scn_let_go(&worker);
    SCN_IS(pthread_mutex_destroy(&guarded), 0);
}

/* Destroyed while the dead have it, and made anew. */
static void destroyed(const struct scn_case *self)
{
    struct scn_holder worker;
    make(self->kind, &guarded);
    scn_hold(&worker, lock, unlock, &guarded, 1);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_destroy(&guarded), 0);
        make(self->kind, &guarded);
        scn_exclusion(lock, unlock, &guarded, 4, 500);
        SCN_IS(pthread_mutex_destroy(&guarded), 0);
    }
    SCN_IS(scn_elsewhere(try_and_unlock, &guarded), EBUSY);
    scn_let_go(&worker);
}

/* Its ceiling is changed, for which libc locks it. */
static void new_ceiling(const struct scn_case *self)
{
    make(self->kind, &guarded);
    SCN_IN_CHILD_WHILE_HELD(lock, unlock, &guarded) {
        int before = 0;
        SCN_IS(pthread_mutex_setprioceiling(&guarded, CEILING + 1, &before), 0);
        SCN_CHECK(before == CEILING);
        scn_exclusion(lock, unlock, &guarded, 4, 500);
    }
}

/* Unlocked without having been made consistent, a robust mutex stays unusable: the program's choice. */
static void not_recovered(const struct scn_case *self)
{
    make(self->kind, &guarded);
    SCN_IN_CHILD_WHILE_HELD(lock, unlock, &guarded) {
        SCN_IS(pthread_mutex_lock(&guarded), EOWNERDEAD);
        SCN_IS(pthread_mutex_unlock(&guarded), 0);
        SCN_IS(pthread_mutex_lock(&guarded), ENOTRECOVERABLE);
    }
}

static int lock_all(void *unused)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(lock(&many[i]), 0);
    return 0;
}

static int unlock_all(void *unused)
{
    for (int i = 0; i < MANY; i++)
        SCN_IS(pthread_mutex_unlock(&many[i]), 0);
    return 0;
}

/* Many on one list, given back in another order. */
static void vanished_list(const struct scn_case *self)
{
    for (int i = 0; i < MANY; i++)
        make(self->kind, &many[i]);
    SCN_IN_CHILD_WHILE_HELD(lock_all, unlock_all, NULL) {
        for (int i = 0; i < MANY; i += 2)
            SCN_IS(pthread_mutex_lock(&many[i]), is_robust(self->kind) ? EOWNERDEAD : 0);
        for (int i = 1; i < MANY; i += 2)
            inherit_from_the_dead(self->kind, lock, &many[i]);
        for (int i = 0; i < MANY; i += 2) {
            if (is_robust(self->kind))
                SCN_IS(pthread_mutex_consistent(&many[i]), 0);
            SCN_IS(pthread_mutex_unlock(&many[i]), 0);
        }
        SCN_IS(lock_all(NULL), 0);
        SCN_IS(unlock_all(NULL), 0);
    }
}

/* Held by the forking thread: the child goes on with it as if nothing had happened. */
static void forkers(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    make(kind, &guarded);
    SCN_IS(lock(&guarded), 0);
    if (kind->type == PTHREAD_MUTEX_RECURSIVE)
        SCN_IS(lock(&guarded), 0);
    SCN_IN_CHILD {
        if (kind->type == PTHREAD_MUTEX_RECURSIVE) {
            SCN_IS(lock(&guarded), 0);
            SCN_IS(pthread_mutex_unlock(&guarded), 0);
            SCN_IS(pthread_mutex_unlock(&guarded), 0);
        } else if (kind->type == PTHREAD_MUTEX_ERRORCHECK) {
            SCN_IS(pthread_mutex_lock(&guarded), EDEADLK);
        }
        SCN_IS(scn_elsewhere(try_and_unlock, &guarded), EBUSY);
        SCN_IS(pthread_mutex_unlock(&guarded), 0);
        SCN_IS(scn_elsewhere(try_and_unlock, &guarded), 0);
        scn_exclusion(lock, unlock, &guarded, 4, 500);
        SCN_IS(pthread_mutex_destroy(&guarded), 0);
    }
    if (kind->type == PTHREAD_MUTEX_RECURSIVE)
        SCN_IS(pthread_mutex_unlock(&guarded), 0);
    SCN_IS(pthread_mutex_unlock(&guarded), 0);
}

static void *outlive(void *forker)
{
    pthread_join(*(pthread_t *)forker, NULL);
    SCN_IS(pthread_mutex_lock(&guarded), EOWNERDEAD);
    SCN_IS(pthread_mutex_consistent(&guarded), 0);
    SCN_IS(pthread_mutex_unlock(&guarded), 0);
    scn_fine();
}

/* The forking thread goes on to die with it in the child: the kernel must know that it was this thread's. */
static void forkers_end(const struct scn_case *self)
{
    must_know_robust();
    make(self->kind, &guarded);
    SCN_IS(pthread_mutex_lock(&guarded), 0);
    const pid_t child = scn_fork();
    if (child == 0) {
        static pthread_t forker;
        forker = pthread_self();
        scn_start(outlive, &forker);
        pthread_exit(NULL);
    }
    scn_reap(child);
    SCN_IS(pthread_mutex_unlock(&guarded), 0);
}

/* Several held by the forking thread, one by a vanished one. */
static void both_at_once(const struct scn_case *self)
{
    struct scn_holder worker;
    for (int i = 0; i < MANY; i++)
        make(self->kind, &many[i]);
    scn_hold(&worker, lock, unlock, &many[0], 1);
    for (int i = 1; i < MANY; i++)
        SCN_IS(lock(&many[i]), 0);
    SCN_IN_CHILD {
        inherit_from_the_dead(self->kind, lock, &many[0]);
        for (int i = 1; i < MANY; i += 2)
            SCN_IS(pthread_mutex_unlock(&many[i]), 0);
        SCN_IN_CHILD {
            for (int i = 2; i < MANY; i += 2)
                SCN_IS(pthread_mutex_unlock(&many[i]), 0);
            SCN_IS(lock_all(NULL), 0);
        }
        for (int i = 2; i < MANY; i += 2)
            SCN_IS(pthread_mutex_unlock(&many[i]), 0);
    }
    for (int i = 1; i < MANY; i++)
        SCN_IS(pthread_mutex_unlock(&many[i]), 0);
    scn_let_go(&worker);
}

/* Shared with the parent, whose thread holds it: the child waits for it and gets it when it is given back. */
static void shared_with_parent(const struct scn_case *self)
{
    pthread_mutex_t *mutex = mmap(NULL, sizeof *mutex, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct scn_holder worker;
    const int waiting = scn_bell();
    make_shared(self->kind, PTHREAD_PROCESS_SHARED, mutex);
    scn_hold(&worker, lock, unlock, mutex, 1);
    const pid_t child = scn_fork();
    if (child == 0) {
        SCN_IS(pthread_mutex_trylock(mutex), EBUSY);
        SCN_IS(timedlock(mutex), ETIMEDOUT);
        scn_ring(waiting);
        SCN_IS(pthread_mutex_lock(mutex), 0);
        SCN_IS(pthread_mutex_unlock(mutex), 0);
        scn_fine();
    }
    scn_await(waiting);
    scn_await_asleep(child, NULL);
    scn_let_go(&worker);
    scn_reap(child);
}

static pthread_mutex_t *map_mutex(pthread_mutex_t *at, int whose)
{
    pthread_mutex_t *mutex =
        mmap(at, sizeof *at, PROT_READ | PROT_WRITE, whose | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
    SCN_CHECK((void *)mutex != MAP_FAILED);
    return mutex;
}

/* Where the mutex lies a shared one lay before the fork, for which a child had asked. */
static void shared_before(const struct scn_case *self)
{
    pthread_mutex_t *const mutex = map_mutex(NULL, MAP_SHARED);
    struct scn_holder parents;
    make_shared(self->kind, PTHREAD_PROCESS_SHARED, mutex);
    scn_hold(&parents, lock, unlock, mutex, 1);
    SCN_IN_CHILD {
        struct scn_holder worker;
        SCN_IS(pthread_mutex_trylock(mutex), EBUSY);
        make(self->kind, map_mutex(mutex, MAP_PRIVATE));
        scn_hold(&worker, lock, unlock, mutex, 1);
        SCN_IN_CHILD {
            inherit_from_the_dead(self->kind, lock, mutex);
        }
        scn_let_go(&worker);
    }
    scn_let_go(&parents);
}

static int lock_once(void *mutex)
{
    const int error = pthread_mutex_lock(mutex);
    return error != 0 ? error : pthread_mutex_unlock(mutex);
}

static int lock_unseen(void *mutex)
{
    const int error = ((scn_call *)scn_libc("pthread_mutex_lock"))(mutex);
    return error != 0 ? error : ((scn_call *)scn_libc("pthread_mutex_unlock"))(mutex);
}

/* A thread's first lock returns what libc's does, also where that is EINVAL (see INSIST). */
static void first_lock(const struct scn_case *self)
{
    static pthread_mutex_t mutex;
    make(self->kind, &mutex);
    SCN_IS(scn_elsewhere(lock_once, &mutex), scn_elsewhere(lock_unseen, &mutex));
    SCN_IN_CHILD {
        SCN_IS(scn_elsewhere(lock_once, &mutex), scn_elsewhere(lock_unseen, &mutex));
    }
}

/* As any program may, one that raises its priority for a mutex needs a right that not everybody has. */
static bool can_use(const struct kind *kind)
{
    pthread_mutex_t mutex;
    make(kind, &mutex);
    if (lock(&mutex) != 0)
        return false;
    return pthread_mutex_unlock(&mutex) == 0;
}

void scn_cases(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct kind *kind = &kinds[i];
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = first_lock, .kind = kind),
                "first-lock-%s", kind->name);
        if (!can_use(kind))
            continue;
        static char says[sizeof kinds / sizeof *kinds][160];
        snprintf(says[i], sizeof says[i],
                 "^forksafe\\[\\d+\\.\\d+\\] child took over mutex 0x[0-9a-f]+ .*\\(%s\\) for .* held at fork by \\d+ "
                 "\"worker\"",
                 kind->word);
        const bool aborts = kind->protocol == PTHREAD_PRIO_INHERIT && !is_robust(kind);
        for (size_t e = 0; e < sizeof entries / sizeof *entries; e++) {
            const char *bare = entries[e].bare;
            if (aborts && entries[e].take != trylock)
                bare = "dies SIGABRT";
            scn_add(SCN_CASE(.bare = bare, .says = says[i], .run = vanished, .kind = kind, .entry = &entries[e],
                             .number = kind->type == PTHREAD_MUTEX_RECURSIVE ? 3 : 1),
                    "vanished-%s-%s", kind->name, entries[e].name);
        }
        scn_add(SCN_CASE(.bare = is_robust(kind) ? "fine" : "fails EBUSY",
                         .says = is_robust(kind) ? SCN_SILENT : says[i], .run = destroyed, .kind = kind),
                "destroyed-%s", kind->name);
        if (is_robust(kind)) {
            for (size_t e = 0; e < sizeof entries / sizeof *entries; e++)
                scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = lost, .kind = kind, .entry = &entries[e]),
                        "lost-%s-%s", kind->name, entries[e].name);
            scn_add(SCN_CASE(.bare = "hangs", .says = says[i], .run = not_recovered, .kind = kind),
                    "not-recovered-%s", kind->name);
            scn_add(SCN_CASE(.bare = "hangs", .says = says[i], .run = shared_before, .kind = kind),
                    "shared-before-%s", kind->name);
            scn_add(SCN_CASE(.bare = "hangs", .says = SCN_SILENT, .run = forkers_end, .kind = kind),
                    "forkers-end-%s", kind->name);
        }
        if (kind->protocol == PTHREAD_PRIO_PROTECT)
            scn_add(SCN_CASE(.bare = "hangs", .says = says[i], .run = new_ceiling, .kind = kind),
                    "new-ceiling-%s", kind->name);
        const bool plain = kind->type == PTHREAD_MUTEX_NORMAL;
        if (plain) {
            scn_add(SCN_CASE(.bare = aborts ? "dies SIGABRT" : "hangs", .says = says[i], .run = vanished_list,
                             .kind = kind), "vanished-list-%s", kind->name);
            scn_add(SCN_CASE(.bare = aborts ? "dies SIGABRT" : "hangs", .says = says[i], .run = both_at_once,
                             .kind = kind), "both-at-once-%s", kind->name);
        }
        /* What of the first call that minds the owner: unlock refuses, a deeper lock waits for itself. */
        const char *bare = plain && kind->protocol == PTHREAD_PRIO_PROTECT ? "fine"
                           : plain                                         ? "fails EPERM"
                           : aborts                                        ? "dies SIGABRT"
                                                                           : "hangs";
        scn_add(SCN_CASE(.bare = bare, .says = SCN_NEVER_TAKES, .run = forkers, .kind = kind),
                "forkers-%s", kind->name);
        if (kind->protocol != PTHREAD_PRIO_PROTECT)
            scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = shared_with_parent, .kind = kind),
                    "shared-with-parent-%s", kind->name);
    }
}
