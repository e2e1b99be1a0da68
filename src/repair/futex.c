/*
 * Measured. What a wait by syscall(SYS_futex) shows: GLib 2.74's GMutex and GCond and Rust 1.95's Mutex, Condvar,
 * RwLock, Once, all without an owner. A locked and contended GMutex and Mutex is 2 and waited for with 2; GLib by
 * FUTEX_WAIT_PRIVATE from libglib's own text, Rust by FUTEX_WAIT_BITSET_PRIVATE without a limit, which nobody else seen
 * does; libstdc++ by FUTEX_WAIT, not the private kind. A Condvar whose counter is 2 looks the same: set to 0 it is a
 * wake-up for no reason, which Rust allows, and the next wait is reported.
 *
 * Rust programs (rustc 1.95, by hand): a child that locks a Mutex, or prints while another thread has stdout locked,
 * hangs bare and goes on with the library.
 *
 * C++20 counting_semaphore and atomic::wait: nothing is called until they sleep, then syscall(SYS_futex); libc++ (19)
 * sleeps two seconds, from libc++.so's own text, looks at the word, and sleeps again. A token of a vanished thread
 * cannot be known. What vanished waiters leave behind (a count in libstdc++'s pool of waiters) does no harm: a notify
 * makes one system call for nothing.
 */
#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "libc/modules.h"
#include "repair/census.h"
#include "repair/futex.h"

#include <string.h>

/* What makes a lock free: a word, what it says now, and what it is to say. */
struct change {
    uintptr_t word;
    uint32_t before, after;
};

/* Whether the waiter's word and value prove a lock that is held. Fills in what frees it. */
typedef bool proof(uintptr_t word, uint32_t value, struct change *change);

enum { CONTENDED = 2 };

/* 0 free, 1 locked, 2 locked and somebody may sleep; a sleeper looks again when it is woken. */
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

/* A bit of an integer; which one, the call does not say. So nothing else may be in there. */
static bool is_bit_lock(uintptr_t word, uint32_t value, struct change *change)
{
    *change = (struct change){word, value, 0};
    return value != 0 && (value & (value - 1)) == 0;
}

/*
 * Rust's RwLock: how many readers it has, or WRITTEN, and who waits; behind it a count of wake-ups, on which writers
 * sleep. More readers than MANY are some other number.
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
 * Written, and both wait. Or it is a parked thread, whose word has all bits, too. 1 wakes that up, which it has to
 * expect, but once only, or it would never sleep again. A lock has a reader then that never leaves, and the first
 * writer who waits for that makes it free.
 */
static bool is_rust_rwlock_or_parked(uintptr_t word, uint32_t value, struct change *change)
{
    static _Atomic uintptr_t woken;
    *change = (struct change){word, value, 1};
    return value == UINT32_MAX && fsafe_options.mode == FSAFE_MODE_REPAIR &&
           atomic_exchange_explicit(&woken, word, memory_order_relaxed) != word;
}

static bool is_rust_rwlock_of_writer(uintptr_t word, uint32_t value, struct change *change)
{
    uint32_t state;
    (void)value;
    if (!fsafe_sys_peek(word - sizeof state, &state, sizeof state))
        return false;
    uint32_t held = state & WRITTEN;
    *change = (struct change){word - sizeof state, state, 0};
    /* (With all bits it would look like the number -1.) The bit is gone while one who was woken has not yet run. */
    return (held == WRITTEN && (state & READERS_WAIT) == 0) ||
           ((state & WRITERS_WAIT) != 0 && held != 0 && held <= MANY);
}

/*
 * Rust's Once, and OnceLock, LazyLock: running, and somebody waits, is 5, and not begun 3; in 1.85 they are 6 and 0,
 * and earlier 3 and 0. The initialiser runs again.
 */
static bool is_rust_once(uintptr_t word, uint32_t value, struct change *change)
{
    *change = (struct change){word, value, value == 5 ? 3 : 0};
    return value == 5 || value == 6 || value == 3;
}

/* Abseil's call_once: running, and somebody waits. The caller runs the initialiser itself. No other number is that. */
static bool is_absl_once(uintptr_t word, uint32_t value, struct change *change)
{
    enum { WAITED_FOR = 0x05a308d2 };
    *change = (struct change){word, value, 0};
    return value == WAITED_FOR;
}

/* Abseil's spin lock: held, two bits that say of what sort it is, and above them how long its waiters have waited. */
static bool is_absl_spin(uintptr_t word, uint32_t value, struct change *change)
{
    enum { HELD = 1, SORT = 6 };
    *change = (struct change){word, value, value & SORT};
    return (value & HELD) != 0 && value > (HELD | SORT);
}

struct algorithm {
    const char *kind;   /* in reports */
    int operation;      /* how it waits */
    const char *module; /* how the name of the module begins that calls; NULL: whatever it is */
    const char *except; /* how the names of its functions begin that wait for something else; NULL: none does */
    proof *proof;
    enum { UNDRAINED, MUTEX, RWLOCK } drained; /* how a fork takes it: see fork/contended */
    bool limited;                              /* whether it may wait with a limit, too */
};

/*
 * GLib's and Qt's call is the most ordinary there is, and an event's wait for such a value would be the same: their own
 * modules tell it apart. What else libglib waits for is a GCond's number of wake-ups, in a function that it exports.
 * Rust's standard library lies in any module; it alone waits without a limit by FUTEX_WAIT_BITSET for all bits. What
 * else it waits for with such values is a Condvar or the count of wake-ups of an RwLock's writers: both look again.
 * A spin lock of gperftools' (of tcmalloc's heap profiler and its debugging form, of the CPU profiler) is waited for in
 * a loop, each time for milliseconds. The CPU profiler's signal handler keeps one while it goes into libc, where a fork
 * stops it: without the row one of 40 children that exit hung in 4 of 4 runs, bare in 1 of 6.
 */
static const struct algorithm algorithms[] = {
    {"GLib", FUTEX_WAIT_PRIVATE, "libglib-2.0.so", "g_cond_", is_mutex, MUTEX, false},
    {"GLib bit lock", FUTEX_WAIT_PRIVATE, "libglib-2.0.so", "g_cond_", is_bit_lock, UNDRAINED, false},
    {"Qt", FUTEX_WAIT_PRIVATE, "libQt", NULL, is_qt_mutex, MUTEX, true},
    {"Qt", FUTEX_WAIT_BITSET_PRIVATE, "libQt", NULL, is_qt_mutex, MUTEX, true},
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

/* Whether that algorithm may wait there. */
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

/* libstdc++ does not say that it is a private one. */
bool fsafe_futex_is_endless(const long *arguments)
{
    int command = (int)arguments[OPERATION] & FUTEX_CMD_MASK;
    return arguments[TIMEOUT] == 0 && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET);
}

/*
 * Whether the wait has a limit, as tryLock of Qt's mutexes may give it (since 6.8 as a time, before as a span), and as
 * each wait for a spin lock of gperftools' has it.
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
 * The latest wait that there was nothing to do about: processes may contend all day for a lock that they share. The
 * same address is another matter in a child, or with another value.
 */
static struct {
    _Atomic uintptr_t word;
    _Atomic uint64_t rest; /* value and generation */
} passed;

static uint64_t rest_of(uint32_t value)
{
    return (uint64_t)value << 32 | fsafe_lineage_generation();
}

static bool has_passed(uintptr_t word, uint32_t value)
{
    return atomic_load_explicit(&passed.word, memory_order_relaxed) == word &&
           atomic_load_explicit(&passed.rest, memory_order_relaxed) == rest_of(value);
}

static void pass(uintptr_t word, uint32_t value)
{
    atomic_store_explicit(&passed.word, word, memory_order_relaxed);
    atomic_store_explicit(&passed.rest, rest_of(value), memory_order_relaxed);
}

bool fsafe_futex_judge(const long *arguments, uintptr_t site)
{
    uintptr_t lock = (uintptr_t)arguments[WORD];
    uint32_t value = (uint32_t)arguments[VALUE];
    uint32_t seen;
    /* A thread that the child had may have ended with the lock: that is as stuck as without a fork. */
    bool limited = may_be_limited(arguments);
    if (!(fsafe_futex_is_endless(arguments) || limited) || !is_for_all_bits(arguments) ||
        fsafe_census_is_surveyed() || has_passed(lock, value) || !fsafe_takeover_is_alone() ||
        !fsafe_sys_peek(lock, &seen, sizeof seen) || seen != value)
        return false;
    struct fsafe_mapping at[] = {{.address = lock}, {.address = site}};
    if (!fsafe_maps_find(at, 2) || !fsafe_maps_is_exclusive(&at[0])) {
        pass(lock, value);
        return false;
    }
    struct change change;
    const struct algorithm *algorithm = find_algorithm((int)arguments[OPERATION], lock, value, &at[1], &change);
    if (limited && algorithm != NULL && !algorithm->limited)
        algorithm = NULL;
    if (algorithm == NULL) { /* it may be an event: repair/hopeless has the word, when this wait has lasted */
        pass(lock, value);
        return false;
    }
    struct fsafe_event event = {.lock = "futex", .kind = algorithm->kind, .address = lock, .wanted_at = site};
    const struct fsafe_claims nobody = {.vanished = NULL};
    bool take = fsafe_takeover_decide(&event, &nobody, true);
    if (take) /* unless a signal handler came first */
        take = event.worth_a_line = __atomic_compare_exchange_n((uint32_t *)change.word, &change.before, change.after,
                                                                 false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    fsafe_takeover_tell(&event);
    return take;
}

/* --- A lock that a fork takes ------------------------------------------------------------------------------------- */

/* The rows that are drained, by operation and value; of an RwLock's writers any value is a count of wake-ups. */
bool fsafe_futex_may_be_lock(const long *arguments)
{
    uint32_t value = (uint32_t)arguments[VALUE];
    return ((int)arguments[OPERATION] == FUTEX_WAIT_PRIVATE && (value == 2 || value == 3)) ||
           ((int)arguments[OPERATION] == FUTEX_WAIT_BITSET_PRIVATE && value != UINT32_MAX &&
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
     * The one who is kept was perhaps woken: then the holder would wake nobody. (A word of another kind than a mutex
     * may read 1, too: it is left alone.)
     */
    if (waited == 0 && (seen & WRITERS_WAIT) == 0)
        __atomic_compare_exchange_n(lock->word, &seen, seen | WRITERS_WAIT, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return false;
}

/*
 * While a mutex is held nobody else changes its word; of an RwLock's word others change only the bits that say who
 * waits. A word that changed otherwise belongs to no such lock: what this fork has written over it is taken out again.
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
    fsafe_sys_futex_wake(lock->word, INT32_MAX); /* they look again, and say anew that they wait */
    if (lock->contended != 0)
        return;
    __atomic_fetch_add(lock->word + 1, 1, __ATOMIC_SEQ_CST);
    fsafe_sys_futex_wake(lock->word + 1, INT32_MAX);
}

void fsafe_futex_free(const struct fsafe_futex_lock *lock)
{
    uint32_t value;
    if (fsafe_sys_peek((uintptr_t)lock->word, &value, sizeof value)) /* a page may be kept from children */
        release(lock, 0);
}
