#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "libc/modules.h"
#include "python/interpreter.h"
#include "report/report.h"

#include <string.h>

struct fsafe_python fsafe_python;
_Atomic int fsafe_python_state;

/* Sites that may be an interpreter's. No process seen so far has more than a few. */
enum { MOST_MET = 8 };
static struct {
    _Atomic uintptr_t site;
    const void *condvar; /* the first that it made */
} met[MOST_MET];
static _Atomic uint32_t met_count, looked_at;

uintptr_t fsafe_python_text, fsafe_python_text_bytes;
const void *fsafe_python_first_condvar;
static unsigned version;

static const char *const names[] = {
#define FSAFE_PYTHON(result, name, parameters) #name,
#define FSAFE_PYTHON_MAYBE(result, name, parameters) #name,
#define FSAFE_PYTHON_DATA(name) #name,
#include "python/interpreter.def"
};
static const bool needed[] = {
#define FSAFE_PYTHON(result, name, parameters) true,
#define FSAFE_PYTHON_MAYBE(result, name, parameters) false,
#define FSAFE_PYTHON_DATA(name) false,
#include "python/interpreter.def"
};
enum { ROWS = sizeof names / sizeof *names };
_Static_assert(sizeof fsafe_python == ROWS * sizeof(uintptr_t), "the table is an array of pointers");

void fsafe_python_off(const char *why)
{
    fsafe_python_text_bytes = 0;
    if (atomic_exchange(&fsafe_python_state, FSAFE_PYTHON_OFF) != FSAFE_PYTHON_OFF)
        fsafe_report_note(why);
}

void fsafe_python_meet(const pthread_cond_t *condvar, uintptr_t site)
{
    if (fsafe_options.python_off || fsafe_options.mode == FSAFE_MODE_OFF ||
        atomic_load_explicit(&fsafe_python_state, memory_order_relaxed) != FSAFE_PYTHON_NONE)
        return;
    uint32_t count = atomic_load_explicit(&met_count, memory_order_acquire);
    for (uint32_t i = 0; i < count && i < MOST_MET; i++)
        if (atomic_load_explicit(&met[i].site, memory_order_relaxed) == site)
            return;
    if (count < MOST_MET && atomic_compare_exchange_strong(&met_count, &count, count + 1)) {
        met[count].condvar = condvar;
        atomic_store_explicit(&met[count].site, site, memory_order_release);
    }
}

/* "3.13.5 (main, ..." */
static unsigned read_version(const char *text)
{
    unsigned major = 0, minor = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        major = major * 10 + (unsigned)(*text - '0');
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++)
            minor = minor * 10 + (unsigned)(*text - '0');
    return major << 8 | minor;
}

static void bind(const struct fsafe_mapping *mapping, const void *condvar)
{
    uintptr_t found[ROWS];
    if (!fsafe_modules_find(mapping, names, ROWS, found))
        return;
    memcpy(&fsafe_python, found, sizeof found);
    if (fsafe_python.Py_IsInitialized == NULL || fsafe_python.Py_GetVersion == NULL)
        return; /* another module */
    version = read_version(fsafe_python.Py_GetVersion());
    if (version < 0x0309 || version > 0x030f) {
        fsafe_python_off("Python: this version of CPython is not known: its locks are not looked after");
        return;
    }
    for (unsigned i = 0; i < ROWS; i++) {
        if (needed[i] && found[i] == 0) {
            fsafe_python_off("Python: this CPython lacks a function that others have: its locks are not looked after");
            return;
        }
    }
    if (fsafe_python._Py_DecRefShared != NULL) {
        fsafe_python_off("Python: this CPython is a free-threaded one: its locks are not looked after");
        return;
    }
    uintptr_t from, to;
    if (!fsafe_modules_text(mapping, &from, &to))
        return;
    fsafe_python_text = from;
    fsafe_python_text_bytes = to - from;
    fsafe_python_first_condvar = condvar;
    atomic_store_explicit(&fsafe_python_state, FSAFE_PYTHON_BOUND, memory_order_release);
}

void fsafe_python_find(void)
{
    uint32_t count = atomic_load_explicit(&met_count, memory_order_acquire);
    uint32_t next = atomic_load_explicit(&looked_at, memory_order_relaxed);
    if (FSAFE_LIKELY(next == count))
        return;
    /* Each site is looked at once, by one thread. */
    while (next < count && atomic_load_explicit(&met[next].site, memory_order_acquire) != 0 &&
           atomic_compare_exchange_strong(&looked_at, &next, next + 1)) {
        struct fsafe_mapping mapping = {.address = atomic_load_explicit(&met[next].site, memory_order_acquire)};
        const void *condvar = met[next++].condvar;
        if (!fsafe_maps_find(&mapping, 1)) {
            mapping.base = fsafe_modules_base(mapping.address); /* there is no /proc */
            mapping.found = true;
        }
        if (mapping.found && mapping.base != 0 &&
            atomic_load_explicit(&fsafe_python_state, memory_order_relaxed) == FSAFE_PYTHON_NONE)
            bind(&mapping, condvar);
    }
}

void fsafe_python_unbind(void)
{
    fsafe_python_text_bytes = 0;
    atomic_store(&fsafe_python_state, FSAFE_PYTHON_NONE);
    for (unsigned i = 0; i < MOST_MET; i++)
        atomic_store(&met[i].site, 0);
    atomic_store(&looked_at, 0);
    atomic_store(&met_count, 0);
}

unsigned fsafe_python_version(void)
{
    return fsafe_python_is_bound() ? version : 0;
}

static bool is_finalizing(void)
{
    int (*ask)(void) =
        fsafe_python.Py_IsFinalizing != NULL ? fsafe_python.Py_IsFinalizing : fsafe_python._Py_IsFinalizing;
    return ask == NULL || ask() != 0;
}

bool fsafe_python_is_running(void)
{
    return fsafe_python_is_bound() && fsafe_python.Py_IsInitialized() && !is_finalizing();
}

void *fsafe_python_state_with_gil(void)
{
    void *(*current)(void) = fsafe_python.PyThreadState_GetUnchecked != NULL
                                 ? fsafe_python.PyThreadState_GetUnchecked
                                 : fsafe_python._PyThreadState_UncheckedGet;
    if (!fsafe_python_is_bound() || current == NULL)
        return NULL;
    void *state = current();
    /* To 3.11 it is the state of the thread that has the GIL; later the calling thread's own, if it has the GIL. */
    return version >= 0x030c || state == fsafe_python.PyGILState_GetThisThreadState() ? state : NULL;
}

bool fsafe_python_has_gil(void)
{
    void *own = fsafe_python_is_running() ? fsafe_python_state_with_gil() : NULL;
    return own != NULL && own == fsafe_python.PyGILState_GetThisThreadState() &&
           fsafe_python.PyThreadState_GetInterpreter(own) == fsafe_python.PyInterpreterState_Main();
}
