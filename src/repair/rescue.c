#include "config.h"

#include "base/arch.h"
#include "base/options.h"
#include "base/timer.h"
#include "libc/layout.h"
#include "libc/symbol.h"
#include "repair/hopeless.h"
#include "repair/rescue.h"
#include "repair/takeover.h"

#include <string.h>

#ifdef FSAFE_ARCH_INTERRUPTED

/* Soon: a call that hangs waits so long. Then twice as long each time, up to a second. */
enum { FIRST_NS = 10000000, LONGEST_NS = 1000000000 };

struct net {
    uint32_t generation; /* of the process that the timer is of; 0: there is none */
    int timer;
    uint64_t wait_ns;
    struct fsafe_rescued call; /* all zero: the net is under everything */
    uintptr_t spun_on;         /* the rwlock that the latest looks found the call spinning on, and how many did */
    int spun;
};
static struct net of_call, of_all;

/* Locks that were rescued, for children to come. */
enum { KNOWN = 16 };
static struct known {
    void *lock;
    bool is_rwlock;
} known[KNOWN];
static unsigned known_count;

/* The regions in which one was. */
static uint32_t saved;

static uintptr_t libc_from, libc_to;
/* Before glibc 2.34: libc's other part. */
static uintptr_t threads_from, threads_to;

static bool is_in_libc(uintptr_t address)
{
    return address - libc_from < libc_to - libc_from || address - threads_from < threads_to - threads_from;
}

void fsafe_rescue_start(void)
{
    fsafe_symbol_library("gnu_get_libc_version", &libc_from, &libc_to);
    if (fsafe_symbol_is_older("2.34"))
        fsafe_symbol_library("pthread_getconcurrency", &threads_from, &threads_to);
}

/* A child of the call's has no timer: that number may be one of its own. */
static void withdraw(struct net *net)
{
    if (net->generation == fsafe_lineage_generation())
        fsafe_timer_delete(net->timer);
    net->generation = 0;
}

static void remember(void *lock, bool is_rwlock)
{
    for (unsigned i = 0; i < known_count; i++)
        if (known[i].lock == lock)
            return;
    if (known_count < KNOWN)
        known[known_count++] = (struct known){.lock = lock, .is_rwlock = is_rwlock};
}

/* A lock of libc's that counts its owner's holds: the word, the count, the owner's handle. */
static void forget_holds(uint32_t *word)
{
    pthread_t owner;
    memcpy(&owner, word + 2, sizeof owner);
    if (word[1] != 0 && owner != pthread_self() && fsafe_thread_has_vanished(owner)) {
        word[1] = 0;
        memset(word + 2, 0, sizeof owner);
    }
}

/* `value`: what the only thread waits for to change. Returns whether it need not wait any more. */
static bool set_free(uint32_t *word, uint32_t value, bool of_libc)
{
    enum { CONTENDED = 2 };
    pthread_rwlock_t *rwlock = of_libc ? fsafe_layout_rwlock_free_waited(word, value) : NULL;
    if (rwlock != NULL) {
        remember(rwlock, true);
        return true;
    }
    /* -1: libgomp's. */
    if ((value != CONTENDED && (of_libc || value != UINT32_MAX)) ||
        !__atomic_compare_exchange_n(word, &value, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        return false;
    if (of_libc) {
        forget_holds(word);
        remember(word, false);
    }
    return true;
}

static void tell(const struct fsafe_rescued *called, uintptr_t word, uintptr_t at)
{
    bool known_call = called->frame != 0;
    struct fsafe_event event = {
        .deed = FSAFE_TOOK_OVER,
        .worth_a_line = true,
        .lock = known_call ? "the C library's lock" : "lock",
        .kind = known_call ? called->what : "unknown",
        .address = word,
        .in_use = true,
        .wanted_at = known_call ? called->site : at,
        .fork = fsafe_lineage_fork_after(fsafe_lineage_generation() - 1),
    };
    if (known_call)
        fsafe_region_name_vanished(called->regions, &event);
    fsafe_takeover_tell(&event);
}

/*
 * Whether calls of the region wait for locks outside libc's data: in the memory of open database files, of a DIR, a
 * regex_t, a thread.
 */
static bool has_locks_elsewhere(enum fsafe_region region)
{
    return region == FSAFE_REGION_NSS_LIST || region == FSAFE_REGION_DIRECTORY || region == FSAFE_REGION_REGEX ||
           region == FSAFE_REGION_THREAD;
}

/* What the only thread was about: a wait that nobody will end? */
static void look(const struct net *net, const struct fsafe_arch_call *call)
{
    uintptr_t word = (uintptr_t)call->arguments[0];
    int operation = (int)call->arguments[1];
    bool of_libc = is_in_libc(word);
    bool may_lie_elsewhere = net->call.frame == 0 || (has_locks_elsewhere(net->call.region) && is_in_libc(call->at));
    if (!fsafe_sys_is_futex(call->number) || call->arguments[3] != 0 || word % 4 != 0 ||
        (!of_libc && !may_lie_elsewhere) ||
        (operation != FUTEX_WAIT_PRIVATE && ((operation & ~FUTEX_CLOCK_REALTIME) != FUTEX_WAIT_BITSET_PRIVATE ||
                                             (uint32_t)call->arguments[5] != FUTEX_BITSET_MATCH_ANY)))
        return;
    if (!of_libc && fsafe_takeover_is_shared(word))
        return;
    if (!set_free((uint32_t *)word, (uint32_t)call->arguments[2], of_libc))
        return;
    saved |= FSAFE_REGION_BIT(net->call.region);
    tell(&net->call, word, call->at);
}

/* Which of libc's two functions was interrupted, on any rwlock. */
static bool is_inside_of(uintptr_t at, const char *function)
{
    enum { LONGEST = 1536 }; /* 468 to 1,176 bytes from 2.31 to 2.43, x86-64, i386, aarch64 */
    uintptr_t from = (uintptr_t)fsafe_symbol_next(function);
    return from != 0 && at - from < LONGEST;
}

/* An rwlock of libc's own that one of the interrupted function's registers has the address of. */
static pthread_rwlock_t *find_spun_on(const void *context, bool writes)
{
    pthread_rwlock_t copy;
    for (int i = 0; i < FSAFE_ARCH_REGISTERS; i++) {
        uintptr_t at = fsafe_arch_register(context, i);
        if (at % _Alignof(pthread_rwlock_t) == 0 && is_in_libc(at) && fsafe_sys_peek(at, &copy, sizeof copy) &&
            fsafe_layout_rwlock_is_spun_on(&copy, writes))
            return (pthread_rwlock_t *)at;
    }
    return NULL;
}

/*
 * A call does not sleep but ask again and again where the vanished thread was between two stores to an rwlock. Such a
 * lock may also be the call's own, in the middle of such a store; but not in three looks in a row.
 */
static void look_at_spin(struct net *net, const void *context, uintptr_t at)
{
    enum { LOOKS = 3 };
    bool writes = is_inside_of(at, "pthread_rwlock_wrlock");
    pthread_rwlock_t *rwlock =
        writes || is_inside_of(at, "pthread_rwlock_rdlock") ? find_spun_on(context, writes) : NULL;
    net->spun = rwlock != NULL && (uintptr_t)rwlock == net->spun_on ? net->spun + 1 : 1;
    net->spun_on = (uintptr_t)rwlock;
    if (rwlock == NULL || net->spun < LOOKS)
        return;
    fsafe_layout_rwlock_free_spun(rwlock, writes);
    remember(rwlock, true);
    saved |= FSAFE_REGION_BIT(net->call.region);
    tell(&net->call, (uintptr_t)rwlock, at);
}

/* A wait that repair/hopeless cuts in slices does not go on after a handler by itself: it looks at the word again. */
static void look_at_slices(void)
{
    uintptr_t site, word = fsafe_hopeless_futex_in_slices(&site);
    uint32_t value;
    if (word != 0 && word % 4 == 0 && !is_in_libc(word) && !fsafe_takeover_is_shared(word) &&
        fsafe_sys_peek(word, &value, sizeof value) && set_free((uint32_t *)word, value, false))
        tell(&of_all.call, word, site);
}

bool fsafe_rescue_has_saved(enum fsafe_region region)
{
    return (saved & FSAFE_REGION_BIT(region)) != 0;
}

static bool on_timer(siginfo_t *info, void *context)
{
    struct net *net = info->si_value.sival_ptr;
    struct fsafe_arch_call call;
    if (net != &of_call && net != &of_all)
        return false;
    bool is_call = fsafe_arch_interrupted(context, &call);
    if (net->generation != fsafe_lineage_generation())
        return true;
    /* The call was left by a longjmp, or the program has got threads: its own affair again. */
    if (!fsafe_takeover_is_alone() || (net->call.frame != 0 && call.stack > net->call.frame)) {
        withdraw(net);
        return true;
    }
    if (is_call)
        look(net, &call);
    else if (net == &of_all)
        look_at_slices();
    else
        look_at_spin(net, context, call.at);
    /* What the program registered for its end may be running by then, and is left in peace. */
    if (net->call.region == FSAFE_REGION_EXIT)
        return true;
    if (net->call.frame != 0 && net->wait_ns < LONGEST_NS)
        net->wait_ns *= 2;
    fsafe_timer_set(net->timer, net->wait_ns);
    return true;
}

static bool spread(struct net *net)
{
    if (!fsafe_timer_listen(on_timer) || !fsafe_timer_make(&net->timer, net))
        return false; /* and the handler goes on to hand others' on */
    net->generation = fsafe_lineage_generation();
    fsafe_timer_set(net->timer, net->wait_ns);
    return true;
}

enum fsafe_net fsafe_rescue_begin(const struct fsafe_rescued *call)
{
    if (fsafe_options.mode != FSAFE_MODE_REPAIR || libc_from == libc_to || call->region == FSAFE_REGION_LOADER ||
        !fsafe_takeover_is_alone())
        return FSAFE_NO_NET;
    if (of_call.generation == fsafe_lineage_generation()) {
        if (of_call.call.frame > call->frame)
            return FSAFE_NET_ABOVE; /* a call within that call */
        withdraw(&of_call); /* left by a longjmp */
    }
    of_call.wait_ns = FIRST_NS;
    of_call.call = *call;
    of_call.spun_on = 0;
    return spread(&of_call) ? FSAFE_NET : FSAFE_NO_NET;
}

void fsafe_rescue_end(void)
{
    withdraw(&of_call);
    if (of_all.generation != fsafe_lineage_generation())
        fsafe_timer_stop_listening(on_timer);
}

static bool is_inside(struct fsafe_thread *self)
{
    for (struct fsafe_ledger_walk at = fsafe_ledger_walk(fsafe_thread_locks(self)); fsafe_ledger_next(&at);)
        if (fsafe_ledger_is_of_call(at.lock))
            return true;
    return false;
}

void fsafe_rescue_adopt(struct fsafe_thread *self)
{
    for (unsigned i = 0; i < known_count && (self == NULL || !is_inside(self)); i++) {
        uint32_t *word = known[i].lock;
        if (known[i].is_rwlock) {
            fsafe_layout_rwlock_clean(known[i].lock);
        } else if (*word != 0) {
            *word = 0;
            forget_holds(word);
        }
    }
    if (fsafe_options.rescue_ms == 0 || fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    of_all.wait_ns = (uint64_t)fsafe_options.rescue_ms * 1000000;
    spread(&of_all);
}

#else

void fsafe_rescue_start(void) {}

enum fsafe_net fsafe_rescue_begin(const struct fsafe_rescued *call)
{
    (void)call;
    return FSAFE_NO_NET;
}

void fsafe_rescue_end(void) {}

bool fsafe_rescue_has_saved(enum fsafe_region region)
{
    (void)region;
    return false;
}

void fsafe_rescue_adopt(struct fsafe_thread *self)
{
    (void)self;
}

#endif
