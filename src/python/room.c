#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "python/drain.h"
#include "python/frames.h"
#include "python/gil.h"
#include "python/imports.h"
#include "python/interpreter.h"
#include "python/locks.h"
#include "python/objects.h"
#include "python/orphans.h"
#include "python/owners.h"
#include "python/places.h"
#include "python/room.h"
#include "python/tokens.h"
#include "python/waiters.h"
#include "python/wanted.h"
#include "repair/asleep.h"
#include "repair/takeover.h"
#include "report/report.h"
#include "track/lineage.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

static _Atomic bool asked; /* to be called by the interpreter */
static _Atomic uint32_t owners_asked; /* the same for python/owners, in which generation */

/*
 * The interpreter has been finalized. A host may initialise it again, with other objects: then the room starts once
 * more. Nothing asks for what its files know until then.
 */
static void end(void)
{
    int started = FSAFE_PYTHON_STARTED;
    atomic_compare_exchange_strong(&fsafe_python_state, &started, FSAFE_PYTHON_BOUND);
    atomic_store(&asked, false);
}

/*
 * Under the GIL, where any Python code may run. What runs meanwhile may make a thread: it finds the room started. The
 * parts that have yet to begin know of no locks then, and that is all.
 */
static void start(void)
{
    int bound = FSAFE_PYTHON_BOUND;
    if (!atomic_compare_exchange_strong(&fsafe_python_state, &bound, FSAFE_PYTHON_STARTED))
        return;
    const struct fsafe_python_error error = fsafe_python_keep_error();
    if (fsafe_python_locks_start(fsafe_python_has_by_try))
        fsafe_python_drain_start();
    fsafe_python_restore_error(&error);
    fsafe_python_wanted_start();
    fsafe_python_places_start();
    fsafe_python_gil_find();
    fsafe_python_imports_start();
    fsafe_python_waiters_start();
    fsafe_python_tokens_start();
    fsafe_asleep_know_interrupt(fsafe_python_interrupt_is_default);
    fsafe_python.Py_AtExit(end);
    if (fsafe_options.verbose && fsafe_python_is_started())
        fsafe_report_note_number("Python: looking after the locks of CPython 3.", fsafe_python_version() & 0xff);
}

static int start_when_called(void *unused)
{
    (void)unused;
    if (fsafe_python_has_gil())
        start();
    return 0;
}

static void ask_to_be_called(void)
{
    if (fsafe_python.Py_IsInitialized() && !atomic_exchange(&asked, true) &&
        fsafe_python.Py_AddPendingCall(start_when_called, NULL) != 0)
        atomic_store(&asked, false); /* there is no room for it now */
}

void fsafe_python_after_unload(void)
{
    if (fsafe_python_is_bound() && !fsafe_sys_may_be_readable(fsafe_python_text)) {
        fsafe_python_unbind();
        atomic_store(&asked, false);
    }
}

/* Once in each generation: what is left is so by then. A new thread's state names the thread that makes it. */
static void leave_vanished(void)
{
    static uint32_t generation FSAFE_FORK_STATE;
    if (generation == fsafe_lineage_generation())
        return;
    generation = fsafe_lineage_generation();
    if (!fsafe_python_is_running() || !fsafe_takeover_is_alone())
        return;
    void *state = fsafe_python.PyInterpreterState_ThreadHead(fsafe_python.PyInterpreterState_Main());
    uintptr_t thread;
    while (state != NULL && ((thread = fsafe_python_frames_thread(state)) == 0 || thread == (uintptr_t)pthread_self()))
        state = fsafe_python.PyThreadState_Next(state);
    fsafe_python_leave(state);
}

/* Where C code makes a child's threads without the GIL, as uwsgi does. Asked once in each generation. */
static int begin_threads_when_called(void *unused)
{
    (void)unused;
    if (fsafe_python_is_started() && fsafe_python_has_gil()) {
        fsafe_python_owners_start();
        fsafe_python_waiters_drop();
    }
    return 0;
}

void fsafe_python_before_thread(void)
{
    fsafe_python_find();
    if (fsafe_lineage_is_child() && fsafe_python_is_started())
        leave_vanished();
    if (fsafe_python_is_started() && fsafe_python_has_gil()) {
        fsafe_python_waiters_find();
        fsafe_python_tokens_find();
        if (fsafe_lineage_is_child()) {
            fsafe_python_owners_start();
            fsafe_python_waiters_drop();
        }
    } else if (fsafe_python_is_started() && fsafe_lineage_is_child() &&
               atomic_exchange(&owners_asked, fsafe_lineage_generation()) != fsafe_lineage_generation()) {
        fsafe_python.Py_AddPendingCall(begin_threads_when_called, NULL);
    }
    if (atomic_load_explicit(&fsafe_python_state, memory_order_acquire) != FSAFE_PYTHON_BOUND)
        return;
    if (fsafe_python_has_gil())
        start();
    else
        ask_to_be_called();
}

/*
 * Answers that hold for the fork as long as the forking thread has the GIL: asked in the parent, because each function
 * of the interpreter's that a child calls is a page fault. A thread without the GIL may be about to fork at that time.
 */
static __thread struct {
    bool has_gil, imports, tokens;
} before __attribute__((tls_model("initial-exec")));

void fsafe_python_prepare(void)
{
    fsafe_python_find();
    if (!fsafe_python_is_bound())
        return;
    fsafe_python_drain_end();
    fsafe_python_know_forker();
    before.has_gil = fsafe_python_has_gil();
    /* Not started here: in os.fork the interpreter holds locks of its own by now. */
    bool started = fsafe_python_is_started();
    if (!started && !before.has_gil)
        ask_to_be_called();
    if (started)
        fsafe_python_places_note_fork();
    before.imports = started && before.has_gil && fsafe_python_imports_are_going_on();
    before.tokens = started && before.has_gil && fsafe_python_tokens_are_out();
}

void fsafe_python_child(void)
{
    if (!fsafe_python_is_started() || (!before.has_gil && !fsafe_python_gil_is_free()))
        return;
    fsafe_python_waiters_note();
    const bool takes_gil = !before.has_gil && fsafe_python_gil_takes_free();
    if (takes_gil) {
        before.imports = fsafe_python_imports_are_going_on();
        before.tokens = fsafe_python_tokens_are_out();
        fsafe_python_waiters_drop(); /* the child may make its threads without the GIL */
    }
    bool imports = before.imports && fsafe_python_imports_are_others();
    fsafe_python_places_note(imports || before.tokens);
    if (before.tokens)
        fsafe_python_tokens_return();
    if (imports)
        fsafe_python_imports_drop();
    if (takes_gil)
        fsafe_python.PyEval_SaveThread();
}
