/*
 * A program that does not link with pthread's functions but asks the loader for them by the handle of a library, as
 * Free Pascal's threads do: such a handle leads past every preloaded library, to libc's own functions.
 */
#include "scenario.h"

#if defined(__GLIBC__) && ((defined(__x86_64__) && defined(__LP64__)) || defined(__aarch64__) || defined(__i386__) || \
                           (defined(__riscv) && __riscv_xlen == 64))

#include <dlfcn.h>
#include <gnu/lib-names.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int (*lock_by_handle)(pthread_mutex_t *mutex), (*unlock_by_handle)(pthread_mutex_t *mutex);
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *find_in(void *library, const char *name, const char *version)
{
    void *found = version != NULL ? dlvsym(library, name, version) : dlsym(library, name);
    SCN_CHECK(found != NULL);
    return found;
}

static int take(void *lock)
{
    return lock_by_handle(lock);
}

static int give(void *lock)
{
    return unlock_by_handle(lock);
}

static void vanished(const struct scn_case *self)
{
    const char *version = NULL;
    Dl_info info;
    void *opened = dlopen(LIBPTHREAD_SO, RTLD_NOW);
    SCN_CHECK(opened != NULL);
    static const char *const versions[] = {"GLIBC_2.0", "GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.27"};
    for (int i = 0; self->number == 1 && version == NULL; i++) { /* the first on this processor */
        SCN_CHECK(i < 4);
        version = dlvsym(opened, "pthread_mutex_lock", versions[i]) != NULL ? versions[i] : NULL;
    }
    void *found = find_in(opened, "pthread_mutex_lock", version);
    memcpy(&lock_by_handle, &found, sizeof found);
    found = find_in(opened, "pthread_mutex_unlock", version);
    memcpy(&unlock_by_handle, &found, sizeof found);
    SCN_IN_CHILD_WHILE_HELD(take, give, &mutex) {
        SCN_IS(take(&mutex), 0);
        SCN_IS(give(&mutex), 0);
    }
    SCN_CHECK(dlsym(opened, "no such function") == NULL && dlerror() != NULL);
    found = find_in(opened, "getpid", NULL); /* not one of the library's */
    SCN_CHECK(dladdr(found, &info) != 0 && strstr(info.dli_fname, "libc") != NULL);
    scn_fine();
}

/* A preloaded library behind ours has a function that calls what it finds by libc's handle: its own would never end. */
static void between(const struct scn_case *self)
{
    (void)self;
    const char *preloaded = getenv("LD_PRELOAD");
    char both[4096];
    if (dlsym(RTLD_DEFAULT, "by_handle_calls") == NULL) {
        SCN_CHECK(preloaded == NULL || strstr(preloaded, HANDLE_MODULE) == NULL);
        snprintf(both, sizeof both, "%s %s", preloaded != NULL ? preloaded : "", HANDLE_MODULE);
        setenv("LD_PRELOAD", both, 1);
        execl("/proc/self/exe", "by_handle", self->name, NULL);
        scn_wrong(SCN_WHERE, "exec");
    }
    const int *calls = find_in(RTLD_DEFAULT, "by_handle_calls", NULL);
    const int before = *calls; /* the library's own, when it started */
    sem_t semaphore;
    SCN_IS(sem_init(&semaphore, 0, 1), 0);
    SCN_CHECK(*calls == before + 1);
    scn_fine();
}

void scn_cases(void)
{
    scn_add(SCN_CASE(.bare = "hangs", .says = "once:child took over mutex ", .run = vanished), "dlsym");
    scn_add(SCN_CASE(.bare = "hangs", .says = "once:child took over mutex ", .run = vanished, .number = 1), "dlvsym");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_NEVER_TAKES, .run = between), "between");
}

#else

static void none(const struct scn_case *self)
{
    (void)self;
    scn_skip("the library looks at no handle here");
}

void scn_cases(void)
{
    scn_add(SCN_CASE(.bare = "fine", .run = none), "none");
}

#endif
