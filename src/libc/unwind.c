/*
 * libc/unwind: see unwind.h. The formats are those of DWARF's call frame information as the System V ABI for x86-64
 * uses it. What compilers emit for functions is understood; where there is an expression (the PLT, signal frames), the
 * walk ends.
 */
#include "config.h"

#include "libc/unwind.h"

#ifdef __x86_64__

#include "base/maps.h"
#include "libc/modules.h"

#include <string.h>

enum { RBX = 3, RBP = 6, RSP = 7, R12 = 12, RIP = 16, REGISTERS = 17 };
enum { MOST_FRAMES = 64 };

/* What a walk knows of the machine at one frame. */
struct machine {
    uintptr_t value[REGISTERS];
    bool known[REGISTERS];
};

/* How a frame's registers are found: DWARF's row of rules. */
struct row {
    uintptr_t begin; /* of the function */
    uint64_t cfa_register;
    int64_t cfa_offset;
    enum { SAME, AT_OFFSET, UNDEFINED, UNKNOWN } how[REGISTERS];
    int64_t offset[REGISTERS];
};

/* Call frame instructions being read. A read past the end makes it bad. */
struct reader {
    struct fsafe_unwind *unwind;
    uintptr_t at, end;
    bool bad;
};

/* Which of the windows an address is looked at through. */
static struct fsafe_window *window_for(struct fsafe_unwind *unwind, uintptr_t address)
{
    return &unwind->code[(address >> 10) % FSAFE_UNWIND_WINDOWS];
}

static bool read_code(struct fsafe_unwind *unwind, uintptr_t from, void *into, size_t bytes)
{
    return fsafe_window_read(window_for(unwind, from), from, into, bytes);
}

static uint64_t take(struct reader *reader, size_t bytes)
{
    uint64_t value = 0;
    if (reader->end - reader->at < bytes || !read_code(reader->unwind, reader->at, &value, bytes))
        reader->bad = true;
    reader->at += bytes;
    return reader->bad ? 0 : value;
}

static uint64_t take_leb(struct reader *reader, bool is_signed)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint64_t byte = take(reader, 1);
        value |= (byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            if (is_signed && (byte & 0x40) != 0 && shift + 7 < 64)
                value |= ~(uint64_t)0 << (shift + 7);
            return value;
        }
        if (reader->bad)
            break;
    }
    reader->bad = true;
    return 0;
}

/* --- Finding the information for a place ----------------------------------------------------------------- */

static bool see_range(const struct fsafe_maps_line *line, void *context)
{
    struct fsafe_unwind *unwind = context;
    if (!line->executable || line->module[0] == '\0')
        return true;
    unwind->ranges[unwind->count].start = line->start;
    unwind->ranges[unwind->count].end = line->end;
    unwind->ranges[unwind->count].base = line->base;
    return ++unwind->count < FSAFE_UNWIND_RANGES;
}

/* The index of the executable range that holds `pc`, or -1. */
static int find_range(struct fsafe_unwind *unwind, uintptr_t pc)
{
    if (unwind->count == 0)
        fsafe_maps_each(see_range, unwind);
    for (unsigned low = 0, high = unwind->count; low < high;) {
        unsigned middle = (low + high) / 2;
        if (pc < unwind->ranges[middle].start)
            high = middle;
        else if (pc >= unwind->ranges[middle].end)
            low = middle + 1;
        else
            return (int)middle;
    }
    return -1;
}

/* Where the sorted table of functions in .eh_frame_hdr is, or 1. */
static uintptr_t find_table(struct fsafe_unwind *unwind, int range)
{
    struct fsafe_headers headers;
    unsigned char encodings[4];
    uintptr_t base = unwind->ranges[range].base;
    if (!fsafe_modules_headers(window_for(unwind, base), base, &headers) || headers.unwind == 0 ||
        !read_code(unwind, headers.unwind + headers.bias, encodings, sizeof encodings) ||
        memcmp(encodings, "\x01\x1b\x03\x3b", sizeof encodings) != 0)
        return 1;
    return headers.unwind + headers.bias;
}

/* Returns the address of the function's entry (FDE) that should hold `pc`, or 0. */
static uintptr_t find_entry(struct fsafe_unwind *unwind, uintptr_t pc)
{
    int range = find_range(unwind, pc);
    uint32_t count;
    if (range < 0)
        return 0;
    if (unwind->ranges[range].table == 0)
        unwind->ranges[range].table = find_table(unwind, range);
    uintptr_t table = unwind->ranges[range].table;
    if (table == 1 || !read_code(unwind, table + 8, &count, sizeof count))
        return 0;
    uintptr_t entry = 0;
    for (uint32_t low = 0, high = count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        int32_t pair[2]; /* function and its entry, both from the table's beginning */
        if (!read_code(unwind, table + 12 + 8 * (uintptr_t)middle, pair, sizeof pair))
            return 0;
        if (pc < table + (uintptr_t)(intptr_t)pair[0]) {
            high = middle;
        } else {
            entry = table + (uintptr_t)(intptr_t)pair[1];
            low = middle + 1;
        }
    }
    return entry;
}

/* --- The rules at a place -------------------------------------------------------------------------------- */

struct common {
    uint64_t code_factor;
    int64_t data_factor;
    bool augmented;
    struct reader program;
};

/* The CIE at `at`: what entries have in common. */
static bool read_common(struct fsafe_unwind *unwind, uintptr_t at, struct common *common)
{
    struct reader reader = {.unwind = unwind, .at = at, .end = at + 4};
    uintptr_t length = (uint32_t)take(&reader, 4);
    if (reader.bad || length == 0 || length == 0xffffffff)
        return false;
    reader.end = reader.at + length;
    take(&reader, 4);
    uint64_t version = take(&reader, 1);
    bool simple = true;
    common->augmented = false;
    for (uint64_t letter; (letter = take(&reader, 1)) != 0 && !reader.bad;) {
        common->augmented |= letter == 'z';
        simple &= strchr("zRPL", (int)letter) != NULL; /* not S, a signal's frame */
    }
    common->code_factor = take_leb(&reader, false);
    common->data_factor = (int64_t)take_leb(&reader, true);
    uint64_t return_register = version == 1 ? take(&reader, 1) : take_leb(&reader, false);
    if (common->augmented) {
        uint64_t more = take_leb(&reader, false);
        reader.at += more;
    }
    common->program = reader;
    return !reader.bad && simple && return_register == RIP && (version == 1 || version == 3);
}

static void set_rule(struct row *row, uint64_t number, int how, int64_t offset)
{
    if (number < REGISTERS) {
        row->how[number] = how;
        row->offset[number] = offset;
    }
}

/*
 * Runs call frame instructions up to `stop`, an offset in the function. `initial`: the rules that restore goes back to;
 * NULL while these are being made.
 */
static bool run(struct reader *reader, const struct common *common, struct row *row, const struct row *initial,
                uint64_t stop)
{
    enum { KEPT = 4 };
    struct row kept[KEPT];
    unsigned depth = 0;
    uint64_t location = 0, number;
    while (reader->at < reader->end && !reader->bad) {
        unsigned code = (unsigned)take(reader, 1), low = code & 0x3f;
        uint64_t step = 0;
        switch (code & 0xc0 ? code & 0xc0 : code) {
        case 0x40: step = low; break;
        case 0x80: set_rule(row, low, AT_OFFSET, (int64_t)take_leb(reader, false) * common->data_factor); break;
        case 0xc0: case 0x06:
            number = (code & 0xc0) != 0 ? low : take_leb(reader, false);
            if (initial == NULL)
                return false;
            if (number < REGISTERS)
                set_rule(row, number, initial->how[number], initial->offset[number]);
            break;
        case 0x00: break;
        case 0x02: step = take(reader, 1); break;
        case 0x03: step = take(reader, 2); break;
        case 0x04: step = take(reader, 4); break;
        case 0x05:
            number = take_leb(reader, false);
            set_rule(row, number, AT_OFFSET, (int64_t)take_leb(reader, false) * common->data_factor);
            break;
        case 0x07: set_rule(row, take_leb(reader, false), UNDEFINED, 0); break;
        case 0x08: set_rule(row, take_leb(reader, false), SAME, 0); break;
        case 0x09: set_rule(row, take_leb(reader, false), UNKNOWN, 0); take_leb(reader, false); break;
        case 0x0a:
            if (depth == KEPT)
                return false;
            kept[depth++] = *row;
            break;
        case 0x0b:
            if (depth == 0)
                return false;
            *row = kept[--depth];
            break;
        case 0x0c:
            row->cfa_register = take_leb(reader, false);
            row->cfa_offset = (int64_t)take_leb(reader, false);
            break;
        case 0x0d: row->cfa_register = take_leb(reader, false); break;
        case 0x0e: row->cfa_offset = (int64_t)take_leb(reader, false); break;
        case 0x10: case 0x16:
            set_rule(row, take_leb(reader, false), UNKNOWN, 0);
            number = take_leb(reader, false);
            reader->at += number;
            break;
        case 0x0f: /* an expression, which a later row may take back: no function does */
            return false;
        case 0x11:
            number = take_leb(reader, false);
            set_rule(row, number, AT_OFFSET, (int64_t)take_leb(reader, true) * common->data_factor);
            break;
        case 0x12:
            row->cfa_register = take_leb(reader, false);
            row->cfa_offset = (int64_t)take_leb(reader, true) * common->data_factor;
            break;
        case 0x13: row->cfa_offset = (int64_t)take_leb(reader, true) * common->data_factor; break;
        case 0x2e: take_leb(reader, false); break;
        default: return false;
        }
        location += step * common->code_factor;
        if (step != 0 && location > stop)
            return !reader->bad;
    }
    return !reader->bad;
}

/* The rules for the instruction before `pc`, which is one that a call returns to. */
static bool find_rules(struct fsafe_unwind *unwind, uintptr_t pc, struct row *row)
{
    uintptr_t at = find_entry(unwind, pc - 1);
    if (at == 0)
        return false;
    struct reader reader = {.unwind = unwind, .at = at, .end = at + 4};
    uintptr_t length = (uint32_t)take(&reader, 4);
    if (reader.bad || length == 0 || length == 0xffffffff)
        return false;
    reader.end = reader.at + length;
    uintptr_t here = reader.at;
    uintptr_t back = (uint32_t)take(&reader, 4);
    uintptr_t field = reader.at; /* what the function's address is relative to */
    uintptr_t begin = field + (uintptr_t)(intptr_t)(int32_t)take(&reader, 4);
    uintptr_t bytes = (uint32_t)take(&reader, 4);
    struct common common;
    struct row initial;
    memset(row, 0, sizeof *row);
    if (reader.bad || pc - 1 - begin >= bytes || !read_common(unwind, here - back, &common) ||
        !run(&common.program, &common, row, NULL, UINT64_MAX))
        return false;
    row->begin = begin;
    initial = *row;
    if (common.augmented) {
        uint64_t more = take_leb(&reader, false);
        reader.at += more;
    }
    return run(&reader, &common, row, &initial, pc - 1 - begin);
}

/* --- Walking --------------------------------------------------------------------------------------------- */

enum step { STEPPED, ENDED, LOST };

/* Goes to the caller's frame, whose stack pointer is `cfa`. */
static enum step apply(struct fsafe_unwind *unwind, struct machine *machine, const struct row *row, uintptr_t cfa)
{
    if (row->how[RIP] == UNDEFINED)
        return ENDED;
    if (row->how[RIP] != AT_OFFSET)
        return LOST;
    for (unsigned i = 0; i < REGISTERS; i++) {
        if (row->how[i] == AT_OFFSET)
            machine->known[i] = fsafe_window_read(&unwind->stack, cfa + (uintptr_t)row->offset[i], &machine->value[i],
                                                  sizeof machine->value[i]);
        else if (row->how[i] != SAME)
            machine->known[i] = false;
    }
    machine->value[RSP] = cfa;
    machine->known[RSP] = true;
    return machine->known[RIP] && find_range(unwind, machine->value[RIP]) >= 0 ? STEPPED : LOST;
}

/* How well a return address goes with the function that is to return there. */
enum fit { NO_CALL = -2, OTHER_FUNCTION, ANY_FUNCTION, THE_FUNCTION };
enum { FIRST_COUNTS = 1000 };

/* What lies before `address` is a call of that function, of another (it may jump there), or one through a pointer. */
static enum fit judge_call(struct fsafe_unwind *unwind, uintptr_t address, uintptr_t function)
{
    unsigned char code[7];
    int32_t far;
    if (!read_code(unwind, address - sizeof code, code, sizeof code))
        return NO_CALL;
    if (code[2] != 0xe8)
        return code[5] == 0xff || code[4] == 0xff || code[1] == 0xff || code[0] == 0xff ? ANY_FUNCTION : NO_CALL;
    memcpy(&far, code + 3, sizeof far);
    uintptr_t target = address + (uintptr_t)(intptr_t)far;
    if (target == function)
        return THE_FUNCTION;
    /* The PLT's stubs: endbr64, perhaps, and a jump through a pointer. */
    if (read_code(unwind, target, code, sizeof code) &&
        (memcmp(code, "\xff\x25", 2) == 0 || memcmp(code, "\xf3\x0f\x1e\xfa\xff\x25", 6) == 0 ||
         memcmp(code, "\xf3\x0f\x1e\xfa\xf2\xff\x25", 7) == 0))
        return ANY_FUNCTION;
    return OTHER_FUNCTION;
}

/*
 * Of a frame that hangs on a frame pointer which is not known, because the walk began behind the register's last save:
 * where it ends, by looking for the return address of a call of the function. 0: nowhere near.
 */
static uintptr_t guess_end(struct fsafe_unwind *unwind, uintptr_t from, uintptr_t function)
{
    enum { WORDS = 256 };
    for (uintptr_t at = from, word; at < from + WORDS * sizeof word; at += sizeof word)
        if (fsafe_window_read(&unwind->stack, at, &word, sizeof word) && word >= 4096 &&
            find_range(unwind, word) >= 0 && judge_call(unwind, word, function) >= ANY_FUNCTION)
            return at + sizeof word;
    return 0;
}

static enum step step(struct fsafe_unwind *unwind, struct machine *machine, uintptr_t *begin)
{
    struct row row;
    if (!find_rules(unwind, machine->value[RIP], &row)) {
        /* A frame pointer, perhaps: then it points to the caller's, and the return address lies behind it. */
        if (!machine->known[RBP] || machine->value[RBP] < machine->value[RSP] ||
            find_entry(unwind, machine->value[RIP]) != 0)
            return LOST;
        memset(&row, 0, sizeof row);
        row.cfa_register = RBP;
        row.cfa_offset = 16;
        row.how[RIP] = row.how[RBP] = AT_OFFSET;
        row.offset[RIP] = -8;
        row.offset[RBP] = -16;
    }
    *begin = row.begin;
    if (row.how[RIP] == UNDEFINED)
        return ENDED;
    if (row.cfa_register >= REGISTERS)
        return LOST;
    uintptr_t cfa = machine->known[row.cfa_register] ? machine->value[row.cfa_register] + (uintptr_t)row.cfa_offset
                                                     : guess_end(unwind, machine->value[RSP], row.begin);
    if (cfa <= machine->value[RSP]) /* stacks grow down: no walk goes round */
        return LOST;
    return apply(unwind, machine, &row, cfa);
}

__attribute__((noinline)) unsigned fsafe_unwind_here(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t *frames,
                                                     unsigned most)
{
    struct machine machine = {.known = {[RBX] = true, [RBP] = true, [RSP] = true, [R12] = true, [R12 + 1] = true,
                                        [R12 + 2] = true, [R12 + 3] = true, [RIP] = true}};
    __asm__ volatile("movq %%rbx, 24(%0)\n\tmovq %%rbp, 48(%0)\n\tmovq %%rsp, 56(%0)\n\tmovq %%r12, 96(%0)\n\t"
                     "movq %%r13, 104(%0)\n\tmovq %%r14, 112(%0)\n\tmovq %%r15, 120(%0)\n\t"
                     "leaq 1f(%%rip), %%rdx\n1:\tmovq %%rdx, 128(%0)"
                     :
                     : "r"(machine.value)
                     : "rdx", "memory");
    unsigned found = 0;
    bool past = false;
    uintptr_t begin;
    for (unsigned i = 0; i < MOST_FRAMES && found < most && step(unwind, &machine, &begin) == STEPPED; i++) {
        if (past)
            frames[found++] = machine.value[RIP];
        past |= machine.value[RIP] == site;
    }
    return found;
}

/* A chain of callers on a stack. */
struct chain {
    uintptr_t frames[16];
    unsigned count;
    int score; /* the nearest call counts most, then that no other call is one of another function, then the length */
};

/* Follows the chain whose first frame ends at `cfa`. Returns whether it ends where it should. */
static bool follow(struct fsafe_unwind *unwind, const struct row *row, uintptr_t cfa, struct chain *chain)
{
    int home = find_range(unwind, row->begin);
    struct machine machine = {.known = {false}};
    enum step how = apply(unwind, &machine, row, cfa);
    uintptr_t begin = row->begin;
    chain->count = 0;
    chain->score = 0;
    for (unsigned i = 0; i < MOST_FRAMES && how == STEPPED; i++) {
        enum fit fit = judge_call(unwind, machine.value[RIP], begin);
        if (fit == NO_CALL)
            return false;
        /* The function may have returned by now, with the lock, or jumped there: to one of its own module, mostly. */
        int range = find_range(unwind, machine.value[RIP]);
        if (i == 0 && fit == OTHER_FUNCTION && unwind->ranges[range].base != unwind->ranges[home].base)
            return false;
        chain->score += i == 0 ? FIRST_COUNTS * (int)fit : fit == OTHER_FUNCTION ? -10 : 1;
        if (chain->count < sizeof chain->frames / sizeof *chain->frames)
            chain->frames[chain->count++] = machine.value[RIP];
        how = step(unwind, &machine, &begin);
    }
    return how == ENDED;
}

unsigned fsafe_unwind_vanished(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t near, uintptr_t *frames,
                               unsigned most)
{
    enum { ABOVE = 16 << 10, BELOW = 64 << 10 };
    struct row row;
    if (near == 0 || most == 0 || find_range(unwind, site - 1) < 0 || !find_rules(unwind, site, &row) ||
        row.how[RIP] != AT_OFFSET)
        return 0;
    /*
     * The register that the frame hangs on is unknown, so each place where its return address may be is tried. Stale
     * frames lie below the live ones, which overwrite those that led to them: a stale chain has calls that do not fit.
     */
    struct fsafe_window slots = {.bytes = 0};
    struct chain best = {.score = -2 * FIRST_COUNTS}, chain;
    near &= ~(uintptr_t)7;
    for (uintptr_t top = near + ABOVE; top > near - BELOW; top -= sizeof slots.copy) {
        uintptr_t words[sizeof slots.copy / sizeof(uintptr_t)];
        if (!fsafe_window_read(&slots, top - sizeof words, words, sizeof words))
            continue;
        for (size_t i = sizeof words / sizeof *words; i-- > 0;) {
            uintptr_t slot = top - sizeof words + i * sizeof *words;
            if (words[i] >= 4096 && find_range(unwind, words[i]) >= 0 &&
                follow(unwind, &row, slot - (uintptr_t)row.offset[RIP], &chain) && chain.score > best.score)
                best = chain;
        }
    }
    unsigned count = best.count < most ? best.count : most;
    memcpy(frames, best.frames, count * sizeof *frames);
    return count;
}

#else

unsigned fsafe_unwind_here(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t *frames, unsigned most)
{
    (void)unwind, (void)site, (void)frames, (void)most;
    return 0;
}

unsigned fsafe_unwind_vanished(struct fsafe_unwind *unwind, uintptr_t site, uintptr_t near, uintptr_t *frames,
                               unsigned most)
{
    (void)unwind, (void)site, (void)near, (void)frames, (void)most;
    return 0;
}

#endif
