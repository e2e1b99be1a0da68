/*
 * Measured. libstdc++ 12's guards: the bits are in bytes 0 to 2, the futex is not of the private kind, the upper four
 * bytes stay zero. A recursive initialiser throws recursive_init_error while the process has one thread (no compiler
 * has a landing pad at that call: the program terminates), and waits for ever when there are more; so it is here. A
 * preloaded definition must do the whole work: in a C program that loads a C++ module RTLD_LOCAL, RTLD_NEXT finds no
 * other. acquire and release take 19 ns, libstdc++'s 2 ns, 13 ns with threads, once for each static local.
 *
 * To look at futex calls instead (libstdc++ waits by syscall(SYS_futex)) is not enough: the guard's word has no owner,
 * and once the child has a second thread the initialiser may be that thread's.
 */
#include "config.h"

#include "repair/guard.h"
#include "repair/verdict.h"

#ifdef FSAFE_GUARDS

/*
 * The owner in a guard: a thread id (below 2^22 on every Linux) and the low bits of that thread's generation. By those
 * a child knows a vanished thread without asking the kernel, also when the id is in use again.
 */
enum { TID_BITS = 22 };
#define TID_MASK ((1u << TID_BITS) - 1)

uint32_t fsafe_guard_owner(const struct fsafe_thread *self)
{
    if (self == NULL || self->owner <= 0 || (uint32_t)self->owner > TID_MASK)
        return 0;
    return (uint32_t)self->owner | fsafe_lineage_generation() << TID_BITS;
}

static uint32_t owner_of(uint64_t word)
{
    return (uint32_t)(word >> FSAFE_GUARD_OWNER_SHIFT);
}

static int tid_of(uint64_t word)
{
    return (int)(owner_of(word) & TID_MASK);
}

static bool is_of_now(uint64_t word)
{
    return owner_of(word) >> TID_BITS == (fsafe_lineage_generation() & (UINT32_MAX >> TID_BITS));
}

bool fsafe_guard_is_own(uint64_t word, const struct fsafe_thread *self)
{
    if (self == NULL || owner_of(word) == 0)
        return false;
    return is_of_now(word) ? tid_of(word) == self->owner
                           : tid_of(word) == self->owner || fsafe_thread_was(self, tid_of(word));
}

struct question {
    struct fsafe_question asked;
    uint64_t word; /* seen in the guard */
};

/* Under the latch. */
static enum fsafe_verdict judge(struct fsafe_question *asked)
{
    _Atomic uint64_t *guard = (_Atomic uint64_t *)asked->event.address;
    uint64_t word = atomic_load(guard);
    int tid = tid_of(word);
    if (((word ^ ((struct question *)asked)->word) & ~FSAFE_GUARD_WAITING) != 0)
        return FSAFE_UNDECIDED; /* another thread was faster */
    struct fsafe_claims claims = fsafe_takeover_claims(asked->self, FSAFE_GUARDS_BEGUN, asked->event.address, tid);
    if (fsafe_verdict_of_guard(&claims) == FSAFE_LIVINGS)
        return FSAFE_PROCEED; /* a thread of this process forked inside its initialiser and is still inside */
    if (claims.vanished != NULL && !fsafe_thread_is_or_was(claims.vanished, tid))
        claims.vanished = NULL; /* a thread that waited for the guard */
    asked->event.holder.tid = tid;
    if (!fsafe_takeover_decide(&asked->event, &claims, asked->would_wait))
        return FSAFE_PROCEED;
    /* Another thread may set the waiting bit meanwhile, and no other. */
    uint64_t mine;
    do
        mine = FSAFE_GUARD_RUNNING | (word & FSAFE_GUARD_WAITING) |
               (uint64_t)fsafe_guard_owner(asked->self) << FSAFE_GUARD_OWNER_SHIFT;
    while (!atomic_compare_exchange_weak(guard, &word, mine));
    return FSAFE_TAKEN;
}

enum fsafe_verdict fsafe_guard_judge(_Atomic uint64_t *guard, uint64_t word, struct fsafe_thread *self, uintptr_t site)
{
    /* An unknown owner is one of another C++ runtime's; this thread and living ones will finish. */
    if (owner_of(word) == 0 || is_of_now(word) || fsafe_guard_is_own(word, self))
        return FSAFE_PROCEED;
    struct question question = {
        .asked = {.self = self, .would_wait = true,
                  .event = {.lock = "guard", .kind = "static local", .address = (uintptr_t)guard, .wanted_at = site}},
        .word = word,
    };
    return fsafe_takeover_judge(&question.asked, judge);
}

bool fsafe_guard_is_stale(uintptr_t lock, void *context)
{
    uint64_t word;
    return !fsafe_sys_peek(lock & ~FSAFE_STAGE_MASK, &word, sizeof word) || (word & FSAFE_GUARD_RUNNING) == 0 ||
           !fsafe_guard_is_own(word, context);
}

#endif
