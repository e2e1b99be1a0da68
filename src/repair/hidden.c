#include "config.h"

#include "base/sys.h"
#include "libc/layout.h"
#include "libc/symbol.h"
#include "repair/hidden.h"
#include "track/handle.h"

#include <string.h>

enum { KNOWN = 16 };
enum kind { WORD, MUTEX, RWLOCK };
static struct known {
    void *lock;
    enum kind kind;
} known[KNOWN];
static unsigned known_count;

static uintptr_t libc_from, libc_to;
/* Before glibc 2.34: libpthread. */
static uintptr_t threads_from, threads_to;

bool fsafe_hidden_is_known(void)
{
    return libc_from != libc_to;
}

bool fsafe_hidden_is_libcs(uintptr_t address)
{
    return address - libc_from < libc_to - libc_from || address - threads_from < threads_to - threads_from;
}

void fsafe_hidden_start(void)
{
    fsafe_symbol_library("gnu_get_libc_version", &libc_from, &libc_to);
    if (fsafe_symbol_is_older("2.34"))
        fsafe_symbol_library("pthread_getconcurrency", &threads_from, &threads_to);
}

static void remember(void *lock, enum kind kind)
{
    for (unsigned i = 0; i < known_count; i++)
        if (known[i].lock == lock)
            return;
    if (known_count < KNOWN)
        known[known_count++] = (struct known){.lock = lock, .kind = kind};
}

/* A recursive lock of libc's is the word, a count, the owner's handle. */
static pthread_t owner_of(const uint32_t *word)
{
    pthread_t owner = 0;
    if (fsafe_sys_may_be_readable((uintptr_t)(word + 3)))
        memcpy(&owner, word + 2, sizeof owner);
    return owner;
}

/*
 * Whether a vanished thread with that handle may have had a lock of gettext's: fork() frees all other recursive ones.
 */
static bool was_in_gettext(pthread_t handle)
{
    enum { GETTEXTS = FSAFE_REGION_BIT(FSAFE_REGION_GETTEXT) | FSAFE_REGION_BIT(FSAFE_REGION_LOCALE) };
    return fsafe_region_had_inside(handle, GETTEXTS);
}

bool fsafe_hidden_has_living_owner(const uint32_t *word)
{
    pthread_t owner = owner_of(word);
    return owner != pthread_self() && fsafe_handle_is_alive(owner) && !was_in_gettext(owner);
}

static void forget_holds(uint32_t *word)
{
    pthread_t owner = owner_of(word);
    if (word[1] != 0 && owner != pthread_self() && (fsafe_handle_has_vanished(owner) || was_in_gettext(owner))) {
        word[1] = 0;
        memset(word + 2, 0, sizeof owner);
    }
}

/* The lock of timers is a mutex, and libc asserts that it has no owner. Every other lock is a word, or an rwlock. */
static void make_free(void *lock, enum kind kind)
{
    uint32_t *word = lock;
    if (kind == MUTEX)
        fsafe_layout_mutex_reset(lock);
    else if (kind == RWLOCK)
        fsafe_layout_rwlock_clean(lock);
    else if (*word != 0) {
        *word = 0;
        forget_holds(word);
    }
}

bool fsafe_hidden_free(uint32_t *word, uint32_t value, enum fsafe_region region, unsigned others)
{
    enum { CONTENDED = 2 };
    bool of_libc = fsafe_hidden_is_libcs((uintptr_t)word);
    if (of_libc && region == FSAFE_REGION_TIMER && value == CONTENDED && *word == value) {
        make_free(word, MUTEX);
        remember(word, MUTEX);
        return true;
    }
    pthread_rwlock_t *rwlock = of_libc ? fsafe_layout_rwlock_free_waited(word, value, others) : NULL;
    if (rwlock != NULL) {
        remember(rwlock, RWLOCK);
        return true;
    }
    /* UINT32_MAX: libgomp's. */
    if ((value != CONTENDED && (of_libc || value != UINT32_MAX)) ||
        !__atomic_compare_exchange_n(word, &value, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        return false;
    if (of_libc) {
        forget_holds(word);
        remember(word, WORD);
    }
    return true;
}

void fsafe_hidden_free_spun(pthread_rwlock_t *rwlock, bool writes)
{
    fsafe_layout_rwlock_free_spun(rwlock, writes);
    remember(rwlock, RWLOCK);
}

void fsafe_hidden_free_known(void)
{
    for (unsigned i = 0; i < known_count; i++)
        make_free(known[i].lock, known[i].kind);
}
