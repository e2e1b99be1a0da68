/* libc/layout-musl: compares what the header says with the libc that runs. See layout.h. */
#include "config.h"

#include "libc/layout.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

_Static_assert(offsetof(pthread_mutex_t, __u) == 0 && sizeof(((pthread_mutex_t *)0)->__u.__i[0]) == 4,
               "a mutex is words, among them a futex");
_Static_assert(PTHREAD_MUTEX_NORMAL == (int)FSAFE_MUTEX_NORMAL &&
                   PTHREAD_MUTEX_RECURSIVE == (int)FSAFE_MUTEX_RECURSIVE &&
                   PTHREAD_MUTEX_ERRORCHECK == (int)FSAFE_MUTEX_ERRORCHECK, "in one order, from 0 to 2");

struct fsafe_layout fsafe_layout = {.in_place = -1};

#ifndef __LP64__
struct fsafe_sem_row fsafe_sem_rows[FSAFE_SEM_ROWS];
#endif

static struct fsafe_layout_calls libc;

static bool init_of(pthread_mutex_t *m, int type, int robust)
{
    pthread_mutexattr_t attributes;
    return pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_settype(&attributes, type) == 0 &&
           pthread_mutexattr_setrobust(&attributes, robust) == 0 && libc.mutex_init(m, &attributes) == 0;
}

/* What we lock libc unlocks, and the other way round; both leave the same bytes, but for the owner. */
static bool normal_holds(int owner)
{
    pthread_mutex_t m, ours, theirs;
    if (!init_of(&m, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED) ||
        fsafe_layout_mutex_kind(&m) != FSAFE_MUTEX_NORMAL ||
        fsafe_layout_type(&m) != PTHREAD_MUTEX_NORMAL || fsafe_layout_mutex_locked(&m) ||
        !fsafe_layout_lock_free(&m, owner, PTHREAD_MUTEX_NORMAL) ||
        fsafe_layout_lock_free(&m, owner, PTHREAD_MUTEX_NORMAL) || libc.mutex_trylock(&m) != EBUSY ||
        fsafe_layout_mutex_owner(&m) != owner)
        return false;
    ours = m;
    if (libc.mutex_unlock(&m) != 0 || fsafe_layout_mutex_owner(&m) != owner) /* libc leaves the owner alone */
        return false;
    fsafe_layout_mutex_note(&m, 0);
    if (fsafe_layout_mutex_locked(&m) || libc.mutex_lock(&m) != 0)
        return false;
    fsafe_layout_mutex_note(&m, owner);
    theirs = m;
    if (memcmp(&theirs, &ours, sizeof m) != 0 ||
        fsafe_layout_unlock(&m, owner, PTHREAD_MUTEX_NORMAL) != FSAFE_UNLOCKED || libc.mutex_trylock(&m) != 0)
        return false;
    fsafe_layout_mutex_reset(&m);
    return libc.mutex_trylock(&m) == 0 && libc.mutex_unlock(&m) == 0 && libc.mutex_destroy(&m) == 0;
}

/* The kinds that name their owner: the owner, the depth, and that libc goes on from what we write. */
static bool named_holds(int type, int robust, enum fsafe_mutex_kind kind, int owner)
{
    pthread_mutex_t m;
    if (!init_of(&m, type, robust) || fsafe_layout_mutex_kind(&m) != kind || fsafe_layout_mutex_locked(&m) ||
        libc.mutex_lock(&m) != 0 || !fsafe_layout_mutex_locked(&m) || fsafe_layout_mutex_owner(&m) != owner ||
        fsafe_layout_mutex_depth(&m) != 1)
        return false;
    if (type == PTHREAD_MUTEX_RECURSIVE &&
        (libc.mutex_lock(&m) != 0 || fsafe_layout_mutex_depth(&m) != 2 || libc.mutex_unlock(&m) != 0))
        return false;
    fsafe_layout_mutex_set_owner(&m, owner + 1);
    bool refused = libc.mutex_unlock(&m) == EPERM;
    fsafe_layout_mutex_set_owner(&m, owner);
    pthread_mutex_t bytes = m;
    if (!refused || libc.mutex_unlock(&m) != 0 || fsafe_layout_mutex_locked(&m))
        return false;
    /* In a child a vanished thread's mutex is no more than its bytes: the list it is in is another thread's. */
    m = bytes;
    fsafe_layout_mutex_reset(&m);
    int expected = robust == PTHREAD_MUTEX_ROBUST ? EOWNERDEAD : 0;
    if (fsafe_layout_mutex_locked(&m) || libc.mutex_lock(&m) != expected ||
        (expected != 0 && pthread_mutex_consistent(&m) != 0))
        return false;
    return libc.mutex_unlock(&m) == 0 && libc.mutex_destroy(&m) == 0;
}

static bool rwlock_is(const pthread_rwlock_t *rwlock, unsigned readers, bool is_locked)
{
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    return state.readers == readers && state.is_locked == is_locked;
}

/* What each call leaves in the bytes, that libc goes on from the states that we make, and leaves the writer alone. */
static bool rwlock_holds(int owner)
{
    pthread_rwlock_t rwlock;
    pthread_rwlockattr_t attributes;
    if (libc.rwlock_init(&rwlock, NULL) != 0 || !fsafe_layout_rwlock_is_private(&rwlock) ||
        libc.rwlock_rdlock(&rwlock) != 0 || !fsafe_layout_rwlock_read(&rwlock) || !rwlock_is(&rwlock, 2, false))
        return false;
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(&rwlock);
    if (!fsafe_layout_rwlock_dismiss(&rwlock, &state, 1, false) || !rwlock_is(&rwlock, 1, false) ||
        libc.rwlock_trywrlock(&rwlock) != EBUSY || !fsafe_layout_rwlock_unread(&rwlock) ||
        fsafe_layout_rwlock_unread(&rwlock) || libc.rwlock_wrlock(&rwlock) != 0 || !rwlock_is(&rwlock, 0, true) ||
        fsafe_layout_rwlock_read(&rwlock) || fsafe_layout_rwlock_unread(&rwlock))
        return false;
    fsafe_layout_rwlock_note_writer(&rwlock, owner);
    if (libc.rwlock_tryrdlock(&rwlock) != EBUSY || fsafe_layout_rwlock_writer(&rwlock) != owner)
        return false;
    fsafe_layout_rwlock_make_free(&rwlock, 1);
    if (libc.rwlock_trywrlock(&rwlock) != EBUSY || libc.rwlock_unlock(&rwlock) != 0)
        return false;
    fsafe_layout_rwlock_make_written(&rwlock, owner);
    if (libc.rwlock_tryrdlock(&rwlock) != EBUSY || libc.rwlock_unlock(&rwlock) != 0 || !rwlock_is(&rwlock, 0, false) ||
        libc.rwlock_trywrlock(&rwlock) != 0 || libc.rwlock_unlock(&rwlock) != 0)
        return false;
    if (pthread_rwlockattr_init(&attributes) != 0 ||
        pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        libc.rwlock_init(&rwlock, &attributes) != 0)
        return false;
    return !fsafe_layout_rwlock_is_private(&rwlock) && libc.rwlock_destroy(&rwlock) == 0;
}

/* The value is where we read it, and after sem_init no call of libc's touches the bytes that are ours. */
static bool sem_holds(void)
{
    sem_t s, marked;
    if (libc.semaphore_init(&s, 0, 1) != 0 || fsafe_layout_sem_is_shared(&s) || s.__val[FSAFE_MUSL_SEM_VALUE] != 1)
        return false;
    for (size_t i = FSAFE_MUSL_SEM_SPARE; i < sizeof s.__val / sizeof s.__val[0]; i++)
        s.__val[i] = 0x5a5a5a5a;
    marked = s;
    if (libc.semaphore_trywait(&s) != 0 || fsafe_layout_sem_value(&s) != 0 || fsafe_layout_sem_try(&s) ||
        fsafe_layout_sem_post(&s) != FSAFE_POSTED || !fsafe_layout_sem_try(&s) || libc.semaphore_trywait(&s) != -1 ||
        libc.semaphore_post(&s) != 0 || fsafe_layout_sem_value(&s) != 1)
        return false;
    return memcmp((void *)&s, (void *)&marked, sizeof s) == 0 && libc.semaphore_destroy(&s) == 0;
}

int fsafe_layout_probe_owner(void)
{
    pthread_mutex_t m;
    if (!init_of(&m, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED) || libc.mutex_lock(&m) != 0)
        return fsafe_sys_gettid();
    int owner = fsafe_layout_mutex_owner(&m);
    libc.mutex_unlock(&m);
    return owner;
}

static bool learn_condvar(const struct fsafe_fresh_calls *calls, struct fsafe_fresh *fresh)
{
    enum { CLOCK = FSAFE_MUSL_COND_CLOCK, POINTER = sizeof(void *) / 4, WORDS = sizeof(pthread_cond_t) / 4 };
    pthread_condattr_t attributes;
    pthread_cond_t condvar;
    if (pthread_condattr_init(&attributes) != 0 || pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
        pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        calls->cond_init(&condvar, &attributes) != 0)
        return false;
    *fresh = (struct fsafe_fresh){.words = WORDS, .shared = UINT32_MAX, .keep = {[CLOCK] = UINT32_MAX}};
    for (unsigned i = 0; i < POINTER; i++)
        fresh->keep[i] = UINT32_MAX;
    for (unsigned i = 0; i < WORDS; i++)
        if (fsafe_fresh_word(&condvar, i) != (i == CLOCK ? CLOCK_MONOTONIC : i < POINTER ? UINT32_MAX : 0))
            return false;
    return true;
}

/*
 * The barrier: a word with the number of threads that a round needs less one, and a flag if it is shared. The threads
 * of a round are counted in the next word if it is shared, else on the stack of the round's first thread.
 */
enum { BARRIER_LIMIT = 2, BARRIER_COUNT = 3, BARRIER_FIRST = 3 /* pointer */ };

bool fsafe_fresh_barrier_completes(const void *barrier)
{
    uint32_t limit = fsafe_fresh_word(barrier, BARRIER_LIMIT), came = 0;
    if (!fsafe_fresh_barrier.known)
        return true;
    if ((limit & fsafe_fresh_barrier.shared) != 0)
        return fsafe_fresh_word(barrier, BARRIER_COUNT) >= (limit & ~fsafe_fresh_barrier.shared);
    const void *first = __atomic_load_n((void *const *)barrier + BARRIER_FIRST, __ATOMIC_ACQUIRE);
    if (first == NULL)
        return limit == 0;
    return !fsafe_sys_peek((uintptr_t)first, &came, sizeof came) || came + 1 >= limit;
}

static bool learn_barrier(const struct fsafe_fresh_calls *calls, struct fsafe_fresh *fresh)
{
    enum { LIMIT = BARRIER_LIMIT, THREADS = 7, WORDS = sizeof(pthread_barrier_t) / 4 };
    pthread_barrierattr_t attributes;
    pthread_barrier_t barrier;
    if (pthread_barrierattr_init(&attributes) != 0 ||
        pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        calls->barrier_init(&barrier, &attributes, THREADS) != 0)
        return false;
    *fresh = (struct fsafe_fresh){.words = WORDS, .flags = LIMIT, .shared = 1u << 31, .keep = {[LIMIT] = UINT32_MAX}};
    for (unsigned i = 0; i < WORDS; i++)
        if (fsafe_fresh_word(&barrier, i) != (i == LIMIT ? (THREADS - 1) | 1u << 31 : 0))
            return false;
    return true;
}

void fsafe_fresh_learn(const struct fsafe_fresh_calls *calls)
{
    fsafe_fresh_condvar.known = learn_condvar(calls, &fsafe_fresh_condvar);
    fsafe_fresh_barrier.known = learn_barrier(calls, &fsafe_fresh_barrier);
}

/* Nothing is done in place. */
void fsafe_layout_cond_self_test(void)
{
}

void fsafe_layout_self_test(const struct fsafe_layout_calls *calls, int pid)
{
    enum { STALLED = PTHREAD_MUTEX_STALLED, ROBUST = PTHREAD_MUTEX_ROBUST };
    libc = *calls;
    fsafe_layout = (struct fsafe_layout){.in_place = -1};
    int owner = fsafe_layout_probe_owner(), saved = errno;
    bool bytes = owner == pid || owner == fsafe_sys_gettid(); /* the first thread's id is its process's */
    fsafe_layout.mutex_bytes = bytes; /* the tests look at it */
    fsafe_layout.in_place = bytes ? PTHREAD_MUTEX_NORMAL : -1;
    fsafe_layout.mutex_bytes = bytes && normal_holds(owner) &&
        named_holds(PTHREAD_MUTEX_RECURSIVE, STALLED, FSAFE_MUTEX_RECURSIVE, owner) &&
        named_holds(PTHREAD_MUTEX_ERRORCHECK, STALLED, FSAFE_MUTEX_ERRORCHECK, owner) &&
        named_holds(PTHREAD_MUTEX_NORMAL, ROBUST, FSAFE_MUTEX_ROBUST, owner);
    fsafe_layout.in_place = fsafe_layout.mutex_bytes ? PTHREAD_MUTEX_NORMAL : -1;
    fsafe_layout.rwlock_bytes = bytes; /* rwlock_holds looks at it */
    fsafe_layout.rwlock_bytes = bytes && rwlock_holds(owner);
    fsafe_layout.sem_bytes = sem_holds();
    errno = saved; /* sem_trywait's */
}

/* The mutex is still in this thread's list: only the thread's id changed. */
void fsafe_layout_mutex_retake(pthread_mutex_t *m)
{
    fsafe_layout_mutex_set_owner(m, fsafe_layout_probe_owner());
}

/* A pthread_t is the address of the thread's control block. */
bool fsafe_layout_thread_may_be(pthread_t thread)
{
    return fsafe_sys_may_be_readable((uintptr_t)thread);
}
