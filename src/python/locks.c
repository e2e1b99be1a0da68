/* python/locks: see locks.h. Unless something else is said, all of this runs under the GIL. */
#include "config.h"

#include "base/sys.h"
#include "python/frames.h"
#include "python/locks.h"
#include "python/methods.h"
#include "python/objects.h"
#include "python/selftest.h"
#include "repair/semaphore.h"
#include "track/join.h"
#include "track/slots.h"

#include <string.h>

/*
 * The interpreter's conventions, which the C API makes public: to 3.14 CPython's PyCFunctionWithKeywords and
 * PyCFunction, from 3.15 on PyCFunctionFastWithKeywords, PyCFunctionFast and PyCFunction.
 */
typedef struct fsafe_object *with_names(struct fsafe_object *, struct fsafe_object *, struct fsafe_object *);
typedef struct fsafe_object *without_names(struct fsafe_object *, struct fsafe_object *);
typedef struct fsafe_object *array_with_names(struct fsafe_object *, struct fsafe_object *const *, intptr_t,
                                              struct fsafe_object *);
typedef struct fsafe_object *array_without_names(struct fsafe_object *, struct fsafe_object *const *, intptr_t);

static void *lock_type, *rlock_type; /* the second is NULL where an RLock is a semaphore */
static struct fsafe_object *no_arguments;
static fsafe_python_try *has_orphan; /* python/orphans' */

/* The interpreter's own. From 3.15 on each name of a method has a function of its own. */
static struct {
    with_names *acquire;
    array_with_names *acquire_array, *acquire_lock_array;
    without_names *enter, *release, *release_lock, *release_save, *acquire_restore, *is_owned;
    array_without_names *leave;
} lock_calls, rlock_calls;

static struct fsafe_python_lock *lock_of(struct fsafe_object *object)
{
    return (struct fsafe_python_lock *)(void *)object;
}

enum fsafe_python_kind fsafe_python_lock_at(uintptr_t object, struct fsafe_python_lock *copy)
{
    if (lock_type == NULL || object % sizeof(void *) != 0 ||
        !fsafe_sys_peek(object, copy, offsetof(struct fsafe_python_lock, owner)))
        return FSAFE_PYTHON_NO_LOCK;
    if (copy->type == lock_type)
        return FSAFE_PYTHON_LOCK;
    bool is_rlock = fsafe_python_is_made_from(copy->type, rlock_type) && fsafe_sys_peek(object, copy, sizeof *copy);
    return is_rlock ? FSAFE_PYTHON_RLOCK : FSAFE_PYTHON_NO_LOCK;
}

static bool is_stale(uintptr_t record, void *unused)
{
    struct fsafe_python_lock copy;
    (void)unused;
    return (record & FSAFE_STAGE_MASK) == FSAFE_HELD &&
           (fsafe_python_lock_at(record & ~FSAFE_STAGE_MASK, &copy) == FSAFE_PYTHON_NO_LOCK ||
            (copy.byte & FSAFE_PYTHON_LOCKED) == 0);
}

static bool want(struct fsafe_thread *self, uintptr_t object, uintptr_t site)
{
    return fsafe_ledger_push(fsafe_thread_python(self), object | FSAFE_WANTED, site) ||
           fsafe_ledger_push_full(fsafe_thread_python(self), object | FSAFE_WANTED, site, is_stale, NULL);
}

/* The Python instruction that calls a method, or the caller where that is unknown. */
static inline uintptr_t site_of(uintptr_t caller)
{
    uintptr_t instruction = fsafe_python_frames_instruction_with_gil();
    return FSAFE_LIKELY(instruction != 0) ? instruction : caller;
}

/* The thread's latest record of the lock at stage `from` goes to stage `to`. Returns whether there was one. */
static bool move_on(struct fsafe_thread *self, uintptr_t from, uintptr_t to)
{
    struct fsafe_ledger *ledger = fsafe_thread_python(self);
    for (uint32_t i = fsafe_ledger_depth(ledger); i > 0; i--) {
        struct fsafe_record *record = fsafe_ledger_record(ledger, i);
        if (FSAFE_LIKELY(atomic_load_explicit(&record->lock, memory_order_relaxed) == from)) {
            atomic_store_explicit(&record->lock, to, memory_order_release);
            return true;
        }
    }
    return false;
}

static void forget(struct fsafe_thread *self, uintptr_t record)
{
    fsafe_ledger_drop_stage(fsafe_thread_python(self), record);
}

/* The interpreter's own compare-and-swap. Returns whether the byte was `from`. */
static inline bool swap_byte(struct fsafe_python_lock *lock, uint8_t from, uint8_t to)
{
    return __atomic_compare_exchange_n(&lock->byte, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline bool is_event(const struct fsafe_python_lock *lock)
{
    return (lock->history & FSAFE_PYTHON_EVENT) != 0;
}

/* By one instruction: a thread that waits for the lock runs without the GIL, and may note something, too. */
static void note(struct fsafe_python_lock *lock, uint8_t what)
{
    __atomic_or_fetch(&lock->history, what, __ATOMIC_RELAXED);
}

/* How much of a method was done before the interpreter's own function is called: DONE, and the call is not needed. */
enum progress { DONE, RECORDED, NOT_RECORDED };

static inline enum progress lock_begin_acquire(struct fsafe_python_lock *lock, bool has_arguments, uintptr_t caller)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t address = (uintptr_t)lock;
    if (self == NULL || is_event(lock) || !want(self, address, site_of(caller)))
        return NOT_RECORDED;
    if (FSAFE_UNLIKELY(has_arguments || !swap_byte(lock, 0, FSAFE_PYTHON_LOCKED)))
        return RECORDED;
    move_on(self, address | FSAFE_WANTED, address | FSAFE_HELD);
    return DONE;
}

/* Whether the interpreter's answer is no, and the caller has the lock all the same. */
static bool has_after_all(struct fsafe_python_lock *lock, enum fsafe_python_kind kind,
                          const struct fsafe_object *result)
{
    return result != NULL && result != fsafe_python._Py_TrueStruct && (lock->byte & FSAFE_PYTHON_ORPHANED) != 0 &&
           has_orphan(lock, kind);
}

static struct fsafe_object *lock_end_acquire(enum progress progress, struct fsafe_python_lock *lock,
                                             struct fsafe_object *result)
{
    uintptr_t address = (uintptr_t)lock;
    if (progress == RECORDED && has_after_all(lock, FSAFE_PYTHON_LOCK, result))
        result = fsafe_python._Py_TrueStruct;
    if (progress == RECORDED && result == fsafe_python._Py_TrueStruct && !is_event(lock))
        move_on(fsafe_self, address | FSAFE_WANTED, address | FSAFE_HELD);
    else if (progress == RECORDED)
        forget(fsafe_self, address | FSAFE_WANTED);
    return result;
}

/* A thread that did not take the lock releases it, or the one that took it has ended. */
static FSAFE_COLD void released_by_another(struct fsafe_python_lock *lock)
{
    uintptr_t held = (uintptr_t)lock | FSAFE_HELD;
    bool had_taker = false;
    struct fsafe_thread_records at = fsafe_thread_records(FSAFE_LIVING | FSAFE_ENDED, FSAFE_PYTHON_LOCKS);
    while (fsafe_thread_record(&at))
        if (at.record.lock == held) {
            fsafe_thread_clear(&at);
            had_taker = true;
        }
    note(lock, had_taker ? FSAFE_PYTHON_EVENT : FSAFE_PYTHON_RELEASED);
}

static inline enum progress lock_begin_release(struct fsafe_python_lock *lock)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t address = (uintptr_t)lock;
    if (self == NULL || is_event(lock) || (lock->byte & FSAFE_PYTHON_LOCKED) == 0)
        return NOT_RECORDED;
    if (FSAFE_UNLIKELY(!move_on(self, address | FSAFE_HELD, address | FSAFE_LEAVING))) {
        released_by_another(lock);
        return NOT_RECORDED;
    }
    if (FSAFE_UNLIKELY((lock->history & FSAFE_PYTHON_MUTUAL) == 0))
        note(lock, FSAFE_PYTHON_MUTUAL | FSAFE_PYTHON_RELEASED);
    if (FSAFE_UNLIKELY(!swap_byte(lock, FSAFE_PYTHON_LOCKED, 0)))
        return RECORDED;
    forget(self, address | FSAFE_LEAVING);
    return DONE;
}

/* The lock is free and the object may be gone: only its address is used. */
static struct fsafe_object *end_release(enum progress progress, const struct fsafe_python_lock *lock,
                                        struct fsafe_object *result)
{
    if (progress == RECORDED)
        forget(fsafe_self, (uintptr_t)lock | FSAFE_LEAVING);
    return result;
}

/* --- RLock: its own words say who has it ----------------------------------------------------------------- */

static inline uintptr_t owner_of(const struct fsafe_python_lock *lock)
{
    return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED);
}

static inline bool is_mine(const struct fsafe_python_lock *lock)
{
    return owner_of(lock) == (uintptr_t)pthread_self();
}

static inline void set_owner(struct fsafe_python_lock *lock, uintptr_t owner)
{
    __atomic_store_n(&lock->owner, owner, __ATOMIC_RELAXED);
}

/* After a call of the interpreter's: the record is what the lock's words say. */
static void settle(struct fsafe_thread *self, const struct fsafe_python_lock *lock, uintptr_t stage)
{
    uintptr_t address = (uintptr_t)lock;
    if (is_mine(lock))
        move_on(self, address | stage, address | FSAFE_HELD);
    else
        forget(self, address | stage);
}

/* An orphan that looks like the caller's was a vanished thread's, whose pthread_t the caller has (python/owners). */
static void disown_orphan(struct fsafe_python_lock *lock)
{
    if (FSAFE_UNLIKELY((lock->byte & FSAFE_PYTHON_ORPHANED) != 0) && is_mine(lock)) {
        lock->level = 0;
        set_owner(lock, 0);
    }
}

static inline enum progress rlock_begin_acquire(struct fsafe_python_lock *lock, bool has_arguments, uintptr_t caller)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t address = (uintptr_t)lock, me = (uintptr_t)pthread_self();
    disown_orphan(lock);
    if (self == NULL || owner_of(lock) == me || !want(self, address, site_of(caller)))
        return NOT_RECORDED;
    if (FSAFE_UNLIKELY(has_arguments || !swap_byte(lock, 0, FSAFE_PYTHON_LOCKED)))
        return RECORDED;
    set_owner(lock, me);
    move_on(self, address | FSAFE_WANTED, address | FSAFE_HELD);
    return DONE;
}

static struct fsafe_object *rlock_end_acquire(enum progress progress, struct fsafe_python_lock *lock,
                                              struct fsafe_object *result)
{
    if (progress == RECORDED && has_after_all(lock, FSAFE_PYTHON_RLOCK, result)) {
        set_owner(lock, (uintptr_t)pthread_self());
        result = fsafe_python._Py_TrueStruct;
    }
    if (progress == RECORDED)
        settle(fsafe_self, lock, FSAFE_WANTED);
    return result;
}

static inline enum progress rlock_begin_release(struct fsafe_python_lock *lock)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t address = (uintptr_t)lock, me = (uintptr_t)pthread_self();
    disown_orphan(lock);
    if (self == NULL || owner_of(lock) != me || lock->level != 0 ||
        FSAFE_UNLIKELY(!move_on(self, address | FSAFE_HELD, address | FSAFE_LEAVING)))
        return NOT_RECORDED;
    set_owner(lock, 0); /* before the byte is free: then the next one writes there */
    if (FSAFE_UNLIKELY(!swap_byte(lock, FSAFE_PYTHON_LOCKED, 0))) {
        set_owner(lock, me);
        return RECORDED;
    }
    forget(self, address | FSAFE_LEAVING);
    return DONE;
}

/* Condition asks before it waits. */
static struct fsafe_object *is_owned(struct fsafe_object *object, struct fsafe_object *arguments)
{
    disown_orphan(lock_of(object));
    return rlock_calls.is_owned(object, arguments);
}

/* Condition.wait gives an RLock back altogether, and takes it again as often. */
static FSAFE_COLD struct fsafe_object *release_save(struct fsafe_object *object, struct fsafe_object *arguments)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t address = (uintptr_t)object;
    bool recorded = self != NULL && is_mine(lock_of(object)) &&
                    move_on(self, address | FSAFE_HELD, address | FSAFE_LEAVING);
    struct fsafe_object *result = rlock_calls.release_save(object, arguments);
    if (recorded)
        forget(self, address | FSAFE_LEAVING);
    return result;
}

static FSAFE_COLD struct fsafe_object *acquire_restore(struct fsafe_object *object, struct fsafe_object *arguments)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    bool recorded = self != NULL && want(self, (uintptr_t)object, site_of(FSAFE_CALLER()));
    struct fsafe_object *result = rlock_calls.acquire_restore(object, arguments);
    if (recorded)
        settle(self, lock_of(object), FSAFE_WANTED);
    return result;
}

void fsafe_python_lock_is_event(uintptr_t object, struct fsafe_thread *self)
{
    note(lock_of((struct fsafe_object *)object), FSAFE_PYTHON_EVENT);
    forget(self, object | FSAFE_WANTED);
    forget(self, object | FSAFE_HELD);
}

bool fsafe_python_lock_has_tokens(const struct fsafe_thread *thread)
{
    return fsafe_thread_tokens(thread) > (fsafe_python_version() < 0x030d);
}

/* --- The methods ------------------------------------------------------------------------------------------------ */

/* A method that is mostly done here; else the interpreter's own function does it, between `begin` and `end`. */
#define METHOD(name, parameters, begin, done, end, call)                                  \
    static struct fsafe_object *name parameters                                           \
    {                                                                                     \
        struct fsafe_python_lock *lock = lock_of(object);                                 \
        enum progress progress = begin;                                                   \
        return FSAFE_LIKELY(progress == DONE) ? (done) : end(progress, lock, call);       \
    }

/* The methods of one type. What leaves a with statement passes three arguments. */
#define METHODS(type)                                                                                                \
    METHOD(type##_acquire,                                                                                           \
           (struct fsafe_object * object, struct fsafe_object * arguments, struct fsafe_object * names),             \
           type##_begin_acquire(lock, arguments != no_arguments || names != NULL, FSAFE_CALLER()),                   \
           fsafe_python._Py_TrueStruct, type##_end_acquire, type##_calls.acquire(object, arguments, names))          \
    METHOD(type##_acquire_array,                                                                                     \
           (struct fsafe_object * object, struct fsafe_object *const *arguments, intptr_t count,                     \
            struct fsafe_object *names),                                                                             \
           type##_begin_acquire(lock, count != 0 || names != NULL, FSAFE_CALLER()), fsafe_python._Py_TrueStruct,     \
           type##_end_acquire, type##_calls.acquire_array(object, arguments, count, names))                          \
    METHOD(type##_enter, (struct fsafe_object * object, struct fsafe_object * nothing),                              \
           type##_begin_acquire(lock, false, FSAFE_CALLER()), fsafe_python._Py_TrueStruct, type##_end_acquire,       \
           type##_calls.enter(object, nothing))                                                                      \
    METHOD(type##_release, (struct fsafe_object * object, struct fsafe_object * arguments),                          \
           type##_begin_release(lock), fsafe_python._Py_NoneStruct, end_release,                                     \
           type##_calls.release(object, arguments))                                                                  \
    METHOD(type##_leave, (struct fsafe_object * object, struct fsafe_object *const *arguments, intptr_t count),      \
           count == 3 ? type##_begin_release(lock) : NOT_RECORDED, fsafe_python._Py_NoneStruct, end_release,         \
           type##_calls.leave(object, arguments, count))

METHODS(lock)
METHODS(rlock)

#define TUPLE (FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED)
#define ARRAY (FSAFE_PYTHON_ARRAY | FSAFE_PYTHON_NAMED)

/* The names with _lock are deprecated, and are the others to us. */
static const struct fsafe_python_method methods[] = {
    {&lock_type, "acquire", TUPLE, lock_acquire, &lock_calls.acquire},
    {&lock_type, "acquire", ARRAY, lock_acquire_array, &lock_calls.acquire_array},
    {&lock_type, "acquire_lock", TUPLE, lock_acquire, &lock_calls.acquire},
    {&lock_type, "acquire_lock", ARRAY, lock_acquire_array, &lock_calls.acquire_lock_array},
    {&lock_type, "__enter__", TUPLE, lock_acquire, &lock_calls.acquire},
    {&lock_type, "__enter__", FSAFE_PYTHON_NO_ARGUMENTS, lock_enter, &lock_calls.enter},
    {&lock_type, "release", FSAFE_PYTHON_NO_ARGUMENTS, lock_release, &lock_calls.release},
    {&lock_type, "release_lock", FSAFE_PYTHON_NO_ARGUMENTS, lock_release, &lock_calls.release_lock},
    {&lock_type, "__exit__", FSAFE_PYTHON_POSITIONAL, lock_release, &lock_calls.release},
    {&lock_type, "__exit__", FSAFE_PYTHON_ARRAY, lock_leave, &lock_calls.leave},
    {&rlock_type, "acquire", TUPLE, rlock_acquire, &rlock_calls.acquire},
    {&rlock_type, "acquire", ARRAY, rlock_acquire_array, &rlock_calls.acquire_array},
    {&rlock_type, "__enter__", TUPLE, rlock_acquire, &rlock_calls.acquire},
    {&rlock_type, "__enter__", FSAFE_PYTHON_NO_ARGUMENTS, rlock_enter, &rlock_calls.enter},
    {&rlock_type, "release", FSAFE_PYTHON_NO_ARGUMENTS, rlock_release, &rlock_calls.release},
    {&rlock_type, "__exit__", FSAFE_PYTHON_POSITIONAL, rlock_release, &rlock_calls.release},
    {&rlock_type, "__exit__", FSAFE_PYTHON_ARRAY, rlock_leave, &rlock_calls.leave},
    {&rlock_type, "_is_owned", FSAFE_PYTHON_NO_ARGUMENTS, is_owned, &rlock_calls.is_owned},
    {&rlock_type, "_release_save", FSAFE_PYTHON_NO_ARGUMENTS, release_save, &rlock_calls.release_save},
    {&rlock_type, "_acquire_restore", FSAFE_PYTHON_POSITIONAL, acquire_restore, &rlock_calls.acquire_restore},
    {&rlock_type, "_acquire_restore", FSAFE_PYTHON_ONE_ARGUMENT, acquire_restore, &rlock_calls.acquire_restore},
};

FSAFE_COLD bool fsafe_python_locks_start(fsafe_python_try *has_by_try)
{
    enum { OF_SEMAPHORE = 5 * sizeof(uintptr_t) };
    void *lock = fsafe_python_thread_type("LockType", "_thread.lock");
    if (fsafe_python_version() < 0x030d || fsafe_python_size_of(lock) == OF_SEMAPHORE)
        return true;
    /* The test is of the interpreter's own methods; in a later life of it they lead through ours from the beginning. */
    without_names *const before = lock_calls.release;
    bool is_known = before != NULL && fsafe_python_is_text((uintptr_t)before);
    if (!is_known) { /* there may have been another, which is unloaded */
        memset(&lock_calls, 0, sizeof lock_calls);
        memset(&rlock_calls, 0, sizeof rlock_calls);
    }
    lock_type = lock;
    rlock_type = fsafe_python_version() < 0x030e ? NULL : fsafe_python_thread_type("RLock", "_thread.RLock");
    no_arguments = fsafe_python.PyTuple_New(0);
    has_orphan = has_by_try;
    if (lock_type != NULL && no_arguments != NULL &&
        (is_known || fsafe_python_selftest_passes(lock_type, rlock_type)) &&
        fsafe_python_methods_lead(methods, sizeof methods / sizeof *methods))
        return true;
    lock_type = rlock_type = NULL;
    fsafe_python_off("Python: the locks of this CPython are not as forksafe knows them: they are not looked after");
    return false;
}
