/* python/locks: see locks.h. Unless something else is said, all of this runs under the GIL. */
#include "config.h"

#include "base/maps.h"
#include "base/sys.h"
#include "python/locks.h"
#include "python/places.h"

#include <string.h>

/* The interpreter's conventions: CPython's PyCFunctionWithKeywords and PyCFunction, which the C API makes public. */
typedef struct fsafe_object *with_names(struct fsafe_object *, struct fsafe_object *, struct fsafe_object *);
typedef struct fsafe_object *without_names(struct fsafe_object *, struct fsafe_object *);
enum { POSITIONAL = 1, NAMED = 2, NO_ARGUMENTS = 4 };

static void *lock_type, *rlock_type; /* the second is NULL where an RLock is a semaphore */
static struct fsafe_object *no_arguments;

static struct {
    with_names *acquire;
    without_names *release;
} lock_calls, rlock_calls;
static without_names *rlock_release_save, *rlock_acquire_restore;

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

enum fsafe_python_kind fsafe_python_lock_at(uintptr_t object, struct fsafe_python_lock *copy)
{
    if (lock_type == NULL || object % sizeof(void *) != 0 ||
        !fsafe_sys_peek(object, copy, offsetof(struct fsafe_python_lock, owner)))
        return FSAFE_PYTHON_NO_LOCK;
    if (copy->type == lock_type)
        return FSAFE_PYTHON_LOCK;
    return rlock_type != NULL && copy->type == rlock_type && fsafe_sys_peek(object, copy, sizeof *copy)
               ? FSAFE_PYTHON_RLOCK
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
    if (self == NULL || is_event(lock) || !want(self, address, FSAFE_CALLER()))
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
    uintptr_t held = (uintptr_t)lock | FSAFE_HELD, word, site;
    bool had_taker = false;
    for (uint32_t i = fsafe_thread_slots(); i-- > 0;) {
        struct fsafe_thread *thread = fsafe_thread_slot(i);
        if (fsafe_thread_generation(thread) != fsafe_lineage_generation())
            continue;
        for (uint32_t k = fsafe_ledger_depth(fsafe_thread_python(thread)); k > 0; k--) {
            if (!fsafe_ledger_read(fsafe_thread_python(thread), k, &word, &site) || word != held)
                continue;
            fsafe_ledger_clear(fsafe_thread_python(thread), k, held);
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

static inline bool is_mine(const struct fsafe_python_lock *lock)
{
    return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == (uintptr_t)pthread_self();
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

static struct fsafe_object *acquire_rlock(struct fsafe_object *object, struct fsafe_object *arguments,
                                          struct fsafe_object *names)
{
    struct fsafe_python_lock *lock = lock_of(object);
    struct fsafe_thread *self = fsafe_self != NULL ? fsafe_self : fsafe_thread_join();
    uintptr_t address = (uintptr_t)object;
    if (self == NULL || is_mine(lock) || !want(self, address, fsafe_python_site(FSAFE_CALLER())))
        return rlock_calls.acquire(object, arguments, names);
    if (FSAFE_LIKELY(arguments == no_arguments && names == NULL && swap_byte(lock, 0, FSAFE_PYTHON_LOCKED))) {
        __atomic_store_n(&lock->owner, (uintptr_t)pthread_self(), __ATOMIC_RELAXED);
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
    if (self == NULL || !is_mine(lock) || lock->level != 0)
        return rlock_calls.release(object, arguments);
    bool recorded = move_on(self, address | FSAFE_HELD, address | FSAFE_LEAVING);
    struct fsafe_object *result = rlock_calls.release(object, arguments);
    if (recorded)
        forget(self, address | FSAFE_LEAVING);
    return result;
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
    bool recorded = self != NULL && want(self, (uintptr_t)object, FSAFE_CALLER());
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
    uintptr_t word, site;
    for (uint32_t i = fsafe_ledger_depth(&thread->ledgers[FSAFE_PYTHON_LOCKS]); i > 0; i--)
        if (fsafe_ledger_read(&thread->ledgers[FSAFE_PYTHON_LOCKS], i, &word, &site) && word == (object | FSAFE_HELD))
            return true;
    return false;
}

/* --- At the start: is all that as it is said here? -------------------------------------------------------- */

/* Calls the method; 1 true, 0 another result, -1 an error. */
static int call(struct fsafe_object *object, const char *method, int argument)
{
    struct fsafe_object *result = argument < 0 ? fsafe_python.PyObject_CallMethod(object, method, NULL)
                                               : fsafe_python.PyObject_CallMethod(object, method, "i", argument);
    if (result == NULL) {
        fsafe_python.PyErr_Clear();
        return -1;
    }
    int is_true = result == true_object();
    fsafe_python.Py_DecRef(result);
    return is_true;
}

static bool has_size(void *type, long size)
{
    struct fsafe_object *value = fsafe_python.PyObject_GetAttrString(type, "__basicsize__");
    bool has = value != NULL && fsafe_python.PyLong_AsLong(value) == size;
    if (value != NULL)
        fsafe_python.Py_DecRef(value);
    return has;
}

/* An orphan's mark outlives tries and ends with the acquisition; the spare bytes are ours. */
static bool lock_is_as_told(struct fsafe_object *object)
{
    struct fsafe_python_lock *lock = lock_of(object);
    static const uint8_t nothing[6];
    if (lock->type != lock_type || lock->byte != 0 || lock->history != 0 || memcmp(lock->spare, nothing, 6) != 0)
        return false;
    lock->history = FSAFE_PYTHON_RELEASED;
    if (call(object, "acquire", -1) != 1 || lock->byte != FSAFE_PYTHON_LOCKED)
        return false;
    lock->byte |= FSAFE_PYTHON_ORPHANED;
    if (call(object, "locked", -1) != 1 || call(object, "acquire", 0) != 0 ||
        lock->byte != (FSAFE_PYTHON_LOCKED | FSAFE_PYTHON_ORPHANED) || call(object, "release", -1) != 0 ||
        lock->byte != 0)
        return false;
    if (call(object, "acquire", -1) != 1)
        return false;
    lock->byte |= FSAFE_PYTHON_ORPHANED;
    return call(object, "_at_fork_reinit", -1) == 0 && lock->byte == 0 && call(object, "release", -1) == -1 &&
           call(object, "acquire", 0) == 1 && lock->byte == FSAFE_PYTHON_LOCKED && call(object, "release", -1) == 0 &&
           lock->byte == 0 && lock->history == FSAFE_PYTHON_RELEASED;
}

static bool rlock_is_as_told(struct fsafe_object *object)
{
    struct fsafe_python_lock *lock = lock_of(object);
    if (lock->type != rlock_type || lock->byte != 0 || lock->owner != 0 || call(object, "acquire", -1) != 1 ||
        lock->byte != FSAFE_PYTHON_LOCKED || !is_mine(lock) || lock->level != 0 || call(object, "acquire", -1) != 1 ||
        lock->level != 1 || call(object, "release", -1) != 0 || lock->byte != FSAFE_PYTHON_LOCKED || lock->level != 0)
        return false;
    lock->byte |= FSAFE_PYTHON_ORPHANED;
    return call(object, "release", -1) == 0 && lock->byte == 0 && lock->owner == 0;
}

/* A row of a type's table of methods, as the C API makes it public, and the descriptor that leads to it. */
struct method {
    const char *name;
    void *function;
    int flags;
};
struct descriptor {
    uintptr_t head[2];
    void *type, *name, *qualified_name;
    struct method *method;
};

/* The row, or NULL where it is not what it should be or cannot be written to. */
static struct method *find_method(void *type, const char *name, int flags)
{
    struct fsafe_object *found = fsafe_python.PyObject_GetAttrString(type, name);
    struct descriptor descriptor;
    struct method method;
    char called[24];
    if (found == NULL) {
        fsafe_python.PyErr_Clear();
        return NULL;
    }
    bool peeked = fsafe_sys_peek((uintptr_t)found, &descriptor, sizeof descriptor) && descriptor.type == type &&
                  fsafe_sys_peek((uintptr_t)descriptor.method, &method, sizeof method) && method.flags == flags &&
                  fsafe_sys_peek((uintptr_t)method.name, called, strlen(name) + 1);
    fsafe_python.Py_DecRef(found); /* the type keeps it */
    if (!peeked || memcmp(called, name, strlen(name) + 1) != 0 || !fsafe_python_is_text((uintptr_t)method.function))
        return NULL;
    struct fsafe_mapping mapping = {.address = (uintptr_t)descriptor.method};
    bool may_write = fsafe_maps_find(&mapping, 1) && mapping.found && mapping.writable && !mapping.shared;
    return may_write ? descriptor.method : NULL;
}

static const struct {
    bool of_rlock;
    const char *name;
    int flags;
    void *ours, *theirs;
} methods[] = {
    {false, "acquire", POSITIONAL | NAMED, acquire, &lock_calls.acquire},
    {false, "acquire_lock", POSITIONAL | NAMED, acquire, &lock_calls.acquire},
    {false, "__enter__", POSITIONAL | NAMED, acquire, &lock_calls.acquire},
    {false, "release", NO_ARGUMENTS, release, &lock_calls.release},
    {false, "release_lock", NO_ARGUMENTS, release, &lock_calls.release},
    {false, "__exit__", POSITIONAL, release, &lock_calls.release},
    {true, "acquire", POSITIONAL | NAMED, acquire_rlock, &rlock_calls.acquire},
    {true, "__enter__", POSITIONAL | NAMED, acquire_rlock, &rlock_calls.acquire},
    {true, "release", NO_ARGUMENTS, release_rlock, &rlock_calls.release},
    {true, "__exit__", POSITIONAL, release_rlock, &rlock_calls.release},
    {true, "_release_save", NO_ARGUMENTS, release_save, &rlock_release_save},
    {true, "_acquire_restore", POSITIONAL, acquire_restore, &rlock_acquire_restore},
};
enum { METHODS = sizeof methods / sizeof *methods };

/* All or none. */
static bool lead_through_us(void)
{
    struct method *found[METHODS];
    for (unsigned i = 0; i < METHODS; i++) {
        found[i] = NULL;
        if (methods[i].of_rlock && rlock_type == NULL)
            continue;
        found[i] = find_method(methods[i].of_rlock ? rlock_type : lock_type, methods[i].name, methods[i].flags);
        void *before = NULL;
        memcpy(&before, methods[i].theirs, sizeof before);
        /* Two names of one method have one function. */
        if (found[i] == NULL || (before != NULL && before != found[i]->function))
            return false;
        memcpy(methods[i].theirs, &found[i]->function, sizeof before);
    }
    for (unsigned i = 0; i < METHODS; i++)
        if (found[i] != NULL)
            found[i]->function = methods[i].ours;
    return true;
}

static struct fsafe_object *make(void *type)
{
    return fsafe_python.PyObject_CallObject(type, NULL);
}

static bool start_with(struct fsafe_object *module)
{
    lock_type = fsafe_python.PyObject_GetAttrString(module, "LockType");
    void *recursive = fsafe_python_version() < 0x030e ? NULL : fsafe_python.PyObject_GetAttrString(module, "RLock");
    rlock_type = recursive;
    no_arguments = fsafe_python.PyTuple_New(0);
    if (lock_type == NULL || no_arguments == NULL || !has_size(lock_type, offsetof(struct fsafe_python_lock, owner)) ||
        (rlock_type != NULL && !has_size(rlock_type, sizeof(struct fsafe_python_lock))))
        return false;
    struct fsafe_object *lock = make(lock_type), *rlock = rlock_type == NULL ? NULL : make(rlock_type);
    bool right = lock != NULL && lock_is_as_told(lock) &&
                 (rlock_type == NULL || (rlock != NULL && rlock_is_as_told(rlock))) && lead_through_us();
    if (lock != NULL)
        fsafe_python.Py_DecRef(lock);
    if (rlock != NULL)
        fsafe_python.Py_DecRef(rlock);
    return right;
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
