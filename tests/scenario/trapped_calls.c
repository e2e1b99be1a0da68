/*
 * A program that puts a sandbox around itself after a fork, as Chromium's renderers do: it answers calls for files in a
 * handler of SIGSYS, and ends who asks for something worse. Its threads and locks go on, helped or not.
 */
#include "mutex_kind.h"
#include "../surroundings/sandbox.h"

#include <signal.h>

#if defined(SYS_newfstatat) || defined(SYS_fstatat64)
static pthread_mutex_t mutex;

/* As it comes back, the call has failed: what it returns is neither 0 nor an error that says why. */
static void refuse(int number)
{
}

/* Firefox's has a static local, whose first use takes a lock. */
static void lock_there(int number)
{
    static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&own);
    pthread_mutex_unlock(&own);
}

static void *lock_first(void *unused)
{
    mutex_lock(&mutex);
    mutex_unlock(&mutex);
    return unused;
}

/* A thread's first lock asks for the thread's name, and comes back to a first lock. */
static void locking_handler(const struct scn_case *self)
{
    SCN_IN_CHILD {
        const struct sigaction action = {.sa_handler = lock_there, .sa_flags = SA_NODEFER};
        pthread_t thread;
        SCN_CHECK(sigaction(SIGSYS, &action, NULL) == 0);
        SCN_CHECK(sandbox_install("trap:prctl") == 0);
        mutex_make(self->kind, &mutex);
        SCN_CHECK(pthread_create(&thread, NULL, lock_first, NULL) == 0);
        pthread_join(thread, NULL);
    }
}

static void in_sandbox(const struct scn_case *self)
{
    SCN_IN_CHILD {
        const struct sigaction action = {.sa_handler = refuse, .sa_flags = SA_NODEFER};
        SCN_CHECK(sigaction(SIGSYS, &action, NULL) == 0);
        SCN_CHECK(sandbox_install("trap:newfstatat,openat") == 0);
        SCN_CHECK(sandbox_install("kill:unshare,mremap,process_vm_readv,pipe2,ppoll") == 0);
        mutex_make(self->kind, &mutex);
        for (int round = 0; round < 3; round++)
            scn_exclusion(mutex_lock, mutex_unlock, &mutex, 4, 1000);
    }
}

static void *lock_many(void *unused)
{
    enum { LOCKS = 100 };
    static pthread_mutex_t locks[LOCKS];
    for (int i = 0; i < LOCKS; i++) {
        mutex_make(&mutex_kinds[0], &locks[i]);
        mutex_lock(&locks[i]);
    }
    for (int i = 0; i < LOCKS; i++)
        mutex_unlock(&locks[i]);
    return unused;
}

/* Chromium's filter allows pipes, and ends who reads memory by process_vm_readv. */
static void reading(const struct scn_case *self)
{
    SCN_IN_CHILD {
        const struct sigaction action = {.sa_handler = refuse, .sa_flags = SA_NODEFER};
        pthread_condattr_t attribute;
        pthread_cond_t condvar;
        pthread_t thread;
        SCN_CHECK(sigaction(SIGSYS, &action, NULL) == 0);
        SCN_CHECK(sandbox_install("trap:newfstatat,openat") == 0);
        SCN_CHECK(sandbox_install("kill:process_vm_readv") == 0);
        if (self->kind == NULL) { /* as an interpreter does, for which we look */
            pthread_condattr_init(&attribute);
            pthread_condattr_setclock(&attribute, CLOCK_MONOTONIC);
            SCN_CHECK(pthread_cond_init(&condvar, &attribute) == 0);
        }
        SCN_CHECK(pthread_create(&thread, NULL, self->kind == NULL ? lock_first : lock_many, NULL) == 0);
        pthread_join(thread, NULL);
    }
}
#endif

void scn_cases(void)
{
#if defined(SYS_newfstatat) || defined(SYS_fstatat64)
    for (int k = 0; k < MUTEX_KINDS; k++)
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = in_sandbox, .kind = &mutex_kinds[k]),
                "sandbox-%s", mutex_kinds[k].name);
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = locking_handler, .kind = &mutex_kinds[0]),
            "locking-handler");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = reading, .kind = &mutex_kinds[0]), "many-locks");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = reading), "like-python");
#endif
}
