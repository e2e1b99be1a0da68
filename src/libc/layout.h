/*
 * libc/layout: questions to an opaque lock. The only room that knows the bytes of pthread_mutex_t, pthread_rwlock_t and
 * sem_t; one header per C library (and for glibc one each for rwlocks and semaphores) answers, chosen at build time.
 * The start-up self-test compares each answer with what this very libc does and withdraws what does not hold.
 *
 * The program has just passed the lock to a wrapper, so its memory is there.
 * Nothing here waits, allocates or changes errno. Context: any thread, unless said otherwise.
 */
#pragma once

#include "base/compiler.h"

#include "libc/fresh.h"

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a mutex is to us. */
enum fsafe_mutex_kind {
    FSAFE_MUTEX_NORMAL,
    FSAFE_MUTEX_RECURSIVE,
    FSAFE_MUTEX_ERRORCHECK,
    FSAFE_MUTEX_ADAPTIVE,
    FSAFE_MUTEX_PRIO_PROTECT,
    FSAFE_MUTEX_PRIO_INHERIT,
    FSAFE_MUTEX_ROBUST, /* says nothing of sharing: libc marks every robust mutex as if it were shared */
    FSAFE_MUTEX_ROBUST_PRIO_INHERIT,
    FSAFE_MUTEX_FOREIGN, /* process-shared or destroyed: not ours to judge */
};

/* Whether the kernel knows the holder of a mutex of this kind by the lock word. */
static inline bool fsafe_layout_is_by_word(enum fsafe_mutex_kind kind)
{
    return kind == FSAFE_MUTEX_PRIO_INHERIT || kind == FSAFE_MUTEX_ROBUST ||
           kind == FSAFE_MUTEX_ROBUST_PRIO_INHERIT;
}

static inline bool fsafe_layout_is_robust(enum fsafe_mutex_kind kind)
{
    return kind == FSAFE_MUTEX_ROBUST || kind == FSAFE_MUTEX_ROBUST_PRIO_INHERIT;
}

/* What unlocking in place did. */
enum fsafe_unlocked {
    FSAFE_UNLOCKED,      /* it is free */
    FSAFE_UNLOCKED_WAKE, /* it is free, and a waiter is to be woken */
    FSAFE_UNLOCKED_ONCE, /* recursive, and locked still */
    FSAFE_UNLOCK_LIBC,   /* nothing: libc has to decide, perhaps that it is an error */
};

/* What posting a semaphore in place did. */
enum fsafe_posted {
    FSAFE_POSTED,
    FSAFE_POST_WAKE, /* it has a token now, and a waiter is to be woken */
    FSAFE_POST_LIBC, /* nothing: it has a token already */
};

/* Whom an rwlock prefers, by glibc's numbers. */
enum { FSAFE_PREFERS_READERS, FSAFE_PREFERS_WRITERS, FSAFE_PREFERS_WRITERS_NONRECURSIVE };

/* What the bytes of an rwlock said at one moment. */
struct fsafe_rwlock_state {
    unsigned word;       /* for dismiss */
    unsigned readers;    /* that hold it or, in a write phase, wait for it */
    bool is_locked;      /* by a writer, who holds it or waits only for the readers to leave */
    bool is_write_phase; /* readers have to wait */
    bool is_torn;        /* somebody is in the middle of changing the phase */
    unsigned waiting;    /* writers that wait for the writer before them */
    int writer;          /* 0 when nobody holds it, and for a moment while it is being taken or released */
};

/* Words that go with a sem_t and that libc never reads or writes; what we keep in them is repair/semaphore's. */
struct fsafe_sem_words {
    _Atomic uint32_t note;
    _Atomic uint32_t owner;
    _Atomic uintptr_t site;
};

/* What the self-test found; all false until it ran. Written at start-up, and before the second thread. */
struct fsafe_layout {
    bool mutex_bytes; /* the mutex questions below are answered as this libc means them */
    bool rwlock_bytes; /* so are those about rwlocks */
    bool sem_bytes;   /* a semaphore's value and spare bytes are where we think: it is taken and posted in place */
    int in_place; /* 0: private mutexes of the ordinary types are locked in place; -1: none is */
    bool spin_in_place; /* a spin lock may be taken and released in place: by these two values */
    int spin_free, spin_taken;
    bool cond_in_place; /* a signal or broadcast that nobody waits for may be done in place */
};
extern FSAFE_HIDDEN struct fsafe_layout fsafe_layout;

/* The calls that the self-test compares with: the next definitions, never our wrappers. */
#define FSAFE_LAYOUT_CALLS(CALL)                     \
    CALL(mutex_init, pthread_mutex_init)             \
    CALL(mutex_destroy, pthread_mutex_destroy)       \
    CALL(mutex_lock, pthread_mutex_lock)             \
    CALL(mutex_trylock, pthread_mutex_trylock)       \
    CALL(mutex_unlock, pthread_mutex_unlock)         \
    CALL(cond_signal, pthread_cond_signal)           \
    CALL(cond_broadcast, pthread_cond_broadcast)     \
    CALL(rwlock_init, pthread_rwlock_init)           \
    CALL(rwlock_destroy, pthread_rwlock_destroy)     \
    CALL(rwlock_rdlock, pthread_rwlock_rdlock)       \
    CALL(rwlock_tryrdlock, pthread_rwlock_tryrdlock) \
    CALL(rwlock_wrlock, pthread_rwlock_wrlock)       \
    CALL(rwlock_trywrlock, pthread_rwlock_trywrlock) \
    CALL(rwlock_unlock, pthread_rwlock_unlock)       \
    CALL(spin_init, pthread_spin_init)               \
    CALL(spin_lock, pthread_spin_lock)               \
    CALL(spin_trylock, pthread_spin_trylock)         \
    CALL(spin_unlock, pthread_spin_unlock)           \
    CALL(sem_init, sem_init)                         \
    CALL(sem_destroy, sem_destroy)                   \
    CALL(sem_trywait, sem_trywait)                   \
    CALL(sem_post, sem_post)
struct fsafe_layout_calls {
    FSAFE_LAYOUT_CALLS(FSAFE_CALL_FIELD)
};

/* Fills in fsafe_layout and keeps the calls. `pid`: this process. Context: start-up (uses locks of its own). */
void fsafe_layout_self_test(const struct fsafe_layout_calls *calls, int pid);

/*
 * The part about condition variables, which says nothing before libc/fresh has learned what one looks like. Context: a
 * thread about to make another.
 */
void fsafe_layout_cond_self_test(void);

/*
 * Returns what this libc writes as owner when the calling thread takes a mutex. That is not always the
 * thread id: after a raw SYS_fork libc goes on with the old one.
 */
int fsafe_layout_probe_owner(void);

/*
 * Makes a mutex that the calling thread held before it forked its own again where the kernel is concerned too
 * (robust, priority inheritance): takes it anew, to the same depth and in the same state.
 * Context: its holder, which nobody may be waiting for: the child, alone, or about to release it.
 */
void fsafe_layout_mutex_retake(pthread_mutex_t *m);

/* Whether there is memory where a thread of that handle has some: else it is none of this process. Slow. */
bool fsafe_layout_thread_may_be(pthread_t thread);

#ifdef FSAFE_LAYOUT_GLIBC
#include "libc/layout-glibc.h"
#include "libc/layout-glibc-rwlock.h"
#include "libc/layout-glibc-semaphore.h"
#elif defined(FSAFE_LIBC_MUSL)
#include "libc/layout-musl.h"
#include "libc/layout-musl-semaphore.h"
#else
#include "libc/layout-unknown.h"
#endif

/* Whether a mutex is locked in place: private, of an ordinary type, self-test passed. */
static inline bool fsafe_layout_in_place(const pthread_mutex_t *m)
{
    return fsafe_layout_type(m) <= FSAFE_MUTEX_ADAPTIVE;
}

/* Where no adaptive or recursive mutex is locked in place. */
#ifndef FSAFE_LAYOUT_TYPES
static inline bool fsafe_layout_spin_for(pthread_mutex_t *m, int owner)
{
    (void)m, (void)owner;
    return false;
}

static inline bool fsafe_layout_relock(pthread_mutex_t *m, int owner, unsigned type)
{
    (void)m, (void)owner, (void)type;
    return false;
}
#endif

/* Whether libc's destroy of a condition variable or barrier, if it is private, waits for those who are inside. */
#ifndef FSAFE_LAYOUT_DESTROY_WAITS
#define FSAFE_LAYOUT_DESTROY_WAITS true
#endif

/* What C11's mtx_unlock gives for an error of pthread_mutex_unlock: thrd_error, or the error's number as it is. */
#ifndef FSAFE_LAYOUT_C11_UNLOCK_MAPS
#define FSAFE_LAYOUT_C11_UNLOCK_MAPS true
#endif

#ifndef FSAFE_LAYOUT_UNTRY
static inline void fsafe_layout_mutex_untry(pthread_mutex_t *m, int owner)
{
    (void)m, (void)owner;
}
#endif

#ifndef FSAFE_LAYOUT_NOTES
static inline void fsafe_layout_mutex_note(pthread_mutex_t *m, int owner)
{
    (void)m, (void)owner;
}

static inline void fsafe_layout_rwlock_note_writer(pthread_rwlock_t *rwlock, int owner)
{
    (void)rwlock, (void)owner;
}
#endif

/*
 * The headers above define, for mutexes:
 *
 *   unsigned fsafe_layout_type(const pthread_mutex_t *m)
 *       of one that fsafe_layout_in_place names PTHREAD_MUTEX_NORMAL, _RECURSIVE, _ERRORCHECK or _ADAPTIVE_NP; of any
 *       other a greater number. Asked once and passed to those below, as a constant where the caller knows it.
 *   bool fsafe_layout_lock_free(pthread_mutex_t *m, int owner, unsigned type)
 *       takes a free mutex for `owner`, as libc would; false, nothing changed, when it is not free.
 *   bool fsafe_layout_waits_in_place(const pthread_mutex_t *m, int owner)
 *       whether `owner` may wait for it by the next three: one of those in_place names, and no error to be given.
 *   bool fsafe_layout_lock_queued(pthread_mutex_t *m, int owner)
 *       takes it, if it is free, as one of several who want it: whoever releases it wakes the next. If not, marks it
 *       so.
 *   bool fsafe_layout_sleep_queued(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
 *       sleeps while it is marked so; may return for no reason. False: it is `until` (NULL: it never is).
 *   bool fsafe_layout_spin_for(pthread_mutex_t *m, int owner)
 *       tries for a short while, so that a short critical section of another thread costs no sleep; one of the
 *       adaptive kind for as long as libc would.
 *   bool fsafe_layout_relock(pthread_mutex_t *m, int owner, unsigned type)
 *       locks a recursive mutex that `owner` holds once more; false, nothing changed, when that is not so. A header
 *       that does not define FSAFE_LAYOUT_TYPES has neither this nor the one above.
 *   enum fsafe_unlocked fsafe_layout_unlock(pthread_mutex_t *m, int owner, unsigned type)
 *       unlocks as libc would, but for the waking; does not touch a mutex that became free afterwards.
 *   void fsafe_layout_mutex_wake(pthread_mutex_t *m)
 *       wakes a waiter after that. The mutex may be gone.
 *   enum fsafe_mutex_kind fsafe_layout_mutex_kind(const pthread_mutex_t *m)
 *   bool fsafe_layout_mutex_locked(const pthread_mutex_t *m)
 *   bool fsafe_layout_mutex_may_be_of(const pthread_mutex_t *m, int owner)
 *       one look; false: it certainly has another owner, or none, or is no mutex.
 *   int fsafe_layout_mutex_owner(const pthread_mutex_t *m)
 *       0 when free, and for a moment while it is being taken or released.
 *   unsigned fsafe_layout_mutex_depth(const pthread_mutex_t *m)
 *       how often its owner has to unlock it.
 *   void fsafe_layout_mutex_note(pthread_mutex_t *m, int owner)
 *       after libc locked it for `owner`, and before libc unlocks it for whoever calls (0): writes the owner of a kind
 *       for which this libc writes none. A header that does not define FSAFE_LAYOUT_NOTES has nothing to write.
 *   void fsafe_layout_mutex_untry(pthread_mutex_t *m, int owner)
 *       after a trylock by the thread `owner` that failed with ENOTRECOVERABLE: makes the mutex free again where this
 *       libc's trylock, unlike its lock, leaves it locked by that thread. A header that does not define
 *       FSAFE_LAYOUT_UNTRY has nothing to do.
 *   void fsafe_layout_mutex_set_owner(pthread_mutex_t *m, int owner)
 *       for the thread that holds it.
 *   void fsafe_layout_mutex_reset(pthread_mutex_t *m)
 *       makes a vanished thread's mutex free, kind and ceiling kept; of a robust one the next owner gets EOWNERDEAD.
 *       Other threads may be trying it meanwhile.
 *   void fsafe_layout_mutex_drop_users(pthread_mutex_t *m, unsigned users)
 *       counts so many users less: waiters of a condition variable, who have left it. It is free.
 *
 * for condition variables:
 *
 *   bool fsafe_layout_cond_is_idle(const pthread_cond_t *condvar)
 *       whether a signal or broadcast certainly does nothing, because nobody waits.
 *
 * and only good enough to put a report into words:
 *
 *   bool fsafe_layout_cond_has_waiters(const struct fsafe_fresh *fresh, const void *condvar)
 *   bool fsafe_layout_cond_is_locked(const struct fsafe_fresh *fresh, const void *condvar)
 *       a thread inside of signal, broadcast or wait has its inner lock.
 *
 * for rwlocks:
 *
 *   bool fsafe_layout_rwlock_is_private(const pthread_rwlock_t *l)
 *       whether the next may be used: process-private, self-test passed.
 *   int fsafe_layout_rwlock_preference(const pthread_rwlock_t *l)
 *       FSAFE_PREFERS_...
 *   int fsafe_layout_rwlock_writer(const pthread_rwlock_t *l)
 *       who holds it for writing; see the state.
 *   struct fsafe_rwlock_state fsafe_layout_rwlock_look(const pthread_rwlock_t *l)
 *   bool fsafe_layout_rwlock_read(pthread_rwlock_t *l)
 *       holds it for reading where that needs no more than one more reader; false, nothing changed: ask libc.
 *   bool fsafe_layout_rwlock_unread(pthread_rwlock_t *l)
 *       the caller holds it for reading: the same the other way round.
 *   void fsafe_layout_rwlock_note_writer(pthread_rwlock_t *l, int owner)
 *       as fsafe_layout_mutex_note, for writing.
 *   void fsafe_layout_rwlock_set_writer(pthread_rwlock_t *l, int owner)
 *       for the thread that holds it for writing.
 *   void fsafe_layout_rwlock_make_free(pthread_rwlock_t *l, unsigned readers)
 *       held by so many readers and no writer, nobody waits. Alone, or in a write phase of vanished threads: nobody
 *       can get in.
 *   void fsafe_layout_rwlock_make_written(pthread_rwlock_t *l, int owner)
 *       held for writing, nobody waits. Alone.
 *   void fsafe_layout_rwlock_forget_waiting(pthread_rwlock_t *l, unsigned waiting)
 *       so many waiting writers fewer.
 *   bool fsafe_layout_rwlock_dismiss(pthread_rwlock_t *l, const struct fsafe_rwlock_state *seen, unsigned readers,
 *                                    bool writer)
 *       so many readers fewer, and no writer that waits for readers; false when the word is not as `seen` any more.
 *       Other threads may be taking and releasing it, but none waits in it.
 *
 *   pthread_rwlock_t *fsafe_layout_rwlock_free_waited(uint32_t *word, uint32_t value, unsigned others)
 *       `word` may be one of an rwlock's on which a thread sleeps, and so many others, while it reads `value`: then
 *       nobody but these is left in the rwlock, and they may go on. Returns the rwlock, or NULL: it is none. Nobody
 *       else is in it.
 *   bool fsafe_layout_rwlock_is_spun_on(const pthread_rwlock_t *l, bool writes)
 *       whether a call that wants it asks again and again, without a sleep, until some thread goes on.
 *   void fsafe_layout_rwlock_free_spun(pthread_rwlock_t *l, bool writes)
 *       nobody but that call is left in it, which gets it. Alone.
 *   void fsafe_layout_rwlock_clean(pthread_rwlock_t *l)
 *       nobody is left in it. Alone.
 *
 * for spin locks, where spin_in_place:
 *
 *   bool fsafe_layout_spin_try(pthread_spinlock_t *l)
 *   void fsafe_layout_spin_unlock(pthread_spinlock_t *l)
 *
 * and for semaphores:
 *
 *   struct fsafe_sem_words *fsafe_layout_sem_words(sem_t *s)
 *       NULL: it has none. Only where the self-test found them so may they be written.
 *   struct fsafe_sem_words *fsafe_layout_sem_words_begin(sem_t *s)
 *       after a successful sem_init: the same, and words are found for it if it can be.
 *   void fsafe_layout_sem_words_end(sem_t *s)
 *       before sem_destroy.
 *   unsigned fsafe_layout_sem_value(const sem_t *s)
 *   bool fsafe_layout_sem_try(sem_t *s)
 *       takes a token as libc would; false when there is none.
 *   bool fsafe_layout_sem_is_shared(const sem_t *s)
 *       whether it was initialised to be shared between processes; false as well when that is not known.
 *   enum fsafe_posted fsafe_layout_sem_post(sem_t *s)
 *       gives a semaphore that has no token one, as libc would.
 *   void fsafe_layout_sem_wake(sem_t *s)
 *       wakes a waiter after that. The semaphore may be gone.
 */
