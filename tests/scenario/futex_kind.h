/*
 * Locks that a program makes of a futex by itself, waiting by syscall(SYS_futex): GLib's GMutex and bit locks, and the
 * algorithm and the very calls of Mutex and RwLock in Rust's standard library; of Qt's QMutex in a module.
 */
#ifndef FUTEX_KIND_H
#define FUTEX_KIND_H

#include "scenario.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *limit)
{
    return syscall(SYS_futex, word, operation, value, limit, NULL, ~0u);
}

/* --- Rust ------------------------------------------------------------------------------------------------- */

static int rust_lock(void *mutex)
{
    uint32_t free_word = 0;
    if (!__atomic_compare_exchange_n((uint32_t *)mutex, &free_word, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        while (__atomic_exchange_n((uint32_t *)mutex, 2, __ATOMIC_ACQUIRE) != 0)
            futex(mutex, FUTEX_WAIT_BITSET_PRIVATE, 2, NULL);
    return 0;
}

static int rust_trylock(void *mutex)
{
    uint32_t free_word = 0;
    return __atomic_compare_exchange_n((uint32_t *)mutex, &free_word, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
               ? 0 : EBUSY;
}

static int rust_unlock(void *mutex)
{
    if (__atomic_exchange_n((uint32_t *)mutex, 0, __ATOMIC_RELEASE) == 2)
        futex(mutex, FUTEX_WAKE_PRIVATE, 1, NULL);
    return 0;
}

/* Its RwLock: readers or WRITTEN, who waits; behind it the word that writers sleep on. */
enum { WRITTEN = 0x3fffffff, READERS_WAIT = 0x40000000 };
#define WRITERS_WAIT 0x80000000u

static int rust_trywrite(void *rwlock)
{
    uint32_t free_word = 0;
    return __atomic_compare_exchange_n((uint32_t *)rwlock, &free_word, WRITTEN, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED)
               ? 0
               : EBUSY;
}

static int rust_write(void *rwlock)
{
    uint32_t *state = rwlock, *wakes = state + 1;
    for (;;) {
        uint32_t seen = __atomic_load_n(state, __ATOMIC_RELAXED);
        if ((seen & WRITTEN) == 0) {
            if (__atomic_compare_exchange_n(state, &seen, seen | WRITTEN, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return 0;
            continue;
        }
        if ((seen & WRITERS_WAIT) == 0 &&
            !__atomic_compare_exchange_n(state, &seen, seen | WRITERS_WAIT, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        const uint32_t number = __atomic_load_n(wakes, __ATOMIC_ACQUIRE);
        seen = __atomic_load_n(state, __ATOMIC_RELAXED);
        if ((seen & WRITTEN) != 0 && (seen & WRITERS_WAIT) != 0)
            futex(wakes, FUTEX_WAIT_BITSET_PRIVATE, number, NULL);
    }
}

static int rust_write_unlock(void *rwlock)
{
    uint32_t *state = rwlock, *wakes = state + 1;
    const uint32_t left = __atomic_exchange_n(state, 0, __ATOMIC_RELEASE) & ~WRITTEN;
    if ((left & WRITERS_WAIT) != 0) {
        __atomic_fetch_add(wakes, 1, __ATOMIC_RELEASE);
        futex(wakes, FUTEX_WAKE_PRIVATE, 1 << 30, NULL);
    }
    if ((left & READERS_WAIT) != 0)
        futex(state, FUTEX_WAKE_PRIVATE, 1 << 30, NULL);
    return 0;
}

/* --- GLib: without its headers, so that the library alone is needed ------------------------------------------- */

static struct {
    void (*mutex_lock)(void *mutex);
    int (*mutex_trylock)(void *mutex);
    void (*mutex_unlock)(void *mutex);
    void (*cond_wait)(void *cond, void *mutex);
    void (*cond_signal)(void *cond);
    void (*bit_lock)(void *word, int bit);
    int (*bit_trylock)(void *word, int bit);
    void (*bit_unlock)(void *word, int bit);
} glib;

static bool find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static bool have_glib(void)
{
    void *library = dlopen("libglib-2.0.so.0", RTLD_NOW);
    return library != NULL && find(library, "g_mutex_lock", &glib.mutex_lock) &&
           find(library, "g_mutex_trylock", &glib.mutex_trylock) &&
           find(library, "g_mutex_unlock", &glib.mutex_unlock) && find(library, "g_cond_wait", &glib.cond_wait) &&
           find(library, "g_cond_signal", &glib.cond_signal) && find(library, "g_bit_lock", &glib.bit_lock) &&
           find(library, "g_bit_trylock", &glib.bit_trylock) && find(library, "g_bit_unlock", &glib.bit_unlock);
}

static int glib_lock(void *mutex)
{
    glib.mutex_lock(mutex);
    return 0;
}

static int glib_trylock(void *mutex)
{
    return glib.mutex_trylock(mutex) ? 0 : EBUSY;
}

static int glib_unlock(void *mutex)
{
    glib.mutex_unlock(mutex);
    return 0;
}

enum { BIT = 5 };

static int glib_bit_lock(void *word)
{
    glib.bit_lock(word, BIT);
    return 0;
}

static int glib_bit_trylock(void *word)
{
    return glib.bit_trylock(word, BIT) ? 0 : EBUSY;
}

static int glib_bit_unlock(void *word)
{
    glib.bit_unlock(word, BIT);
    return 0;
}

/* --- Qt: known by the name of the module that waits ----------------------------------------------------------- */

static struct {
    scn_call *lock, *trylock, *timedlock, *timedlock_until, *unlock;
} qt;

static bool have_qt(void)
{
    void *library = dlopen(QT_MODULE, RTLD_NOW);
    return library != NULL && find(library, "qt_lock", &qt.lock) && find(library, "qt_trylock", &qt.trylock) &&
           find(library, "qt_timedlock", &qt.timedlock) && find(library, "qt_unlock", &qt.unlock) &&
           find(library, "qt_timedlock_until", &qt.timedlock_until);
}

static int qt_lock(void *mutex)
{
    return qt.lock(mutex);
}

static int qt_trylock(void *mutex)
{
    return qt.trylock(mutex);
}

static int qt_unlock(void *mutex)
{
    return qt.unlock(mutex);
}

/* --- Held by vanished threads ------------------------------------------------------------------------------------ */

struct kind {
    const char *name, *says, *watched;
    scn_call *take, *try, *give;
};

static const struct kind kinds[] = {
    {"rust", "once:took over futex 0x[0-9a-f]+ .*\\(Rust std\\) for .* fork 1 by \\d+",
     "would hang on futex 0x[0-9a-f]+ .*\\(Rust std\\) ;; " SCN_NEVER_TAKES, rust_lock, rust_trylock, rust_unlock},
    {"glib", "once:took over futex 0x[0-9a-f]+ .*\\(GLib\\) for .*libglib-2\\.0\\.so.* fork 1 by \\d+",
     "would hang on futex 0x[0-9a-f]+ .*\\(GLib\\) ;; " SCN_NEVER_TAKES, glib_lock, glib_trylock, glib_unlock},
    {"rust-rwlock", "once:took over futex 0x[0-9a-f]+ .*\\(Rust std RwLock\\) for .* fork 1 by \\d+",
     "would hang on futex 0x[0-9a-f]+ .*\\(Rust std RwLock\\) ;; " SCN_NEVER_TAKES, rust_write, rust_trywrite,
     rust_write_unlock},
    {"glib-bit", "once:took over futex 0x[0-9a-f]+ .*\\(GLib bit lock\\) for .*libglib-2\\.0\\.so.* fork 1 by \\d+",
     "would hang on futex 0x[0-9a-f]+ .*\\(GLib bit lock\\) ;; " SCN_NEVER_TAKES, glib_bit_lock, glib_bit_trylock,
     glib_bit_unlock},
    {"qt", "once:took over futex 0x[0-9a-f]+ .*\\(Qt\\) for .*libQt5Core\\.so.* fork 1 by \\d+",
     "would hang on futex 0x[0-9a-f]+ .*\\(Qt\\) ;; " SCN_NEVER_TAKES, qt_lock, qt_trylock, qt_unlock},
};

#endif
