#include "config.h"

#include "base/options.h"
#include "python/frames.h"
#include "python/objects.h"
#include "python/waiters.h"

typedef struct fsafe_object object;

static object *wait_code; /* of Condition.wait; NULL: threading is not loaded, or is not what we know */
static object *looked_at; /* the Condition that was looked at */
static int waiter_index;  /* which of its variables is the lock that it sleeps on */
static void *lock_type, *queue_type;
static object *waiters_attribute;

/*
 * The sleepers, in one page for most programs. The child counts no reference to them, which would copy a page for each:
 * the frame of a vanished thread is never freed, nor is what the frame refers to.
 */
enum { MOST = 4096 };
static struct {
    object *condition, *waiter;
} noted[MOST];
static unsigned count;

void fsafe_python_waiters_find(void)
{
    object *condition = wait_code != NULL ? NULL : fsafe_python_borrow("threading", "Condition");
    if (condition == NULL || condition == looked_at)
        return;
    looked_at = condition;
    const struct fsafe_python_error error = fsafe_python_keep_error();
    lock_type = fsafe_python_thread_type("LockType", "_thread.lock");
    queue_type = fsafe_python_borrow("threading", "_deque");
    waiters_attribute = fsafe_python.PyUnicode_FromString("_waiters");
    object *code = fsafe_python_code_of(condition, "wait");
    waiter_index = fsafe_python_variable_of(code, "waiter");
    if (lock_type != NULL && queue_type != NULL && waiters_attribute != NULL && waiter_index >= 0)
        wait_code = code;
    fsafe_python_restore_error(&error);
}

void fsafe_python_waiters_start(void)
{
    wait_code = looked_at = NULL;
    count = 0;
    fsafe_python_waiters_find();
}

void fsafe_python_waiters_note(void)
{
    if (fsafe_options.mode != FSAFE_MODE_REPAIR || wait_code == NULL)
        return;
    for (void *state = fsafe_python_vanished(NULL); state != NULL && count < MOST;
         state = fsafe_python_vanished(state)) {
        struct fsafe_python_frame at = {0};
        if (!fsafe_python_frames_next(state, &at) || at.code != wait_code)
            continue;
        object *waiter = fsafe_python_frames_variable(&at, (unsigned)waiter_index);
        if (fsafe_python_type_of(waiter) != lock_type)
            continue; /* it has not made its lock */
        noted[count].condition = fsafe_python_frames_variable(&at, 0);
        noted[count++].waiter = waiter;
    }
}

/* Does nothing for a thread that was notified before the fork: its lock is not in the queue any more. */
static void take_out(object *condition, object *waiter)
{
    object *queue = fsafe_python.PyObject_GenericGetAttr(condition, waiters_attribute);
    if (fsafe_python_type_of(queue) == queue_type)
        fsafe_python_drop(fsafe_python.PyObject_CallMethod(queue, "remove", "O", waiter));
    fsafe_python.PyErr_Clear();
    fsafe_python_drop(queue);
}

void fsafe_python_waiters_drop(void)
{
    if (count == 0)
        return;
    const struct fsafe_python_error error = fsafe_python_keep_error();
    for (unsigned i = 0; i < count; i++)
        take_out(noted[i].condition, noted[i].waiter);
    count = 0;
    fsafe_python_restore_error(&error);
}
