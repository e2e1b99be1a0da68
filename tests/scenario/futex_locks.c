/*
 * Locks that a program makes of a futex by itself, waiting by syscall(SYS_futex): GLib's GMutex, and the algorithm and
 * the very call of std::sync::Mutex in Rust's standard library. And waits that look like theirs and are none.
 */
#include "bare_futex.h"
#include "futex_kind.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

static uint64_t lock, another;

/* One that others waited for, too: number of them. */
static void vanished(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    struct scn_holder worker;
    struct scn_waiter waiter[4];
    scn_hold(&worker, kind->take, kind->give, &lock, 1);
    for (long i = 0; i < self->number; i++)
        scn_want(&waiter[i], kind->take, kind->give, &lock);
    SCN_IN_CHILD {
        SCN_IS(kind->take(&lock), 0);
        SCN_IS(scn_elsewhere(kind->try, &lock), EBUSY);
        SCN_IS(kind->give(&lock), 0);
        scn_exclusion(kind->take, kind->give, &lock, 4, 2000);
    }
    SCN_IS(scn_elsewhere(kind->try, &lock), EBUSY);
    scn_let_go(&worker);
    for (long i = 0; i < self->number; i++)
        scn_join(waiter[i].thread);
    SCN_IS(kind->take(&lock), 0);
    SCN_IS(kind->give(&lock), 0);
}

static int rust_read(void *rwlock)
{
    uint32_t *state = rwlock;
    for (;;) {
        uint32_t seen = __atomic_load_n(state, __ATOMIC_RELAXED);
        if (seen < WRITTEN - 1) {
            if (__atomic_compare_exchange_n(state, &seen, seen + 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return 0;
        } else if ((seen & READERS_WAIT) != 0 ||
                   __atomic_compare_exchange_n(state, &seen, seen | READERS_WAIT, false, __ATOMIC_RELAXED,
                                               __ATOMIC_RELAXED)) {
            futex(state, FUTEX_WAIT_BITSET_PRIVATE, seen | READERS_WAIT, NULL);
        }
    }
}

static int rust_read_unlock(void *rwlock)
{
    uint32_t *state = rwlock, *wakes = state + 1, left = __atomic_sub_fetch(state, 1, __ATOMIC_RELEASE);
    if ((left & WRITTEN) == 0 && left != 0 &&
        __atomic_compare_exchange_n(state, &left, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(wakes, 1, __ATOMIC_RELEASE);
        futex(wakes, FUTEX_WAKE_PRIVATE, 1 << 30, NULL);
        futex(state, FUTEX_WAKE_PRIVATE, 1 << 30, NULL);
    }
    return 0;
}

/* An RwLock that is written, and for which a writer and a reader waited: number: the reader came first. */
static void waited_by_both(const struct scn_case *self)
{
    struct scn_holder worker;
    struct scn_waiter writer, reader;
    scn_hold(&worker, rust_write, rust_write_unlock, &lock, 1);
    for (long i = 0; i < 2; i++)
        if (i == self->number)
            scn_want(&writer, rust_write, rust_write_unlock, &lock);
        else
            scn_want(&reader, rust_read, rust_read_unlock, &lock);
    SCN_CHECK((uint32_t)lock == UINT32_MAX);
    SCN_IN_CHILD {
        SCN_IS(rust_write(&lock), 0);
        SCN_IS(scn_elsewhere(rust_trywrite, &lock), EBUSY);
        SCN_IS(rust_write_unlock(&lock), 0);
        scn_exclusion(rust_write, rust_write_unlock, &lock, 4, 2000);
    }
    scn_let_go(&worker);
    scn_join(writer.thread);
    scn_join(reader.thread);
    SCN_IS(rust_trywrite(&lock), 0);
}

/* Two of them, and again in a grandchild that did not ask for the second. */
static void two_and_grandchild(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    struct scn_holder one, two;
    scn_hold(&one, kind->take, kind->give, &lock, 1);
    scn_hold(&two, kind->take, kind->give, &another, 1);
    SCN_IN_CHILD {
        SCN_IS(kind->take(&lock), 0);
        SCN_IN_CHILD {
            SCN_IS(kind->give(&lock), 0);
            SCN_IS(kind->take(&another), 0);
            SCN_IS(kind->give(&another), 0);
        }
        SCN_IS(kind->try(&another), EBUSY);
    }
    scn_let_go(&one);
    scn_let_go(&two);
}

/* A thread of the child holds it: another waits until that gives it back. */
static void give_back(void *worker)
{
    scn_let_go(worker);
}

static void living(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    SCN_IN_CHILD {
        struct scn_holder worker;
        scn_hold(&worker, kind->take, kind->give, &lock, 1);
        scn_must_wait(kind->take, kind->give, &lock, give_back, &worker);
        scn_exclusion(kind->take, kind->give, &lock, 4, 2000);
    }
}

static int leave_locked(void *self)
{
    const struct kind *kind = self;
    return kind->take(&lock);
}

/* A thread of the child ended with it: as stuck as without a fork, and nothing is said. */
static void childs_own_dead(const struct scn_case *self)
{
    const struct kind *kind = self->kind;
    SCN_IN_CHILD {
        SCN_IS(scn_elsewhere(leave_locked, (void *)(uintptr_t)kind), 0);
        SCN_IS(kind->take(&lock), 0);
    }
}

/* Asked for with a limit, which Qt alone does. A living thread's is not given away. */
static void limited(const struct scn_case *self)
{
    struct scn_holder worker;
    scn_call *timedlock = self->number == 0 ? qt.timedlock : qt.timedlock_until;
    scn_hold(&worker, qt_lock, qt_unlock, &lock, 1);
    SCN_IN_CHILD {
        SCN_IS(timedlock(&lock), 0);
        SCN_IS(qt_unlock(&lock), 0);
        struct scn_holder of_child;
        scn_hold(&of_child, qt_lock, qt_unlock, &lock, 1);
        SCN_IS(timedlock(&lock), ETIMEDOUT);
        scn_let_go(&of_child);
    }
    SCN_IS(timedlock(&lock), ETIMEDOUT);
    scn_let_go(&worker);
    scn_fine();
}

/* --- tcmalloc: waited for in a loop, each time with a limit ------------------------------------------------------- */

static struct {
    scn_call *lock, *trylock, *unlock;
} tcmalloc;

static int tcmalloc_lock(void *spin)
{
    return tcmalloc.lock(spin);
}

static int tcmalloc_trylock(void *spin)
{
    return tcmalloc.trylock(spin);
}

static int tcmalloc_unlock(void *spin)
{
    return tcmalloc.unlock(spin);
}

static int profiler_lock(void *spin)
{
    static scn_call *call;
    if (call == NULL && !find(dlopen(PROFILER_MODULE, RTLD_NOW), "tcmalloc_lock", &call))
        return ENOENT;
    return call(spin);
}

static const struct kind profiler = {"gperftools", "once:took over futex .*\\(gperftools\\) for .*libprofiler", "",
                                     profiler_lock, tcmalloc_trylock, tcmalloc_unlock};

static void add_tcmalloc(void)
{
    static const struct kind kind = {"tcmalloc", "once:took over futex 0x[0-9a-f]+ .*\\(tcmalloc\\) for .*libtcmalloc",
                                     "once:would hang on futex .*\\(tcmalloc\\) ;; " SCN_NEVER_TAKES, tcmalloc_lock,
                                     tcmalloc_trylock, tcmalloc_unlock};
    void *library = dlopen(TCMALLOC_MODULE, RTLD_NOW);
    if (library == NULL || !find(library, "tcmalloc_lock", &tcmalloc.lock) ||
        !find(library, "tcmalloc_trylock", &tcmalloc.trylock) || !find(library, "tcmalloc_unlock", &tcmalloc.unlock))
        return;
    for (long waiters = 0; waiters <= 3; waiters += 3)
        scn_add(SCN_CASE(.bare = "hangs", .says = kind.says, .run = vanished, .kind = &kind, .number = waiters),
                "tcmalloc-%ld-waiters", waiters);
    scn_add(SCN_CASE(.bare = "hangs", .says = "took over futex", .run = two_and_grandchild, .kind = &kind),
            "tcmalloc-two-and-grandchild");
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = living, .kind = &kind), "tcmalloc-living");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = kind.watched, .env = "FORKSAFE_MODE=report",
                     .run = vanished, .kind = &kind), "tcmalloc-report");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = kind.watched, .env = "FORKSAFE_MODE=abort",
                     .run = vanished, .kind = &kind), "tcmalloc-abort");
    scn_add(SCN_CASE(.bare = "hangs", .says = profiler.says, .run = vanished, .kind = &profiler), "gperftools");
}

static void add_absl(void)
{
    static struct kind kind = {"Abseil", "once:took over futex .*\\(Abseil\\) for .*libabsl_spinlock_wait", "",
                               NULL, NULL, NULL};
    void *library = dlopen(ABSL_MODULE, RTLD_NOW);
    if (library != NULL && find(library, "absl_lock", &kind.take) && find(library, "absl_trylock", &kind.try) &&
        find(library, "absl_unlock", &kind.give))
        for (long waiters = 0; waiters <= 3; waiters += 3)
            scn_add(SCN_CASE(.bare = "hangs", .says = kind.says, .run = vanished, .kind = &kind, .number = waiters),
                    "absl-%ld-waiters", waiters);
}

/* --- Not locks ---------------------------------------------------------------------------------------------------- */

static uint32_t event;

struct wait {
    const char *name;
    int operation;
    uint32_t value;
};

static const struct wait waits[] = {
    {"wait-0", FUTEX_WAIT_PRIVATE, 0},
    {"wait-1", FUTEX_WAIT_PRIVATE, 1},
    {"wait-2", FUTEX_WAIT_PRIVATE, 2}, /* GLib's own, from somewhere else */
    {"wait-not-private-2", FUTEX_WAIT, 2}, /* as std::atomic<int>::wait(2) */
    {"bitset-1", FUTEX_WAIT_BITSET_PRIVATE, 1},
};

/* Bare this is a hang, and stays one: the library says so, once, when it has lasted. */
static void endless(const struct scn_case *self)
{
    const struct wait *wait = self->kind;
    event = wait->value;
    SCN_IN_CHILD {
        while (event == wait->value)
            futex(&event, wait->operation, wait->value, NULL);
    }
}

static void happen(int signal)
{
    event = 7;
}

/* A signal handler is what the child waits for. */
static void until_signal(const struct scn_case *self)
{
    const struct wait *wait = self->kind;
    event = wait->value;
    SCN_IN_CHILD {
        const struct sigaction action = {.sa_handler = happen};
        sigaction(SIGUSR1, &action, NULL);
        const pid_t me = getpid();
        const pid_t waker = fork(); /* not scn_fork: it has nothing to say */
        if (waker == 0) {
            scn_await_asleep(me, NULL);
            kill(me, SIGUSR1);
            _exit(0);
        }
        SCN_CHECK(futex(&event, wait->operation, wait->value, NULL) == -1 && errno == EINTR);
        SCN_CHECK(event == 7);
    }
}

/* --- Waits of which nothing is seen ------------------------------------------------------------------------------- */

#ifdef HAVE_BARE_FUTEX
/* A word that reads "held, and waited for"; `number` other threads in the child. Twice: the net is spread again. */
static void unseen(const struct scn_case *self)
{
    const struct wait *wait = self->kind;
    static int never;
    never = scn_bell();
    SCN_IN_CHILD {
        for (long i = 0; i < self->number; i++)
            scn_start(scn_stay, &never);
        for (int again = 0; again < 2; again++) {
            event = wait->value;
            while (__atomic_load_n(&event, __ATOMIC_ACQUIRE) == wait->value)
                bare_futex(&event, wait->operation, wait->value);
            SCN_CHECK(event == 0);
        }
        SCN_IN_CHILD {
            event = wait->value;
            while (__atomic_load_n(&event, __ATOMIC_ACQUIRE) == wait->value)
                bare_futex(&event, wait->operation, wait->value);
        }
    }
}
#endif

/* Each in a child that is alone, with the very calls of the known locks. */
static void contracts(const struct scn_case *self)
{
    uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const int ready = scn_bell();
    *shared = 2;
    event = 2;
    const pid_t child = scn_fork();
    if (child == 0) {
        const struct timespec limit = {.tv_nsec = 20000000}, past = {.tv_sec = 1};
        SCN_CHECK(futex(&event, FUTEX_WAIT_PRIVATE, 2, &limit) == -1 && errno == ETIMEDOUT);
        SCN_CHECK(futex(&event, FUTEX_WAIT_BITSET_PRIVATE, 2, &past) == -1 && errno == ETIMEDOUT);
        SCN_CHECK(futex(&event, FUTEX_WAIT_BITSET_PRIVATE, 1, NULL) == -1 && errno == EAGAIN);
        SCN_CHECK(futex(NULL, FUTEX_WAIT_BITSET_PRIVATE, 2, NULL) == -1 && errno == EFAULT);
        SCN_CHECK(event == 2);
        scn_ring(ready);
        /* The parent wakes it. */
        while (__atomic_load_n(shared, __ATOMIC_ACQUIRE) == 2)
            futex(shared, FUTEX_WAIT_BITSET, 2, NULL);
        SCN_CHECK(*shared == 5);
        scn_fine();
    }
    scn_await(ready);
    scn_await_asleep(child, NULL);
    __atomic_store_n(shared, 5, __ATOMIC_RELEASE);
    futex(shared, FUTEX_WAKE, 1, NULL);
    scn_reap(child);
}

/*
 * Two signals before the fork: GCond's counter is 2, as a contended lock's word, and the child must not take that for
 * news.
 */
static void glib_condition(const struct scn_case *self)
{
    static uint64_t mutex, cond;
    static bool happened;
    glib.cond_signal(&cond);
    glib.cond_signal(&cond);
    const pid_t child = scn_fork();
    if (child == 0) {
        glib.mutex_lock(&mutex);
        while (!happened)
            glib.cond_wait(&cond, &mutex);
        scn_wrong(SCN_WHERE, "nothing happened");
    }
    scn_reap(child);
}

/*
 * Rust's park: the word is 0, or 1 for who may go on, and all bits while the thread sleeps. In a child it may come back
 * once for no reason, and sleeps then until a signal handler unparks it.
 */
static uint32_t parking;
static atomic_int told;

static void park(void)
{
    if (__atomic_fetch_sub(&parking, 1, __ATOMIC_ACQUIRE) == 1)
        return;
    for (uint32_t token = 0; token != 1;) {
        futex(&parking, FUTEX_WAIT_BITSET_PRIVATE, ~0u, NULL);
        token = 1;
        __atomic_compare_exchange_n(&parking, &token, 0, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
    }
}

static void unpark(int signal)
{
    atomic_store(&told, 1);
    __atomic_store_n(&parking, 1, __ATOMIC_RELEASE);
}

static void parked(const struct scn_case *self)
{
    SCN_IN_CHILD {
        const struct sigaction action = {.sa_handler = unpark};
        sigaction(SIGUSR1, &action, NULL);
        const pid_t me = getpid();
        const pid_t waker = fork();
        if (waker == 0) {
            for (int i = 0; i < 20; i++) { /* not before it is asleep for good */
                scn_await_asleep(me, NULL);
                usleep(1000);
            }
            kill(me, SIGUSR1);
            _exit(0);
        }
        int parks = 0;
        for (; !atomic_load(&told); parks++)
            park();
        SCN_CHECK(parks <= 2);
    }
}

/*
 * An initialiser that runs once, and is running in a thread that vanishes: the child runs it. Abseil's call_once;
 * Rust's Once, whose numbers changed twice.
 */
static const struct once {
    const char *name, *says;
    uint32_t not_begun, running, waited_for, done;
    int operation;
} onces[] = {
    {"absl-call-once", "once:took over futex 0x[0-9a-f]+ .*\\(absl::call_once\\)", 0, 0x65c2937b, 0x05a308d2, 221,
     FUTEX_WAIT_PRIVATE},
    {"rust-once", "once:took over futex 0x[0-9a-f]+ .*\\(Rust std Once\\)", 3, 1, 5, 0, FUTEX_WAIT_BITSET_PRIVATE},
    {"rust-once-1.85", "once:took over futex 0x[0-9a-f]+ .*\\(Rust std Once\\)", 0, 2, 6, 3, FUTEX_WAIT_BITSET_PRIVATE},
    {"rust-once-1.62", "once:took over futex 0x[0-9a-f]+ .*\\(Rust std Once\\)", 0, 2, 3, 4, FUTEX_WAIT_BITSET_PRIVATE},
};
static const struct once *once;
static uint32_t once_word;

/* Whether the caller is to run the initialiser: the first who asks, others wait for it. */
static bool once_begins(void)
{
    for (;;) {
        uint32_t seen = once->not_begun;
        if (__atomic_compare_exchange_n(&once_word, &seen, once->running, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
        if (seen == once->done)
            return false;
        if (seen == once->running)
            __atomic_compare_exchange_n(&once_word, &seen, once->waited_for, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        else
            futex(&once_word, once->operation, once->waited_for, NULL);
    }
}

static int once_begin(void *unused)
{
    SCN_CHECK(once_begins());
    return 0;
}

static int once_end(void *unused)
{
    __atomic_store_n(&once_word, once->done, __ATOMIC_RELEASE);
    return 0;
}

static void call_once_vanished(const struct scn_case *self)
{
    once = self->kind;
    once_word = once->not_begun;
    SCN_IN_CHILD_WHILE_HELD(once_begin, once_end, &once_word) {
        SCN_CHECK(once_begins());
        once_end(NULL);
        SCN_CHECK(!once_begins());
    }
    SCN_CHECK(!once_begins());
}

#ifdef HAVE_BARE_FUTEX
/* With the net under everything a wait that is seen is no worse off than one that is not. */
static void net_under_seen(const struct scn_case *self)
{
    SCN_IN_CHILD {
        event = ~0u;
        while (__atomic_load_n(&event, __ATOMIC_ACQUIRE) == ~0u)
            futex(&event, FUTEX_WAIT_PRIVATE, ~0u, NULL);
        SCN_CHECK(event == 0);
    }
}
#endif

/* What a child passed by is judged anew in its own child: an event becomes a lock there. */
static void passed_by(const struct scn_case *self)
{
    event = 0;
    SCN_IN_CHILD {
        const pid_t me = getpid(), waker = fork();
        const struct sigaction action = {.sa_handler = happen};
        sigaction(SIGUSR1, &action, NULL);
        if (waker == 0) {
            scn_await_asleep(me, NULL);
            kill(me, SIGUSR1);
            _exit(0);
        }
        while (event == 0)
            futex(&event, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL);
        SCN_IN_CHILD {
            event = 2;
            SCN_IS(rust_lock(&event), 0);
        }
    }
}

void scn_cases(void)
{
    scn_add(SCN_CASE(.bare = "fine", .run = parked), "parked");
    scn_add(SCN_CASE(.bare = "hangs", .says = "took over futex .*\\(Rust std\\)", .run = passed_by), "passed-by");
    for (size_t i = 0; i < sizeof onces / sizeof *onces; i++)
        scn_add(SCN_CASE(.bare = "hangs", .run = call_once_vanished, .says = onces[i].says, .kind = &onces[i]),
                "%s", onces[i].name);
    for (long reader_first = 0; reader_first < 2; reader_first++)
        scn_add(SCN_CASE(.bare = "hangs", .says = kinds[2].says, .run = waited_by_both, .number = reader_first),
                "rust-rwlock-of-%s", reader_first ? "reader-and-writer" : "writer-and-reader");
    const bool glib_is_here = have_glib(), qt_is_here = have_qt();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const struct kind *kind = &kinds[k];
        if (((kind->take == glib_lock || kind->take == glib_bit_lock) && !glib_is_here) ||
            (kind->take == qt_lock && !qt_is_here))
            continue;
        for (long waiters = 0; waiters <= 3; waiters += 3)
            scn_add(SCN_CASE(.bare = "hangs", .says = kind->says, .run = vanished, .kind = kind, .number = waiters),
                    "%s-%ld-waiters", kind->name, waiters);
        scn_add(SCN_CASE(.bare = "hangs", .says = "took over futex", .run = two_and_grandchild, .kind = kind),
                "%s-two-and-grandchild", kind->name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = living, .kind = kind), "%s-living", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = "once:child hangs in futex",
                         .env = "FORKSAFE_HANG_MS=200", .run = childs_own_dead, .kind = kind),
                "%s-childs-own-dead", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = kind->watched, .env = "FORKSAFE_MODE=report",
                         .run = vanished, .kind = kind), "%s-report", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = kind->watched,
                         .env = "FORKSAFE_MODE=abort", .run = vanished, .kind = kind), "%s-abort", kind->name);
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = SCN_SILENT, .env = "FORKSAFE_MODE=off",
                         .run = vanished, .kind = kind), "%s-off", kind->name);
    }
    if (qt_is_here) {
        for (long until = 0; until < 2; until++) {
            scn_add(SCN_CASE(.bare = "fails ETIMEDOUT", .run = limited, .number = until,
                             .says = "once:took over futex .*\\(Qt\\)"), "qt-limited%s", until ? "-until" : "");
            scn_add(SCN_CASE(.bare = "fails ETIMEDOUT", .preloaded = "fails ETIMEDOUT", .run = limited,
                             .number = until, .env = "FORKSAFE_MODE=report",
                             .says = "once:would hang on futex .*\\(Qt\\)"),
                    "qt-limited%s-report", until ? "-until" : "");
        }
    }
    add_tcmalloc();
    add_absl();
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        static const char *const says = "once:child hangs in futex 0x[0-9a-f]+ \\(unknown\\) ;; " SCN_NEVER_TAKES;
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = says, .run = endless,
                         .env = "FORKSAFE_HANG_MS=200", .kind = &waits[i]), "endless-%s", waits[i].name);
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "dies SIGABRT", .says = says, .run = endless,
                         .env = "FORKSAFE_MODE=abort FORKSAFE_HANG_MS=200", .kind = &waits[i]),
                "abort-endless-%s", waits[i].name);
        scn_add(SCN_CASE(.bare = "fine", .says = SCN_NEVER_TAKES, .run = until_signal, .kind = &waits[i]),
                "until-signal-%s", waits[i].name);
    }
    scn_add(SCN_CASE(.bare = "fine", .says = SCN_SILENT, .run = contracts), "contracts");
    if (glib_is_here)
        scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .env = "FORKSAFE_HANG_MS=200", .run = glib_condition,
                         .says = "child hangs in futex 0x[0-9a-f]+ ;; " SCN_NEVER_TAKES),
                "glib-condition");
#ifdef HAVE_BARE_FUTEX
    static const struct wait held = {"held", FUTEX_WAIT_PRIVATE, 2},
                             by_openmp = {"held-openmp", FUTEX_WAIT_PRIVATE, ~0u},
                             event_1 = {"event", FUTEX_WAIT_PRIVATE, 1};
    const char *net = "FORKSAFE_RESCUE_MS=20";
    scn_add(SCN_CASE(.bare = "hangs", .says = "took over lock 0x[0-9a-f]+ ;; never:child hangs",
                     .env = "FORKSAFE_RESCUE_MS=20 FORKSAFE_HANG_MS=20000", .run = net_under_seen), "rescue-seen");
    scn_add(SCN_CASE(.bare = "hangs", .says = "took over lock 0x[0-9a-f]+ .*\\(unknown\\) for .* fork 1 by",
                     .env = net, .run = unseen, .kind = &held), "rescue-held");
    scn_add(SCN_CASE(.bare = "hangs", .env = net, .run = unseen, .kind = &by_openmp), "rescue-held-openmp");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = SCN_NEVER_TAKES, .env = net, .run = unseen,
                     .kind = &event_1), "rescue-event");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = SCN_NEVER_TAKES, .env = net, .run = unseen,
                     .kind = &held, .number = 1), "rescue-with-another-thread");
    scn_add(SCN_CASE(.bare = "hangs", .preloaded = "hangs", .says = SCN_NEVER_TAKES, .run = unseen, .kind = &held),
            "rescue-off");
#endif
}
