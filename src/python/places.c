#include "config.h"

#include "python/frames.h"
#include "python/locks.h"
#include "python/objects.h"
#include "python/places.h"
#include "python/wanted.h"
#include "report/report.h"
#include "track/handle.h"
#include "track/join.h"
#include "track/slots.h"
#include "track/thread.h"

#include <string.h>

/* The latest notes, in a ring. More threads than that hold something at a fork in hardly any program. */
enum { NOTES = 64 };
static struct note {
    pid_t pid, tid;
    unsigned count; /* of functions, the innermost first */
    struct fsafe_python_function functions[FSAFE_PYTHON_DEEPEST];
    char name[sizeof ((struct fsafe_source *)NULL)->thread]; /* what threading calls the thread */
} notes[NOTES];
static uint32_t next_note;

/* A place and its callers: more are never asked for. */
enum { MOST = 4 };

/* Where the latest forks of this process and its ancestors were called for. */
enum { FORKS = 4, LAST = 20 };
static struct {
    unsigned long number; /* as the event says it */
    pid_t tid;
    unsigned count;
    struct fsafe_python_function functions[LAST];
    uintptr_t marks[LAST];
} forks[FORKS];

/* "_name", to ask threads for; NULL: nothing is noted. */
static struct fsafe_object *name_attribute;

static void *own_state(void)
{
    return fsafe_python_is_running() ? fsafe_python.PyGILState_GetThisThreadState() : NULL;
}

/* A short path: where a thread has the GIL the interpreter runs, and need not be asked. */
uintptr_t fsafe_python_places_instruction(uintptr_t site)
{
    const void *state = fsafe_python_state_with_gil();
    if (state == NULL)
        state = own_state();
    uintptr_t instruction = state != NULL ? fsafe_python_frames_instruction(state) : 0;
    return instruction != 0 ? instruction : site;
}

static void write_places(const struct fsafe_python_function *functions, unsigned count, bool at_fork,
                         const char *thread, struct fsafe_source *places)
{
    for (unsigned i = 0; i < count; i++) {
        fsafe_python_frames_place(&functions[i], &places[i]);
        places[i].thread[0] = '\0';
        places[i].at_fork = at_fork;
    }
    if (count > 0)
        memcpy(places[0].thread, thread, strlen(thread) + 1);
}

/* Where the calling thread is. */
static unsigned find_here(struct fsafe_source *places, unsigned most)
{
    struct fsafe_python_function functions[MOST];
    const void *state = own_state();
    unsigned count = state == NULL ? 0 : fsafe_python_frames_read(state, functions, most < MOST ? most : MOST);
    write_places(functions, count, false, "", places);
    return count;
}

static uintptr_t number_here(void)
{
    struct fsafe_python_function functions[MOST];
    const void *state = own_state();
    uintptr_t number = 0;
    for (unsigned i = state == NULL ? 0 : fsafe_python_frames_read(state, functions, MOST); i > 0; i--)
        number = (number ^ functions[i - 1].now) * (uintptr_t)0x9e3779b97f4a7c15u;
    return number;
}

/* Where the holder took the lock, if a function that it was still in did; else where it was at the fork. */
static unsigned find_held(const struct fsafe_holder *holder, struct fsafe_source *places, unsigned most)
{
    const struct note *note = NULL;
    for (uint32_t i = 1; holder->tid != 0 && i <= NOTES && note == NULL; i++) {
        const struct note *one = &notes[(next_note - i) % NOTES];
        if (one->tid == holder->tid && one->pid == holder->pid)
            note = one;
    }
    if (note == NULL || !fsafe_python_is_running())
        return 0;
    unsigned took = 0; /* which function took it */
    while (took < note->count && !fsafe_python_frames_has(&note->functions[took], holder->since))
        took++;
    bool at_fork = took == note->count;
    unsigned from = at_fork ? 0 : took;
    struct fsafe_python_function functions[MOST];
    unsigned count = fsafe_python_frames_choose(&note->functions[from], note->count - from, functions,
                                                most < MOST ? most : MOST);
    if (!at_fork && count > 0 && fsafe_python_frames_has(&functions[0], holder->since))
        functions[0].now = holder->since;
    write_places(functions, count, at_fork, note->name, places);
    return count;
}

/* Functions that have ended since, and are gone, are left out with all that called them. */
static unsigned find_fork(const struct fsafe_fork *fork, struct fsafe_source *places, unsigned most)
{
    unsigned at = 0, count = 0;
    while (at < FORKS && (forks[at].number != fork->number || forks[at].tid != fork->tid))
        at++;
    if (at == FORKS || !fsafe_python_is_running())
        return 0;
    while (count < forks[at].count &&
           forks[at].marks[count] == fsafe_python_frames_mark(&forks[at].functions[count], false))
        count++;
    struct fsafe_python_function functions[MOST];
    count = fsafe_python_frames_choose(forks[at].functions, count, functions, most < MOST ? most : MOST);
    write_places(functions, count, false, "", places);
    return count;
}

static void name_lock(struct fsafe_event *event)
{
    uintptr_t object;
    if (strcmp(event->lock, "semaphore") != 0 || strcmp(event->kind, "used as a lock") != 0)
        return;
    enum fsafe_python_kind kind = fsafe_python_wanted_find(event->address, &object);
    if (kind == FSAFE_PYTHON_NO_LOCK)
        return;
    event->lock = kind == FSAFE_PYTHON_RLOCK ? "RLock" : "Lock";
    event->kind = "Python";
    event->address = object;
}

/* --- Noting ------------------------------------------------------------------------------------------------- */

static bool holds_anything(struct fsafe_thread *thread)
{
    if (fsafe_python_lock_has_tokens(thread))
        return true;
    for (unsigned of = 0; of < FSAFE_LEDGERS; of++)
        if (of != FSAFE_WAITS && fsafe_ledger_depth(&thread->ledgers[of]) > 0)
            return true;
    return false;
}

/* Nothing but dictionaries is asked: no code of the thread's class runs. */
static void find_name(struct fsafe_object *active, uintptr_t thread, char *name, size_t bytes)
{
    intptr_t at = 0;
    struct fsafe_object *key, *value;
    while (active != NULL && fsafe_python.PyDict_Next(active, &at, &key, &value)) {
        if (fsafe_python.PyLong_AsUnsignedLongMask(key) != thread)
            continue;
        struct fsafe_object *string = fsafe_python.PyObject_GenericGetAttr(value, name_attribute);
        fsafe_python_frames_string(string, name, bytes);
        fsafe_python_drop(string);
        break;
    }
}

static void note_thread(const struct fsafe_thread *thread, const void *state, struct fsafe_object *active)
{
    struct note *note = &notes[next_note % NOTES];
    note->count = fsafe_python_frames_copy(state, note->functions);
    if (note->count == 0)
        return;
    note->pid = thread->pid;
    note->tid = thread->tid;
    note->name[0] = '\0';
    find_name(active, (uintptr_t)thread->handle, note->name, sizeof note->name);
    next_note++;
}

static FSAFE_AT_FORK bool next_noted(struct fsafe_thread_walk *at, bool all)
{
    while (fsafe_thread_next(at))
        if (at->generation == fsafe_lineage_generation() - 1 && !at->thread->ended && at->thread->has_handle &&
            (all || holds_anything(at->thread)))
            return true;
    return false;
}

/* Most forks find nothing to note, and a question to the interpreter writes to pages that the parent has, too. */
static bool is_anybody_noted(bool all)
{
    struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED);
    return next_noted(&at, all);
}

void fsafe_python_places_note(bool all)
{
    if (name_attribute == NULL || !is_anybody_noted(all))
        return;
    /* Without the GIL no object may be asked for anything: then the threads have no names. */
    bool asks = fsafe_python_has_gil();
    struct fsafe_object *active = NULL;
    struct fsafe_python_error error;
    if (asks) {
        error = fsafe_python_keep_error();
        active = fsafe_python_borrow("threading", "_active");
    }
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_VANISHED); next_noted(&at, all);) {
        void *state = fsafe_python_vanished(NULL);
        while (state != NULL && fsafe_python_frames_thread(state) != (uintptr_t)at.thread->handle)
            state = fsafe_python_vanished(state);
        if (state != NULL)
            note_thread(at.thread, state, active);
    }
    if (asks)
        fsafe_python_restore_error(&error);
}

void fsafe_python_places_note_fork(void)
{
    struct fsafe_python_function functions[FSAFE_PYTHON_DEEPEST];
    unsigned at = fsafe_lineage_generation() % FORKS;
    const void *state = own_state();
    if (fsafe_self == NULL || state == NULL)
        return;
    unsigned count = fsafe_python_frames_copy(state, functions);
    forks[at].count = count < LAST ? count : LAST;
    memcpy(forks[at].functions, functions, forks[at].count * sizeof *functions);
    forks[at].number = fsafe_self->forks.number;
    forks[at].tid = fsafe_self->tid;
    for (unsigned i = 0; i < forks[at].count; i++)
        forks[at].marks[i] = fsafe_python_frames_mark(&forks[at].functions[i], true);
}

void fsafe_python_places_holder(uintptr_t handle, struct fsafe_holder *holder)
{
    const struct fsafe_thread *thread = fsafe_handle_find_vanished((pthread_t)handle);
    if (thread == NULL || fsafe_thread_generation(thread) != fsafe_lineage_generation() - 1)
        return;
    holder->tid = thread->tid;
    holder->pid = thread->pid;
    memcpy(holder->name, thread->name, sizeof holder->name);
}

void fsafe_python_places_start(void)
{
    name_attribute = fsafe_python.PyUnicode_FromString("_name");
    fsafe_python_frames_start();
    static const struct fsafe_report_sources sources = {
        .here = find_here, .held = find_held, .forked = find_fork, .number_here = number_here, .lock = name_lock};
    fsafe_report_know_sources(&sources);
}
