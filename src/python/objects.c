#include "config.h"

#include "base/sys.h"
#include "python/layout.h"
#include "python/objects.h"

#include <string.h>

struct fsafe_object *fsafe_python_borrow(const char *module, const char *name)
{
    struct fsafe_object *found = fsafe_python.PyDict_GetItemString(fsafe_python.PyImport_GetModuleDict(), module);
    struct fsafe_object *names = found == NULL ? NULL : fsafe_python.PyModule_GetDict(found);
    return names == NULL ? NULL : fsafe_python.PyDict_GetItemString(names, name);
}

struct fsafe_object *fsafe_python_code_of(struct fsafe_object *type, const char *method)
{
    struct fsafe_object *function = type == NULL ? NULL : fsafe_python.PyObject_GetAttrString(type, method);
    struct fsafe_object *code = function == NULL ? NULL : fsafe_python.PyObject_GetAttrString(function, "__code__");
    fsafe_python_drop(function);
    return code;
}

int fsafe_python_variable_of(struct fsafe_object *code, const char *name)
{
    struct fsafe_object *names = code == NULL ? NULL : fsafe_python.PyObject_GetAttrString(code, "co_varnames");
    struct fsafe_object *index =
        names == NULL ? NULL : fsafe_python.PyObject_CallMethod(names, "index", "s", name);
    int found = index == NULL ? -1 : (int)fsafe_python.PyLong_AsLong(index);
    fsafe_python_drop(names), fsafe_python_drop(index);
    return found;
}

struct fsafe_object *fsafe_python_type_of(const struct fsafe_object *object)
{
    struct fsafe_object *head[2]; /* the count of references, the type */
    return object != NULL && fsafe_sys_peek((uintptr_t)object, head, sizeof head) ? head[1] : NULL;
}

/* Whether the object is a type of that name. Only a type that is written in C has its module in its name. */
static bool is_named(const struct fsafe_object *object, const char *name)
{
    char called[24];
    const size_t bytes = strlen(name) + 1;
    uintptr_t at;
    return object != NULL && fsafe_sys_peek((uintptr_t)object + FSAFE_PYTHON_TYPE_NAME, &at, sizeof at) &&
           fsafe_sys_peek(at, called, bytes) && memcmp(called, name, bytes) == 0;
}

void *fsafe_python_thread_type(const char *called, const char *name)
{
    struct fsafe_object *type = fsafe_python_borrow("_thread", called);
    struct fsafe_object *object = fsafe_python_borrow("builtins", "object");
    if (is_named(type, name) || object == NULL)
        return type;
    type = NULL;
    struct fsafe_object *all = fsafe_python.PyObject_CallMethod(object, "__subclasses__", NULL);
    for (intptr_t i = all == NULL ? 0 : fsafe_python.PyList_Size(all); i > 0 && type == NULL; i--)
        if (is_named(fsafe_python.PyList_GetItem(all, i - 1), name))
            type = fsafe_python.PyList_GetItem(all, i - 1); /* the latest: there may be those of an earlier life */
    fsafe_python_drop(all);
    fsafe_python.PyErr_Clear();
    return type;
}

long fsafe_python_size_of(void *type)
{
    struct fsafe_object *size = type == NULL ? NULL : fsafe_python.PyObject_GetAttrString(type, "__basicsize__");
    long bytes = size == NULL ? -1 : fsafe_python.PyLong_AsLong(size);
    fsafe_python_drop(size);
    return bytes;
}

bool fsafe_python_is_made_from(const void *type, const void *base)
{
    enum { DEEPEST = 16 };
    uintptr_t at = (uintptr_t)type;
    for (unsigned i = 0; base != NULL && at != 0 && i < DEEPEST; i++)
        if (at == (uintptr_t)base)
            return true;
        else if (!fsafe_sys_peek(at + FSAFE_PYTHON_TYPE_BASE, &at, sizeof at))
            break;
    return false;
}

/* The state of the thread that forks; one for each thread, because another may be about to fork, too. */
static __thread void *own __attribute__((tls_model("initial-exec")));
static void *interpreter FSAFE_FORK_STATE, *left FSAFE_FORK_STATE;

void fsafe_python_know_forker(void)
{
    own = fsafe_python.PyGILState_GetThisThreadState();
    interpreter = fsafe_python.PyInterpreterState_Main();
}

void fsafe_python_leave(void *state)
{
    left = state;
}

/* A new state comes first in the list. */
void *fsafe_python_vanished(void *after)
{
    void *state = after == NULL ? fsafe_python.PyInterpreterState_ThreadHead(interpreter)
                                : fsafe_python.PyThreadState_Next(after);
    if (state == own && state != NULL)
        state = fsafe_python.PyThreadState_Next(state);
    return state != left ? state : NULL;
}
