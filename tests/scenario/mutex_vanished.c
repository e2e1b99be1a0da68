/* Mutexes held at fork by threads that do not exist in the child. */
#include "mutex_kind.h"

#include <link.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>

enum { APPLICATIONS_ERRNO = 4711 };

static pthread_mutex_t first, second;

static void one_holder(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    struct scn_holder worker;
    mutex_make(self->kind, &first);
    scn_hold(&worker, mutex_lock, mutex_unlock, &first, (int)self->number);
    SCN_IN_CHILD {
        errno = APPLICATIONS_ERRNO;
        SCN_IS(entry->take(&first), 0);
        SCN_CHECK(errno == APPLICATIONS_ERRNO);
        SCN_IS(pthread_mutex_unlock(&first), 0); /* once, whatever depth the vanished thread had */
        mutex_check_free(&first);
        mutex_use(mutex_lock, &first);
        SCN_IS(pthread_mutex_destroy(&first), 0);
    }
    mutex_check_held(&first); /* the parent has noticed nothing */
    scn_let_go(&worker);
    SCN_IS(pthread_mutex_destroy(&first), 0);
}

/* Exclusion right after the takeover, before the lock was ever given back. */
static void held_after_takeover(const struct scn_case *self)
{
    mutex_make(self->kind, &first);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &first) {
        SCN_IS(pthread_mutex_lock(&first), 0);
        mutex_check_held(&first);
        SCN_IS(scn_elsewhere(mutex_time_and_unlock, &first), ETIMEDOUT);
        SCN_IS(pthread_mutex_unlock(&first), 0);
        scn_exclusion(mutex_lock, mutex_unlock, &first, 4, 2000);
    }
}

static int lock_both(void *unused)
{
    const int error = pthread_mutex_lock(&first);
    return error ? error : pthread_mutex_lock(&second);
}

static int unlock_both(void *unused)
{
    const int error = pthread_mutex_unlock(&second);
    return error ? error : pthread_mutex_unlock(&first);
}

/* As in Perl's localtime: an application's lock outside, another inside; more threads queue for the outer. */
static void nested_pair(const struct scn_case *self)
{
    struct scn_holder worker;
    struct scn_waiter queue[3];
    mutex_make(self->kind, &first);
    mutex_make(self->kind, &second);
    scn_hold(&worker, lock_both, unlock_both, NULL, 1);
    for (int i = 0; i < 3; i++)
        scn_want(&queue[i], mutex_lock, mutex_unlock, &first);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_lock(&first), 0);
        SCN_IS(pthread_mutex_lock(&second), 0);
        mutex_check_held(&first);
        mutex_check_held(&second);
        SCN_IS(pthread_mutex_unlock(&second), 0);
        SCN_IS(pthread_mutex_unlock(&first), 0);
        mutex_use(mutex_lock, &first);
        mutex_use(mutex_lock, &second);
    }
    scn_let_go(&worker);
    for (int i = 0; i < 3; i++)
        scn_join(queue[i].thread);
}

static void two_holders(const struct scn_case *self)
{
    struct scn_holder worker, other;
    mutex_make(self->kind, &first);
    mutex_make(self->kind, &second);
    scn_hold(&worker, mutex_lock, mutex_unlock, &first, 1);
    scn_hold(&other, mutex_lock, mutex_unlock, &second, 1);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &second);
        mutex_use(mutex_lock, &first);
    }
    scn_let_go(&worker);
    scn_let_go(&other);
}

static void *fork_from_thread(void *unused)
{
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &first);
    }
    return NULL;
}

/* The thread that vanishes is the main one. */
static void main_holds(const struct scn_case *self)
{
    mutex_make(self->kind, &first);
    SCN_IS(pthread_mutex_lock(&first), 0);
    scn_join(scn_start(fork_from_thread, NULL));
    SCN_IS(pthread_mutex_unlock(&first), 0);
}

static int lock_and_exit(void *mutex)
{
    return pthread_mutex_lock(mutex);
}

/* Its holder ended before the fork without unlocking: lost in the parent too, but the child need not wait for it. */
static void holder_exited(const struct scn_case *self)
{
    mutex_make(self->kind, &first);
    SCN_IS(scn_elsewhere(lock_and_exit, &first), 0);
    SCN_IN_CHILD {
        mutex_use(mutex_lock, &first);
    }
    mutex_check_held(&first);
}

/* It stays so for who only tries, as in the parent. */
static void tries_of_exited(const struct scn_case *self)
{
    mutex_make(self->kind, &first);
    SCN_IS(scn_elsewhere(lock_and_exit, &first), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_trylock(&first), EBUSY);
        SCN_IS(scn_elsewhere(mutex_try_and_unlock, &first), EBUSY);
    }
    mutex_check_held(&first);
}

/* The child has no use for it, or for another kind in its place. */
static void destroyed(const struct scn_case *self)
{
    const struct mutex_kind *kind = self->kind;
    struct scn_holder worker;
    mutex_make(kind, &first);
    scn_hold(&worker, mutex_lock, mutex_unlock, &first, 1);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_destroy(&first), 0);
        mutex_make(&mutex_kinds[(kind - mutex_kinds + 3) % MUTEX_KINDS], &first);
        mutex_use(mutex_lock, &first);
        scn_exclusion(mutex_lock, mutex_unlock, &first, 4, 1000);
        SCN_IS(pthread_mutex_destroy(&first), 0);
    }
    mutex_check_held(&first);
    scn_let_go(&worker);
    SCN_IS(pthread_mutex_destroy(&first), 0);
}

#if defined(__x86_64__) && defined(__GLIBC__)
/* The names of long ago, as a program that was linked then refers to them. */
int old_lock(pthread_mutex_t *);
int old_trylock(pthread_mutex_t *);
int old_unlock(pthread_mutex_t *);
int old_destroy(pthread_mutex_t *);
__asm__(".symver old_lock, __pthread_mutex_lock@GLIBC_2.2.5");
__asm__(".symver old_trylock, __pthread_mutex_trylock@GLIBC_2.2.5");
__asm__(".symver old_unlock, __pthread_mutex_unlock@GLIBC_2.2.5");
__asm__(".symver old_destroy, __pthread_mutex_destroy@GLIBC_2.2.5");

static int call_old_lock(void *mutex)
{
    return old_lock(mutex);
}

static int call_old_trylock(void *mutex)
{
    return old_trylock(mutex);
}

static int call_old_unlock(void *mutex)
{
    return old_unlock(mutex);
}

static const struct scn_entry old_entries[] = {
    {"lock", call_old_lock, "hangs"},
    {"trylock", call_old_trylock, "fails EBUSY"},
};

static void old_names(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    mutex_make(self->kind, &first);
    SCN_IN_CHILD_WHILE_HELD(call_old_lock, call_old_unlock, &first) {
        SCN_IS(entry->take(&first), 0);
        SCN_IS(old_unlock(&first), 0);
        SCN_IS(old_destroy(&first), 0);
    }
}
#endif

/* Forks fall between any two instructions of lock and unlock: the bytes are torn (locked, owner not yet written). */
static void hammered(const struct scn_case *self)
{
    struct scn_hammer hammer;
    mutex_make(self->kind, &first);
    scn_hammer_start(&hammer, mutex_lock, mutex_unlock, &first, 4);
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            SCN_IS(pthread_mutex_lock(&first), 0);
            SCN_IS(pthread_mutex_unlock(&first), 0);
            mutex_use(mutex_lock, &first);
            SCN_IS(pthread_mutex_destroy(&first), 0);
        }
    }
    scn_hammer_stop(&hammer);
    SCN_IS(pthread_mutex_destroy(&first), 0);
}

static int take_in_callback(struct dl_phdr_info *info, size_t bytes, void *lock)
{
    (void)info, (void)bytes;
    mutex_use(mutex_lock, lock);
    return 1;
}

/* The library's dl_iterate_phdr() lies between the functions of the program's that want the lock, or took it. */
static void from_callback(const struct scn_case *self)
{
    mutex_make(self->kind, &first);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &first) {
        SCN_CHECK(dl_iterate_phdr(take_in_callback, &first) == 1);
    }
}

/* The child asks in a signal handler on a stack with little more room than the kernel demands. */
static pthread_mutex_t *wanted;

static void lock_in_handler(int signal)
{
    SCN_IS(pthread_mutex_lock(wanted), 0);
}

static void small_stack(const struct scn_case *self)
{
    enum { GUARD = 1 << 16, ROOM = 6500, LEAST = 6000 };
    const size_t least = getauxval(51 /* AT_MINSIGSTKSZ */), room = (least != 0 ? least : LEAST) + ROOM;
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    char *guarded = mmap(NULL, 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(guarded != MAP_FAILED && mprotect(guarded + GUARD, GUARD, PROT_READ | PROT_WRITE) == 0);
    wanted = &mutex;
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &mutex) {
        const stack_t stack = {.ss_sp = guarded + GUARD, .ss_size = room};
        const struct sigaction action = {.sa_handler = lock_in_handler, .sa_flags = SA_ONSTACK};
        SCN_CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0);
    }
    scn_fine();
}

void scn_cases(void)
{
    for (int i = 0; i < MUTEX_KINDS; i++) {
        const struct mutex_kind *kind = &mutex_kinds[i];
        const char *line = mutex_line(kind);
        for (int j = 0; j < MUTEX_ENTRIES; j++) {
            const struct scn_entry *entry = &mutex_entries[j];
            scn_add(SCN_CASE(.bare = entry->bare, .says = line, .run = one_holder, .kind = kind, .entry = entry,
                             .number = 1), "%s-%s", entry->name, kind->name);
            if (kind->type == PTHREAD_MUTEX_RECURSIVE)
                scn_add(SCN_CASE(.bare = entry->bare, .says = line, .run = one_holder, .kind = kind, .entry = entry,
                                 .number = 3), "%s-%s-depth-3", entry->name, kind->name);
        }
        /* musl destroys what anybody holds. */
        scn_add(SCN_CASE(.bare = LIBC_HAS_ADAPTIVE ? "fails EBUSY" : "fine", .says = line, .run = destroyed,
                         .kind = kind), "destroyed-%s", kind->name);
        /* No line demanded: a library that led the threads out before the fork has nothing to tell. */
        scn_add(SCN_CASE(.bare = "hangs", .run = hammered, .kind = kind), "hammered-%s", kind->name);
        if (!mutex_is_plain(kind))
            continue;
#if defined(__x86_64__) && defined(__GLIBC__)
        for (size_t j = 0; j < sizeof old_entries / sizeof *old_entries; j++)
            scn_add(SCN_CASE(.bare = old_entries[j].bare, .says = line, .run = old_names, .kind = kind,
                             .entry = &old_entries[j]), "old-name-%s-%s", old_entries[j].name, kind->name);
#endif
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = held_after_takeover, .kind = kind),
                "held-after-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = nested_pair, .kind = kind),
                "nested-pair-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = line, .run = two_holders, .kind = kind),
                "two-holders-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = main_holds, .kind = kind),
                "main-holds-%s", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = holder_exited, .kind = kind),
                "holder-exited-%s", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = tries_of_exited, .kind = kind),
                "tries-of-exited-%s", kind->name);
    }
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN " ;; never:from .*libforksafe", .run = from_callback,
                     .env = "FORKSAFE_FRAMES=16", .kind = &mutex_kinds[0]), "from-callback");
    scn_add(SCN_CASE(.bare = "hangs", .says = MUTEX_TAKEN, .run = small_stack), "small-stack");
}
