#include "config.h"

#include "python/layout.h"
#include "python/objects.h"
#include "python/selftest.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

/* Calls the method; 1 true, 0 another result, -1 an error. */
static int call(struct fsafe_object *object, const char *method, int argument)
{
    struct fsafe_object *result = argument < 0 ? fsafe_python.PyObject_CallMethod(object, method, NULL)
                                               : fsafe_python.PyObject_CallMethod(object, method, "i", argument);
    if (result == NULL) {
        fsafe_python.PyErr_Clear();
        return -1;
    }
    int is_true = result == (struct fsafe_object *)fsafe_python._Py_TrueStruct;
    fsafe_python.Py_DecRef(result);
    return is_true;
}

static bool has_base(void *type)
{
    struct fsafe_object *value = fsafe_python.PyObject_GetAttrString(type, "__base__");
    bool has = value != NULL && *(void **)((uintptr_t)type + FSAFE_PYTHON_TYPE_BASE) == value;
    fsafe_python_drop(value);
    return has;
}

/* An orphan's mark outlives tries and ends with the acquisition; the spare bytes are ours. */
static bool lock_is_as_told(struct fsafe_object *object, const void *type)
{
    struct fsafe_python_lock *lock = (struct fsafe_python_lock *)(void *)object;
    static const uint8_t nothing[sizeof lock->spare];
    if (lock->type != type || lock->byte != 0 || lock->history != 0 ||
        memcmp(lock->spare, nothing, sizeof nothing) != 0)
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

static bool rlock_is_as_told(struct fsafe_object *object, const void *type)
{
    struct fsafe_python_lock *lock = (struct fsafe_python_lock *)(void *)object;
    if (lock->type != type || lock->byte != 0 || lock->owner != 0 || call(object, "acquire", -1) != 1 ||
        lock->byte != FSAFE_PYTHON_LOCKED || lock->owner != (uintptr_t)pthread_self() || lock->level != 0 ||
        call(object, "acquire", -1) != 1 || lock->level != 1 || call(object, "release", -1) != 0 ||
        lock->byte != FSAFE_PYTHON_LOCKED || lock->level != 0)
        return false;
    lock->byte |= FSAFE_PYTHON_ORPHANED;
    return call(object, "release", -1) == 0 && lock->byte == 0 && lock->owner == 0;
}

static struct fsafe_object *make(void *type)
{
    return fsafe_python.PyObject_CallObject(type, NULL);
}

bool fsafe_python_selftest_passes(void *lock_type, void *rlock_type)
{
    if (fsafe_python_size_of(lock_type) != 3 * sizeof(uintptr_t) ||
        (rlock_type != NULL &&
         (fsafe_python_size_of(rlock_type) != sizeof(struct fsafe_python_lock) || !has_base(rlock_type))))
        return false;
    struct fsafe_object *lock = make(lock_type), *rlock = rlock_type == NULL ? NULL : make(rlock_type);
    bool right = lock != NULL && lock_is_as_told(lock, lock_type) &&
                 (rlock_type == NULL || (rlock != NULL && rlock_is_as_told(rlock, rlock_type)));
    fsafe_python_drop(lock), fsafe_python_drop(rlock);
    return right;
}
