#include "config.h"

#include "base/compiler.h"
#include "base/sys.h"
#include "libc/unwind.h"

#ifdef FSAFE_CALLFRAME

#include <string.h>

enum { RBP = FSAFE_CALLFRAME_RBP, RSP = FSAFE_CALLFRAME_RSP, RIP = FSAFE_CALLFRAME_RIP,
       REGISTERS = FSAFE_CALLFRAME_REGISTERS };
enum { MOST_FRAMES = 64 };

/* What a walk knows of the machine at one frame. */
struct machine {
    uintptr_t value[REGISTERS];
    bool known[REGISTERS];
};

enum step { STEPPED, ENDED, LOST };

/* Goes to the caller's frame, whose stack pointer is `cfa`. */
static enum step apply(struct fsafe_unwind *unwind, struct machine *machine, const struct fsafe_callframe *row,
                       uintptr_t cfa)
{
    if (row->how[RIP] == FSAFE_ROW_UNDEFINED)
        return ENDED;
    if (row->how[RIP] != FSAFE_ROW_AT_OFFSET)
        return LOST;
    for (unsigned i = 0; i < REGISTERS; i++) {
        if (row->how[i] == FSAFE_ROW_AT_OFFSET)
            machine->known[i] = fsafe_window_read(&unwind->stack, cfa + (uintptr_t)row->offset[i], &machine->value[i],
                                                  sizeof machine->value[i]);
        else if (row->how[i] != FSAFE_ROW_SAME)
            machine->known[i] = false;
    }
    machine->value[RSP] = cfa;
    machine->known[RSP] = true;
    return machine->known[RIP] && fsafe_callframe_range(unwind, machine->value[RIP]) >= 0 ? STEPPED : LOST;
}

/* Which function the call before a return address calls, seen from the function that is to return there. */
enum fit { NO_CALL = -2, OTHER_FUNCTION, ANY_FUNCTION, THE_FUNCTION };
enum { FIRST_COUNTS = 1000 };

/* The PLT's: endbr, perhaps, and a jump through a pointer. */
static bool is_stub(const unsigned char code[7])
{
#ifdef __x86_64__
    return memcmp(code, "\xff\x25", 2) == 0 || memcmp(code, "\xf3\x0f\x1e\xfa\xff\x25", 6) == 0 ||
           memcmp(code, "\xf3\x0f\x1e\xfa\xf2\xff\x25", 7) == 0;
#else
    code += memcmp(code, "\xf3\x0f\x1e\xfb", 4) == 0 ? 4 : 0;
    return memcmp(code, "\xff\x25", 2) == 0 || memcmp(code, "\xff\xa3", 2) == 0;
#endif
}

/* Whether a call of `function` lies before `address`, of another function (which may jump there), or by a pointer. */
static enum fit judge_call(struct fsafe_unwind *unwind, uintptr_t address, uintptr_t function)
{
    unsigned char code[7];
    int32_t far;
    if (!fsafe_callframe_read(unwind, address - sizeof code, code, sizeof code))
        return NO_CALL;
    if (code[2] != 0xe8)
        return code[5] == 0xff || code[4] == 0xff || code[1] == 0xff || code[0] == 0xff ? ANY_FUNCTION : NO_CALL;
    memcpy(&far, code + 3, sizeof far);
    uintptr_t target = address + (uintptr_t)(intptr_t)far;
    if (target == function)
        return THE_FUNCTION;
    return fsafe_callframe_read(unwind, target, code, sizeof code) && is_stub(code) ? ANY_FUNCTION : OTHER_FUNCTION;
}

/*
 * Where the frame of `function` ends if it is described by a frame pointer that is not known, because the walk began
 * after the register was saved last: looks for the return address of a call of the function. 0: there is none near.
 */
static uintptr_t guess_end(struct fsafe_unwind *unwind, uintptr_t from, uintptr_t function)
{
    enum { WORDS = 256 };
    for (uintptr_t at = from, word; at < from + WORDS * sizeof word; at += sizeof word)
        if (fsafe_window_read(&unwind->stack, at, &word, sizeof word) && word >= 4096 &&
            fsafe_callframe_range(unwind, word) >= 0 && judge_call(unwind, word, function) >= ANY_FUNCTION)
            return at + sizeof word;
    return 0;
}

static enum step step(struct fsafe_unwind *unwind, struct machine *machine, uintptr_t *begin)
{
    struct fsafe_callframe row;
    if (!fsafe_callframe_rules(unwind, machine->value[RIP], &row)) {
        /* The code may keep a frame pointer: that points to the caller's, and behind it lies the return address. */
        if (!machine->known[RBP] || machine->value[RBP] < machine->value[RSP] ||
            fsafe_callframe_entry(unwind, machine->value[RIP]) != 0)
            return LOST;
        memset(&row, 0, sizeof row);
        row.cfa_register = RBP;
        row.cfa_offset = 2 * sizeof(uintptr_t);
        row.how[RIP] = row.how[RBP] = FSAFE_ROW_AT_OFFSET;
        row.offset[RIP] = -(int)sizeof(uintptr_t);
        row.offset[RBP] = -2 * (int)sizeof(uintptr_t);
    }
    *begin = row.begin;
    if (row.how[RIP] == FSAFE_ROW_UNDEFINED)
        return ENDED;
    if (row.cfa_register >= REGISTERS)
        return LOST;
    uintptr_t cfa = machine->known[row.cfa_register] ? machine->value[row.cfa_register] + (uintptr_t)row.cfa_offset
                                                     : guess_end(unwind, machine->value[RSP], row.begin);
    if (cfa <= machine->value[RSP]) /* stacks grow down: no walk goes round */
        return LOST;
    return apply(unwind, machine, &row, cfa);
}

static uintptr_t module_of(struct fsafe_unwind *unwind, uintptr_t address)
{
    int range = fsafe_callframe_range(unwind, address);
    return range < 0 ? 0 : unwind->ranges[range].base;
}

/*
 * Whether a caller of `site` is a function of the library's: such functions lie between the program's where the library
 * wraps a method of Python's, or a call that has a callback. A program into which the library is linked has no others.
 */
static bool is_own(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t caller)
{
    uintptr_t own = module_of(unwind, (uintptr_t)step);
    return module_of(unwind, caller) == own && module_of(unwind, site) != own;
}

FSAFE_APART unsigned fsafe_unwind_here(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t *frames, unsigned most)
{
#ifdef __x86_64__
    enum { RBX = 3, R12 = 12 };
    struct machine machine = {.known = {[RBX] = true, [RBP] = true, [RSP] = true, [R12] = true, [R12 + 1] = true,
                                        [R12 + 2] = true, [R12 + 3] = true, [RIP] = true}};
    __asm__ volatile("movq %%rbx, 24(%0)\n\tmovq %%rbp, 48(%0)\n\tmovq %%rsp, 56(%0)\n\tmovq %%r12, 96(%0)\n\t"
                     "movq %%r13, 104(%0)\n\tmovq %%r14, 112(%0)\n\tmovq %%r15, 120(%0)\n\t"
                     "leaq 1f(%%rip), %%rdx\n1:\tmovq %%rdx, 128(%0)"
                     :
                     : "r"(machine.value)
                     : "rdx", "memory");
#else
    enum { EBX = 3, ESI = 6, EDI = 7 };
    struct machine machine = {.known = {[EBX] = true, [RSP] = true, [RBP] = true, [ESI] = true, [EDI] = true,
                                        [RIP] = true}};
    __asm__ volatile("movl %%ebx, 12(%0)\n\tmovl %%esp, 16(%0)\n\tmovl %%ebp, 20(%0)\n\tmovl %%esi, 24(%0)\n\t"
                     "movl %%edi, 28(%0)\n\tcall 1f\n1:\tpopl 32(%0)"
                     :
                     : "r"(machine.value)
                     : "memory");
#endif
    unsigned found = 0;
    bool past = false;
    uintptr_t begin;
    for (unsigned i = 0; i < MOST_FRAMES && found < most && step(unwind, &machine, &begin) == STEPPED; i++) {
        if (past && !is_own(unwind, site, machine.value[RIP]))
            frames[found++] = machine.value[RIP];
        past |= machine.value[RIP] == site;
    }
    return found;
}

/* A chain of callers on a stack. */
struct chain {
    uintptr_t frames[16];
    uintptr_t functions[16]; /* the function that each frame is of; 0 unknown */
    unsigned count;
    int score; /* the nearest call counts most, then that all calls are of the right function, then the length */
};

/* Goes on from a machine that is at a return address. Returns whether the chain leads to the thread's beginning. */
static bool follow(struct fsafe_unwind *unwind, struct machine *machine, struct chain *chain)
{
    for (unsigned i = 0; i < MOST_FRAMES; i++) {
        uintptr_t begin = 0;
        bool kept = chain->count < sizeof chain->frames / sizeof *chain->frames;
        if (kept)
            chain->frames[chain->count] = machine->value[RIP];
        enum step how = step(unwind, machine, &begin);
        if (kept)
            chain->functions[chain->count++] = begin;
        if (how != STEPPED)
            return how == ENDED;
        enum fit fit = judge_call(unwind, machine->value[RIP], begin);
        if (fit == NO_CALL)
            return false;
        chain->score += fit == OTHER_FUNCTION ? -10 : 1;
    }
    return false;
}

struct search {
    const struct fsafe_callframe *row; /* of the function with the place: its caller is looked for */
    int home;              /* the executable range with the place */
    struct chain best;
};

/* Whether `word` at `slot` returns from the place's function: the caller's chain. */
static bool try_caller(struct fsafe_unwind *unwind, const struct search *search, uintptr_t slot, uintptr_t word,
                       struct chain *chain)
{
    enum fit fit = judge_call(unwind, word, search->row->begin);
    int range = fsafe_callframe_range(unwind, word);
    /* A call of another function fits if it is in the same module: that function may have jumped to this one. */
    if (fit == NO_CALL || (fit == OTHER_FUNCTION && unwind->ranges[range].base != unwind->ranges[search->home].base))
        return false;
    struct machine machine = {.known = {false}};
    chain->score = FIRST_COUNTS * (int)fit;
    return apply(unwind, &machine, search->row, slot - (uintptr_t)search->row->offset[RIP]) == STEPPED &&
           follow(unwind, &machine, chain);
}

/* Whether `word` at `slot` returns into the place's module, from whatever the thread called there: the chain on. */
static bool try_module(struct fsafe_unwind *unwind, const struct search *search, uintptr_t slot, uintptr_t word,
                       struct chain *chain)
{
    int range = fsafe_callframe_range(unwind, word);
    if (unwind->ranges[range].base != unwind->ranges[search->home].base || judge_call(unwind, word, 0) == NO_CALL)
        return false;
    struct machine machine = {.value = {[RIP] = word, [RSP] = slot + sizeof word},
                              .known = {[RIP] = true, [RSP] = true}};
    chain->score = 0;
    return follow(unwind, &machine, chain);
}

/*
 * The registers that describe the frames are unknown, so each word that may be a return address is tried. Frames that
 * have ended lie below the others, which have overwritten parts of their chain: such a chain has calls that do not fit.
 */
static void find_best(struct fsafe_unwind *unwind, struct search *search, uintptr_t near, uintptr_t end,
                      bool (*try)(struct fsafe_unwind *unwind, const struct search *search, uintptr_t slot,
                                  uintptr_t word, struct chain *chain))
{
    enum { ABOVE = 16 << 10, BELOW = 64 << 10 };
    search->best.score = -2 * FIRST_COUNTS;
    search->best.count = 0;
    near &= ~(uintptr_t)7;
    uintptr_t most = near + ABOVE;
    /* What lies outside of a small stack may be full of return addresses, as our own ledgers are. */
    for (uintptr_t top = end > near && end < most ? end & ~(uintptr_t)7 : most; top > near - BELOW;
         top -= sizeof unwind->words) {
        uintptr_t from = top - sizeof unwind->words;
        if (!fsafe_sys_peek(from, unwind->words, sizeof unwind->words)) {
            if (top <= near)
                break; /* the page that guards the stack */
            continue;
        }
        for (size_t i = FSAFE_UNWIND_WORDS; i-- > 0;) {
            uintptr_t slot = from + i * sizeof(uintptr_t), word = unwind->words[i];
            struct chain chain = {.count = 0};
            if (word >= 4096 && fsafe_callframe_range(unwind, word) >= 0 &&
                try(unwind, search, slot, word, &chain) && chain.score > search->best.score)
                search->best = chain;
        }
    }
}

unsigned fsafe_unwind_vanished(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t near, uintptr_t end,
                               uintptr_t *frames, unsigned most)
{
    struct fsafe_callframe row;
    struct search search = {.row = &row, .home = fsafe_callframe_range(unwind, site - 1)};
    if (near == 0 || most == 0 || search.home < 0 || !fsafe_callframe_rules(unwind, site, &row) ||
        row.how[RIP] != FSAFE_ROW_AT_OFFSET)
        return 0;
    find_best(unwind, &search, near, end, try_caller);
    struct chain best = search.best;
    unsigned from = 0;
    if (best.score < FIRST_COUNTS / 2) {
        /*
         * No call on the stack is of the function itself: it was called by a pointer, or it has returned with the lock.
         * So look for where the thread made its last call; if the function is in that chain, its callers follow it.
         */
        find_best(unwind, &search, near, end, try_module);
        unsigned at = 0;
        while (at < search.best.count && search.best.functions[at] != row.begin)
            at++;
        if (search.best.count > 0) {
            best = search.best;
            from = at < best.count ? at + 1 : 0;
        }
    }
    unsigned count = 0;
    for (; from < best.count && count < most; from++)
        if (!is_own(unwind, site, best.frames[from]))
            frames[count++] = best.frames[from];
    return count;
}

#else

FSAFE_BEGIN_ANSWERS
unsigned fsafe_unwind_here(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t *frames, unsigned most) { return 0; }
unsigned fsafe_unwind_vanished(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t near, uintptr_t end,
                               uintptr_t *frames, unsigned most)
{
    return 0;
}
FSAFE_END_ANSWERS

#endif
