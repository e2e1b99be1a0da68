/* python/locks: see locks.h. Unless something else is said, all of this runs under the GIL. */
#include "config.h"

#include "base/sys.h"
#include "python/frames.h"
#include "python/locks.h"
#include "python/methods.h"
#include "python/selftest.h"
#include "repair/semaphore.h"

/* The interpreter's conventions: CPython's PyCFunctionWithKeywords and PyCFunction, which the C API makes public. */
typedef struct fsafe_object *with_names(struct fsafe_object *, struct fsafe_object *, struct fsafe_object *);
typedef struct fsafe_object *without_names(struct fsafe_object *, struct fsafe_object *);

static void *lock_type, *rlock_type; /* the second is NULL where an RLock is a semaphore */
static struct fsafe_object *no_arguments;

static struct {
    with_names *acquire;
    without_names *release;
} lock_calls, rlock_calls;
static without_names *rlock_release_save, *rlock_acquire_restore, *rlock_is_owned;

static struct fsafe_python_lock *lock_of(struct fsafe_object *object)
{
    return (struct fsafe_python_lock *)(void *)object;
}

static struct fsafe_object *true_object(void)
{
    struct fsafe_object *value = fsafe_python._Py_TrueStruct; /* immortal since 3.12 */
    return value;
}

static struct fsafe_object *none_object(void)
{
    struct fsafe_object *value = fsafe_python._Py_NoneStruct;
    return value;
}

/* A class of the program's may be made from RLock's, and its objects begin like those. */
static bool is_rlock_type(const void *type)
{
    enum { DEEPEST = 16 };
    uintptr_t at = (uintptr_t)type;
    for (unsigned i = 0; rlock_type != NULL && at != 0 && i < DEEPEST; i++)
        if (at == (uintptr_t)rlock_type)
            return true;
        else if (!fsafe_sys_peek(at + FSAFE_PYTHON_TYPE_BASE, &at, sizeof at))
            break;
    return false;
}

enum fsafe_python_kind fsafe_python_lock_at(uintptr_t object, struct fsafe_python_lock *copy)
{
    if (lock_type == NULL || object % sizeof(void *) != 0 ||
        !fsafe_sys_peek(object, copy, offsetof(struct fsafe_python_lock, owner)))
        return FSAFE_PYTHON_NO_LOCK;
    if (copy->type == lock_type)
        return FSAFE_PYTHON_LOCK;
    return is_rlock_type(copy->type) && fsafe_sys_peek(object, copy, sizeof *copy) ? FSAFE_PYTHON_RLOCK
                                                                                   : FSAFE_PYTHON_NO_LOCK;
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

/* Whoever waits for a lock has let go of the GIL. */
static void note(struct fsafe_python_lock *lock, uint8_t what)
{
    __atomic_or_fetch(&lock->history, what, __ATOMIC_RELAXED);
}

static struct fsafe_object *acquire(struct fsafe_object *object, struct fsafe_object *arguments,
                                    struct fsafe_object *names)
{
    struct fsafe_python_lock *lock = lock_of(object);
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t address = (uintptr_t)object;
    if (self == NULL || is_event(lock) || !want(self, address, site_of(FSAFE_CALLER())))
        return lock_calls.acquire(object, arguments, names);
    if (FSAFE_LIKELY(arguments == no_arguments && names == NULL && swap_byte(lock, 0, FSAFE_PYTHON_LOCKED))) {
        move_on(self, address | FSAFE_WANTED, address | FSAFE_HELD);
        return true_object();
    }
    struct fsafe_object *result = lock_calls.acquire(object, arguments, names);
    if (result == true_object() && !is_event(lock))
        move_on(self, address | FSAFE_WANTED, address | FSAFE_HELD);
    else
        forget(self, address | FSAFE_WANTED);
    return result;
}

/* Somebody else releases it, or its taker has ended. */
static FSAFE_COLD void released_by_another(struct fsafe_python_lock *lock)
{
    uintptr_t held = (uintptr_t)lock | FSAFE_HELD;
    bool had_taker = false;
    for (struct fsafe_thread_walk of = fsafe_thread_walk(FSAFE_LIVING | FSAFE_ENDED); fsafe_thread_next(&of);) {
        struct fsafe_ledger *ledger = fsafe_thread_python(of.thread);
        for (struct fsafe_ledger_walk at = fsafe_ledger_walk(ledger); fsafe_ledger_next(&at);) {
            if (at.lock != held)
                continue;
            fsafe_ledger_clear(ledger, at.index, held);
            had_taker = true;
        }
    }
    note(lock, had_taker ? FSAFE_PYTHON_EVENT : FSAFE_PYTHON_RELEASED);
}

static struct fsafe_object *release(struct fsafe_object *object, struct fsafe_object *arguments)
{
    struct fsafe_python_lock *lock = lock_of(object);
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t address = (uintptr_t)object;
    if (self == NULL || is_event(lock) || (lock->byte & FSAFE_PYTHON_LOCKED) == 0)
        return lock_calls.release(object, arguments);
    if (FSAFE_UNLIKELY(!move_on(self, address | FSAFE_HELD, address | FSAFE_LEAVING))) {
        released_by_another(lock);
        return lock_calls.release(object, arguments);
    }
    if (FSAFE_UNLIKELY((lock->history & FSAFE_PYTHON_MUTUAL) == 0))
        note(lock, FSAFE_PYTHON_MUTUAL | FSAFE_PYTHON_RELEASED);
    /* After the byte is free the object may be gone: it is only compared with. */
    struct fsafe_object *result = none_object();
    if (FSAFE_UNLIKELY(!swap_byte(lock, FSAFE_PYTHON_LOCKED, 0)))
        result = lock_calls.release(object, arguments);
    forget(self, address | FSAFE_LEAVING);
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

/* The calling thread has the pthread_t of a vanished one (python/owners), if the lock bears the mark of an orphan. */
static void disown_orphan(struct fsafe_python_lock *lock)
{
    if (FSAFE_UNLIKELY((lock->byte & FSAFE_PYTHON_ORPHANED) != 0) && is_mine(lock)) {
        lock->level = 0;
        set_owner(lock, 0);
    }
}

static struct fsafe_object *acquire_rlock(struct fsafe_object *object, struct fsafe_object *arguments,
                                          struct fsafe_object *names)
{
    struct fsafe_python_lock *lock = lock_of(object);
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t address = (uintptr_t)object, me = (uintptr_t)pthread_self();
    disown_orphan(lock);
    if (self == NULL || owner_of(lock) == me || !want(self, address, site_of(FSAFE_CALLER())))
        return rlock_calls.acquire(object, arguments, names);
    if (FSAFE_LIKELY(arguments == no_arguments && names == NULL && swap_byte(lock, 0, FSAFE_PYTHON_LOCKED))) {
        set_owner(lock, me);
        move_on(self, address | FSAFE_WANTED, address | FSAFE_HELD);
        return true_object();
    }
    struct fsafe_object *result = rlock_calls.acquire(object, arguments, names);
    settle(self, lock, FSAFE_WANTED);
    return result;
}

static struct fsafe_object *release_rlock(struct fsafe_object *object, struct fsafe_object *arguments)
{
    struct fsafe_python_lock *lock = lock_of(object);
    struct fsafe_thread *self = fsafe_self;
    uintptr_t address = (uintptr_t)object;
    uintptr_t me = (uintptr_t)pthread_self();
    disown_orphan(lock);
    if (self == NULL || owner_of(lock) != me || lock->level != 0 ||
        FSAFE_UNLIKELY(!move_on(self, address | FSAFE_HELD, address | FSAFE_LEAVING)))
        return rlock_calls.release(object, arguments);
    struct fsafe_object *result = none_object();
    set_owner(lock, 0); /* before the byte is free: then the next one writes there */
    if (FSAFE_UNLIKELY(!swap_byte(lock, FSAFE_PYTHON_LOCKED, 0))) {
        set_owner(lock, me);
        result = rlock_calls.release(object, arguments);
    }
    forget(self, address | FSAFE_LEAVING);
    return result;
}

/* Condition asks before it waits. */
static struct fsafe_object *is_owned(struct fsafe_object *object, struct fsafe_object *arguments)
{
    disown_orphan(lock_of(object));
    return rlock_is_owned(object, arguments);
}

/* Condition.wait gives an RLock back altogether, and takes it again as often. */
static struct fsafe_object *release_save(struct fsafe_object *object, struct fsafe_object *arguments)
{
    struct fsafe_thread *self = fsafe_self;
    uintptr_t address = (uintptr_t)object;
    bool recorded = self != NULL && is_mine(lock_of(object)) &&
                    move_on(self, address | FSAFE_HELD, address | FSAFE_LEAVING);
    struct fsafe_object *result = rlock_release_save(object, arguments);
    if (recorded)
        forget(self, address | FSAFE_LEAVING);
    return result;
}

static struct fsafe_object *acquire_restore(struct fsafe_object *object, struct fsafe_object *arguments)
{
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    bool recorded = self != NULL && want(self, (uintptr_t)object, site_of(FSAFE_CALLER()));
    struct fsafe_object *result = rlock_acquire_restore(object, arguments);
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

bool fsafe_python_lock_is_held(const struct fsafe_thread *thread, uintptr_t object)
{
    struct fsafe_ledger_walk at = fsafe_ledger_walk(&thread->ledgers[FSAFE_PYTHON_LOCKS]);
    while (fsafe_ledger_next(&at))
        if (at.lock == (object | FSAFE_HELD))
            return true;
    return false;
}

bool fsafe_python_lock_has_tokens(const struct fsafe_thread *thread)
{
    return fsafe_thread_tokens(thread) > (fsafe_python_version() < 0x030d);
}

/* --- At the start ------------------------------------------------------------------------------------------- */

static const struct fsafe_python_method methods[] = {
    {&lock_type, "acquire", FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED, acquire, &lock_calls.acquire},
    {&lock_type, "acquire_lock", FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED, acquire, &lock_calls.acquire},
    {&lock_type, "__enter__", FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED, acquire, &lock_calls.acquire},
    {&lock_type, "release", FSAFE_PYTHON_NO_ARGUMENTS, release, &lock_calls.release},
    {&lock_type, "release_lock", FSAFE_PYTHON_NO_ARGUMENTS, release, &lock_calls.release},
    {&lock_type, "__exit__", FSAFE_PYTHON_POSITIONAL, release, &lock_calls.release},
    {&rlock_type, "acquire", FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED, acquire_rlock, &rlock_calls.acquire},
    {&rlock_type, "__enter__", FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED, acquire_rlock, &rlock_calls.acquire},
    {&rlock_type, "release", FSAFE_PYTHON_NO_ARGUMENTS, release_rlock, &rlock_calls.release},
    {&rlock_type, "__exit__", FSAFE_PYTHON_POSITIONAL, release_rlock, &rlock_calls.release},
    {&rlock_type, "_is_owned", FSAFE_PYTHON_NO_ARGUMENTS, is_owned, &rlock_is_owned},
    {&rlock_type, "_release_save", FSAFE_PYTHON_NO_ARGUMENTS, release_save, &rlock_release_save},
    {&rlock_type, "_acquire_restore", FSAFE_PYTHON_POSITIONAL, acquire_restore, &rlock_acquire_restore},
};

static bool start_with(struct fsafe_object *module)
{
    lock_type = fsafe_python.PyObject_GetAttrString(module, "LockType");
    void *recursive = fsafe_python_version() < 0x030e ? NULL : fsafe_python.PyObject_GetAttrString(module, "RLock");
    rlock_type = recursive;
    no_arguments = fsafe_python.PyTuple_New(0);
    /* The test is of the interpreter's own methods; in a later life of it they lead through ours from the beginning. */
    bool is_known = lock_calls.acquire != NULL;
    return lock_type != NULL && no_arguments != NULL &&
           (is_known || fsafe_python_selftest_passes(lock_type, rlock_type)) &&
           fsafe_python_methods_lead(methods, sizeof methods / sizeof *methods);
}

bool fsafe_python_locks_start(void)
{
    if (fsafe_python_version() < 0x030d)
        return true;
    bool right = false;
    struct fsafe_object *name = fsafe_python.PyUnicode_FromString("_thread");
    struct fsafe_object *module = name == NULL ? NULL : fsafe_python.PyImport_GetModule(name);
    if (module != NULL) {
        right = start_with(module);
        fsafe_python.Py_DecRef(module);
    }
    if (name != NULL)
        fsafe_python.Py_DecRef(name);
    if (!right) {
        lock_type = rlock_type = NULL;
        fsafe_python_off("Python: the locks of this CPython are not as forksafe knows them: they are not looked after");
    }
    return right;
}
