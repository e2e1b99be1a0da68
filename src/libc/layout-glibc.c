/* libc/layout-glibc: compares what the header says with the libc that runs. See layout.h. */
#include "config.h"

#include "libc/layout.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* What the header reads must lie where glibc's public headers say. */
_Static_assert(offsetof(pthread_mutex_t, __data.__lock) == 0, "lock word first");
_Static_assert(sizeof(((pthread_mutex_t *)0)->__data.__lock) == 4, "lock word is a futex");
_Static_assert(sizeof(((pthread_mutex_t *)0)->__data.__owner) == 4, "owner is a thread id");
_Static_assert(offsetof(pthread_rwlock_t, __data.__readers) == 0, "readers first");
_Static_assert(sizeof(((pthread_rwlock_t *)0)->__data.__readers) == 4, "the readers' word is a futex");
_Static_assert(sizeof(((pthread_rwlock_t *)0)->__data.__cur_writer) == 4, "the writer is a thread id");
#ifdef __LP64__
_Static_assert(sizeof(pthread_rwlock_t) == 56, "pthread_rwlock_t");
#endif
_Static_assert(sizeof(struct fsafe_glibc_sem) <= sizeof(sem_t), "what we write lies inside sem_t");

struct fsafe_layout fsafe_layout = {.in_place = -1};

static struct fsafe_layout_calls libc;

static int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                      PTHREAD_MUTEX_ADAPTIVE_NP};

static bool mutex_is_free(const pthread_mutex_t *m)
{
    return m->__data.__lock == 0 && m->__data.__owner == 0 && m->__data.__nusers == 0 &&
           m->__data.__count == 0;
}

static bool init_of_type(pthread_mutex_t *m, int type)
{
    pthread_mutexattr_t attributes;
    return pthread_mutexattr_init(&attributes) == 0 && pthread_mutexattr_settype(&attributes, type) == 0 &&
           libc.mutex_init(m, &attributes) == 0;
}

/* The kinds whose lock word is the kernel's: the owner, and what the next owner of a reset mutex gets. */
static bool words_hold(int protocol, int robust, enum fsafe_mutex_kind kind, int owner)
{
    pthread_mutex_t m;
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0 || pthread_mutexattr_setprotocol(&attributes, protocol) != 0 ||
        pthread_mutexattr_setrobust(&attributes, robust) != 0 || libc.mutex_init(&m, &attributes) != 0)
        return false;
    if (fsafe_layout_mutex_kind(&m) != kind || fsafe_layout_mutex_locked(&m) || libc.mutex_lock(&m) != 0 ||
        !fsafe_layout_mutex_locked(&m) || fsafe_layout_mutex_owner(&m) != owner)
        return false;
    /* In a child a vanished thread's mutex is no more than its bytes: the list it is on is another process's. */
    pthread_mutex_t bytes = m;
    if (libc.mutex_unlock(&m) != 0)
        return false;
    m = bytes;
    fsafe_layout_mutex_reset(&m);
    if (fsafe_layout_mutex_locked(&m))
        return false;
    int expected = robust == PTHREAD_MUTEX_ROBUST ? EOWNERDEAD : 0;
    if (libc.mutex_lock(&m) != expected || (expected != 0 && pthread_mutex_consistent(&m) != 0))
        return false;
    return libc.mutex_unlock(&m) == 0 && libc.mutex_destroy(&m) == 0;
}

/* The owner, the depth and the reset of one type of mutex. */
static bool bytes_hold(int type, int owner)
{
    pthread_mutex_t m;
    if (!init_of_type(&m, type) || !mutex_is_free(&m) || fsafe_layout_mutex_locked(&m))
        return false;
    int kind = m.__data.__kind;
    if ((kind & ~FSAFE_GLIBC_ELISION) != type)
        return false;
    if (libc.mutex_lock(&m) != 0 || !fsafe_layout_mutex_locked(&m) ||
        fsafe_layout_mutex_owner(&m) != owner || fsafe_layout_mutex_depth(&m) != 1)
        return false;
    fsafe_layout_mutex_reset(&m);
    return mutex_is_free(&m) && m.__data.__kind == kind && libc.mutex_lock(&m) == 0 &&
           libc.mutex_unlock(&m) == 0 && mutex_is_free(&m) && libc.mutex_destroy(&m) == 0;
}

/* What we lock libc unlocks, and the other way round; both leave the same bytes. */
static bool in_place_holds(int type, int owner)
{
    pthread_mutex_t m;
    if (!init_of_type(&m, type) || !fsafe_layout_lock_free(&m, owner, (unsigned)type) ||
        fsafe_layout_lock_free(&m, owner, (unsigned)type))
        return false;
    if (fsafe_layout_type(&m) != (unsigned)type)
        return false;
    bool recursive = type == PTHREAD_MUTEX_RECURSIVE;
    if (fsafe_layout_relock(&m, owner, (unsigned)type) != recursive ||
        (recursive && fsafe_layout_unlock(&m, owner, (unsigned)type) != FSAFE_UNLOCKED_ONCE))
        return false;
    pthread_mutex_t ours = m;
    if (libc.mutex_unlock(&m) != 0 || !mutex_is_free(&m) || libc.mutex_lock(&m) != 0 ||
        memcmp(&m, &ours, sizeof m) != 0)
        return false;
    return fsafe_layout_unlock(&m, owner, (unsigned)type) == FSAFE_UNLOCKED && mutex_is_free(&m) &&
           libc.mutex_trylock(&m) == 0 && libc.mutex_unlock(&m) == 0;
}

static bool rwlock_is(const pthread_rwlock_t *rwlock, unsigned readers, bool is_locked, int writer)
{
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(rwlock);
    return state.readers == readers && state.is_locked == is_locked && state.writer == writer && !state.is_torn &&
           state.waiting == 0;
}

/* What each call leaves in the bytes, and that libc goes on from the states that we make. */
static bool rwlock_holds(int preference, int owner)
{
    pthread_rwlock_t rwlock;
    pthread_rwlockattr_t attributes;
    if (pthread_rwlockattr_init(&attributes) != 0 || pthread_rwlockattr_setkind_np(&attributes, preference) != 0 ||
        libc.rwlock_init(&rwlock, &attributes) != 0 || !fsafe_layout_rwlock_is_private(&rwlock) ||
        fsafe_layout_rwlock_preference(&rwlock) != preference || !rwlock_is(&rwlock, 0, false, 0))
        return false;
    if (libc.rwlock_rdlock(&rwlock) != 0 || libc.rwlock_rdlock(&rwlock) != 0 || !rwlock_is(&rwlock, 2, false, 0))
        return false;
    /* What we hold for reading libc releases, and the other way round; both leave the same bytes. */
    pthread_rwlock_t bytes = rwlock;
    if (!fsafe_layout_rwlock_unread(&rwlock) || libc.rwlock_rdlock(&rwlock) != 0 ||
        memcmp(&rwlock, &bytes, sizeof rwlock) != 0 || libc.rwlock_unlock(&rwlock) != 0 ||
        !fsafe_layout_rwlock_read(&rwlock) || memcmp(&rwlock, &bytes, sizeof rwlock) != 0)
        return false;
    struct fsafe_rwlock_state state = fsafe_layout_rwlock_look(&rwlock);
    if (!fsafe_layout_rwlock_dismiss(&rwlock, &state, 1, false) || !rwlock_is(&rwlock, 1, false, 0) ||
        libc.rwlock_trywrlock(&rwlock) != EBUSY || libc.rwlock_unlock(&rwlock) != 0 ||
        !rwlock_is(&rwlock, 0, false, 0))
        return false;
    if (libc.rwlock_wrlock(&rwlock) != 0 || !rwlock_is(&rwlock, 0, true, owner) ||
        !fsafe_layout_rwlock_look(&rwlock).is_write_phase || libc.rwlock_rdlock(&rwlock) != EDEADLK ||
        fsafe_layout_rwlock_read(&rwlock) || fsafe_layout_rwlock_unread(&rwlock))
        return false;
    /* For one preference only: this makes a system call, and does not depend on the preference. */
    if (preference == PTHREAD_RWLOCK_PREFER_READER_NP) {
        fsafe_layout_rwlock_make_free(&rwlock, 0);
        if (libc.rwlock_tryrdlock(&rwlock) != 0)
            return false;
    }
    if (libc.rwlock_unlock(&rwlock) != 0)
        return false;
    fsafe_layout_rwlock_make_written(&rwlock, owner);
    if (libc.rwlock_tryrdlock(&rwlock) != EBUSY || libc.rwlock_unlock(&rwlock) != 0 ||
        !rwlock_is(&rwlock, 0, false, 0) || libc.rwlock_trywrlock(&rwlock) != 0 || libc.rwlock_unlock(&rwlock) != 0)
        return false;
    if (pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        libc.rwlock_init(&rwlock, &attributes) != 0)
        return false;
    return !fsafe_layout_rwlock_is_private(&rwlock) && libc.rwlock_destroy(&rwlock) == 0;
}

/* What the word of a free and of a taken spin lock is, and that libc goes on from what we write. */
static bool learn_spin(void)
{
    pthread_spinlock_t spin, taken;
    if (libc.spin_init(&spin, PTHREAD_PROCESS_PRIVATE) != 0)
        return false;
    fsafe_layout.spin_free = spin;
    if (libc.spin_lock(&spin) != 0)
        return false;
    taken = spin;
    fsafe_layout.spin_taken = taken;
    if (taken == fsafe_layout.spin_free || fsafe_layout_spin_try(&spin) || libc.spin_unlock(&spin) != 0 ||
        spin != fsafe_layout.spin_free || !fsafe_layout_spin_try(&spin) || libc.spin_trylock(&spin) != EBUSY)
        return false;
    fsafe_layout_spin_unlock(&spin);
    return libc.spin_trylock(&spin) == 0 && spin == taken && libc.spin_unlock(&spin) == 0;
}

#ifndef __LP64__
struct fsafe_sem_row fsafe_sem_rows[FSAFE_SEM_ROWS];
#endif

/* Fills the bytes that are ours. */
static void mark(struct fsafe_glibc_sem *sem)
{
#ifdef __LP64__
    memset((void *)&sem->words, 0xa5, sizeof sem->words);
#else
    memset(&sem->row, 0xa5, sizeof sem->row);
#endif
}

/* The value is where we read it, and after sem_init no call of libc's touches the bytes that are ours. */
static bool sem_holds(void)
{
    sem_t s;
    struct fsafe_glibc_sem *sem = (struct fsafe_glibc_sem *)(void *)&s, marked;
    if (libc.semaphore_init(&s, 0, 1) != 0 || sem->data != FSAFE_GLIBC_SEM_TOKEN || sem->private != 0)
        return false;
    mark(sem); /* AddressSanitizer's sem_init clears all of it */
    if (libc.semaphore_trywait(&s) != 0 || sem->data != 0 || fsafe_layout_sem_value(&s) != 0)
        return false;
    if (libc.semaphore_post(&s) != 0 || sem->data != FSAFE_GLIBC_SEM_TOKEN || libc.semaphore_destroy(&s) != 0)
        return false;
    marked = *sem;
    mark(&marked);
    return memcmp(sem, &marked, sizeof marked) == 0;
}

/*
 * Signal and broadcast decide by the number of waiters alone whether they do anything. The test makes a condition
 * variable look as if a waiter had come: it stays as it is while that number is 0, and changes when the number is 1.
 */
static bool cond_holds(void)
{
    int (*const wakes[])(pthread_cond_t *) = {libc.cond_signal, libc.cond_broadcast};
    for (size_t i = 0; fsafe_fresh_condvar.known && i < sizeof wakes / sizeof *wakes; i++) {
        union {
            pthread_cond_t condvar;
            uint32_t word[sizeof(pthread_cond_t) / 4];
        } seen = {.condvar = PTHREAD_COND_INITIALIZER}, before;
        seen.word[0] += 2; /* counts waiters, above its lowest bit */
        before = seen;
        if (fsafe_layout_cond_has_waiters(&fsafe_fresh_condvar, &seen) || wakes[i](&seen.condvar) != 0 ||
            memcmp(&seen, &before, sizeof seen) != 0)
            return false;
        seen.word[fsafe_fresh_condvar.flags] += 8;
        before = seen;
        if (!fsafe_layout_cond_has_waiters(&fsafe_fresh_condvar, &seen) || wakes[i](&seen.condvar) != 0 ||
            memcmp(&seen, &before, sizeof seen) == 0)
            return false;
    }
    return fsafe_fresh_condvar.known;
}

int fsafe_layout_probe_owner(void)
{
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    libc.mutex_lock(&m);
    int owner = m.__data.__owner;
    libc.mutex_unlock(&m);
    return owner;
}

void fsafe_layout_cond_self_test(void)
{
    fsafe_layout.cond_in_place = cond_holds();
}

void fsafe_layout_self_test(const struct fsafe_layout_calls *calls, int pid)
{
    libc = *calls;
    fsafe_layout = (struct fsafe_layout){.in_place = -1};
    int owner = fsafe_layout_probe_owner();
    fsafe_layout_cond_self_test();
    fsafe_layout.spin_in_place = learn_spin();
    bool bytes = owner == pid || owner == fsafe_sys_gettid(); /* the first thread's id is its process's */
    for (size_t i = 0; bytes && i < sizeof types / sizeof *types; i++)
        bytes = bytes_hold(types[i], owner);
    fsafe_layout.mutex_bytes = bytes; /* words_hold and in_place_holds look at it */
    fsafe_layout.mutex_bytes =
        bytes && words_hold(PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, FSAFE_MUTEX_ROBUST, owner);
    fsafe_layout.in_place = bytes ? 0 : -1;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (fsafe_layout.in_place == 0 && !in_place_holds(types[i], owner))
            fsafe_layout.in_place = -1;
    fsafe_layout.rwlock_bytes = bytes; /* rwlock_holds looks at it */
    for (int preference = PTHREAD_RWLOCK_PREFER_READER_NP; preference <= PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
         preference++)
        fsafe_layout.rwlock_bytes = fsafe_layout.rwlock_bytes && rwlock_holds(preference, owner);
    fsafe_layout.sem_bytes = sem_holds();
}

void fsafe_layout_mutex_retake(pthread_mutex_t *m)
{
    unsigned depth = m->__data.__count;
    unsigned users = m->__data.__nusers;
    /* It was a vanished thread's before, and its present owner has not made it consistent yet. */
    bool inconsistent = fsafe_layout_is_robust(fsafe_layout_mutex_kind(m)) &&
                        m->__data.__owner != fsafe_layout_mutex_owner(m);
    int waiters = m->__data.__lock & (int)FSAFE_GLIBC_WAITERS;
    fsafe_layout_mutex_reset(m);
    if (!inconsistent)
        m->__data.__lock &= ~FSAFE_GLIBC_OWNER_DIED;
    libc.mutex_lock(m);
    if ((m->__data.__kind & FSAFE_GLIBC_PI) == 0)
        m->__data.__lock |= waiters; /* one wake-up too many does no harm; with PI the kernel keeps the bit */
    m->__data.__count = depth;
    m->__data.__nusers = users;
}

/* A pthread_t is the address of the thread's control block. */
bool fsafe_layout_thread_may_be(pthread_t thread)
{
    return fsafe_sys_may_be_readable((uintptr_t)thread);
}
