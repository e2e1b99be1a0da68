/*
 * cli/process, Python's part: reads from outside what python/frames reads from inside. There the interpreter's own
 * function finds a line; here the interpreter's tables of lines have to be read, too.
 */
#include "config.h"

#include "cli/process.h"
#include "python/layout.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What only somebody outside has to know. From 3.13 on the interpreter publishes these, too. */
struct outside {
    uint16_t interpreter; /* in _PyRuntime: the first one */
    uint16_t state;       /* in an interpreter: its first thread's state */
    uint16_t lines;       /* in code: the table of lines */
    uint16_t line;        /* in code: its first line */
};
static const struct outside outsides[] = { /* by the bytes of an address: 8, and 4 */
    [9] = {32, 8, 120, 40},
    [10] = {32, 8, 120, 40},
    [11] = {40, 16, 136, 72},
    [12] = {40, 72, 136, 68},
};
#if defined(__arm__) || defined(__aarch64__) /* a number of 64 bits lies at a multiple of 8 */
static const struct outside outsides_4[] = {[11] = {28, 16, 92, 48}};
#else
static const struct outside outsides_4[] = {[11] = {28, 12, 92, 48}};
#endif

/* In the published table: numbers of 64-bit words; the table of lines is so far behind the code's name. */
enum { WORD_INTERPRETER = 5, WORD_STATE = 9, LINES_AFTER_NAME = 2 };

/* In an object: numbers of words, each as long as an address. */
enum { STATE_NEXT = 1, OBJECT_TYPE = 1, TYPE_NAME = 3, BYTES_LENGTH = 2, BYTES_DATA = 4 };

enum { DEEPEST = 64 };

struct interpreter {
    long pid;
    unsigned address; /* how many bytes one has */
    uint64_t runtime;
    unsigned minor;
    struct fsafe_python_layout layout;
    struct outside outside;
};

struct function {
    char name[64], file[256];
    int line;
};

static uint64_t word(const struct interpreter *of, uint64_t at)
{
    uint64_t value;
    uint32_t half;
    if (of->address == sizeof half)
        return at != 0 && fsafe_process_peek(of->pid, at, &half, sizeof half) ? half : 0;
    return at != 0 && fsafe_process_peek(of->pid, at, &value, sizeof value) ? value : 0;
}

static uint64_t member(const struct interpreter *of, uint64_t object, unsigned index)
{
    return word(of, object + index * of->address);
}

static const struct outside *find_outside(const struct interpreter *of)
{
    const struct outside *rows = of->address == 8 ? outsides : outsides_4;
    unsigned count = of->address == 8 ? sizeof outsides / sizeof *outsides : sizeof outsides_4 / sizeof *outsides_4;
    return of->minor < count && rows[of->minor].interpreter != 0 ? &rows[of->minor] : NULL;
}

static bool open_interpreter(struct interpreter *of, const struct fsafe_stack *stack, long pid)
{
    const char *path, *number;
    of->pid = pid;
    of->address = fsafe_process_address_bytes(pid);
    of->runtime = fsafe_stack_find_symbol(stack, "python", "_PyRuntime", &path);
    if (of->runtime == 0)
        return false;
    number = strstr(path, "python3.");
    of->minor = number == NULL ? 0 : (unsigned)strtoul(number + 8, NULL, 10);
    if (!fsafe_python_publishes(of->minor)) {
        const struct fsafe_python_layout *layout = fsafe_python_row(of->minor, of->address);
        const struct outside *outside = find_outside(of);
        if (layout == NULL || outside == NULL)
            return false;
        of->layout = *layout;
        of->outside = *outside;
        return true;
    }
    uint64_t table[FSAFE_PYTHON_PUBLISHED_WORDS];
    if (!fsafe_process_peek(pid, of->runtime, table, sizeof table) || memcmp(table, "xdebugpy", 8) != 0)
        return false;
    unsigned lines = fsafe_python_published[of->minor].code_name + LINES_AFTER_NAME;
    of->layout = fsafe_python_read_published(table, of->minor);
    of->outside = (struct outside){(uint16_t)table[WORD_INTERPRETER], (uint16_t)table[WORD_STATE],
                                   (uint16_t)table[lines], (uint16_t)table[lines + 1]};
    return true;
}

/* --- Which state is whose ------------------------------------------------------------------------------- */

/* Where libc notes a thread's id, from pthread_self() on: seen in our own. */
static size_t find_id_offset(const struct interpreter *of)
{
    enum { MOST = 2048, OF_4_BYTES = 104 };
    if (of->address != sizeof(void *))
        return OF_4_BYTES;
    int32_t own = (int32_t)gettid();
    for (size_t at = 0; at < MOST; at += sizeof own)
        if (memcmp((const char *)pthread_self() + at, &own, sizeof own) == 0)
            return at;
    return 0;
}

static long id_of(const struct interpreter *of, uint64_t thread)
{
    int32_t id = 0;
    size_t offset = find_id_offset(of);
    return offset != 0 && thread != 0 && fsafe_process_peek(of->pid, thread + offset, &id, sizeof id) ? id : 0;
}

static uint64_t find_state(const struct interpreter *of, long tid)
{
    uint64_t state = word(of, word(of, of->runtime + of->outside.interpreter) + of->outside.state);
    long own = fsafe_process_own_id(of->pid, tid);
    for (unsigned i = 0; state != 0 && i < 100000; i++, state = member(of, state, STATE_NEXT))
        if (id_of(of, word(of, state + of->layout.state_thread)) == own)
            return state;
    return 0;
}

static uint64_t first_frame(const struct interpreter *of, uint64_t state)
{
    uint64_t frame = word(of, state + of->layout.state_frame);
    return frame == 0 || of->layout.indirect < 0 ? frame : word(of, frame + (uint64_t)of->layout.indirect);
}

static bool has_type(const struct interpreter *of, uint64_t object, const char *wanted)
{
    char name[32] = "";
    uint64_t at = member(of, member(of, object, OBJECT_TYPE), TYPE_NAME);
    return at != 0 && fsafe_process_peek(of->pid, at, name, sizeof name - 1) && strcmp(name, wanted) == 0;
}

static uint64_t code_of(const struct interpreter *of, uint64_t frame)
{
    uint64_t code = word(of, frame + of->layout.frame_code) & ~(uint64_t)3;
    return code != 0 && has_type(of, code, "code") ? code : 0;
}

/* --- Lines ---------------------------------------------------------------------------------------------- */

static int take_number(const unsigned char *table, size_t bytes, size_t *at)
{
    unsigned value = 0, shift = 0, byte = 0x40;
    while ((byte & 0x40) != 0 && *at < bytes && shift < 30) {
        byte = table[(*at)++];
        value |= (byte & 0x3f) << shift;
        shift += 6;
    }
    return (int)value;
}

static int take_signed(const unsigned char *table, size_t bytes, size_t *at)
{
    int value = take_number(table, bytes, at);
    return (value & 1) != 0 ? -(value >> 1) : value >> 1;
}

/* From 3.11 on: entries of a kind, a length in code units, and what the kind says. */
static int find_line(const unsigned char *table, size_t bytes, int line, uint64_t offset)
{
    enum { SHORT_MOST = 9, ONE_LINE = 10, ONE_LINE_MOST = 12, NO_COLUMNS = 13, LONG = 14, UNIT = 2 };
    uint64_t end = 0;
    for (size_t at = 0; at < bytes;) {
        unsigned first = table[at++], kind = first >> 3 & 15;
        end += ((first & 7) + 1) * UNIT;
        if (kind <= SHORT_MOST) {
            at++;
        } else if (kind <= ONE_LINE_MOST) {
            line += (int)kind - ONE_LINE;
            at += 2;
        } else if (kind == NO_COLUMNS || kind == LONG) {
            line += take_signed(table, bytes, &at);
            for (int i = 0; kind == LONG && i < 3; i++)
                take_number(table, bytes, &at);
        }
        if (offset < end)
            return kind > LONG ? 0 : line;
    }
    return 0;
}

/* Before: pairs of a step in the code and one in the lines. 3.10 gives the line of what lies before the step's end. */
static int find_old_line(const unsigned char *table, size_t bytes, int line, uint64_t offset, bool ends)
{
    uint64_t address = 0;
    for (size_t at = 0; at + 1 < bytes; at += 2) {
        int step = (signed char)table[at + 1];
        address += table[at];
        if (ends && step != -128)
            line += step;
        if (offset < address)
            break;
        if (!ends)
            line += step;
    }
    return line;
}

static int line_of(const struct interpreter *of, uint64_t code, uint64_t frame)
{
    const struct fsafe_python_layout *layout = &of->layout;
    unsigned char table[16384];
    int32_t first = 0, index = 0;
    uint64_t object = word(of, code + of->outside.lines), bytes = member(of, object, BYTES_LENGTH);
    if (bytes > sizeof table)
        bytes = sizeof table;
    if (!fsafe_process_peek(of->pid, code + of->outside.line, &first, sizeof first) ||
        !fsafe_process_peek(of->pid, object + BYTES_DATA * of->address, table, bytes))
        return 0;
    if (layout->instruction_unit == 0)
        return find_line(table, bytes, first, word(of, frame + layout->frame_instruction) - code - layout->code_first);
    fsafe_process_peek(of->pid, frame + layout->frame_instruction, &index, sizeof index);
    uint64_t offset = index < 0 ? 0 : (uint64_t)index * layout->instruction_unit;
    return find_old_line(table, bytes, first, offset, layout->instruction_unit == 2);
}

/* --- Functions ------------------------------------------------------------------------------------------ */

/* A str of ASCII; other bytes become question marks. */
static void read_string(const struct interpreter *of, uint64_t string, char *text, size_t bytes)
{
    uint64_t length = member(of, string, BYTES_LENGTH), data = string + (of->minor < 12 ? 6 : 5) * of->address;
    uint64_t skipped = length >= bytes ? length - (bytes - 1) : 0; /* the end says more */
    memset(text, 0, bytes);
    if (!fsafe_process_peek(of->pid, data + skipped, text, length - skipped))
        strcpy(text, "?");
    for (char *at = text; *at != '\0'; at++)
        if (*at < ' ' || *at == 127)
            *at = '?';
}

static bool read_function(const struct interpreter *of, uint64_t frame, struct function *function)
{
    uint64_t code = code_of(of, frame);
    if (code == 0)
        return false;
    read_string(of, word(of, code + of->layout.code_file), function->file, sizeof function->file);
    read_string(of, word(of, code + of->layout.code_name), function->name, sizeof function->name);
    function->line = line_of(of, code, frame);
    return true;
}

unsigned fsafe_python_print(const struct fsafe_stack *stack, long pid, long tid, const char *indent)
{
    struct interpreter of = {0};
    unsigned count = 0;
    if (!open_interpreter(&of, stack, pid))
        return 0;
    uint64_t state = find_state(&of, tid), frame = state != 0 ? first_frame(&of, state) : 0;
    for (unsigned i = 0; frame != 0 && i < DEEPEST; i++, frame = word(&of, frame + of.layout.frame_back)) {
        struct function function;
        if (!read_function(&of, frame, &function))
            continue;
        printf("%s%s() at %s:%d\n", indent, function.name, function.file, function.line);
        count++;
    }
    return count;
}

/* --- Locks ---------------------------------------------------------------------------------------------- */

enum { FRAME_WORDS = 96, LOCKS = 8 };

/* As above, in a method that is bound, and in a lock. */
enum { METHOD_SELF = 3, LOCK_ITSELF = 2, RLOCK_OWNER = 3 };

/* The object itself, or the one that a method is bound to, if it is a lock. */
static uint64_t find_lock(const struct interpreter *of, uint64_t object, const char **kind)
{
    const uint64_t candidates[] = {object, member(of, object, METHOD_SELF)};
    for (unsigned i = 0; i < 2; i++) {
        *kind = has_type(of, candidates[i], "_thread.lock")    ? "Lock"
                : has_type(of, candidates[i], "_thread.RLock") ? "RLock"
                                                               : NULL;
        if (*kind != NULL)
            return candidates[i];
    }
    return 0;
}

/* The locks that a frame's variables and values are, or are bound to. */
static unsigned find_locks(const struct interpreter *of, uint64_t frame, uint64_t *locks, const char **kinds)
{
    union {
        uint64_t words[FRAME_WORDS];
        uint32_t halves[FRAME_WORDS];
    } values;
    unsigned count = 0;
    size_t many = FRAME_WORDS;
    while (many > 8 && !fsafe_process_peek(of->pid, frame, &values, many * of->address))
        many /= 2;
    for (size_t i = 0; i < many && count < LOCKS; i++) {
        uint64_t value = of->address == 4 ? values.halves[i] : values.words[i];
        uint64_t object = of->minor >= 14 ? value & ~(uint64_t)3 : value;
        const char *kind;
        uint64_t lock = object % of->address == 0 && object > 65536 ? find_lock(of, object, &kind) : 0;
        if (lock == 0)
            continue;
        locks[count] = lock;
        kinds[count++] = kind;
    }
    return count;
}

struct search {
    const struct interpreter *of;
    uint64_t lock;
    long besides, found;
    unsigned frames;
};

static bool see_thread(long tid, void *context)
{
    struct search *search = context;
    const struct interpreter *of = search->of;
    uint64_t state = tid == search->besides ? 0 : find_state(of, tid), frame = state != 0 ? first_frame(of, state) : 0;
    for (unsigned i = 0; frame != 0 && i < search->frames; i++, frame = word(of, frame + of->layout.frame_back)) {
        uint64_t locks[LOCKS];
        const char *kinds[LOCKS];
        for (unsigned count = find_locks(of, frame, locks, kinds); count-- > 0;)
            if (locks[count] == search->lock)
                search->found = tid;
    }
    return search->found == 0;
}

/*
 * Whether a thread may sleep for it at `futex`: that is its semaphore. Later it has a byte that is odd then: a Lock
 * from 3.13 on, an RLock from 3.14 on.
 */
static bool is_waited_for(const struct interpreter *of, uint64_t lock, const char *kind, uint64_t futex)
{
    uint64_t value = member(of, lock, LOCK_ITSELF);
    unsigned byte_since = strcmp(kind, "RLock") == 0 ? 14 : 13;
    return of->minor < byte_since ? value == futex : (value & 1) != 0;
}

/* Whether this is Condition.wait, whose thread takes a Lock of its own twice and sleeps until another releases it. */
static bool is_condition(const struct interpreter *of, uint64_t frame)
{
    static const char file[] = "/threading.py";
    struct function function;
    if (frame == 0 || !read_function(of, frame, &function) || strcmp(function.name, "wait") != 0)
        return false;
    size_t length = strlen(function.file);
    return length >= sizeof file - 1 && strcmp(function.file + length - (sizeof file - 1), file) == 0;
}

long fsafe_python_owner(const struct fsafe_stack *stack, long pid, long tid, long parent, uint64_t futex,
                        const char **kind)
{
    struct interpreter of = {0}, there;
    uint64_t locks[LOCKS];
    const char *kinds[LOCKS];
    *kind = NULL;
    if (!open_interpreter(&of, stack, pid))
        return 0;
    there = of; /* a fork: the same place */
    there.pid = parent;
    uint64_t state = find_state(&of, tid), frame = state != 0 ? first_frame(&of, state) : 0, innermost = frame;
    for (unsigned up = 0; frame != 0 && up < 3; up++, frame = word(&of, frame + of.layout.frame_back)) {
        unsigned count = find_locks(&of, frame, locks, kinds);
        for (unsigned i = 0; i < count; i++) {
            if (!is_waited_for(&of, locks[i], kinds[i], futex))
                continue;
            *kind = kinds[i];
            uint64_t owner = strcmp(kinds[i], "RLock") == 0 ? member(&of, locks[i], RLOCK_OWNER) : 0;
            long id = owner != 0 ? id_of(&there, owner) : 0;
            if (id != 0)
                return id;
            struct search search = {.of = &there, .lock = locks[i], .besides = pid, .frames = DEEPEST};
            fsafe_process_each_thread(parent, see_thread, &search);
            if (search.found != 0)
                return fsafe_process_own_id(parent, search.found);
        }
    }
    if (is_condition(&of, innermost))
        *kind = FSAFE_PYTHON_CONDITION;
    return 0;
}
