/* python/waiters: see waiters.h. */
#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "python/frames.h"
#include "python/objects.h"
#include "python/waiters.h"

typedef struct fsafe_object object;

static object *wait_code; /* of Condition.wait; NULL: threading is not loaded, or is not what we know */
static int waiter_index;  /* which of its variables is the lock that it sleeps on */
static void *lock_type, *queue_type;
static object *waiters_attribute;
static object *noted; /* a list: Condition, waiter, Condition, waiter ... */

void fsafe_python_waiters_start(void)
{
    object *condition = wait_code != NULL ? NULL : fsafe_python_borrow("threading", "Condition");
    if (condition == NULL)
        return;
    object *error[3];
    fsafe_python.PyErr_Fetch(&error[0], &error[1], &error[2]);
    lock_type = fsafe_python_borrow("_thread", "LockType");
    queue_type = fsafe_python_borrow("threading", "_deque");
    waiters_attribute = fsafe_python.PyUnicode_FromString("_waiters");
    noted = fsafe_python.PyList_New(0);
    object *code = fsafe_python_code_of(condition, "wait");
    waiter_index = fsafe_python_variable_of(code, "waiter");
    if (lock_type != NULL && queue_type != NULL && waiters_attribute != NULL && noted != NULL && waiter_index >= 0)
        wait_code = code;
    fsafe_python.PyErr_Clear();
    fsafe_python.PyErr_Restore(error[0], error[1], error[2]);
}

static bool is_a(const object *one, const void *type)
{
    uintptr_t head[2];
    return one != NULL && fsafe_sys_peek((uintptr_t)one, head, sizeof head) && head[1] == (uintptr_t)type;
}

void fsafe_python_waiters_note(void)
{
    if (fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    fsafe_python_waiters_start();
    if (wait_code == NULL)
        return;
    for (void *state = fsafe_python_vanished(NULL); state != NULL; state = fsafe_python_vanished(state)) {
        struct fsafe_python_frame at = {0};
        if (!fsafe_python_frames_next(state, &at) || at.code != wait_code)
            continue;
        object *waiter = fsafe_python_frames_variable(&at, (unsigned)waiter_index);
        if (!is_a(waiter, lock_type))
            continue; /* it has not made its lock */
        fsafe_python.PyList_Append(noted, fsafe_python_frames_variable(&at, 0));
        fsafe_python.PyList_Append(noted, waiter);
    }
}

/* Who was notified before the fork is not in the queue any more. */
static void take_out(object *condition, object *waiter)
{
    object *queue = fsafe_python.PyObject_GenericGetAttr(condition, waiters_attribute);
    if (is_a(queue, queue_type))
        fsafe_python_drop(fsafe_python.PyObject_CallMethod(queue, "remove", "O", waiter));
    fsafe_python.PyErr_Clear();
    fsafe_python_drop(queue);
}

void fsafe_python_waiters_drop(void)
{
    intptr_t count = noted == NULL ? 0 : fsafe_python.PyList_Size(noted);
    if (count == 0)
        return;
    object *error[3];
    fsafe_python.PyErr_Fetch(&error[0], &error[1], &error[2]);
    for (intptr_t i = 0; i + 1 < count; i += 2)
        take_out(fsafe_python.PyList_GetItem(noted, i), fsafe_python.PyList_GetItem(noted, i + 1));
    fsafe_python.PyList_SetSlice(noted, 0, count, NULL);
    fsafe_python.PyErr_Restore(error[0], error[1], error[2]);
}
