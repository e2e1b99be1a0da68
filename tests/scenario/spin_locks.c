/* Spin locks: held by threads that do not exist in the child, and traps around them. */
#include "spin_kind.h"

#include <sys/mman.h>

static pthread_spinlock_t spin;
static void *const lock = (void *)(uintptr_t)&spin;

static void make(void)
{
    SCN_IS(pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE), 0);
}

static void vanished(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    struct scn_holder worker;
    make();
    scn_hold(&worker, spin_lock, spin_unlock, lock, 1);
    SCN_IN_CHILD {
        errno = 4711;
        SCN_IS(entry->take(lock), 0);
        SCN_CHECK(errno == 4711);
        SCN_IS(pthread_spin_unlock(&spin), 0);
        spin_use(entry->take, &spin);
    }
    spin_check_held(&spin);
    scn_let_go(&worker);
    spin_use(spin_lock, &spin);
}

/* Threads come first, then four of them ask at once; `number`: in a grandchild, without the child's threads. */
static void threads_first(const struct scn_case *self)
{
    make();
    SCN_IN_CHILD_WHILE_HELD(spin_lock, spin_unlock, lock) {
        int leave = scn_bell();
        const pthread_t sleeper = scn_start(scn_stay, &leave);
        const pid_t grandchild = self->number ? scn_fork() : 0;
        if (grandchild == 0) {
            scn_exclusion(spin_lock, spin_unlock, lock, 4, 2000);
            spin_use(spin_lock, &spin);
            scn_fine();
        }
        scn_reap(grandchild);
        spin_use(spin_lock, &spin);
        scn_ring(leave);
        scn_join(sleeper);
    }
}

static void hammered(const struct scn_case *self)
{
    struct scn_hammer hammer;
    make();
    scn_hammer_start(&hammer, spin_lock, spin_unlock, lock, 2);
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            if (i % 2) {
                SCN_IS(spin_lock(lock), 0);
                SCN_IS(spin_unlock(lock), 0);
            }
            scn_exclusion(spin_lock, spin_unlock, lock, 3, 20);
            spin_check_free(&spin);
        }
    }
    scn_hammer_stop(&hammer);
}

/* The forking thread's own: libc needs no help, and nobody else gets it. */
static void forkers(const struct scn_case *self)
{
    make();
    SCN_IS(pthread_spin_lock(&spin), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_spin_trylock(&spin), EBUSY);
        spin_check_held(&spin);
        SCN_IS(pthread_spin_unlock(&spin), 0);
        spin_use(spin_lock, &spin);
    }
    spin_check_held(&spin);
    SCN_IS(pthread_spin_unlock(&spin), 0);
}

/* A living thread of the child has it: the dead one's record must not speak for it. `number`: made anew by a store. */
static void made_anew(const struct scn_case *self)
{
    struct scn_holder worker, alive;
    pthread_spinlock_t fresh;
    SCN_IS(pthread_spin_init(&fresh, PTHREAD_PROCESS_PRIVATE), 0);
    make();
    scn_hold(&worker, spin_lock, spin_unlock, lock, 1);
    SCN_IN_CHILD {
        if (self->number)
            spin = fresh;
        else
            make();
        scn_hold(&alive, spin_lock, spin_unlock, lock, 1);
        for (int i = 0; i < 100; i++)
            SCN_IS(pthread_spin_trylock(&spin), EBUSY);
        spin_check_held(&spin);
        scn_let_go(&alive);
        scn_exclusion(spin_lock, spin_unlock, lock, 4, 5000);
    }
    scn_let_go(&worker);
}

/* The forking thread's own, made anew by the child as many handlers do: a thread of that child has it at its fork. */
static void made_anew_by_owner(const struct scn_case *self)
{
    make();
    SCN_IS(pthread_spin_lock(&spin), 0);
    SCN_IN_CHILD {
        make();
        SCN_IN_CHILD_WHILE_HELD(spin_lock, spin_unlock, lock) {
            spin_use(spin_lock, &spin);
        }
    }
    SCN_IS(pthread_spin_unlock(&spin), 0);
}

/* Released by another thread than took it: nobody has it any more. */
static void handed_over(const struct scn_case *self)
{
    struct scn_holder worker;
    make();
    scn_hold(&worker, spin_lock, spin_trylock, lock, 1);
    SCN_IS(pthread_spin_unlock(&spin), 0);
    SCN_IS(((scn_call *)scn_libc("pthread_spin_lock"))(lock), 0); /* out of sight, by the forking thread */
    SCN_IN_CHILD {
        SCN_IS(pthread_spin_trylock(&spin), EBUSY);
        spin_check_held(&spin);
        SCN_IS(pthread_spin_unlock(&spin), 0);
        spin_use(spin_lock, &spin);
    }
    SCN_IS(pthread_spin_unlock(&spin), 0);
    scn_let_go(&worker);
}

/* In memory shared with the parent, whose thread has it. */
static void shared(const struct scn_case *self)
{
    struct scn_holder worker;
    pthread_spinlock_t *const common =
        mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK((void *)(uintptr_t)common != MAP_FAILED);
    void *const raw = (void *)(uintptr_t)common;
    SCN_IS(pthread_spin_init(common, (int)self->number), 0);
    scn_hold(&worker, spin_lock, spin_unlock, raw, 1);
    const int tried = scn_bell();
    const pid_t child = scn_fork();
    if (child == 0) {
        SCN_IS(pthread_spin_trylock(common), EBUSY);
        spin_check_held(common);
        scn_ring(tried);
        SCN_IS(pthread_spin_lock(common), 0);
        SCN_IS(pthread_spin_unlock(common), 0);
        scn_fine();
    }
    scn_await(tried);
    SCN_IS(pthread_spin_trylock(common), EBUSY);
    scn_let_go(&worker);
    scn_reap(child);
    spin_use(spin_lock, common);
}

static void no_hazard(const struct scn_case *self)
{
    make();
    spin_use(spin_lock, &spin);
    SCN_IN_CHILD {
        spin_use(spin_trylock, &spin);
        SCN_IS(pthread_spin_destroy(&spin), 0);
    }
    spin_use(spin_lock, &spin);
}

#define TOLD "spin lock 0x[0-9a-f]+ .* held at fork by \\d+ \"worker\""

void scn_cases(void)
{
    for (int j = 0; j < SPIN_ENTRIES; j++)
        scn_add(SCN_CASE(.bare = spin_entries[j].bare, .says = "once:" SPIN_FROM_WORKER, .run = vanished,
                         .entry = &spin_entries[j]), "vanished-%s", spin_entries[j].name);
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_MODE=report",
                     .says = TOLD " ;; " SCN_NEVER_TAKES, .run = vanished, .entry = &spin_entries[0]), "report");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .env = "FORKSAFE_MODE=abort",
                     .says = TOLD " ;; " SCN_NEVER_TAKES, .run = vanished, .entry = &spin_entries[0]), "abort");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_MODE=off", .says = SCN_SILENT,
                     .run = vanished, .entry = &spin_entries[0]), "off");
    scn_add(SCN_CASE(.bare = "hangs", .says = SPIN_TAKEN, .run = threads_first), "threads-first");
    scn_add(SCN_CASE(.bare = "hangs", .says = SPIN_TAKEN, .run = threads_first, .number = 1), "grandchild");
    scn_add(SCN_CASE(.bare = "hangs", .run = hammered), "hammered");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = forkers), "forkers");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = made_anew), "made-anew");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = made_anew, .number = 1), "made-anew-unseen");
    scn_add(SCN_CASE(.bare = "hangs", .says = SPIN_TAKEN, .run = made_anew_by_owner), "made-anew-by-owner");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = handed_over), "handed-over");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = shared, .number = PTHREAD_PROCESS_SHARED), "shared");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_NEVER_TAKES, .run = shared, .number = PTHREAD_PROCESS_PRIVATE),
            "shared-memory");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = no_hazard), "no-hazard");
}
