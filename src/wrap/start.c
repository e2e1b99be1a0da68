/*
 * wrap/start: the constructor: settings, bindings, self-test, registry, handlers, in that order. With
 * -z initfirst it runs before every other library's, libc's own included, so libc's environ is still empty.
 *
 * Measured. With initfirst our constructor runs before a sanitizer that is linked into the program is ready:
 * ThreadSanitizer's strcspn, strcmp, strnlen, strcpy and fstat crash then (strlen, strncmp, strchr, strstr do not). So
 * start-up calls none of them (base/string has our own of some). A weak reference to __tsan_init shows without a call
 * whether ThreadSanitizer is there; gcc's -static-libtsan does not export that name and is not recognised.
 *
 * Without the library, if the parent had threads, gcc's LeakSanitizer spins for ever in a child that joins a thread,
 * and ThreadSanitizer ends a child that creates one.
 *
 * DRD asserts at a barrier whose initialisation it did not see (our start-up makes one); Helgrind reports locks that
 * are taken in place.
 */
#include "config.h"

#include "base/barrier.h"
#include "base/options.h"
#include "base/patterns.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "base/text.h"
#include "fork/coordinator.h"
#include "fork/handlers.h"
#include "libc/fresh.h"
#include "libc/layout-stream.h"
#include "libc/layout.h"
#include "libc/loader.h"
#include "libc/symbol.h"
#include "python/orphans.h"
#include "repair/hopeless.h"
#include "repair/mutex.h"
#include "repair/rescue.h"
#include "repair/spin.h"
#include "report/report.h"
#include "report/tally.h"
#include "track/join.h"
#include "wrap/call.h"
#include "wrap/next.h"
#include "wrap/start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* NULL unless the program was built with ThreadSanitizer. */
extern void __tsan_init(void) __attribute__((weak));

/*
 * A checker of locks has to see every lock, also those that we take in place, and takes what we do to them for faults
 * of the program. Returns the words of a line, or NULL when there is no checker.
 */
static const char *watched(char *const *environment)
{
    if (__tsan_init != NULL)
        return "ThreadSanitizer is in this program: it runs unprotected";
    const char *preload = fsafe_options_look_up(environment, "LD_PRELOAD");
    if (preload != NULL &&
        (strstr(preload, "/vgpreload_helgrind") != NULL || strstr(preload, "/vgpreload_drd") != NULL))
        return "Valgrind checks the locks of this program: it runs unprotected";
    return NULL;
}

/* Whether FORKSAFE_PROGRAMS is empty or names this program: a script by its own name or its interpreter's. */
static bool is_meant(void)
{
    char path[4096];
    const char *started = (const char *)getauxval(AT_EXECFN);
    if (fsafe_options.programs[0] == '\0' ||
        (started != NULL && fsafe_patterns_match(fsafe_options.programs, fsafe_text_last_part(started))))
        return true;
    long length = FSAFE_SYS(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    return fsafe_patterns_match(fsafe_options.programs, fsafe_text_last_part(path));
}

/*
 * With FORKSAFE_INHERIT=0: takes the library out of LD_PRELOAD, so that programs which this one starts do not get it.
 */
static void disinherit(char *const *environment)
{
    static const char own[] = "libforksafe"; /* .so, or -musl.so and the like */
    char *to = (char *)(uintptr_t)fsafe_options_look_up(environment, "LD_PRELOAD");
    for (const char *from = to; from != NULL && *from != '\0';) {
        const char *end = from;
        while (*end != '\0' && *end != ':' && *end != ' ')
            end++;
        const char *name = end;
        while (name > from && name[-1] != '/')
            name--;
        bool kept = (size_t)(end - name) < sizeof own || strncmp(name, own, sizeof own - 1) != 0 ||
                    (name[sizeof own - 1] != '.' && name[sizeof own - 1] != '-');
        end += *end != '\0'; /* with the separator behind it */
        while (from < end) {
            if (kept)
                *to++ = *from;
            from++;
        }
        if (*end == '\0')
            *to = '\0';
    }
}

/*
 * Whether the process that started this program has the library, so that both are of one tree. Asked of the kernel,
 * because an exec ends all memory that the library shares, and the program would see a mark of ours in its environment.
 */
static bool parent_has_library(void)
{
    static const char library[] = "/libforksafe";
    return fsafe_tasks_parent_has("maps", library, sizeof library - 1);
}

/*
 * A process that complains of a value makes it empty, so that programs which it starts do not complain again. About an
 * unknown name the parent process has complained if it has the library and the name is in its environment, too.
 */
static void complain(const char *variable, const char *value, const char *expected, const char *usual)
{
    if (expected == NULL) {
        char entry[64];
        struct fsafe_text text;
        fsafe_text_begin(&text, entry, sizeof entry);
        fsafe_text_char(&text, '\0');
        fsafe_text_put(&text, "%s=", variable);
        if (fsafe_tasks_parent_has("environ", entry, text.length) && parent_has_library())
            return;
    }
    fsafe_report_bad_option(variable, value, expected, usual);
}

static bool is_stale(uintptr_t lock, void *self)
{
    return !fsafe_ledger_is_of_call(lock) && fsafe_mutex_is_stale(lock, self);
}

/*
 * A thread that ends is in no call any more. Whether its records of locks are stale is looked at in a child only, where
 * that decides whether a lock is taken over: a sandbox may kill a thread that looks.
 */
static bool is_stale_at_end(uintptr_t lock, void *self)
{
    return fsafe_ledger_is_of_call(lock) || (fsafe_lineage_is_child() && fsafe_mutex_is_stale(lock, self));
}

/* Whether the thread ends with locks, so that its records are kept. */
static bool leave(struct fsafe_thread *self)
{
    fsafe_hopeless_leave(self);
    bool locks = fsafe_ledger_tidy(fsafe_thread_locks(self), is_stale_at_end, self) > 0;
    bool spins = fsafe_ledger_tidy(fsafe_thread_spins(self), fsafe_spin_is_stale, self) > 0;
    return locks || spins || fsafe_thread_tokens(self) != 0;
}

static void clear_stale(struct fsafe_thread *vanished)
{
    fsafe_mutex_clear_stale(vanished);
    fsafe_python_clear_stale(vanished);
}

static int register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *object)
{
#ifdef FSAFE_LIBC_GLIBC
    return FSAFE_NEXT(__register_atfork)(prepare, parent, child, object);
#else
    (void)object;
    return FSAFE_NEXT(pthread_atfork)(prepare, parent, child);
#endif
}

struct part {
    const char *name;
    bool known;
};

/* Names in one line the parts of libc that are not as we know them. Returns whether there are any. */
static bool note_unknown(const struct part *parts, size_t count)
{
    char text[160];
    struct fsafe_text line;
    fsafe_text_begin(&line, text, sizeof text - 1);
    for (size_t i = 0; i < count; i++)
        if (!parts[i].known)
            fsafe_text_put(&line, "%s%s", line.length == 0 ? "this C library's " : ", ", parts[i].name);
    if (line.length == 0)
        return false;
    fsafe_text_string(&line, " are unknown: they are not taken over");
    text[line.length] = '\0';
    fsafe_report_note(text);
    return true;
}

#define CALL(name, function) .name = FSAFE_NEXT(function),

/* What only a process with threads can need is learned before the second thread. */
static _Atomic bool has_to_learn;

void fsafe_start_second_thread(void)
{
    if (FSAFE_LIKELY(!atomic_load_explicit(&has_to_learn, memory_order_relaxed)))
        return;
    atomic_store_explicit(&has_to_learn, false, memory_order_relaxed);
    int saved = errno, state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* pthread_create does not end a cancelled thread */
    struct fsafe_fresh_calls calls = {FSAFE_FRESH_CALLS(CALL)};
    /* libc's own wait ends at once; that of a library which makes times up may take a day. */
    void *own = fsafe_symbol_of_libc("pthread_cond_timedwait");
    if (own != NULL)
        calls.cond_timedwait = (__typeof__(calls.cond_timedwait))own;
    fsafe_fresh_learn(&calls);
    fsafe_layout_cond_self_test();
    const struct part parts[] = {{"condition variables", fsafe_fresh_condvar.known},
                                 {"barriers", fsafe_fresh_barrier.known}};
    note_unknown(parts, sizeof parts / sizeof parts[0]);
    pthread_setcancelstate(state, NULL);
    errno = saved;
}

/* What is learned of libc by calls of it. */
static void ask_libc(pid_t pid)
{
    fsafe_layout_self_test(&(const struct fsafe_layout_calls){FSAFE_LAYOUT_CALLS(CALL)}, pid);
    (void)FSAFE_NEXT(sem_wait); /* binds it, as the test has bound the others: the fast path needs that */
    fsafe_layout_stream_self_test(FSAFE_NEXT(flockfile), FSAFE_NEXT(funlockfile));
#ifdef FSAFE_LIBC_GLIBC
    /* Not only before the second thread, which the program may make inside of dlopen. */
    fsafe_loader_find(&(const struct fsafe_loader_calls){
        .iterate = FSAFE_NEXT(dl_iterate_phdr),
        .trylock = FSAFE_NEXT(pthread_mutex_trylock),
        .unlock = FSAFE_NEXT(pthread_mutex_unlock),
    });
    if (fsafe_loader_loading_lock == NULL && fsafe_options.verbose)
        fsafe_report_note("this C library's lock of dlopen is unknown: a fork waits for no thread in dlopen");
#endif
}

static void start(char *const *environment)
{
    fsafe_report_know_stderr();
    fsafe_options_read(environment, complain);
    fsafe_report_start();
    bool has_threads = fsafe_next_start(); /* also in mode off, in which the wrappers pass every call on */
#ifdef FSAFE_ARCH_BY_LIBC
    fsafe_arch_libc = FSAFE_NEXT(syscall);
#endif
    fsafe_sys_know_clock((fsafe_sys_reads_clock *)fsafe_symbol_of_libc("clock_gettime"));
    const char *watcher = watched(environment);
    if (fsafe_options.inherit_off)
        disinherit(environment);
    if (!has_threads || !is_meant())
        fsafe_options.mode = FSAFE_MODE_OFF;
    if (watcher != NULL)
        fsafe_next_bind_all();
    if (fsafe_options.mode == FSAFE_MODE_OFF)
        return;
    if (watcher != NULL) {
        fsafe_report_note(watcher);
        return;
    }
    pid_t pid = fsafe_sys_getpid();
    uintptr_t from, to;
    fsafe_symbol_library("malloc", &from, &to);
    fsafe_handlers_know_allocator(from, to);
    ask_libc(pid);
    atomic_store_explicit(&has_to_learn, true, memory_order_relaxed);
    fsafe_spin_start(FSAFE_NEXT(pthread_spin_trylock));
    fsafe_tally_start(pid);
    fsafe_lineage_start(pid);
    fsafe_barrier_start();
    fsafe_rescue_start();
    const struct fsafe_thread_calls of_rooms = {.probe_owner = fsafe_layout_probe_owner, .leave = leave,
                                                .is_stale = is_stale, .clear_stale = clear_stale};
    if (!fsafe_thread_start(&of_rooms) || !fsafe_fork_start(register_atfork, fsafe_symbol_is_older("2.36"))) {
        fsafe_report_note("cannot start (no memory or no thread key left): this program runs unprotected");
        return;
    }
    fsafe_thread_join_first();
    const struct part parts[] = {{"mutexes", fsafe_layout.mutex_bytes},
                                 {"rwlocks", fsafe_layout.rwlock_bytes},
#ifdef FSAFE_LIBC_GLIBC
                                 {"streams", fsafe_layout_stream.known},
#endif
                                 {"semaphores", fsafe_layout.sem_bytes}};
    if (!note_unknown(parts, sizeof parts / sizeof parts[0]) && fsafe_options.verbose)
        fsafe_report_note("started");
}

__attribute__((constructor)) static void construct(int count, char **arguments, char **environment)
{
    (void)count, (void)arguments;
#ifndef FSAFE_LIBC_GLIBC
    environment = environ; /* musl passes nothing to a constructor, and its environ is set */
#endif
    start(getauxval(AT_SECURE) ? NULL : environment);
}

/*
 * At the end of the tree's first process, but not when a vfork child of it calls exit. A shell starts many programs:
 * one of these writes the line only if it has counted something.
 */
__attribute__((destructor)) static void end(void)
{
    if (fsafe_options.summary && fsafe_tally->first == fsafe_sys_getpid() &&
        (!fsafe_tally_is_empty() || !parent_has_library()))
        fsafe_report_summary();
}
