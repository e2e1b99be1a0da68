/* Rwlocks that threads held, or waited for, which do not exist in the child. */
#include "rwlock_kind.h"

enum { APPLICATIONS_ERRNO = 4711, MOST_HOLDERS = 5 };

static pthread_rwlock_t lock, other;

/* The child's own hold, whatever for, then ordinary use, first alone, then with threads. */
static void check_taken(const struct scn_entry *entry)
{
    errno = APPLICATIONS_ERRNO;
    SCN_IS(entry->take(&lock), 0);
    SCN_CHECK(errno == APPLICATIONS_ERRNO);
    SCN_IS(pthread_rwlock_unlock(&lock), 0);
    rwlock_use(&lock);
    rwlock_use_in_threads(&lock);
    SCN_IS(pthread_rwlock_destroy(&lock), 0);
}

static void written(const struct scn_case *self)
{
    struct scn_holder worker;
    rwlock_make(self->kind, &lock);
    scn_hold(&worker, rwlock_wrlock, rwlock_unlock, &lock, 1);
    SCN_IN_CHILD {
        check_taken(self->entry);
    }
    rwlock_check_written(&lock); /* the parent has noticed nothing */
    scn_let_go(&worker);
    rwlock_use_in_threads(&lock);
}

/* `number` vanished threads read, the first of them twice. */
static void read_by(const struct scn_case *self)
{
    struct scn_holder worker[MOST_HOLDERS];
    rwlock_make(self->kind, &lock);
    for (int i = 0; i < self->number; i++)
        scn_hold(&worker[i], rwlock_rdlock, rwlock_unlock, &lock, i == 0 ? 2 : 1);
    SCN_IN_CHILD {
        check_taken(self->entry);
    }
    rwlock_check_read(&lock);
    for (int i = 0; i < self->number; i++)
        scn_let_go(&worker[i]);
    rwlock_use_in_threads(&lock);
}

/* The forking thread reads `number` times, too: its holds stay, and a writer waits for them. */
static void read_by_both(const struct scn_case *self)
{
    struct scn_holder worker[2];
    rwlock_make(self->kind, &lock);
    scn_hold(&worker[0], rwlock_rdlock, rwlock_unlock, &lock, 1);
    for (int i = 0; i < self->number; i++)
        SCN_IS(pthread_rwlock_rdlock(&lock), 0);
    scn_hold(&worker[1], rwlock_rdlock, rwlock_unlock, &lock, 1);
    SCN_IN_CHILD {
        if (self->entry) /* asked for while it is held: the dead leave, the own holds do not */
            SCN_IS(pthread_rwlock_trywrlock(&lock), EBUSY);
        for (long i = self->number; i > 0; i--) {
            rwlock_check_read(&lock);
            SCN_IS(pthread_rwlock_unlock(&lock), 0);
        }
        rwlock_check_free(&lock);
        rwlock_use(&lock);
        rwlock_use_in_threads(&lock);
    }
    for (int i = 0; i < self->number; i++)
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
    rwlock_check_read(&lock);
    scn_let_go(&worker[0]);
    scn_let_go(&worker[1]);
    rwlock_use_in_threads(&lock);
}

/* A vanished writer waits for a vanished reader and, in the kind that cares, keeps the child's readers out. */
static void waiting_writer(const struct scn_case *self)
{
    struct scn_holder worker;
    struct scn_waiter writer;
    rwlock_make(self->kind, &lock);
    scn_hold(&worker, rwlock_rdlock, rwlock_unlock, &lock, 1);
    scn_want(&writer, rwlock_wrlock, rwlock_unlock, &lock);
    SCN_IN_CHILD {
        check_taken(self->entry);
    }
    scn_let_go(&worker);
    scn_join(writer.thread);
}

/* The same, but the reader that they wait for is the forking thread: its unlock must not hand the lock to the dead. */
static void waiting_for_forker(const struct scn_case *self)
{
    struct scn_waiter writer[2];
    rwlock_make(self->kind, &lock);
    SCN_IS(pthread_rwlock_rdlock(&lock), 0);
    scn_want(&writer[0], rwlock_wrlock, rwlock_unlock, &lock);
    scn_want(&writer[1], rwlock_wrlock, rwlock_unlock, &lock);
    SCN_IN_CHILD {
        if (self->number)
            rwlock_check_read(&lock); /* by other threads, while the own hold lasts */
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
        if (self->number)
            rwlock_check_free(&lock);
        rwlock_use(&lock);
        rwlock_use_in_threads(&lock);
    }
    SCN_IS(pthread_rwlock_unlock(&lock), 0);
    scn_join(writer[0].thread);
    scn_join(writer[1].thread);
    rwlock_use_in_threads(&lock);
}

/* A vanished writer, behind which readers and writers queued. */
static void queue_behind_writer(const struct scn_case *self)
{
    struct scn_holder worker;
    struct scn_waiter queue[4];
    rwlock_make(self->kind, &lock);
    scn_hold(&worker, rwlock_wrlock, rwlock_unlock, &lock, 1);
    for (int i = 0; i < 4; i++)
        scn_want(&queue[i], i % 2 ? rwlock_wrlock : rwlock_rdlock, rwlock_unlock, &lock);
    SCN_IN_CHILD {
        check_taken(self->entry);
    }
    scn_let_go(&worker);
    for (int i = 0; i < 4; i++)
        scn_join(queue[i].thread);
}

/* One is the dead's, another the forking thread's own. */
static void beside_own(const struct scn_case *self)
{
    rwlock_make(self->kind, &lock);
    rwlock_make(self->kind, &other);
    SCN_IS(pthread_rwlock_wrlock(&other), 0);
    SCN_IN_CHILD_WHILE_HELD(rwlock_rdlock, rwlock_unlock, &lock) {
        SCN_IS(pthread_rwlock_wrlock(&lock), 0);
        rwlock_check_written(&lock);
        rwlock_check_written(&other);
        SCN_IS(pthread_rwlock_unlock(&other), 0);
        SCN_IS(pthread_rwlock_unlock(&lock), 0);
        rwlock_use_in_threads(&lock);
        rwlock_use_in_threads(&other);
    }
    SCN_IS(pthread_rwlock_unlock(&other), 0);
}

static int lock_both_ways(void *rwlock)
{
    static _Thread_local unsigned turn;
    return turn++ % 2 ? pthread_rwlock_rdlock(rwlock) : pthread_rwlock_wrlock(rwlock);
}

/* Forks fall between any two instructions of lock and unlock. The child goes on alone, or with threads first. */
static void hammered(const struct scn_case *self)
{
    struct scn_hammer hammer;
    rwlock_make(self->kind, &lock);
    scn_hammer_start(&hammer, lock_both_ways, rwlock_unlock, &lock, 4);
    for (int i = scn_often(100); i > 0; i--) {
        SCN_IN_CHILD {
            if (i % 2)
                rwlock_use(&lock);
            scn_exclusion(rwlock_wrlock, rwlock_unlock, &lock, 3, 20);
            scn_exclusion(lock_both_ways, rwlock_unlock, &lock, 1, 20);
            rwlock_check_free(&lock);
            SCN_IS(pthread_rwlock_rdlock(&lock), 0);
            SCN_IS(scn_elsewhere(rwlock_try_write, &lock), EBUSY);
            SCN_IS(pthread_rwlock_unlock(&lock), 0);
            rwlock_use(&lock);
        }
    }
    scn_hammer_stop(&hammer);
}

void scn_cases(void)
{
    for (int i = 0; i < RWLOCK_KINDS; i++) {
        const struct rwlock_kind *kind = &rwlock_kinds[i];
        for (int j = 0; j < RWLOCK_ENTRIES; j++) {
            const struct scn_entry *entry = &rwlock_entries[j];
            scn_add(SCN_CASE(.bare = entry->bare, .says = "once:" RWLOCK_FROM_WORKER, .run = written, .kind = kind,
                             .entry = entry), "written-%s-%s", entry->name, kind->name);
            if (j < RWLOCK_WRITES)
                for (int count = 1; count <= MOST_HOLDERS; count += MOST_HOLDERS - 1)
                    scn_add(SCN_CASE(.bare = entry->bare, .says = "once:" RWLOCK_FROM_WORKER, .run = read_by,
                                     .kind = kind, .entry = entry, .number = count),
                            "read-by-%d-%s-%s", count, entry->name, kind->name);
        }
        scn_add(SCN_CASE(.bare = "hangs", .run = hammered, .kind = kind), "hammered-%s", kind->name);
        for (int own = 1; own <= 2; own++) {
            scn_add(SCN_CASE(.bare = "fails EBUSY", .says = RWLOCK_FROM_WORKER, .run = read_by_both, .kind = kind,
                             .number = own), "beside-own-reads-%d-%s", own, kind->name);
            scn_add(SCN_CASE(.bare = "fails EBUSY", .says = RWLOCK_FROM_WORKER, .run = read_by_both, .kind = kind,
                             .entry = &rwlock_entries[1], .number = own),
                    "beside-own-reads-%d-asked-%s", own, kind->name);
        }
        if (!rwlock_is_plain(kind))
            continue;
        const bool blocks_readers = kind->preference == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
        scn_add(SCN_CASE(.bare = "hangs", .says = RWLOCK_TAKEN, .run = waiting_writer, .kind = kind,
                         .entry = &rwlock_entries[0]), "waiting-writer-wrlock-%s", kind->name);
        if (blocks_readers)
            for (int j = RWLOCK_WRITES; j < RWLOCK_ENTRIES; j++)
                scn_add(SCN_CASE(.bare = rwlock_entries[j].bare, .says = RWLOCK_TAKEN, .run = waiting_writer,
                                 .kind = kind, .entry = &rwlock_entries[j]),
                        "waiting-writer-%s-%s", rwlock_entries[j].name, kind->name);
        /* Without preferences an unlock hands nothing over to who waits. */
        const char *const says = LIBC_HAS_PREFERENCES ? RWLOCK_TAKEN : NULL;
        scn_add(SCN_CASE(.bare = LIBC_HAS_PREFERENCES ? "hangs" : "fine", .says = says, .run = waiting_for_forker,
                         .kind = kind), "waiting-for-forker-%s", kind->name);
        scn_add(SCN_CASE(.bare = LIBC_HAS_PREFERENCES ? "fails EBUSY" : "fine", .says = says,
                         .run = waiting_for_forker, .kind = kind, .number = 1),
                "waiting-for-forker-threads-%s", kind->name);
        for (int j = 0; j < RWLOCK_ENTRIES; j++)
            scn_add(SCN_CASE(.bare = rwlock_entries[j].bare, .says = RWLOCK_TAKEN, .run = queue_behind_writer,
                             .kind = kind, .entry = &rwlock_entries[j]),
                    "queue-%s-%s", rwlock_entries[j].name, kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .says = RWLOCK_FROM_WORKER, .run = beside_own, .kind = kind),
                "beside-own-%s", kind->name);
    }
}
