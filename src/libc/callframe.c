#include "config.h"

#include "libc/callframe.h"

#ifdef FSAFE_CALLFRAME

#include "base/maps.h"
#include "libc/modules.h"

#include <string.h>

/* Call frame instructions being read. A read past the end makes it bad. */
struct reader {
    struct fsafe_unwind *unwind;
    uintptr_t at, end;
    bool bad;
};

/* The window through which an address is read. */
static struct fsafe_window *window_for(struct fsafe_unwind *unwind, uintptr_t address)
{
    return &unwind->code[(address >> 10) % FSAFE_UNWIND_WINDOWS];
}

bool fsafe_callframe_read(struct fsafe_unwind *unwind, uintptr_t from, void *into, size_t bytes)
{
    return fsafe_window_read(window_for(unwind, from), from, into, bytes);
}

static uint64_t take(struct reader *reader, size_t bytes)
{
    uint64_t value = 0;
    if (reader->end - reader->at < bytes || !fsafe_callframe_read(reader->unwind, reader->at, &value, bytes))
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

int fsafe_callframe_range(struct fsafe_unwind *unwind, uintptr_t pc)
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

/* Where the module's sorted table of functions (.eh_frame_hdr) is; 1: nowhere. */
static uintptr_t find_table(struct fsafe_unwind *unwind, int range)
{
    struct fsafe_headers headers;
    unsigned char encodings[4];
    uintptr_t base = unwind->ranges[range].base;
    if (!fsafe_modules_headers(window_for(unwind, base), base, &headers) || headers.unwind == 0 ||
        !fsafe_callframe_read(unwind, headers.unwind + headers.bias, encodings, sizeof encodings) ||
        memcmp(encodings, "\x01\x1b\x03\x3b", sizeof encodings) != 0)
        return 1;
    return headers.unwind + headers.bias;
}

uintptr_t fsafe_callframe_entry(struct fsafe_unwind *unwind, uintptr_t pc)
{
    int range = fsafe_callframe_range(unwind, pc);
    uint32_t count;
    if (range < 0)
        return 0;
    if (unwind->ranges[range].table == 0)
        unwind->ranges[range].table = find_table(unwind, range);
    uintptr_t table = unwind->ranges[range].table;
    if (table == 1 || !fsafe_callframe_read(unwind, table + 8, &count, sizeof count))
        return 0;
    uintptr_t entry = 0;
    for (uint32_t low = 0, high = count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        int32_t pair[2]; /* a function and its entry, as distances from the table's beginning */
        if (!fsafe_callframe_read(unwind, table + 12 + 8 * (uintptr_t)middle, pair, sizeof pair))
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

/* Begins a record (CIE or FDE), behind its length. */
static bool begin_record(struct fsafe_unwind *unwind, uintptr_t at, struct reader *reader)
{
    *reader = (struct reader){.unwind = unwind, .at = at, .end = at + 4};
    uintptr_t length = (uint32_t)take(reader, 4);
    reader->end = reader->at + length;
    return !reader->bad && length != 0 && length != 0xffffffff;
}

/* Skips bytes whose number stands before them. */
static void skip_block(struct reader *reader)
{
    uint64_t more = take_leb(reader, false);
    reader->at += more;
}

struct common {
    uint64_t code_factor;
    int64_t data_factor;
    bool augmented;
    struct reader program;
};

/* Reads the CIE at `at`: what entries have in common. */
static bool read_common(struct fsafe_unwind *unwind, uintptr_t at, struct common *common)
{
    struct reader reader;
    if (!begin_record(unwind, at, &reader))
        return false;
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
    if (common->augmented)
        skip_block(&reader);
    common->program = reader;
    return !reader.bad && simple && return_register == FSAFE_CALLFRAME_RIP && (version == 1 || version == 3);
}

static void set_rule(struct fsafe_callframe *row, uint64_t number, int how, int64_t offset)
{
    if (number < FSAFE_CALLFRAME_REGISTERS) {
        row->how[number] = how;
        row->offset[number] = offset;
    }
}

/*
 * By the standard's names. The first three have an operand in their lowest six bits. Of 3,058 programs and libraries of
 * a Debian only functions in assembler and a program made by GHC have others, but for DW_CFA_def_cfa_expression.
 */
enum {
    DW_CFA_advance_loc = 0x40, DW_CFA_offset = 0x80, DW_CFA_restore = 0xc0, DW_CFA_nop = 0x00,
    DW_CFA_advance_loc1 = 0x02, DW_CFA_advance_loc2 = 0x03, DW_CFA_advance_loc4 = 0x04, DW_CFA_undefined = 0x07,
    DW_CFA_register = 0x09, DW_CFA_remember_state = 0x0a, DW_CFA_restore_state = 0x0b, DW_CFA_def_cfa = 0x0c,
    DW_CFA_def_cfa_register = 0x0d, DW_CFA_def_cfa_offset = 0x0e, DW_CFA_expression = 0x10, DW_CFA_GNU_args_size = 0x2e,
};

/*
 * Runs instructions up to `stop`, an offset in the function. `initial`: the rules that DW_CFA_restore goes back to;
 * NULL while the CIE makes them.
 */
static bool run(struct reader *reader, const struct common *common, struct fsafe_callframe *row,
                const struct fsafe_callframe *initial, uint64_t stop)
{
    struct fsafe_callframe *kept = reader->unwind->kept;
    unsigned depth = 0;
    uint64_t location = 0;
    while (reader->at < reader->end && !reader->bad) {
        unsigned code = (unsigned)take(reader, 1), low = code & 0x3f;
        uint64_t step = 0;
        switch (code & 0xc0 ? code & 0xc0 : code) {
        case DW_CFA_advance_loc: step = low; break;
        case DW_CFA_offset:
            /* Any bytes may be read as numbers here, so the product wraps. */
            set_rule(row, low, FSAFE_ROW_AT_OFFSET, (int64_t)(take_leb(reader, false) * (uint64_t)common->data_factor));
            break;
        case DW_CFA_restore:
            if (initial == NULL)
                return false;
            if (low < FSAFE_CALLFRAME_REGISTERS)
                set_rule(row, low, initial->how[low], initial->offset[low]);
            break;
        case DW_CFA_nop: break;
        case DW_CFA_advance_loc1: step = take(reader, 1); break;
        case DW_CFA_advance_loc2: step = take(reader, 2); break;
        case DW_CFA_advance_loc4: step = take(reader, 4); break;
        case DW_CFA_undefined: set_rule(row, take_leb(reader, false), FSAFE_ROW_UNDEFINED, 0); break;
        case DW_CFA_register:
            set_rule(row, take_leb(reader, false), FSAFE_ROW_UNKNOWN, 0);
            take_leb(reader, false);
            break;
        case DW_CFA_remember_state:
            if (depth == FSAFE_UNWIND_KEPT)
                return false;
            kept[depth++] = *row;
            break;
        case DW_CFA_restore_state:
            if (depth == 0)
                return false;
            *row = kept[--depth];
            break;
        case DW_CFA_def_cfa:
            row->cfa_register = take_leb(reader, false);
            row->cfa_offset = (int64_t)take_leb(reader, false);
            break;
        case DW_CFA_def_cfa_register: row->cfa_register = take_leb(reader, false); break;
        case DW_CFA_def_cfa_offset: row->cfa_offset = (int64_t)take_leb(reader, false); break;
        case DW_CFA_expression:
            set_rule(row, take_leb(reader, false), FSAFE_ROW_UNKNOWN, 0);
            skip_block(reader);
            break;
        case DW_CFA_GNU_args_size: take_leb(reader, false); break;
        default: return false; /* also DW_CFA_def_cfa_expression */
        }
        location += step * common->code_factor;
        if (step != 0 && location > stop)
            return !reader->bad;
    }
    return !reader->bad;
}

bool fsafe_callframe_rules(struct fsafe_unwind *unwind, uintptr_t pc, struct fsafe_callframe *row)
{
    uintptr_t at = fsafe_callframe_entry(unwind, pc - 1);
    if (at == 0)
        return false;
    struct reader reader;
    if (!begin_record(unwind, at, &reader))
        return false;
    uintptr_t here = reader.at;
    uintptr_t back = (uint32_t)take(&reader, 4);
    uintptr_t field = reader.at; /* what the function's address is relative to */
    uintptr_t begin = field + (uintptr_t)(intptr_t)(int32_t)take(&reader, 4);
    uintptr_t bytes = (uint32_t)take(&reader, 4);
    struct common common;
    struct fsafe_callframe initial;
    memset(row, 0, sizeof *row);
    if (reader.bad || pc - 1 - begin >= bytes || !read_common(unwind, here - back, &common) ||
        !run(&common.program, &common, row, NULL, UINT64_MAX))
        return false;
    row->begin = begin;
    initial = *row;
    if (common.augmented)
        skip_block(&reader);
    return run(&reader, &common, row, &initial, pc - 1 - begin);
}

#endif
