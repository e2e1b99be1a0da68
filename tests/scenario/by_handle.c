/*
 * A program that does not link with pthread's functions but asks the loader for them by the handle of a library, as
 * Free Pascal's threads do: such a handle leads past every preloaded library, to libc's own functions.
 */
#include "handle_module.h"
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

/* Goes on with the module preloaded behind ours. */
static void load_module(const struct scn_case *self)
{
    const char *preloaded = getenv("LD_PRELOAD");
    char both[4096];
    if (dlsym(RTLD_DEFAULT, "by_handle_calls") == NULL) {
        SCN_CHECK(preloaded == NULL || strstr(preloaded, HANDLE_MODULE) == NULL);
        snprintf(both, sizeof both, "%s %s", preloaded != NULL ? preloaded : "", HANDLE_MODULE);
        setenv("LD_PRELOAD", both, 1);
        execl("/proc/self/exe", "by_handle", self->name, NULL);
        scn_wrong(SCN_WHERE, "exec");
    }
}

/* A preloaded library behind ours has a function that calls what it finds by libc's handle: its own would never end. */
static void between(const struct scn_case *self)
{
    load_module(self);
    const int *calls = find_in(RTLD_DEFAULT, "by_handle_calls", NULL);
    const int before = *calls; /* the library's own, when it started */
    sem_t semaphore;
    SCN_IS(sem_init(&semaphore, 0, 1), 0);
    SCN_CHECK(*calls == before + 1);
    scn_fine();
}

static own_mutex own_lock;
static own_condition own_news;
static bool is_told;

static int tell(void *answer)
{
    SCN_IS(mtx_lock(&own_lock), own_success);
    is_told = true;
    SCN_IS(cnd_signal(&own_news), own_success);
    SCN_IS(cnd_broadcast(&own_news), own_success);
    SCN_IS(mtx_unlock(&own_lock), own_success);
    return *(int *)answer;
}

static void use_own(void)
{
    const struct timespec late = scn_in_ms(CLOCK_REALTIME, 60000), past = {0};
    pthread_t thread;
    int answer = 42, value = 0;
    SCN_IS(mtx_timedlock(&own_lock, &late), own_success);
    SCN_IS(mtx_trylock(&own_lock), own_error);
    SCN_IS(cnd_timedwait(&own_news, &own_lock, &past), own_error);
    is_told = false;
    SCN_IS(thrd_create(&thread, tell, &answer), own_success);
    while (!is_told)
        SCN_IS(cnd_wait(&own_news, &own_lock), own_success);
    SCN_IS(mtx_unlock(&own_lock), own_success);
    SCN_IS(thrd_join(thread, &value), own_success);
    SCN_IS(value, answer);
    SCN_IS(thrd_create(&thread, tell, &answer), own_success);
    SCN_IS(thrd_detach(thread), own_success);
}

static int take_own(void *lock)
{
    return mtx_lock(lock) != own_success;
}

static int give_own(void *lock)
{
    return mtx_unlock(lock) != own_success;
}

/* A library has functions with the names of <threads.h>, whose objects and results are its own. */
static void own_threads(const struct scn_case *self)
{
    load_module(self);
    SCN_IS(mtx_init(&own_lock, 0), own_success);
    SCN_IS(cnd_init(&own_news), own_success);
    if (self->number) {
        SCN_IN_CHILD_WHILE_HELD(take_own, give_own, &own_lock) {
            use_own();
        }
    } else {
        use_own();
        SCN_IN_CHILD {
            use_own();
        }
        mtx_destroy(&own_lock);
        cnd_destroy(&own_news);
    }
    scn_fine();
}

void scn_cases(void)
{
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = own_threads), "threads-of-library");
    scn_add(SCN_CASE(.bare = "hangs", .says = "once:child took over mutex ", .run = own_threads, .number = 1),
            "threads-of-library-held");
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
