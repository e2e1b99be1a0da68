/* repair/futex: see futex.h. */
#include "config.h"

#include "base/maps.h"
#include "repair/census.h"
#include "repair/futex.h"

#include <string.h>

/* All of these: 0 free, 1 locked, 2 locked and somebody may sleep; who sleeps looks again when it is woken. */
enum { CONTENDED = 2 };

struct algorithm {
    const char *kind;   /* in reports */
    int operation;      /* how it waits */
    const char *module; /* how the name of the module begins that calls; NULL: whatever it is */
};

/*
 * GLib's call is the most ordinary there is, and an event's wait for "no longer 2" would be the same: its own module
 * tells it apart. What else libglib waits for with 2 in the word is a GCond, whose waits may end for no reason, and a
 * bit lock of which that bit is all. Rust's standard library lies in any module; it alone waits without a limit by
 * FUTEX_WAIT_BITSET for all bits. What else it waits for with 2 in the word is a Condvar or the count of wake-ups of an
 * RwLock's writers: both look again.
 */
static const struct algorithm algorithms[] = {
    {"GLib", FUTEX_WAIT_PRIVATE, "libglib-2.0.so"},
    {"Rust std", FUTEX_WAIT_BITSET_PRIVATE, NULL},
};

static const struct algorithm *find_algorithm(int operation, uint32_t value, const struct fsafe_mapping *caller)
{
    for (unsigned i = 0; value == CONTENDED && i < sizeof algorithms / sizeof *algorithms; i++) {
        const struct algorithm *algorithm = &algorithms[i];
        if (algorithm->operation == operation &&
            (algorithm->module == NULL ||
             (caller->found && strncmp(caller->module, algorithm->module, strlen(algorithm->module)) == 0)))
            return algorithm;
    }
    return NULL;
}

/* The arguments of the system call. */
enum { WORD, OPERATION, VALUE, TIMEOUT, WORD2, BITS };

/* libstdc++ does not say that it is a private one. */
bool fsafe_futex_is_endless(const long *arguments)
{
    int operation = (int)arguments[OPERATION];
    return arguments[TIMEOUT] == 0 &&
           (operation == FUTEX_WAIT || operation == FUTEX_WAIT_PRIVATE ||
            (operation == FUTEX_WAIT_BITSET_PRIVATE && (uint32_t)arguments[BITS] == FUTEX_BITSET_MATCH_ANY));
}

bool fsafe_futex_judge(const long *arguments, uintptr_t site)
{
    /* The latest that there was nothing to do about: processes may contend all day for a lock that they share. */
    static _Atomic uintptr_t passed;
    uintptr_t lock = (uintptr_t)arguments[WORD];
    uint32_t value = (uint32_t)arguments[VALUE];
    uint32_t seen;
    /* A thread that the child had may have ended with the lock: that is as stuck as without a fork. */
    if (!fsafe_futex_is_endless(arguments) || fsafe_census_is_surveyed() ||
        atomic_load_explicit(&passed, memory_order_relaxed) == lock || !fsafe_takeover_is_alone() ||
        !fsafe_sys_peek(lock, &seen, sizeof seen) || seen != value)
        return false;
    struct fsafe_mapping at[] = {{.address = lock}, {.address = site}};
    if (!fsafe_maps_find(at, 2) || !at[0].found || !at[0].writable || at[0].shared) {
        atomic_store_explicit(&passed, lock, memory_order_relaxed);
        return false;
    }
    const struct algorithm *algorithm = find_algorithm((int)arguments[OPERATION], value, &at[1]);
    if (algorithm == NULL) { /* it may be an event: repair/hopeless has the word, when this wait has lasted */
        atomic_store_explicit(&passed, lock, memory_order_relaxed);
        return false;
    }
    struct fsafe_event event = {.lock = "futex", .kind = algorithm->kind, .address = lock, .wanted_at = site};
    const struct fsafe_claims nobody = {.vanished = NULL};
    bool take = fsafe_takeover_decide(&event, &nobody, true);
    if (take) /* unless a signal handler came first */
        take = event.worth_a_line = __atomic_compare_exchange_n((uint32_t *)lock, &seen, 0, false, __ATOMIC_SEQ_CST,
                                                                 __ATOMIC_RELAXED);
    fsafe_takeover_tell(&event);
    return take;
}
