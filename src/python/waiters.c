/* python/waiters: see waiters.h. */
#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "python/frames.h"
#include "python/interpreter.h"
#include "python/waiters.h"

#include <stddef.h>

typedef struct fsafe_object object;

static object *wait_code;      /* of Condition.wait; NULL: threading is not loaded, or is not what we know */
static unsigned waiter_index;  /* which of its variables is the lock that it sleeps on */
static void *lock_type, *queue_type;
static object *waiters_attribute;
static object *noted; /* a list: Condition, waiter, Condition, waiter ... */

static object *get(object *from, const char *name)
{
    return from == NULL ? NULL : fsafe_python.PyObject_GetAttrString(from, name);
}

static void drop(object *one)
{
    if (one != NULL)
        fsafe_python.Py_DecRef(one);
}

/* As long as the interpreter does: it keeps them. */
static object *find(const char *module, const char *name)
{
    object *found = fsafe_python.PyDict_GetItemString(fsafe_python.PyImport_GetModuleDict(), module);
    object *names = found == NULL ? NULL : fsafe_python.PyModule_GetDict(found);
    return names == NULL ? NULL : fsafe_python.PyDict_GetItemString(names, name);
}

/* Not the wait of a program that has put another Condition in the place of threading's. */
static void find_wait(object *condition)
{
    object *wait = get(condition, "wait"), *code = get(wait, "__code__"), *names = get(code, "co_varnames");
    object *index = names == NULL ? NULL : fsafe_python.PyObject_CallMethod(names, "index", "s", "waiter");
    if (index != NULL) {
        waiter_index = (unsigned)fsafe_python.PyLong_AsLong(index);
        wait_code = code;
        fsafe_python.Py_IncRef(code);
    }
    drop(wait), drop(code), drop(names), drop(index);
}

void fsafe_python_waiters_start(void)
{
    object *condition = wait_code != NULL ? NULL : find("threading", "Condition");
    if (condition == NULL)
        return;
    object *error[3];
    fsafe_python.PyErr_Fetch(&error[0], &error[1], &error[2]);
    lock_type = find("_thread", "LockType");
    queue_type = find("threading", "_deque");
    waiters_attribute = fsafe_python.PyUnicode_FromString("_waiters");
    noted = fsafe_python.PyList_New(0);
    if (lock_type != NULL && queue_type != NULL && waiters_attribute != NULL && noted != NULL)
        find_wait(condition);
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
    void *own = fsafe_python.PyGILState_GetThisThreadState();
    void *state = fsafe_python.PyInterpreterState_ThreadHead(fsafe_python.PyInterpreterState_Main());
    for (; state != NULL; state = fsafe_python.PyThreadState_Next(state)) {
        object *waiter = state == own ? NULL : fsafe_python_frames_local(state, wait_code, waiter_index);
        if (!is_a(waiter, lock_type))
            continue; /* not in a wait, or before it made its lock */
        fsafe_python.PyList_Append(noted, fsafe_python_frames_local(state, wait_code, 0));
        fsafe_python.PyList_Append(noted, waiter);
    }
}

/* Who was notified before the fork is not in the queue any more. */
static void take_out(object *condition, object *waiter)
{
    object *queue = fsafe_python.PyObject_GenericGetAttr(condition, waiters_attribute);
    if (is_a(queue, queue_type))
        drop(fsafe_python.PyObject_CallMethod(queue, "remove", "O", waiter));
    fsafe_python.PyErr_Clear();
    drop(queue);
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
