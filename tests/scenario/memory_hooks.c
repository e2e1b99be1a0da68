/*
 * A program with a hook in the functions for memory, which takes a lock: UCX does that, which torch and MPI load. What
 * the library maps for a thread at the thread's first lock must not come back to that lock.
 */
#include "scenario.h"

#include <sys/mman.h>
#include <sys/syscall.h>

enum { THREADS = 70 }; /* more than fit into what the library has mapped by then */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static atomic_int calls;

static int lock_mutex(void)
{
    return pthread_mutex_lock(&mutex);
}

static int unlock_mutex(void)
{
    return pthread_mutex_unlock(&mutex);
}

static int read_rwlock(void)
{
    return pthread_rwlock_rdlock(&rwlock);
}

static int write_rwlock(void)
{
    return pthread_rwlock_wrlock(&rwlock);
}

static int unlock_rwlock(void)
{
    return pthread_rwlock_unlock(&rwlock);
}

static const struct hook {
    const char *name;
    int (*lock)(void), (*unlock)(void);
} hooks[] = {
    {"mutex", lock_mutex, unlock_mutex},
    {"reader", read_rwlock, unlock_rwlock},
    {"writer", write_rwlock, unlock_rwlock},
};
static const struct hook *hook; /* NULL: none yet */

/* In front of libc's, for every object of the process. */
__attribute__((visibility("default"))) int munmap(void *at, size_t bytes)
{
    if (hook != NULL)
        SCN_IS(hook->lock(), 0);
    const int answer = (int)syscall(SYS_munmap, at, bytes);
    if (hook != NULL)
        SCN_IS(hook->unlock(), 0);
    return answer;
}

__attribute__((visibility("default"))) void *mmap(void *at, size_t bytes, int protection, int flags, int fd,
                                                  off_t offset)
{
    calls++;
    if (hook != NULL)
        SCN_IS(hook->lock(), 0);
#ifdef SYS_mmap2
    void *const answer = (void *)syscall(SYS_mmap2, at, bytes, protection, flags, fd, offset / 4096);
#else
    void *const answer = (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
#endif
    if (hook != NULL)
        SCN_IS(hook->unlock(), 0);
    return answer;
}

static void *map(void *started)
{
    void *const page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SCN_CHECK(page != MAP_FAILED);
    pthread_barrier_wait(started); /* all of them live at once */
    SCN_CHECK(munmap(page, 4096) == 0);
    return NULL;
}

static void start_all(void)
{
    pthread_barrier_t started;
    pthread_t threads[THREADS];
    SCN_IS(pthread_barrier_init(&started, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++)
        SCN_IS(pthread_create(&threads[i], NULL, map, &started), 0);
    for (int i = 0; i < THREADS; i++)
        SCN_IS(pthread_join(threads[i], NULL), 0);
    SCN_IS(pthread_barrier_destroy(&started), 0);
}

static void hooked(const struct scn_case *self)
{
    hook = self->kind;
    const int before = calls;
    start_all();
    SCN_CHECK(calls == before + THREADS); /* nobody else's */
    SCN_IN_CHILD {
        start_all();
    }
    scn_fine();
}

void scn_cases(void)
{
    for (unsigned i = 0; i < sizeof hooks / sizeof *hooks; i++)
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = hooked, .kind = &hooks[i]),
                "hook-%s", hooks[i].name);
}
