/* python/owners: see owners.h. All of this runs under the GIL. */
#include "config.h"

#include "base/options.h"
#include "python/methods.h"
#include "python/objects.h"
#include "python/owners.h"
#include "repair/semaphore.h"
#include "track/join.h"

/* The object, as far as it is of interest: the same from 3.9 on to 3.13. */
struct rlock {
    uintptr_t count;
    void *type;
    sem_t *semaphore;
    uintptr_t owner; /* its thread's pthread_t, if `taken` is not 0 */
    uintptr_t taken; /* how often */
};

/* The interpreter's conventions: CPython's PyCFunctionWithKeywords and PyCFunction, which the C API makes public. */
static struct fsafe_object *(*theirs_acquire)(struct fsafe_object *, struct fsafe_object *, struct fsafe_object *);
static struct fsafe_object *(*theirs_release)(struct fsafe_object *, struct fsafe_object *);
static struct fsafe_object *(*theirs_is_owned)(struct fsafe_object *, struct fsafe_object *);
static void *rlock_type;

static struct rlock *rlock_of(struct fsafe_object *object)
{
    return (struct rlock *)(void *)object;
}

static bool looks_like_mine(const struct rlock *lock)
{
    return lock->taken != 0 && lock->owner == (uintptr_t)pthread_self();
}

/* Whether the lock looks like the caller's only because the caller has the pthread_t of a vanished thread. */
static bool is_anothers(const struct rlock *lock)
{
    if (FSAFE_LIKELY(!looks_like_mine(lock)) || fsafe_self == NULL || !fsafe_semaphore_is_lock(lock->semaphore))
        return false;
    uint32_t owner = fsafe_semaphore_owner(fsafe_layout_sem_words(lock->semaphore));
    return owner != 0 && owner != fsafe_self->ticket;
}

static void disown(struct rlock *lock)
{
    if (is_anothers(lock))
        lock->owner = lock->taken = 0;
}

static struct fsafe_object *acquire(struct fsafe_object *object, struct fsafe_object *arguments,
                                    struct fsafe_object *names)
{
    disown(rlock_of(object)); /* and then the semaphore's wait takes it over */
    return theirs_acquire(object, arguments, names);
}

static struct fsafe_object *release(struct fsafe_object *object, struct fsafe_object *arguments)
{
    disown(rlock_of(object));
    return theirs_release(object, arguments);
}

static struct fsafe_object *is_owned(struct fsafe_object *object, struct fsafe_object *arguments)
{
    disown(rlock_of(object));
    return theirs_is_owned(object, arguments);
}

static const struct fsafe_python_method methods[] = {
    {&rlock_type, "acquire", FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED, acquire, &theirs_acquire},
    {&rlock_type, "__enter__", FSAFE_PYTHON_POSITIONAL | FSAFE_PYTHON_NAMED, acquire, &theirs_acquire},
    {&rlock_type, "release", FSAFE_PYTHON_NO_ARGUMENTS, release, &theirs_release},
    {&rlock_type, "__exit__", FSAFE_PYTHON_POSITIONAL, release, &theirs_release},
    {&rlock_type, "_is_owned", FSAFE_PYTHON_NO_ARGUMENTS, is_owned, &theirs_is_owned},
};

static bool calls(struct fsafe_object *object, const char *method)
{
    struct fsafe_object *result = fsafe_python.PyObject_CallMethod(object, method, NULL);
    fsafe_python_drop(result);
    return result != NULL;
}

/* The words are where they are looked for, and the semaphore's ticket is that of whoever has the lock. */
static bool is_as_told(struct fsafe_object *object)
{
    struct rlock *lock = rlock_of(object);
    return lock->type == rlock_type && lock->owner == 0 && lock->taken == 0 && calls(object, "acquire") &&
           calls(object, "acquire") && looks_like_mine(lock) && lock->taken == 2 &&
           fsafe_semaphore_is_lock(lock->semaphore) &&
           fsafe_semaphore_owner(fsafe_layout_sem_words(lock->semaphore)) == fsafe_self->ticket &&
           calls(object, "release") && lock->taken == 1 && calls(object, "release") && lock->taken == 0 &&
           lock->owner == 0;
}

static void lead(void)
{
    rlock_type = fsafe_python_thread_type("RLock", "_thread.RLock");
    bool is_large = fsafe_python_size_of(rlock_type) >= (long)sizeof(struct rlock);
    struct fsafe_object *one = is_large ? fsafe_python.PyObject_CallObject(rlock_type, NULL) : NULL;
    if (one != NULL && is_as_told(one))
        fsafe_python_methods_lead(methods, sizeof methods / sizeof *methods);
    fsafe_python_drop(one);
}

void fsafe_python_owners_start(void)
{
    static bool done;
    if (done || fsafe_python_version() > 0x030d || fsafe_options.mode != FSAFE_MODE_REPAIR || fsafe_self == NULL)
        return;
    done = true;
    const struct fsafe_python_error error = fsafe_python_keep_error();
    lead();
    fsafe_python_restore_error(&error);
}
