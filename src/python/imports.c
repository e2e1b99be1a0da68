#include "config.h"

#include "base/options.h"
#include "python/frames.h"
#include "python/imports.h"
#include "python/methods.h"
#include "python/objects.h"
#include "python/places.h"
#include "repair/takeover.h"
#include "track/lineage.h"

#include <pthread.h>
#include <string.h>

typedef struct fsafe_object object;

/* importlib's dictionary of weak references to the locks, by the names of their modules; NULL: unknown. */
static object *module_locks;
static object *owner_attribute, *count_attribute, *waiters_attribute, *initializing_attribute;
/* Keeps dropped modules alive: the end of one could run code of the program's, for which it is too early. */
static object *kept;

void fsafe_python_imports_start(void)
{
    module_locks = NULL;
    object *locks = fsafe_python_borrow("_frozen_importlib", "_module_locks");
    owner_attribute = fsafe_python.PyUnicode_FromString("owner");
    count_attribute = fsafe_python.PyUnicode_FromString("count");
    waiters_attribute = fsafe_python.PyUnicode_FromString("waiters");
    initializing_attribute = fsafe_python.PyUnicode_FromString("_initializing");
    kept = fsafe_python.PyList_New(0);
    if (locks == NULL || owner_attribute == NULL || count_attribute == NULL || waiters_attribute == NULL ||
        initializing_attribute == NULL || kept == NULL)
        return;
    fsafe_python.Py_IncRef(locks);
    module_locks = locks;
}

/* Reads the object itself: no code of its class runs. False: it has no such attribute; the caller gets a reference. */
static bool get(object *from, object *attribute, object **value)
{
    *value = fsafe_python.PyObject_GenericGetAttr(from, attribute);
    if (*value == NULL)
        fsafe_python.PyErr_Clear();
    return *value != NULL;
}

/* The thread that has the lock; 0: no thread has it, or the lock is not as we know such locks. */
static uintptr_t owner_of(object *lock)
{
    object *count, *owner;
    uintptr_t thread = 0;
    if (!get(lock, count_attribute, &count))
        return 0;
    /* To 3.11 a number, later a list. */
    bool held = fsafe_python.PyObject_IsTrue(count) == 1;
    fsafe_python.Py_DecRef(count);
    if (held && get(lock, owner_attribute, &owner)) {
        thread = fsafe_python.PyLong_AsUnsignedLongMask(owner);
        fsafe_python.Py_DecRef(owner);
        if (thread == (uintptr_t)-1) {
            fsafe_python.PyErr_Clear();
            thread = 0;
        }
    }
    return thread;
}

/* The next lock, its module's name and its owner. Begins at *at == 0. */
static bool next_lock(intptr_t *at, object **name, object **lock, uintptr_t *owner)
{
    object *reference;
    while (fsafe_python.PyDict_Next(module_locks, at, name, &reference)) {
        *lock = fsafe_python.PyWeakref_GetObject(reference);
        if (*lock == NULL)
            fsafe_python.PyErr_Clear(); /* it is a note of ours */
        if (*lock == NULL || *lock == fsafe_python._Py_NoneStruct)
            continue;
        *owner = owner_of(*lock);
        return true;
    }
    return false;
}

/*
 * A lock without an owner is there only while threads take it or give it back. A vanished thread may have been about to
 * pass a wake-up on, and a thread that waits for the wake-up sleeps for ever.
 */
static bool is_orphan(uintptr_t owner)
{
    return owner != (uintptr_t)pthread_self();
}

bool fsafe_python_imports_are_going_on(void)
{
    return module_locks != NULL && fsafe_python.PyDict_Size(module_locks) != 0;
}

bool fsafe_python_imports_are_others(void)
{
    const struct fsafe_python_error error = fsafe_python_keep_error();
    object *name, *lock;
    uintptr_t owner;
    bool found = false;
    for (intptr_t at = 0; !found && next_lock(&at, &name, &lock, &owner);)
        found = is_orphan(owner);
    fsafe_python_restore_error(&error);
    return found;
}

/* Whether `name` is that of the module `package`, or of a module inside it. */
static bool is_within(object *name, object *package)
{
    const int begins = fsafe_python.PyUnicode_Tailmatch(name, package, 0, PTRDIFF_MAX, -1);
    if (begins < 0)
        fsafe_python.PyErr_Clear();
    const intptr_t length = fsafe_python.PyUnicode_GetLength(package);
    return begins == 1 &&
           (fsafe_python.PyUnicode_GetLength(name) == length || fsafe_python.PyUnicode_ReadChar(name, length) == '.');
}

/*
 * Whether the forking thread runs code of that module, or of a part of it: a program whose module does all of its work
 * while it is imported. The child goes on in there, and to run the module anew would begin the program once more.
 */
static bool is_running(object *module)
{
    object *frame = fsafe_python.PyThreadState_GetFrame(fsafe_python.PyGILState_GetThisThreadState());
    bool running = false;
    while (frame != NULL) {
        object *globals = fsafe_python.PyObject_GetAttrString(frame, "f_globals");
        object *name = globals == NULL ? NULL : fsafe_python.PyDict_GetItemString(globals, "__name__");
        running = running || (name != NULL && is_within(name, module));
        fsafe_python_drop(globals);
        object *back = running ? NULL : fsafe_python.PyFrame_GetBack(frame);
        fsafe_python.Py_DecRef(frame);
        frame = back;
    }
    return running;
}

/* Whether the forking thread needs the half module as it is: it runs in there, or is importing a part of it. */
static bool is_needed(object *module)
{
    object *name, *lock;
    uintptr_t owner;
    bool needed = is_running(module);
    for (intptr_t at = 0; !needed && next_lock(&at, &name, &lock, &owner);)
        needed = !is_orphan(owner) && is_within(name, module);
    return needed;
}

bool fsafe_python_imports_stay(void)
{
    const struct fsafe_python_error error = fsafe_python_keep_error();
    object *name, *lock;
    uintptr_t owner;
    bool stay = true;
    for (intptr_t at = 0; stay && next_lock(&at, &name, &lock, &owner);)
        stay = !is_orphan(owner) || (owner != 0 && is_needed(name));
    fsafe_python_restore_error(&error);
    return stay;
}

/* The module by that name in sys.modules, and whether it is only `half` imported; NULL: it is not there. */
static object *find_module(object *name, bool *half)
{
    object *module = fsafe_python.PyDict_GetItemWithError(fsafe_python.PyImport_GetModuleDict(), name), *initializing;
    object *names = module == NULL ? NULL : fsafe_python.PyModule_GetDict(module);
    object *spec = names == NULL ? NULL : fsafe_python.PyDict_GetItemString(names, "__spec__");
    if (spec == NULL) {
        fsafe_python.PyErr_Clear(); /* it may be no module */
        return NULL;
    }
    *half = get(spec, initializing_attribute, &initializing) && initializing == fsafe_python._Py_TrueStruct;
    fsafe_python_drop(initializing);
    return module;
}

/* Whether a vanished thread was reloading the module, or had just imported it: the child has it, and runs nothing. */
static bool is_whole(object *name)
{
    bool half;
    return find_module(name, &half) != NULL && !half;
}

/* Takes the module out of sys.modules if it is only half imported. */
static void drop_module(object *name)
{
    bool half;
    object *module = find_module(name, &half);
    if (module != NULL && half && fsafe_python.PyList_Append(kept, module) == 0)
        fsafe_python.PyDict_DelItem(fsafe_python.PyImport_GetModuleDict(), name);
}

/* importlib.reload does nothing for a module that it finds in this dictionary. */
static void end_reload(object *name)
{
    object *reloading = fsafe_python_borrow("importlib", "_RELOADING");
    if (reloading != NULL && fsafe_python.PyDict_DelItem(reloading, name) != 0)
        fsafe_python.PyErr_Clear();
}

/* Empties a list or makes a number 0, whichever it is: importlib counts in either. */
static void make_none(object *lock, object *attribute)
{
    object *value;
    if (!get(lock, attribute, &value))
        return;
    if (fsafe_python.PyList_SetSlice(value, 0, PTRDIFF_MAX, NULL) != 0) {
        object *zero = fsafe_python.PyLong_FromLong(0);
        fsafe_python.PyErr_Clear();
        fsafe_python.PyObject_GenericSetAttr(lock, attribute, zero);
        fsafe_python.Py_DecRef(zero);
    }
    fsafe_python.Py_DecRef(value);
}

/* As new: the two locks inside as well, which vanished threads may hold or have been asleep in. */
static void make_free(object *lock)
{
    static const char *const inner[] = {"lock", "wakeup"};
    for (unsigned i = 0; i < sizeof inner / sizeof *inner; i++) {
        object *one = fsafe_python.PyObject_GetAttrString(lock, inner[i]);
        object *none = one == NULL ? NULL : fsafe_python.PyObject_CallMethod(one, "_at_fork_reinit", NULL);
        fsafe_python_drop(one), fsafe_python_drop(none);
    }
    make_none(lock, waiters_attribute);
    make_none(lock, count_attribute);
    fsafe_python.PyObject_GenericSetAttr(lock, owner_attribute, fsafe_python._Py_NoneStruct);
}

/* What there is to tell if the child imports the module. */
struct note {
    struct fsafe_event event;
    char module[64];
};

/* importlib asks for the module's lock, and gets none: it makes a new one. */
static object *tell(object *self, object *unused)
{
    struct note note;
    char *bytes;
    object *lock = fsafe_python._Py_NoneStruct;
    (void)unused;
    if (fsafe_python.PyBytes_AsStringAndSize(self, &bytes, &(intptr_t){0}) != 0)
        return NULL;
    memcpy(&note, bytes, sizeof note);
    note.event.kind = note.module;
    note.event.wanted_at = fsafe_python_places_instruction(0);
    if (note.event.deed == FSAFE_WOULD_HANG)
        lock = (object *)note.event.address; /* the vanished thread's frame keeps it */
    fsafe_takeover_tell(&note.event);
    fsafe_python.Py_IncRef(lock);
    return lock;
}

/* A row as in a module's table of functions: PyMethodDef, which the C API makes public. */
static const struct {
    const char *name;
    object *(*function)(object *, object *);
    int flags;
    const char *about;
} row = {"forksafe_import", tell, FSAFE_PYTHON_NO_ARGUMENTS, NULL};

/* Most children never import that module, and need no help: the line is for those that do. */
static void leave_note(const object *lock, object *name, uintptr_t owner, bool stays)
{
    const bool repairs = fsafe_options.mode == FSAFE_MODE_REPAIR;
    struct note note = {.event = {
        .deed = !repairs ? FSAFE_WOULD_HANG : stays ? FSAFE_TOOK_OVER : FSAFE_RUNS_AGAIN,
        .worth_a_line = true,
        .lock = "Python import",
        .address = (uintptr_t)lock,
        .fork = fsafe_lineage_latest_fork(),
    }};
    fsafe_python_frames_string(name, note.module, sizeof note.module);
    fsafe_python_places_holder(owner, &note.event.holder);
    object *bytes = fsafe_python.PyBytes_FromStringAndSize((const char *)&note, sizeof note);
    object *function = bytes == NULL ? NULL : fsafe_python.PyCFunction_NewEx((void *)(uintptr_t)&row, bytes, NULL);
    if (function != NULL)
        fsafe_python.PyDict_SetItem(module_locks, name, function);
    fsafe_python_drop(bytes), fsafe_python_drop(function);
}

void fsafe_python_imports_drop(void)
{
    const struct fsafe_python_error error = fsafe_python_keep_error();
    object *name, *lock;
    uintptr_t owner;
    for (intptr_t at = 0; next_lock(&at, &name, &lock, &owner);) {
        if (!is_orphan(owner))
            continue;
        const bool stays = owner != 0 && (is_whole(name) || is_needed(name));
        if (owner != 0)
            leave_note(lock, name, owner, stays);
        if (fsafe_options.mode != FSAFE_MODE_REPAIR)
            continue;
        if (owner == 0) {
            /* The next import makes a new one; the forking thread, if it is at this one, keeps it. */
            if (fsafe_python.PyDict_DelItem(module_locks, name) == 0)
                at = 0;
            continue;
        }
        if (!stays)
            drop_module(name);
        end_reload(name);
        make_free(lock);
    }
    fsafe_python_restore_error(&error);
}
