#include "config.h"

#include "base/arch.h"
#include "base/options.h"
#include "base/timer.h"
#include "libc/layout.h"
#include "libc/symbol.h"
#include "repair/hidden.h"
#include "repair/hopeless.h"
#include "repair/idle.h"
#include "repair/rescue.h"
#include "repair/takeover.h"
#include "report/tally.h"

/* When a net first looks at its call, and each further net a little later; each later span is twice as long. */
enum { FIRST_NS = 10000000, APART = 8, LONGEST_NS = 1000000000 };

struct net {
    _Atomic uint64_t taker; /* the thread whose call has it, see fsafe_lineage_thread; 0: it is free */
    uint32_t generation; /* of the process that has the timer; 0: there is none */
    int timer;
    uint64_t wait_ns;
    struct fsafe_rescued call; /* all zero: the net is under all that the child does */
    uintptr_t seen; /* the lock for which the call waited at the latest look; 0: none */
    int times;      /* how many looks in a row have found the call at that lock */
    int looks;      /* how many of the latest of these looks found no other thread awake */
    uint64_t mark;  /* of the other threads at the latest look */
};

enum { NETS = 16 }; /* a thread that finds none free makes its call without one */
static struct net of_calls[NETS], of_all;
_Atomic unsigned fsafe_rescue_nets;

void fsafe_rescue_start(void)
{
    fsafe_hidden_start();
    fsafe_idle_start();
}

/* In a child that was forked during the call the timer's number may be another timer's. */
static void drop_timer(struct net *net)
{
    if (net->generation == fsafe_lineage_generation())
        fsafe_timer_delete(net->timer);
    net->generation = 0;
}

static void withdraw(struct net *net)
{
    drop_timer(net);
    if (atomic_exchange_explicit(&net->taker, 0, memory_order_release) != 0)
        atomic_fetch_sub_explicit(&fsafe_rescue_nets, 1, memory_order_relaxed);
}

static struct net *net_of(pid_t tid)
{
    for (struct net *net = of_calls; net < of_calls + NETS; net++)
        if (atomic_load_explicit(&net->taker, memory_order_relaxed) == fsafe_lineage_thread(tid) &&
            net->generation == fsafe_lineage_generation())
            return net;
    return NULL;
}

/* Takes a net that is free, or whose thread has ended; NULL: there is none. */
static struct net *take_net(pid_t tid)
{
    for (struct net *net = of_calls; net < of_calls + NETS; net++) {
        uint64_t who = atomic_load_explicit(&net->taker, memory_order_acquire);
        /* Not one of its own: a signal handler has interrupted the thread before it had set the timer. */
        if (!fsafe_lineage_has(who) &&
            atomic_compare_exchange_strong(&net->taker, &who, fsafe_lineage_thread(tid))) {
            drop_timer(net); /* of a thread that was cancelled in its call */
            atomic_fetch_add_explicit(&fsafe_rescue_nets, 1, memory_order_relaxed);
            return net;
        }
    }
    return NULL;
}

static void tell(enum fsafe_deed deed, const struct fsafe_rescued *called, uintptr_t word, uintptr_t at)
{
    bool known_call = called->frame != 0;
    struct fsafe_event event = {
        .deed = deed,
        .worth_a_line = true,
        .lock = known_call ? "the C library's lock" : "lock",
        .kind = known_call ? called->what : "unknown",
        .address = word,
        .in_use = true,
        .wanted_at = known_call ? called->site : at,
        .fork = fsafe_lineage_latest_fork(),
    };
    if (known_call)
        fsafe_region_name_vanished(called->regions, &event);
    fsafe_takeover_tell(&event);
}

/* Whether calls of the region wait for locks outside libc's data: of open databases, a DIR, a regex_t, a thread. */
static bool has_locks_elsewhere(enum fsafe_region region)
{
    return region == FSAFE_REGION_NSS_LIST || region == FSAFE_REGION_DIRECTORY || region == FSAFE_REGION_REGEX ||
           region == FSAFE_REGION_THREAD;
}

/* Whether the call waits without a limit on a private word that may be a lock of libc's and names no living owner. */
static bool waits_for_lock(const struct net *net, const struct fsafe_arch_call *call, uintptr_t word)
{
    int operation = (int)call->arguments[1];
    bool of_libc = fsafe_hidden_is_libcs(word);
    bool may_lie_elsewhere =
        net->call.frame == 0 || (has_locks_elsewhere(net->call.region) && fsafe_hidden_is_libcs(call->at));
    return fsafe_sys_is_futex(call->number) && call->arguments[3] == 0 && word % 4 == 0 &&
           (of_libc || may_lie_elsewhere) &&
           (operation == FUTEX_WAIT_PRIVATE || ((operation & ~FUTEX_CLOCK_REALTIME) == FUTEX_WAIT_BITSET_PRIVATE &&
                                                (uint32_t)call->arguments[5] == FUTEX_BITSET_MATCH_ANY)) &&
           (of_libc || !fsafe_takeover_is_shared(word)) && !fsafe_hidden_has_living_owner((const uint32_t *)word);
}

/*
 * How many looks in a row have found the call at that lock while no thread could release it: there is no other thread,
 * or all sleep without one of libc's locks, and none has woken since. *others: how many wait for the same word.
 */
static int count_looks(struct net *net, uintptr_t lock, unsigned *others)
{
    struct fsafe_idle idle = {.mark = 0};
    bool idles = fsafe_takeover_is_alone() || fsafe_idle_look(lock, fsafe_hidden_is_libcs, &idle);
    net->times = net->seen == lock ? net->times + 1 : 1;
    net->looks = idles && net->seen == lock && net->mark == idle.mark ? net->looks + 1 : idles;
    net->seen = lock;
    net->mark = idle.mark;
    *others = idle.waiting;
    return net->looks;
}

/* The call has waited for long, and a thread of this process may have the lock: writes a line about that, once. */
static void say_that_it_waits(struct net *net, uintptr_t lock, uintptr_t at)
{
    enum { LONG = 4 }; /* looks: 150 ms */
    uint64_t bit = FSAFE_REGION_BIT(net->call.region);
    if (net->call.frame != 0 && net->times == LONG &&
        (atomic_fetch_or_explicit(&fsafe_tally->warned, bit, memory_order_relaxed) & bit) == 0)
        tell(FSAFE_MAY_HANG, &net->call, lock, at);
}

/* In other modes than repair writes the line, and returns true: nothing else is done. */
static bool only_says(struct net *net, uintptr_t lock, uintptr_t at)
{
    if (fsafe_options.mode == FSAFE_MODE_REPAIR)
        return false;
    tell(FSAFE_WOULD_HANG, &net->call, lock, at);
    if (fsafe_options.mode == FSAFE_MODE_ABORT)
        fsafe_sys_abort();
    net->call.region = FSAFE_REGION_EXIT; /* the last look */
    return true;
}

static void look(struct net *net, const struct fsafe_arch_call *call)
{
    uintptr_t word = (uintptr_t)call->arguments[0];
    unsigned others;
    if (!waits_for_lock(net, call, word)) {
        net->seen = 0;
        return;
    }
    FSAFE_HOLD(&fsafe_takeover_latch);
    int looks = count_looks(net, word, &others);
    bool certain = looks > (fsafe_takeover_is_alone() ? 0 : 1);
    if (certain && only_says(net, word, call->at))
        return;
    if (certain && fsafe_hidden_free((uint32_t *)word, (uint32_t)call->arguments[2], net->call.region, others))
        tell(FSAFE_TOOK_OVER, &net->call, word, call->at);
    else
        say_that_it_waits(net, word, call->at);
}

/* Whether the interrupted instruction is in libc's function of that name. */
static bool is_inside_of(uintptr_t at, const char *function)
{
    enum { LONGEST = 1536 }; /* 468 to 1,176 bytes from 2.31 to 2.43, x86-64, i386, aarch64 */
    uintptr_t from = (uintptr_t)fsafe_symbol_next(function);
    return from != 0 && at - from < LONGEST;
}

/* An rwlock of libc's own whose address one of the interrupted function's registers has. */
static pthread_rwlock_t *find_spun_on(const void *context, bool writes)
{
    pthread_rwlock_t copy;
    for (int i = 0; i < FSAFE_ARCH_REGISTERS; i++) {
        uintptr_t at = fsafe_arch_register(context, i);
        if (at % _Alignof(pthread_rwlock_t) == 0 && fsafe_hidden_is_libcs(at) &&
            fsafe_sys_peek(at, &copy, sizeof copy) && fsafe_layout_rwlock_is_spun_on(&copy, writes))
            return (pthread_rwlock_t *)at;
    }
    return NULL;
}

/*
 * Where a thread vanished between two stores to an rwlock a call does not sleep but asks again and again. The call
 * itself may be between two such stores, but not at three looks in a row.
 */
static void look_at_spin(struct net *net, const void *context, uintptr_t at)
{
    enum { LOOKS = 3 };
    bool writes = is_inside_of(at, "pthread_rwlock_wrlock");
    pthread_rwlock_t *rwlock =
        writes || is_inside_of(at, "pthread_rwlock_rdlock") ? find_spun_on(context, writes) : NULL;
    if (rwlock == NULL) {
        net->seen = 0;
        return;
    }
    FSAFE_HOLD(&fsafe_takeover_latch);
    unsigned others;
    if (count_looks(net, (uintptr_t)rwlock, &others) < LOOKS) {
        say_that_it_waits(net, (uintptr_t)rwlock, at);
        return;
    }
    fsafe_hidden_free_spun(rwlock, writes);
    tell(FSAFE_TOOK_OVER, &net->call, (uintptr_t)rwlock, at);
}

/* The thread is not in the kernel: perhaps it waits in slices, and looks at the word again after this handler. */
static void look_at_slices(void)
{
    uintptr_t site, word = fsafe_hopeless_futex_in_slices(&site);
    uint32_t value;
    if (word != 0 && word % 4 == 0 && !fsafe_hidden_is_libcs(word) && !fsafe_takeover_is_shared(word) &&
        fsafe_sys_peek(word, &value, sizeof value) && fsafe_hidden_free((uint32_t *)word, value, 0, 0))
        tell(FSAFE_TOOK_OVER, &of_all.call, word, site);
}

static bool on_timer(siginfo_t *info, void *context)
{
    struct net *net = info->si_value.sival_ptr;
    struct fsafe_arch_call call;
    if ((net < of_calls || net >= of_calls + NETS) && net != &of_all)
        return false;
    bool is_call = fsafe_arch_interrupted(context, &call);
    if (net->generation != fsafe_lineage_generation() ||
        (net != &of_all &&
         atomic_load_explicit(&net->taker, memory_order_relaxed) != fsafe_lineage_thread(fsafe_sys_gettid())))
        return true;
    /* A longjmp has left the call; or the child has other threads by now, which may release what it waits for. */
    if (net == &of_all ? !fsafe_takeover_is_alone() : fsafe_timer_has_left(context, call.stack, net->call.frame)) {
        withdraw(net);
        return true;
    }
    if (is_call)
        look(net, &call);
    else if (net == &of_all)
        look_at_slices();
    else
        look_at_spin(net, context, call.at);
    /* exit() runs the program's own functions afterwards: no further looks. */
    if (net->call.region == FSAFE_REGION_EXIT && (net->looks == 0 || fsafe_takeover_is_alone()))
        return true;
    if (net->call.frame != 0 && net->wait_ns < LONGEST_NS)
        net->wait_ns *= 2;
    fsafe_timer_set(net->timer, net->wait_ns);
    return true;
}

static bool spread(struct net *net)
{
    if (!fsafe_timer_listen(on_timer) || !fsafe_timer_make(&net->timer, net))
        return false;
    net->generation = fsafe_lineage_generation();
    fsafe_timer_set(net->timer, net->wait_ns);
    return true;
}

/*
 * How many calls of each region had a net and went on, in this generation. After WENT_ON of them a call has a net only
 * if a record shows a vanished thread, in a process with one thread or for a lock that other calls need not have asked
 * for: a net costs time.
 */
enum { WENT_ON = 64 };
static _Atomic unsigned went_on[FSAFE_REGIONS];
static _Atomic uint32_t counted_in;

static bool has_paid_enough(const struct fsafe_rescued *call, bool alone)
{
    uint32_t now = fsafe_lineage_generation();
    if (atomic_exchange_explicit(&counted_in, now, memory_order_relaxed) != now)
        for (unsigned i = 0; i < FSAFE_REGIONS; i++)
            atomic_store_explicit(&went_on[i], 0, memory_order_relaxed);
    return ((!alone && !has_locks_elsewhere(call->region)) || call->regions == 0) &&
           atomic_load_explicit(&went_on[call->region], memory_order_relaxed) >= WENT_ON;
}

bool fsafe_rescue_begin(const struct fsafe_rescued *call)
{
    pid_t tid = fsafe_sys_gettid();
    if ((fsafe_options.mode != FSAFE_MODE_REPAIR && call->region < FSAFE_REGION_MOSTLY_FREE) ||
        !fsafe_hidden_is_known() || call->region == FSAFE_REGION_LOADER ||
        fsafe_sys_getpid() != fsafe_lineage_pid())
        return false;
    struct net *net = net_of(tid);
    if (net != NULL && net->call.frame > call->frame)
        return true; /* a call within that call */
    if (net != NULL)
        withdraw(net); /* a longjmp has left that call */
    if (has_paid_enough(call, fsafe_takeover_is_alone()))
        return true;
    net = take_net(tid);
    if (net == NULL)
        return false;
    /* Of threads that begin calls at one moment each looks at times of its own: no look may find another looking. */
    net->wait_ns = FIRST_NS + (uint64_t)(net - of_calls) * (FIRST_NS / APART);
    net->call = *call;
    net->seen = 0;
    net->looks = 0;
    if (spread(net))
        return true;
    withdraw(net);
    return false;
}

void fsafe_rescue_end(uintptr_t frame)
{
    struct net *net = of_calls;
    while (net < of_calls + NETS && __atomic_load_n(&net->call.frame, __ATOMIC_RELAXED) != frame)
        net++;
    if (net == of_calls + NETS || net != net_of(fsafe_sys_gettid()))
        return;
    atomic_fetch_add_explicit(&went_on[net->call.region], 1, memory_order_relaxed);
    withdraw(net);
    if (of_all.generation != fsafe_lineage_generation() && fsafe_takeover_is_alone())
        fsafe_timer_stop_listening(on_timer);
}

void fsafe_rescue_adopt(struct fsafe_thread *self)
{
    if (self == NULL || !fsafe_region_is_inside(self))
        fsafe_hidden_free_known();
    if (fsafe_options.rescue_ms == 0 || fsafe_options.mode != FSAFE_MODE_REPAIR)
        return;
    of_all.wait_ns = (uint64_t)fsafe_options.rescue_ms * 1000000;
    spread(&of_all);
}
