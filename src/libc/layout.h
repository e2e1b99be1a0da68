/*
 * libc/layout: questions to an opaque lock. The only file that knows the bytes of pthread_mutex_t, pthread_rwlock_t and
 * sem_t, by headers for one C library, which configure chooses. At start-up a self-test compares their answers with
 * what this libc does, and what does not hold is not used (struct fsafe_layout).
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

enum fsafe_mutex_kind {
    FSAFE_MUTEX_NORMAL,
    FSAFE_MUTEX_RECURSIVE,
    FSAFE_MUTEX_ERRORCHECK,
    FSAFE_MUTEX_ADAPTIVE,
    FSAFE_MUTEX_PRIO_PROTECT,
    FSAFE_MUTEX_PRIO_INHERIT,
    FSAFE_MUTEX_ROBUST, /* private or shared: glibc marks every robust mutex as shared */
    FSAFE_MUTEX_ROBUST_PRIO_INHERIT,
    FSAFE_MUTEX_FOREIGN, /* process-shared or destroyed: never taken over */
};

/* Whether the kernel finds the owner of a mutex of this kind in the lock word. */
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
    FSAFE_UNLOCKED,      /* the mutex is free */
    FSAFE_UNLOCKED_WAKE, /* the mutex is free, and the caller has to wake a waiter */
    FSAFE_UNLOCKED_ONCE, /* the mutex is recursive, and still locked */
    FSAFE_UNLOCK_LIBC,   /* nothing: libc has to unlock it, or to return an error */
};

/* What posting a semaphore in place did. */
enum fsafe_posted {
    FSAFE_POSTED,
    FSAFE_POST_WAKE, /* the semaphore has a token now, and the caller has to wake a waiter */
    FSAFE_POST_LIBC, /* nothing: the semaphore has a token already */
};

/* Whom an rwlock prefers, by glibc's numbers. */
enum { FSAFE_PREFERS_READERS, FSAFE_PREFERS_WRITERS, FSAFE_PREFERS_WRITERS_NONRECURSIVE };

/* What the bytes of an rwlock said at one moment. */
struct fsafe_rwlock_state {
    unsigned word;       /* for dismiss */
    unsigned readers;    /* how many hold it or, in a write phase, wait for it */
    bool is_locked;      /* by a writer, who holds it or waits only until the readers have left */
    bool is_write_phase; /* readers have to wait */
    bool is_torn;        /* a thread is in the middle of changing the phase */
    unsigned waiting;    /* how many writers wait for the writer before them */
    int writer;          /* the owner; 0 when there is none, and for a moment while it is being taken or released */
};

/* Words that go with a sem_t and that libc never reads or writes; repair/semaphore says what is in them. */
struct fsafe_sem_words {
    _Atomic uint32_t note;
    _Atomic uint32_t owner;
    _Atomic uintptr_t site;
};

/* What the self-test found; all false until it ran. Written at start-up, and before the second thread. */
struct fsafe_layout {
    bool mutex_bytes;  /* the answers about mutexes are true of this libc */
    bool rwlock_bytes; /* so are those about rwlocks */
    bool sem_bytes;    /* so are those about semaphores: they are taken and posted in place */
    int in_place;      /* 0: private mutexes of the ordinary types are locked in place; -1: none is */
    bool spin_in_place; /* spin locks are taken and released in place, by the next two values */
    int spin_free, spin_taken;
    bool cond_in_place; /* a signal or broadcast for which no thread waits is done in place */
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
    CALL(semaphore_init, sem_init)                   \
    CALL(semaphore_destroy, sem_destroy)             \
    CALL(semaphore_trywait, sem_trywait)             \
    CALL(semaphore_post, sem_post)
struct fsafe_layout_calls {
    FSAFE_LAYOUT_CALLS(FSAFE_CALL_FIELD)
};

/* Fills in fsafe_layout, with locks of its own, and keeps the calls. `pid`: this process. Context: start-up. */
void fsafe_layout_self_test(const struct fsafe_layout_calls *calls, int pid);

/*
 * Fills in cond_in_place. Until libc/fresh has learned what a condition variable looks like that is false. Context: a
 * thread about to make another.
 */
void fsafe_layout_cond_self_test(void);

/*
 * Returns what this libc writes as the owner when the calling thread takes a mutex. That is not always the thread's id:
 * in the child of a raw SYS_fork libc goes on with the parent's.
 */
int fsafe_layout_probe_owner(void);

/*
 * Rehomes a mutex that the calling thread held when it forked and that the kernel knows, too (robust, priority
 * inheritance): takes it again, to the same depth and in the same state. Context: the thread that holds it, in a child,
 * alone, or when it is about to release it: no thread may be waiting for it.
 */
void fsafe_layout_mutex_retake(pthread_mutex_t *m);

/* Whether there is memory where `thread` would have some; if not it is no thread of this process. Slow. */
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

/* Whether libc's destroy of a private condition variable or barrier waits for the threads that are inside. */
#ifndef FSAFE_LAYOUT_DESTROY_WAITS
#define FSAFE_LAYOUT_DESTROY_WAITS true
#endif

/* Whether C11's mtx_unlock returns thrd_error for an error of pthread_mutex_unlock; if not, the error's number. */
#ifndef FSAFE_LAYOUT_C11_UNLOCK_MAPS
#define FSAFE_LAYOUT_C11_UNLOCK_MAPS true
#endif

/* What a header need not define. */
FSAFE_BEGIN_ANSWERS
#ifndef FSAFE_LAYOUT_TYPES
static inline bool fsafe_layout_spin_for(pthread_mutex_t *m, int owner) { return false; }
static inline bool fsafe_layout_relock(pthread_mutex_t *m, int owner, unsigned type) { return false; }
#endif
#ifndef FSAFE_LAYOUT_UNTRY
static inline void fsafe_layout_mutex_untry(pthread_mutex_t *m, int owner) { }
#endif
#ifndef FSAFE_LAYOUT_HEIR
static inline void fsafe_layout_mutex_name_heir(pthread_mutex_t *m, int owner, int tid) { }
#endif
#ifndef FSAFE_LAYOUT_NOTES
static inline void fsafe_layout_mutex_note(pthread_mutex_t *m, int owner) { }
static inline void fsafe_layout_rwlock_note_writer(pthread_rwlock_t *rwlock, int owner) { }
#endif
FSAFE_END_ANSWERS

/*
 * The headers above define, for mutexes:
 *
 *   unsigned fsafe_layout_type(const pthread_mutex_t *m)
 *       of a mutex that is locked in place: PTHREAD_MUTEX_NORMAL, _RECURSIVE, _ERRORCHECK or _ADAPTIVE_NP; of any other
 *       a greater number. Asked once and passed to those below, as a constant where the caller knows it.
 *   bool fsafe_layout_lock_free(pthread_mutex_t *m, int owner, unsigned type)
 *       takes a free mutex for `owner`, as libc would; false, nothing changed, when it is not free.
 *   bool fsafe_layout_waits_in_place(const pthread_mutex_t *m, int owner)
 *       whether `owner` may wait for it by the next three functions: it is locked in place, and libc would not return
 *       an error.
 *   bool fsafe_layout_lock_queued(pthread_mutex_t *m, int owner)
 *       takes a free mutex and marks it as waited for: its release wakes a waiter. False: it is not free; it is marked.
 *   bool fsafe_layout_sleep_queued(pthread_mutex_t *m, clockid_t clock, const struct timespec *until)
 *       sleeps while it is marked as waited for; may return for no reason. False: it is `until` (NULL: no limit).
 *   void fsafe_layout_end_sleep(pthread_mutex_t *m)
 *       ends the sleep of the only thread that sleeps so, which a signal handler has interrupted: the mutex, which
 *       another thread has, is no longer marked.
 *   bool fsafe_layout_spin_for(pthread_mutex_t *m, int owner)
 *       tries for a short while, so that a short critical section of another thread costs no sleep; an adaptive mutex
 *       for as long as libc would.
 *   bool fsafe_layout_relock(pthread_mutex_t *m, int owner, unsigned type)
 *       locks a recursive mutex again that `owner` holds; false, nothing changed, when that is not so. A header that
 *       does not define FSAFE_LAYOUT_TYPES has neither this function nor the one before.
 *   enum fsafe_unlocked fsafe_layout_unlock(pthread_mutex_t *m, int owner, unsigned type)
 *       unlocks as libc would, but wakes nobody; once the mutex is free it is not touched.
 *   void fsafe_layout_mutex_wake(pthread_mutex_t *m)
 *       wakes a waiter after that. The mutex's memory may be gone.
 *   enum fsafe_mutex_kind fsafe_layout_mutex_kind(const pthread_mutex_t *m)
 *   bool fsafe_layout_mutex_locked(const pthread_mutex_t *m)
 *   bool fsafe_layout_mutex_may_be_of(const pthread_mutex_t *m, int owner)
 *       reads one word; false: it certainly has another owner, or none, or is no mutex.
 *   int fsafe_layout_mutex_owner(const pthread_mutex_t *m)
 *       0 when free, and for a moment while it is being taken or released.
 *   unsigned fsafe_layout_mutex_depth(const pthread_mutex_t *m)
 *       how often its owner has to unlock it.
 *   void fsafe_layout_mutex_note(pthread_mutex_t *m, int owner)
 *       writes the owner where this libc writes none: called after libc has locked it for `owner`, and with 0 before
 *       libc unlocks it. A header that does not define FSAFE_LAYOUT_NOTES has nothing to write.
 *   void fsafe_layout_mutex_untry(pthread_mutex_t *m, int owner)
 *       after a trylock by the thread `owner` that failed with ENOTRECOVERABLE: makes the mutex free again where this
 *       libc's trylock, unlike its lock, leaves it locked by that thread. A header that does not define
 *       FSAFE_LAYOUT_UNTRY has nothing to do.
 *   void fsafe_layout_mutex_name_heir(pthread_mutex_t *m, int owner, int tid)
 *       after a lock by the calling thread that returned EOWNERDEAD: where the kernel wrote the thread's id `tid` and
 *       libc knows it as `owner`, libc's is written, which its unlock compares, unless another thread waits already. A
 *       header that does not define FSAFE_LAYOUT_HEIR has nothing to do.
 *   void fsafe_layout_mutex_set_owner(pthread_mutex_t *m, int owner)
 *       writes the owner. Context: the thread that holds it.
 *   void fsafe_layout_mutex_reset(pthread_mutex_t *m)
 *       makes a vanished thread's mutex free, kind and ceiling kept; the next owner of a robust one gets EOWNERDEAD.
 *       Other threads may be trying it meanwhile.
 *   void fsafe_layout_mutex_drop_users(pthread_mutex_t *m, unsigned users)
 *       counts `users` users less: vanished threads that waited for a condition variable. Context: the mutex is free.
 *
 * for condition variables:
 *
 *   bool fsafe_layout_cond_is_idle(const pthread_cond_t *condvar)
 *       whether a signal or broadcast certainly does nothing, because no thread waits.
 *
 * and only good enough to put a report into words:
 *
 *   bool fsafe_layout_cond_has_waiters(const struct fsafe_fresh *fresh, const void *condvar)
 *   bool fsafe_layout_cond_is_locked(const struct fsafe_fresh *fresh, const void *condvar)
 *       a thread that is in a signal, broadcast or wait has its inner lock.
 *
 * for rwlocks:
 *
 *   bool fsafe_layout_rwlock_is_private(const pthread_rwlock_t *l)
 *       process-private, and the self-test has passed: the functions below are for such an rwlock.
 *   int fsafe_layout_rwlock_preference(const pthread_rwlock_t *l)
 *       FSAFE_PREFERS_...
 *   int fsafe_layout_rwlock_writer(const pthread_rwlock_t *l)
 *       the owner, as in the state.
 *   struct fsafe_rwlock_state fsafe_layout_rwlock_look(const pthread_rwlock_t *l)
 *   bool fsafe_layout_rwlock_read(pthread_rwlock_t *l)
 *       takes it for reading where libc would only count one reader more; false, nothing changed: ask libc.
 *   bool fsafe_layout_rwlock_unread(pthread_rwlock_t *l)
 *       releases it, which the caller holds for reading, where libc would only count one reader less.
 *   void fsafe_layout_rwlock_note_writer(pthread_rwlock_t *l, int owner)
 *       as fsafe_layout_mutex_note, for writing.
 *   void fsafe_layout_rwlock_set_writer(pthread_rwlock_t *l, int owner)
 *       writes the owner. Context: the thread that holds it for writing.
 *   void fsafe_layout_rwlock_make_free(pthread_rwlock_t *l, unsigned readers)
 *       makes it held by `readers` readers and no writer, without waiters. Context: child, alone; or it is in a write
 *       phase of vanished threads, so that no thread can get in.
 *   void fsafe_layout_rwlock_make_written(pthread_rwlock_t *l, int owner)
 *       makes it held for writing, without waiters. Context: child, alone.
 *   void fsafe_layout_rwlock_forget_waiting(pthread_rwlock_t *l, unsigned waiting)
 *       counts `waiting` waiting writers less.
 *   bool fsafe_layout_rwlock_dismiss(pthread_rwlock_t *l, const struct fsafe_rwlock_state *seen, unsigned readers,
 *                                    bool writer)
 *       counts `readers` readers less and, with `writer`, removes the writer that waits for readers; false when the
 *       word is no longer as `seen`. Other threads may be taking and releasing it, but none waits for it.
 *
 *   pthread_rwlock_t *fsafe_layout_rwlock_free_waited(uint32_t *word, uint32_t value, unsigned others)
 *       the calling thread and `others` more sleep on `word` while it reads `value`. If `word` is one of an rwlock's,
 *       makes that rwlock such that these threads go on, and returns it; if not, NULL. Context: no other thread of
 *       this process is in the rwlock.
 *   bool fsafe_layout_rwlock_is_spun_on(const pthread_rwlock_t *l, bool writes)
 *       whether a call that wants it asks again and again, without a sleep, until another thread goes on.
 *   void fsafe_layout_rwlock_free_spun(pthread_rwlock_t *l, bool writes)
 *       makes it such that this call gets it. Context: child, alone.
 *   void fsafe_layout_rwlock_clean(pthread_rwlock_t *l)
 *       makes it free, if it is not. Context: child, alone.
 *
 * for spin locks, where spin_in_place:
 *
 *   bool fsafe_layout_spin_try(pthread_spinlock_t *l)
 *   void fsafe_layout_spin_unlock(pthread_spinlock_t *l)
 *
 * and for semaphores:
 *
 *   struct fsafe_sem_words *fsafe_layout_sem_words(sem_t *s)
 *       the words that we keep for it; NULL: it has none. They may be written only where sem_bytes is true.
 *   struct fsafe_sem_words *fsafe_layout_sem_words_begin(sem_t *s)
 *       after a successful sem_init: gives it words; NULL where there are none left.
 *   void fsafe_layout_sem_words_end(sem_t *s)
 *       before sem_destroy: takes them back.
 *   unsigned fsafe_layout_sem_value(const sem_t *s)
 *   bool fsafe_layout_sem_try(sem_t *s)
 *       takes a token as libc would; false when there is none.
 *   bool fsafe_layout_sem_is_shared(const sem_t *s)
 *       whether it was initialised to be shared between processes; also false when that is not known.
 *   enum fsafe_posted fsafe_layout_sem_post(sem_t *s)
 *       gives a semaphore without a token one, as libc would.
 *   void fsafe_layout_sem_wake(sem_t *s)
 *       wakes a waiter after that. The semaphore's memory may be gone.
 */
