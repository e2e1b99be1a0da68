/*
 * Measured. What a wait by syscall(SYS_futex) shows of GLib 2.74's GMutex and GCond and of Rust 1.95's Mutex, Condvar,
 * RwLock and Once: no owner. A GMutex or Mutex that is locked and waited for is 2, and the waiter expects 2. GLib waits
 * by FUTEX_WAIT_PRIVATE from libglib's own code; Rust by FUTEX_WAIT_BITSET_PRIVATE without a limit, as nobody else we
 * saw; libstdc++ by FUTEX_WAIT, which is not private. A Condvar whose counter is 2 looks the same: set to 0 its wait
 * ends for no reason, which Rust allows, and the next wait is reported.
 *
 * Rust programs (rustc 1.95, by hand): a child that locks a Mutex, or prints while another thread has stdout locked,
 * hangs without the library and goes on with it.
 *
 * C++20's counting_semaphore and atomic::wait call nothing until they sleep, then syscall(SYS_futex). libc++ (19)
 * sleeps two seconds, from libc++.so's own code, looks at the word, and sleeps again. Nothing shows whether a vanished
 * thread had a token. What vanished waiters leave behind (a count in libstdc++'s pool of waiters) does no harm: a
 * notify makes one needless system call.
 */
#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "libc/modules.h"
#include "repair/census.h"
#include "repair/futex.h"
#include "track/slots.h"

#include <string.h>

/* What makes a lock free: a word, what it says now, and what it is to say. */
struct change {
    uintptr_t word;
    uint32_t before, after;
};

/* Whether the waiter's word and value prove a lock that is held. Fills in what frees it. */
typedef bool proof(uintptr_t word, uint32_t value, struct change *change);

enum { CONTENDED = 2 };

/* 0 free, 1 locked, 2 locked and a thread may sleep; a sleeper looks again when it is woken. */
static bool is_mutex(uintptr_t word, uint32_t value, struct change *change)
{
    *change = (struct change){word, CONTENDED, 0};
    return value == CONTENDED;
}

/* The same in the lower half of a pointer: null, 1, 3. */
enum { QT_CONTENDED = 3 };

static bool is_qt_mutex(uintptr_t word, uint32_t value, struct change *change)
{
    *change = (struct change){word, QT_CONTENDED, 0};
    return value == QT_CONTENDED;
}

/* A bit of an integer. The call does not say which bit, so no other bit may be set. */
static bool is_bit_lock(uintptr_t word, uint32_t value, struct change *change)
{
    *change = (struct change){word, value, 0};
    return value != 0 && (value & (value - 1)) == 0;
}

/*
 * Rust's RwLock is a word with the number of readers, or WRITTEN, and who waits; and behind it a count of wake-ups, on
 * which writers sleep. A word with more readers than MANY is taken for some other number.
 */
#define WRITTEN 0x3fffffffu
#define READERS_WAIT 0x40000000u
#define WRITERS_WAIT 0x80000000u
#define MANY 10000u

static bool is_rust_rwlock_of_reader(uintptr_t word, uint32_t value, struct change *change)
{
    uint32_t held = value & WRITTEN;
    *change = (struct change){word, value, held == WRITTEN ? 0 : held};
    return (value & READERS_WAIT) != 0 && value != UINT32_MAX && (held == WRITTEN || held <= MANY);
}

/*
 * An RwLock that is written, with readers and writers waiting; or the word of a parked thread, which also has all bits.
 * 1 wakes a parked thread for no reason, which it has to expect; it is set once only, or such a thread would never
 * sleep again. An RwLock has one reader then that never leaves: the first writer who waits for it makes the lock free.
 */
static bool is_rust_rwlock_or_parked(uintptr_t word, uint32_t value, struct change *change)
{
    static _Atomic uintptr_t woken;
    *change = (struct change){word, value, 1};
    return value == UINT32_MAX && fsafe_options.mode == FSAFE_MODE_REPAIR &&
           atomic_exchange_explicit(&woken, word, memory_order_relaxed) != word;
}

/* Whether a thread waits, or a vanished one did, for that word as readers of an RwLock and parked threads do. */
static bool is_slept_on(uintptr_t word)
{
    for (struct fsafe_thread_walk at = fsafe_thread_walk(FSAFE_ANYBODY); fsafe_thread_next(&at);)
        if (atomic_load(&at.thread->contends.state) != 0 && at.thread->contends.word == word &&
            at.thread->contends.operation == FUTEX_WAIT_BITSET_PRIVATE)
            return true;
    return false;
}

static bool is_rust_rwlock_of_writer(uintptr_t word, uint32_t value, struct change *change)
{
    uint32_t state;
    (void)value;
    if (!fsafe_sys_peek(word - sizeof state, &state, sizeof state))
        return false;
    uint32_t held = state & WRITTEN;
    *change = (struct change){word - sizeof state, state, 0};
    /*
     * Where readers wait, too, that is all bits, as in the number -1: a reader's sleep has to show that it is a lock.
     * WRITERS_WAIT goes when a writer is woken.
     */
    return (held == WRITTEN && ((state & READERS_WAIT) == 0 || is_slept_on(change->word))) ||
           ((state & WRITERS_WAIT) != 0 && held != 0 && held <= MANY);
}

/*
 * Rust's Once, OnceLock and LazyLock: 5 while the initialiser runs and a thread waits, 3 before it began; in Rust 1.85
 * 6 and 0, earlier 3 and 0. The initialiser runs again.
 */
static bool is_rust_once(uintptr_t word, uint32_t value, struct change *change)
{
    *change = (struct change){word, value, value == 5 ? 3 : 0};
    return value == 5 || value == 6 || value == 3;
}

/* Abseil's call_once while the initialiser runs and a thread waits: a number of its own. The caller then runs it. */
static bool is_absl_once(uintptr_t word, uint32_t value, struct change *change)
{
    enum { WAITED_FOR = 0x05a308d2 };
    *change = (struct change){word, value, 0};
    return value == WAITED_FOR;
}

/* Abseil's spin lock: a bit for held, two bits for its sort, and above them how long its waiters have waited. */
static bool is_absl_spin(uintptr_t word, uint32_t value, struct change *change)
{
    enum { HELD = 1, SORT = 6 };
    *change = (struct change){word, value, value & SORT};
    return (value & HELD) != 0 && value > (HELD | SORT);
}

/*
 * kj's Mutex (Cap'n Proto): the number of readers, with those who wait for a writer to leave, a bit for a writer who
 * waits, and one for a writer who is inside. If the waiter may be a reader its own count stays; a writer then waits
 * once more, for that one reader.
 */
static bool is_kj_mutex(uintptr_t word, uint32_t value, struct change *change)
{
    const uint32_t wanted = 1u << 30, written = 1u << 31;
    uint32_t readers = value & (wanted - 1);
    *change = (struct change){word, value, (value & written) != 0 && readers != 0};
    return readers <= MANY && ((value & wanted) != 0 || change->after != 0);
}

struct algorithm {
    const char *kind;   /* in reports */
    int operation;      /* how it waits */
    const char *module; /* how the name of the calling module begins; NULL: any module */
    const char *except; /* how the names of that module's functions begin that wait for something else; NULL: none */
    proof *proof;
    enum { UNDRAINED, MUTEX, RWLOCK } drained; /* how a fork takes the lock: see fork/contended */
    bool limited;                              /* it may also wait with a limit */
};

/*
 * GLib and Qt wait by the most common call, as anybody's event may with such a value: so the calling module has to be
 * theirs. libglib waits otherwise only for a GCond's number of wake-ups, in a function that it exports. Rust's standard
 * library is linked into any module; it alone waits without a limit by FUTEX_WAIT_BITSET for all bits, and otherwise
 * only for a Condvar or for the wake-ups of an RwLock's writers, which both look again.
 * A thread waits for a spin lock of gperftools' (of tcmalloc's heap profiler and debugging form, of the CPU profiler)
 * in a loop, each time for milliseconds. The CPU profiler's signal handler holds one while it goes into libc, where a
 * fork stops it: without the row one of 40 children that exit hung in 4 of 4 runs, without the library in 1 of 6.
 */
static const struct algorithm algorithms[] = {
    {"GLib", FUTEX_WAIT_PRIVATE, "libglib-2.0.so", "g_cond_", is_mutex, MUTEX, false},
    {"GLib bit lock", FUTEX_WAIT_PRIVATE, "libglib-2.0.so", "g_cond_", is_bit_lock, UNDRAINED, false},
    {"Qt", FUTEX_WAIT_PRIVATE, "libQt", NULL, is_qt_mutex, MUTEX, true},
    {"Qt", FUTEX_WAIT_BITSET_PRIVATE, "libQt", NULL, is_qt_mutex, MUTEX, true},
    {"kj", FUTEX_WAIT_PRIVATE, "libkj", NULL, is_kj_mutex, UNDRAINED, false},
    {"kj Once", FUTEX_WAIT_PRIVATE, "libkj", NULL, is_mutex, UNDRAINED, false},
    {"tcmalloc", FUTEX_WAIT_PRIVATE, "libtcmalloc", NULL, is_mutex, UNDRAINED, true},
    {"gperftools", FUTEX_WAIT_PRIVATE, "libprofiler", NULL, is_mutex, UNDRAINED, true},
    {"Abseil", FUTEX_WAIT_PRIVATE, "libabsl_spinlock_wait.so", NULL, is_absl_spin, UNDRAINED, false},
    {"absl::call_once", FUTEX_WAIT_PRIVATE, NULL, NULL, is_absl_once, UNDRAINED, false},
    {"Rust std", FUTEX_WAIT_BITSET_PRIVATE, NULL, NULL, is_mutex, MUTEX, false},
    {"Rust std RwLock", FUTEX_WAIT_BITSET_PRIVATE, NULL, NULL, is_rust_rwlock_of_reader, RWLOCK, false},
    {"Rust std RwLock, or a parked thread", FUTEX_WAIT_BITSET_PRIVATE, NULL, NULL, is_rust_rwlock_or_parked, UNDRAINED,
     false},
    {"Rust std RwLock", FUTEX_WAIT_BITSET_PRIVATE, NULL, NULL, is_rust_rwlock_of_writer, RWLOCK, false},
    {"Rust std Once", FUTEX_WAIT_BITSET_PRIVATE, NULL, NULL, is_rust_once, UNDRAINED, false},
};

static bool begins_with(const char *name, const char *beginning)
{
    return strncmp(name, beginning, strlen(beginning)) == 0;
}

static bool is_its_place(const struct algorithm *algorithm, const struct fsafe_mapping *caller)
{
    char function[FSAFE_SYMBOL_BYTES];
    uintptr_t offset;
    return algorithm->module == NULL ||
           (caller->found && begins_with(caller->module, algorithm->module) &&
            (algorithm->except == NULL || !fsafe_modules_symbol(caller, function, sizeof function, &offset) ||
             !begins_with(function, algorithm->except)));
}

static const struct algorithm *find_algorithm(int operation, uintptr_t word, uint32_t value,
                                              const struct fsafe_mapping *caller, struct change *change)
{
    for (unsigned i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
        const struct algorithm *algorithm = &algorithms[i];
        if (algorithm->operation == operation && is_its_place(algorithm, caller) &&
            algorithm->proof(word, value, change))
            return algorithm;
    }
    return NULL;
}

/* The arguments of the system call. */
enum { WORD, OPERATION, VALUE, TIMEOUT, WORD2, BITS };

/* Of either kind, because libstdc++'s are not private. */
bool fsafe_futex_is_endless(const long *arguments)
{
    int command = (int)arguments[OPERATION] & FUTEX_CMD_MASK;
    return arguments[TIMEOUT] == 0 && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET);
}

/*
 * Whether the wait has a limit and may be one of Qt's tryLock (which gives a time since 6.8, a span before), or one for
 * a spin lock of gperftools'.
 */
static bool may_be_limited(const long *arguments)
{
    int operation = (int)arguments[OPERATION];
    uint32_t value = (uint32_t)arguments[VALUE];
    return arguments[TIMEOUT] != 0 && (value == QT_CONTENDED || value == CONTENDED) &&
           (operation == FUTEX_WAIT_PRIVATE || operation == FUTEX_WAIT_BITSET_PRIVATE);
}

static bool is_for_all_bits(const long *arguments)
{
    return ((int)arguments[OPERATION] & FUTEX_CMD_MASK) == FUTEX_WAIT ||
           (uint32_t)arguments[BITS] == FUTEX_BITSET_MATCH_ANY;
}

bool fsafe_futex_is_made_again(const long *arguments, uintptr_t site)
{
    struct timespec limit;
    struct fsafe_mapping caller = {.address = site};
    return arguments[TIMEOUT] != 0 && (int)arguments[OPERATION] == FUTEX_WAIT_PRIVATE &&
           fsafe_sys_peek((uintptr_t)arguments[TIMEOUT], &limit, sizeof limit) && limit.tv_sec == 2 &&
           limit.tv_nsec == 0 && fsafe_maps_find(&caller, 1) && caller.found &&
           begins_with(caller.module, "libc++.so");
}

/*
 * The latest wait that is none of these: processes may contend all day for a lock that they share. A child, and a wait
 * with another value, ask about the word again.
 */
static struct {
    _Atomic uintptr_t word;
    _Atomic uint64_t rest; /* value and generation */
} ignored;

static uint64_t rest_of(uint32_t value)
{
    return (uint64_t)value << 32 | fsafe_lineage_generation();
}

static bool is_ignored(uintptr_t word, uint32_t value)
{
    return atomic_load_explicit(&ignored.word, memory_order_relaxed) == word &&
           atomic_load_explicit(&ignored.rest, memory_order_relaxed) == rest_of(value);
}

static void ignore(uintptr_t word, uint32_t value)
{
    atomic_store_explicit(&ignored.word, word, memory_order_relaxed);
    atomic_store_explicit(&ignored.rest, rest_of(value), memory_order_relaxed);
}

bool fsafe_futex_judge(const long *arguments, uintptr_t site)
{
    uintptr_t lock = (uintptr_t)arguments[WORD];
    uint32_t value = (uint32_t)arguments[VALUE];
    uint32_t seen;
    /* Not once the child has had threads: one may have ended with the lock, as may happen without a fork. */
    bool limited = may_be_limited(arguments);
    if (!(fsafe_futex_is_endless(arguments) || limited) || !is_for_all_bits(arguments) ||
        fsafe_census_is_surveyed() || is_ignored(lock, value) || !fsafe_takeover_is_alone() ||
        !fsafe_sys_peek(lock, &seen, sizeof seen) || seen != value)
        return false;
    struct fsafe_mapping at[] = {{.address = lock}, {.address = site}};
    if (!fsafe_maps_find(at, 2) || !fsafe_maps_is_exclusive(&at[0])) {
        ignore(lock, value);
        return false;
    }
    struct change change;
    const struct algorithm *algorithm = find_algorithm((int)arguments[OPERATION], lock, value, &at[1], &change);
    if (limited && algorithm != NULL && !algorithm->limited)
        algorithm = NULL;
    if (algorithm == NULL) { /* perhaps an event: if the wait lasts, repair/hopeless judges it */
        ignore(lock, value);
        return false;
    }
    struct fsafe_event event = {.lock = "futex", .kind = algorithm->kind, .address = lock, .wanted_at = site};
    const struct fsafe_claims nobody = {.vanished = NULL};
    bool take = fsafe_takeover_decide(&event, &nobody, true);
    if (take) /* unless a signal handler has changed the word meanwhile */
        take = event.worth_a_line = __atomic_compare_exchange_n((uint32_t *)change.word, &change.before, change.after,
                                                                 false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    fsafe_takeover_tell(&event);
    return take;
}

/* --- A lock that a fork takes ------------------------------------------------------------------------------------- */

/*
 * By operation and value of the rows that are drained. Writers of an RwLock wait with any value: a count of wake-ups.
 */
bool fsafe_futex_may_be_lock(const long *arguments)
{
    uint32_t value = (uint32_t)arguments[VALUE];
    return ((int)arguments[OPERATION] == FUTEX_WAIT_PRIVATE && (value == 2 || value == 3)) ||
           ((int)arguments[OPERATION] == FUTEX_WAIT_BITSET_PRIVATE &&
            (uint32_t)arguments[BITS] == FUTEX_BITSET_MATCH_ANY);
}

bool fsafe_futex_find_lock(uintptr_t word, int operation, uint32_t value, uintptr_t site, struct fsafe_futex_lock *lock)
{
    struct fsafe_mapping at[] = {{.address = word}, {.address = site}};
    struct change change;
    if (!fsafe_maps_find(at, 2) || !fsafe_maps_is_exclusive(&at[0]))
        return false;
    const struct algorithm *algorithm = find_algorithm(operation, word, value, &at[1], &change);
    if (algorithm == NULL || algorithm->drained == UNDRAINED || change.word % sizeof(uint32_t) != 0)
        return false;
    *lock = (struct fsafe_futex_lock){.word = (uint32_t *)change.word,
                                      .contended = algorithm->drained == MUTEX ? value : 0,
                                      .kept = change.word != word ? WRITERS_WAIT : 0};
    return true;
}

bool fsafe_futex_try(const struct fsafe_futex_lock *lock)
{
    uint32_t seen = __atomic_load_n(lock->word, __ATOMIC_RELAXED), waited = lock->contended;
    if (!fsafe_futex_is_taken(seen))
        return __atomic_compare_exchange_n(lock->word, &seen, waited != 0 ? waited : seen | WRITTEN, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    /*
     * The writer that `kept` stands for was perhaps woken, and the bit with it: then the holder would wake nobody. (A
     * word of another kind than a mutex may read 1, too: it is left alone.)
     */
    if (waited == 0 && (seen & WRITERS_WAIT) == 0)
        __atomic_compare_exchange_n(lock->word, &seen, seen | WRITERS_WAIT, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return false;
}

/*
 * While this fork holds a mutex no other thread changes its word; in an RwLock's word others change only the bits that
 * say who waits. A word that changed in another way belongs to no such lock: what this fork added is taken out again.
 */
static void release(const struct fsafe_futex_lock *lock, uint32_t kept)
{
    uint32_t held = lock->contended, seen = __atomic_load_n(lock->word, __ATOMIC_RELAXED);
    if (held != 0) {
        __atomic_compare_exchange_n(lock->word, &held, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
        return;
    }
    while (!__atomic_compare_exchange_n(lock->word, &seen, (seen & WRITTEN) == WRITTEN ? seen & kept : seen - WRITTEN,
                                        false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
}

void fsafe_futex_give(const struct fsafe_futex_lock *lock)
{
    release(lock, lock->kept);
    fsafe_sys_futex_wake(lock->word, INT32_MAX); /* all waiters look again, and mark again that they wait */
    if (lock->contended != 0)
        return;
    __atomic_fetch_add(lock->word + 1, 1, __ATOMIC_SEQ_CST);
    fsafe_sys_futex_wake(lock->word + 1, INT32_MAX);
}

void fsafe_futex_free(const struct fsafe_futex_lock *lock)
{
    uint32_t value;
    if (fsafe_sys_peek((uintptr_t)lock->word, &value, sizeof value)) /* a child may lack the page (MADV_DONTFORK) */
        release(lock, 0);
}
