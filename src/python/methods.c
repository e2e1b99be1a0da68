#include "config.h"

#include "base/sys.h"
#include "python/methods.h"

#include <string.h>

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

/* The type's row for that method; NULL where it is not as described or cannot be written to. */
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
    if (!peeked || memcmp(called, name, strlen(name) + 1) != 0)
        return NULL;
    return fsafe_sys_may_write((uintptr_t)descriptor.method, sizeof method) ? descriptor.method : NULL;
}

enum { MOST = 24 };

static FSAFE_APART bool are_of_one_name(const struct fsafe_python_method *one, const struct fsafe_python_method *other)
{
    return one->type == other->type && strcmp(one->name, other->name) == 0;
}

bool fsafe_python_methods_lead(const struct fsafe_python_method *methods, unsigned count)
{
    struct method *found[MOST] = {NULL};
    if (count > MOST)
        return false;
    for (unsigned i = 0; i < count; i++) {
        const struct fsafe_python_method *method = &methods[i];
        if (*method->type == NULL)
            continue;
        found[i] = find_method(*method->type, method->name, method->flags);
        bool is_first = i + 1 < count && are_of_one_name(method, method + 1);
        bool is_second = i > 0 && are_of_one_name(method, method - 1);
        if (found[i] == NULL && (is_first || (is_second && found[i - 1] != NULL)))
            continue;
        void *before = NULL;
        memcpy(&before, method->theirs, sizeof before);
        /* An interpreter that was begun anew has the table of before. */
        if (found[i] != NULL && found[i]->function == method->ours)
            continue;
        if (found[i] == NULL || !fsafe_python_is_text((uintptr_t)found[i]->function) ||
            (before != NULL && before != found[i]->function))
            return false;
        memcpy(method->theirs, &found[i]->function, sizeof before);
    }
    for (unsigned i = 0; i < count; i++)
        if (found[i] != NULL)
            found[i]->function = methods[i].ours;
    return true;
}
