/* Correct programs with rwlocks that a careless repair breaks: they work bare and must work the same, without a word.
 * Beside them what else there is to rwlocks: many holds, old names, the modes. */
#include "rwlock_kind.h"

enum { APPLICATIONS_ERRNO = 4711 };

static pthread_rwlock_t lock;

static scn_call *taken_by(const struct scn_case *self)
{
    return self->number % 2 ? rwlock_wrlock : rwlock_rdlock;
}

/* The child makes the dead one's lock anew, by a call or by a store that nobody can see; then living threads of it
 * hold it, seen or unseen by us. */
static void made_anew(const struct scn_case *self, bool seen, bool unseen_holder)
{
    const struct rwlock_kind *kind = self->kind;
    struct scn_holder worker, alive;
    scn_call *const take = unseen_holder
        ? (scn_call *)scn_libc(self->number % 2 ? "pthread_rwlock_wrlock" : "pthread_rwlock_rdlock") : taken_by(self);
    scn_call *const give = unseen_holder ? (scn_call *)scn_libc("pthread_rwlock_unlock") : rwlock_unlock;
    rwlock_make(kind, &lock);
    scn_hold(&worker, taken_by(self), rwlock_unlock, &lock, 1);
    SCN_IN_CHILD {
        const pthread_rwlock_t fresh = PTHREAD_RWLOCK_INITIALIZER;
        int leave = scn_bell();
        pthread_t sleeper = 0;
        if (self->number >= 2)
            sleeper = scn_start(scn_stay, &leave);
        if (seen)
            rwlock_make(kind, &lock);
        else
            lock = fresh;
        for (int round = 0; round < 3; round++) {
            scn_hold(&alive, take, give, &lock, 1);
            for (int i = 0; i < 20; i++)
                SCN_IS(pthread_rwlock_trywrlock(&lock), EBUSY);
            SCN_IS(rwlock_timedwrlock(&lock), ETIMEDOUT);
            SCN_IS(scn_elsewhere(rwlock_time_write, &lock), ETIMEDOUT);
            scn_let_go(&alive);
        }
        scn_exclusion(rwlock_wrlock, rwlock_unlock, &lock, 4, 3000);
        rwlock_use_in_threads(&lock);
        if (self->number >= 2) {
            scn_ring(leave);
            scn_join(sleeper);
        }
    }
    scn_let_go(&worker);
}

static void made_anew_seen(const struct scn_case *self)
{
    made_anew(self, true, false);
}

static void made_anew_unseen(const struct scn_case *self)
{
    made_anew(self, false, false);
}

static void made_anew_unseen_holder(const struct scn_case *self)
{
    made_anew(self, true, true);
}

/* A thread takes it in our sight and gives it back out of it; the forking thread has it at fork, out of our sight. */
struct stale {
    scn_call *take;
    int ready, leave;
};

static void *stale_body(void *raw)
{
    struct stale *stale = raw;
    SCN_IS(stale->take(&lock), 0);
    SCN_IS(((scn_call *)scn_libc("pthread_rwlock_unlock"))(&lock), 0);
    scn_ring(stale->ready);
    scn_await(stale->leave);
    return NULL;
}

static void unseen_unlock(const struct scn_case *self)
{
    struct stale stale = {taken_by(self), scn_bell(), scn_bell()};
    rwlock_make(self->kind, &lock);
    const pthread_t thread = scn_start(stale_body, &stale);
    scn_await(stale.ready);
    SCN_IS(pthread_rwlock_rdlock(&lock), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_rwlock_trywrlock(&lock), EBUSY);
        rwlock_check_read(&lock);
        SCN_IS(pthread_rwlock_trywrlock(&lock), EBUSY);
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
        rwlock_use(&lock);
        rwlock_use_in_threads(&lock);
    }
    SCN_IS(pthread_rwlock_unlock(&lock), 0);
    rwlock_use(&lock);
    scn_ring(stale.leave);
    scn_join(thread);
}

static int unlock_elsewhere(void *rwlock)
{
    return pthread_rwlock_unlock(rwlock);
}

/* Read by one thread, given back by another, over and over; then the forking thread alone reads. */
static void handed_over(const struct scn_case *self)
{
    rwlock_make(self->kind, &lock);
    for (int i = 0; i < 200; i++) {
        SCN_IS(pthread_rwlock_rdlock(&lock), 0);
        SCN_IS(scn_elsewhere(unlock_elsewhere, &lock), 0);
    }
    SCN_IS(scn_elsewhere(rwlock_rdlock, &lock), 0); /* its thread ends */
    SCN_IN_CHILD {
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
        rwlock_use(&lock);
        rwlock_use_in_threads(&lock);
    }
    SCN_IS(pthread_rwlock_unlock(&lock), 0);
    rwlock_use_in_threads(&lock);
}

/* What each call answers, and that none of them touches errno. */
static void check_contract(void)
{
    const struct timespec bad = {0, 2000000000}, past = {1, 0};
    errno = APPLICATIONS_ERRNO;
    for (int i = 0; i < RWLOCK_ENTRIES; i++) {
        const bool writes = i < RWLOCK_WRITES;
        SCN_IS(rwlock_entries[i].take(&lock), 0);
        SCN_IS(pthread_rwlock_trywrlock(&lock), EBUSY);
        SCN_IS(pthread_rwlock_timedwrlock(&lock, &bad), EINVAL);
        SCN_IS(pthread_rwlock_timedwrlock(&lock, &past), writes ? EDEADLK : ETIMEDOUT);
        if (writes) {
            SCN_IS(pthread_rwlock_wrlock(&lock), EDEADLK);
            SCN_IS(pthread_rwlock_rdlock(&lock), EDEADLK);
            rwlock_check_written(&lock);
        } else {
            rwlock_check_read(&lock);
        }
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
        SCN_IS(pthread_rwlock_timedrdlock(&lock, &bad), EINVAL);
        SCN_IS(pthread_rwlock_clockwrlock(&lock, CLOCK_PROCESS_CPUTIME_ID, &past), LIBC_OTHER_CLOCK);
        SCN_IS(pthread_rwlock_timedrdlock(&lock, &past), 0);
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
    }
    rwlock_check_free(&lock);
    SCN_CHECK(errno == APPLICATIONS_ERRNO);
}

static void contract(const struct scn_case *self)
{
    rwlock_make(self->kind, &lock);
    check_contract();
    SCN_IN_CHILD {
        check_contract();
        SCN_IN_CHILD {
            check_contract();
        }
    }
    check_contract();
}

/* Many holds at once, of many locks and of one. */
static void many_holds(const struct scn_case *self)
{
    enum { LOCKS = 300, DEPTH = 300 };
    static pthread_rwlock_t many[LOCKS];
    struct scn_holder worker[LOCKS / 100];
    for (int i = 0; i < LOCKS; i++) {
        rwlock_make(self->kind, &many[i]);
        SCN_IS(i % 2 ? pthread_rwlock_wrlock(&many[i]) : pthread_rwlock_rdlock(&many[i]), 0);
    }
    rwlock_make(self->kind, &lock);
    for (int i = 0; i < DEPTH; i++)
        SCN_IS(pthread_rwlock_rdlock(&lock), 0);
    for (int i = 0; i < LOCKS / 100; i++)
        scn_hold(&worker[i], rwlock_rdlock, rwlock_unlock, &lock, 100);
    SCN_IN_CHILD {
        for (int i = 0; i < DEPTH; i++) {
            SCN_IS(pthread_rwlock_trywrlock(&lock), EBUSY);
            SCN_IS(pthread_rwlock_unlock(&lock), 0);
        }
        rwlock_use(&lock);
        for (int i = 0; i < LOCKS; i++) {
            SCN_IS(pthread_rwlock_unlock(&many[i]), 0);
            rwlock_use(&many[i]);
        }
        rwlock_use_in_threads(&lock);
    }
    for (int i = 0; i < LOCKS / 100; i++)
        scn_let_go(&worker[i]);
}

#ifdef __x86_64__
/* The names of long ago, as a program that was linked then refers to them. */
int old_rdlock(pthread_rwlock_t *);
int old_wrlock(pthread_rwlock_t *);
int old_unlock(pthread_rwlock_t *);
__asm__(".symver old_rdlock, __pthread_rwlock_rdlock@GLIBC_2.2.5");
__asm__(".symver old_wrlock, __pthread_rwlock_wrlock@GLIBC_2.2.5");
__asm__(".symver old_unlock, __pthread_rwlock_unlock@GLIBC_2.2.5");

static int call_old_rdlock(void *rwlock)
{
    return old_rdlock(rwlock);
}

static int call_old_unlock(void *rwlock)
{
    return old_unlock(rwlock);
}

static void old_names(const struct scn_case *self)
{
    rwlock_make(self->kind, &lock);
    SCN_IN_CHILD_WHILE_HELD(call_old_rdlock, call_old_unlock, &lock) {
        SCN_IS(old_wrlock(&lock), 0);
        SCN_IS(old_unlock(&lock), 0);
        rwlock_use_in_threads(&lock);
    }
}
#endif

static void mode(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    rwlock_make(self->kind, &lock);
    SCN_IN_CHILD_WHILE_HELD(taken_by(self), rwlock_unlock, &lock) {
        SCN_IS(entry->take(&lock), 0);
    }
}

#define TOLD "rwlock 0x[0-9a-f]+ .*\\(prefer reader, held for .*\\) for .* held at fork by \\d+ \"worker\""

void scn_cases(void)
{
    static const struct scn_row rows[] = {
        {"anew-read", made_anew_seen, 0, SCN_SILENT, "fine"},
        {"anew-written", made_anew_seen, 1, SCN_SILENT, "fine"},
        {"anew-threads-read", made_anew_seen, 2, SCN_SILENT, "fine"},
        {"anew-threads-written", made_anew_seen, 3, SCN_SILENT, "fine"},
        {"anew-unseen-read", made_anew_unseen, 0, SCN_SILENT, "fine"},
        {"anew-unseen-written", made_anew_unseen, 1, SCN_SILENT, "fine"},
        {"anew-unseen-threads-read", made_anew_unseen, 2, SCN_SILENT, "fine"},
        {"anew-unseen-threads-written", made_anew_unseen, 3, SCN_SILENT, "fine"},
        {"anew-unseen-holder-read", made_anew_unseen_holder, 2, SCN_SILENT, "fine"},
        {"anew-unseen-holder-written", made_anew_unseen_holder, 3, SCN_SILENT, "fine"},
        {"unseen-unlock-read", unseen_unlock, 0, SCN_SILENT, "fine"},
        {"unseen-unlock-written", unseen_unlock, 1, SCN_SILENT, "fine"},
        {"handed-over", handed_over, 0, SCN_SILENT, "fine"},
        {"contract", contract, 0, SCN_SILENT, "fine"},
        {"many-holds", many_holds, 0, RWLOCK_TAKEN, "hangs"},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    for (int i = 0; i < RWLOCK_KINDS; i++)
        if (rwlock_is_plain(&rwlock_kinds[i])) /* the third kind lets no reader past a waiting writer: not many-holds */
            scn_add_rows(rows, i < 3 ? ROWS : ROWS - 1, (struct scn_case){.kind = &rwlock_kinds[i]},
                         rwlock_kinds[i].name);
#ifdef __x86_64__
    scn_add(SCN_CASE(.bare = "hangs", .says = RWLOCK_FROM_WORKER, .run = old_names, .kind = &rwlock_kinds[0]),
            "old-names");
#endif
    static const struct {
        const char *name, *env, *preloaded, *says;
    } modes[] = {
        {"report", "FORKSAFE_MODE=report", "hangs", TOLD " ;; " SCN_NEVER_TAKES},
        {"abort", "FORKSAFE_MODE=abort", "dies SIGABRT", TOLD " ;; " SCN_NEVER_TAKES},
        {"off", "FORKSAFE_MODE=off", "hangs", SCN_SILENT},
    };
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++)
        for (int writes = 0; writes < 2; writes++)
            scn_add(SCN_CASE(.bare = "hangs", .preloaded = modes[m].preloaded, .says = modes[m].says,
                             .env = modes[m].env, .run = mode, .kind = &rwlock_kinds[0], .entry = &rwlock_entries[0],
                             .number = writes), "%s-%s", modes[m].name, writes ? "written" : "read");
}
