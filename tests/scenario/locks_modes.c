/* FORKSAFE_MODE and FORKSAFE_LOG: what each setting makes of one hazard, and that none makes anything of a program
 * without one. */
#include "mutex_kind.h"
#include "semaphore_kind.h"

static pthread_mutex_t lock;
static sem_t semaphore;

static void mutex_vanished(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    struct scn_holder worker;
    mutex_make(self->kind, &lock);
    scn_hold(&worker, mutex_lock, mutex_unlock, &lock, 1);
    SCN_IN_CHILD {
        mutex_use(entry->take, &lock);
    }
    mutex_check_held(&lock);
    scn_let_go(&worker);
}

static void semaphore_vanished(const struct scn_case *self)
{
    const struct scn_entry *entry = self->entry;
    semaphore_make(&semaphore, 1);
    SCN_IN_CHILD_WHILE_HELD(semaphore_wait, semaphore_post, &semaphore) {
        semaphore_use(entry->take, &semaphore);
    }
}

static void mutex_forkers(const struct scn_case *self)
{
    mutex_make(self->kind, &lock);
    SCN_IS(pthread_mutex_lock(&lock), 0);
    SCN_IN_CHILD {
        SCN_IS(pthread_mutex_unlock(&lock), 0);
    }
    SCN_IS(pthread_mutex_unlock(&lock), 0);
}

static void no_hazard(const struct scn_case *self)
{
    mutex_make(self->kind, &lock);
    semaphore_make(&semaphore, 1);
    SCN_IN_CHILD_WHILE_HELD(mutex_lock, mutex_unlock, &lock) {
        mutex_make(self->kind, &lock); /* the vanished worker's lock, made anew */
        mutex_use(mutex_lock, &lock);
        semaphore_use(semaphore_wait, &semaphore);
        scn_exclusion(mutex_lock, mutex_unlock, &lock, 2, 1000);
    }
    mutex_use(mutex_lock, &lock);
}

#define PID "^forksafe\\[\\d+\\.\\d+\\] "
#define FROM_WORKER " for .* held at fork by \\d+ \"worker\""
/* Modes that do not take over say so in other words, about the same lock and holder. */
#define MUTEX_TOLD PID ".*mutex 0x[0-9a-f]+ .*\\(normal\\)" FROM_WORKER
#define SEMAPHORE_TOLD PID ".*semaphore 0x[0-9a-f]+ .*" FROM_WORKER
#define MUTEX_REPAIRED MUTEX_TAKEN ".*\\(normal\\)" FROM_WORKER

void scn_cases(void)
{
    static const struct {
        const char *name, *env, *bare, *preloaded, *says;
        void (*run)(const struct scn_case *);
        const struct scn_entry *entry;
        const struct mutex_kind *kind;
    } rows[] = {
        {"report-lock", "FORKSAFE_MODE=report", "hangs", "hangs", MUTEX_TOLD " ;; " SCN_NEVER_TAKES, mutex_vanished,
         &mutex_entries[0], &mutex_kinds[1]},
        {"report-trylock", "FORKSAFE_MODE=report", "fails EBUSY", "fails EBUSY", SCN_NEVER_TAKES, mutex_vanished,
         &mutex_entries[1], &mutex_kinds[1]},
        {"report-timedlock", "FORKSAFE_MODE=report", "fails ETIMEDOUT", "fails ETIMEDOUT",
         MUTEX_TOLD " ;; " SCN_NEVER_TAKES, mutex_vanished, &mutex_entries[2], &mutex_kinds[1]},
        {"report-wait", "FORKSAFE_MODE=report", "hangs", "hangs", SEMAPHORE_TOLD " ;; " SCN_NEVER_TAKES,
         semaphore_vanished, &semaphore_entries[0], NULL},
        {"report-trywait", "FORKSAFE_MODE=report", "fails EAGAIN", "fails EAGAIN", SCN_NEVER_TAKES,
         semaphore_vanished, &semaphore_entries[1], NULL},
        {"report-forkers-errorcheck", "FORKSAFE_MODE=report", "fails EPERM", "fails EPERM", SCN_NEVER_TAKES,
         mutex_forkers, NULL, &mutex_kinds[5]},
        {"report-no-hazard", "FORKSAFE_MODE=report", "fine", "fine", SCN_SILENT, no_hazard, NULL, &mutex_kinds[1]},

        {"abort-lock", "FORKSAFE_MODE=abort", "hangs", "dies SIGABRT", MUTEX_TOLD " ;; " SCN_NEVER_TAKES,
         mutex_vanished, &mutex_entries[0], &mutex_kinds[1]},
        {"abort-wait", "FORKSAFE_MODE=abort", "hangs", "dies SIGABRT", SEMAPHORE_TOLD " ;; " SCN_NEVER_TAKES,
         semaphore_vanished, &semaphore_entries[0], NULL},
        {"abort-no-hazard", "FORKSAFE_MODE=abort", "fine", "fine", SCN_SILENT, no_hazard, NULL, &mutex_kinds[1]},

        {"off-lock", "FORKSAFE_MODE=off", "hangs", "hangs", SCN_SILENT, mutex_vanished, &mutex_entries[0],
         &mutex_kinds[1]},
        {"off-wait", "FORKSAFE_MODE=off", "hangs", "hangs", SCN_SILENT, semaphore_vanished, &semaphore_entries[0],
         NULL},
        {"off-forkers-errorcheck", "FORKSAFE_MODE=off", "fails EPERM", "fails EPERM", SCN_SILENT, mutex_forkers, NULL,
         &mutex_kinds[5]},
        {"off-no-hazard", "FORKSAFE_MODE=off", "fine", "fine", SCN_SILENT, no_hazard, NULL, &mutex_kinds[1]},

        {"repair-lock", "FORKSAFE_MODE=repair", "hangs", "fine", "once:" MUTEX_REPAIRED, mutex_vanished,
         &mutex_entries[0], &mutex_kinds[1]},
        {"repair-wait", "FORKSAFE_MODE=repair", "hangs", "fine", "once:" SEMAPHORE_TAKEN_FROM_WORKER,
         semaphore_vanished, &semaphore_entries[0], NULL},

        /* A value that is none: named once, by the first process only, and the default kept. */
        {"unknown-mode", "FORKSAFE_MODE=banana", "hangs", "fine", "once:banana ;; " MUTEX_REPAIRED, mutex_vanished,
         &mutex_entries[0], &mutex_kinds[1]},
        {"empty-mode", "FORKSAFE_MODE=", "hangs", "fine", MUTEX_REPAIRED, mutex_vanished, &mutex_entries[0],
         &mutex_kinds[1]},

        {"log-file", "FORKSAFE_LOG=@TMP@/log", "hangs", "fine", "once:" MUTEX_REPAIRED, mutex_vanished,
         &mutex_entries[0], &mutex_kinds[1]},
        {"log-file-per-pid", "FORKSAFE_LOG=@TMP@/log.%p", "hangs", "fine", "once:" MUTEX_REPAIRED, mutex_vanished,
         &mutex_entries[0], &mutex_kinds[1]},
        {"log-file-report", "FORKSAFE_MODE=report FORKSAFE_LOG=@TMP@/log", "hangs", "hangs", MUTEX_TOLD,
         mutex_vanished, &mutex_entries[0], &mutex_kinds[1]},
        {"log-stderr", "FORKSAFE_LOG=stderr", "hangs", "fine", "once:" MUTEX_REPAIRED, mutex_vanished,
         &mutex_entries[0], &mutex_kinds[1]},
        {"log-nowhere", "FORKSAFE_LOG=/nonexistent/log", "hangs", "fine", NULL, mutex_vanished, &mutex_entries[0],
         &mutex_kinds[1]},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        scn_add(SCN_CASE(.bare = rows[i].bare, .preloaded = rows[i].preloaded, .says = rows[i].says,
                         .env = rows[i].env, .run = rows[i].run, .entry = rows[i].entry, .kind = rows[i].kind),
                "%s", rows[i].name);
}
