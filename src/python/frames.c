#include "config.h"

#include "base/sys.h"
#include "base/text.h"
#include "python/frames.h"
#include "python/layout.h"
#include "python/objects.h"

#include <pthread.h>
#include <string.h>

static struct fsafe_python_layout layout;
static _Atomic bool works;
_Atomic uint32_t fsafe_python_frames_offsets;

static uintptr_t word_at(uintptr_t object, size_t offset)
{
    return *(const uintptr_t *)(object + offset);
}

static bool is_a(uintptr_t object, const void *type)
{
    return object != 0 && word_at(object, sizeof(uintptr_t)) == (uintptr_t)type;
}

/* --- Where the members lie ---------------------------------------------------------------------------------- */

static bool read_published(unsigned minor)
{
    const uint64_t *table = fsafe_python._PyRuntime;
    if (table == NULL || memcmp(table, "xdebugpy", 8) != 0 || table[2] != 0)
        return false;
    layout = fsafe_python_read_published(table, minor);
    return true;
}

static bool find_layout(void)
{
    unsigned minor = fsafe_python_version() & 0xff;
    if (fsafe_python_publishes(minor))
        return read_published(minor);
    const struct fsafe_python_layout *row = fsafe_python_row(minor, sizeof(uintptr_t));
    if (row == NULL)
        return false;
    layout = *row;
    return true;
}

/* --- Reading ------------------------------------------------------------------------------------------------ */

static FSAFE_AT_FORK uintptr_t first_frame(uintptr_t state)
{
    uintptr_t frame = word_at(state, layout.state_frame);
    return frame == 0 || layout.indirect < 0 ? frame : word_at(frame, (size_t)layout.indirect);
}

/* The frame's code; 0 where the frame is only the interpreter's own. From 3.14 on the low bits are marks. */
static FSAFE_AT_FORK uintptr_t code_of(uintptr_t frame)
{
    uintptr_t code = word_at(frame, layout.frame_code) & ~(uintptr_t)3;
    bool runs = layout.frame_owner == 0 || *(const char *)(frame + layout.frame_owner) != 3;
    return runs && is_a(code, fsafe_python.PyCode_Type) ? code : 0;
}

/* Where the code's instructions are. */
static FSAFE_AT_FORK uintptr_t first_instruction(uintptr_t code)
{
    /* The bytes of an object of bytes begin behind its type, length and hash. */
    return layout.instruction_unit == 0 ? code + layout.code_first
                                        : word_at(code, layout.code_first) + 4 * sizeof(uintptr_t);
}

/* How many bytes they are. */
static size_t instructions_size(uintptr_t code)
{
    enum { LENGTH = 2 * sizeof(uintptr_t), UNIT = 2 };
    return layout.instruction_unit == 0 ? (size_t)word_at(code, LENGTH) * UNIT
                                        : (size_t)word_at(word_at(code, layout.code_first), LENGTH);
}

static FSAFE_AT_FORK uintptr_t instruction_of(uintptr_t frame, uintptr_t code)
{
    if (layout.instruction_unit == 0)
        return word_at(frame, layout.frame_instruction);
    int index = *(const int *)(frame + layout.frame_instruction);
    return first_instruction(code) + (index < 0 ? 0 : (uintptr_t)index * layout.instruction_unit);
}

static int line_of(uintptr_t code, uintptr_t instruction)
{
    return fsafe_python.PyCode_Addr2Line((void *)code, (int)(instruction - first_instruction(code)));
}

static void put_utf8(struct fsafe_text *text, uint32_t c)
{
    if (c < 0x80) {
        fsafe_text_char(text, (char)c);
        return;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    if (text->length + more >= text->capacity)
        return;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    fsafe_text_char(text, (char)(lead[more] | c >> (6 * more)));
    while (more-- > 0)
        fsafe_text_char(text, (char)(0x80 | (c >> (6 * more) & 0x3f)));
}

void fsafe_python_frames_string(const void *string, char *text, size_t bytes)
{
    struct fsafe_text line;
    fsafe_text_begin(&line, text, bytes - 1);
    if (is_a((uintptr_t)string, fsafe_python.PyUnicode_Type)) {
        intptr_t length = fsafe_python.PyUnicode_GetLength((void *)string);
        intptr_t most = (intptr_t)bytes - 1;
        for (intptr_t i = length > most ? length - most : 0; i < length; i++)
            put_utf8(&line, fsafe_python.PyUnicode_ReadChar((void *)string, i));
    }
    text[line.length] = '\0';
}

/* Whether the file is one of the interpreter's own, in which no user looks for a place: its caller is meant. */
static bool is_left_out(const char *file)
{
    static const char frozen[] = "<frozen importlib", lib[] = "/python3.";
    static const char *const modules[] = {
        "threading.py", "queue.py", "logging/", "importlib/",
        "multiprocessing/popen_", "multiprocessing/process.py", "multiprocessing/context.py",
    };
    if (strncmp(file, frozen, sizeof frozen - 1) == 0)
        return true;
    for (const char *at = strstr(file, lib); at != NULL; at = strstr(at + 1, lib)) {
        const char *rest = at + sizeof lib - 1;
        while (*rest >= '0' && *rest <= '9')
            rest++;
        for (size_t i = 0; *rest == '/' && i < sizeof modules / sizeof *modules; i++)
            if (strncmp(rest + 1, modules[i], strlen(modules[i])) == 0)
                return true;
    }
    return false;
}

/* What is chosen so far of functions that come one by one, the innermost first. */
struct choice {
    struct fsafe_python_function *functions;
    unsigned count, most;
    bool first_left_out; /* it gives way to whoever called it */
};

/* Returns whether another one would be of use. */
static bool choose(struct choice *choice, struct fsafe_python_function function)
{
    char file[sizeof ((struct fsafe_source *)NULL)->file];
    fsafe_python_frames_string((void *)word_at(function.code, layout.code_file), file, sizeof file);
    bool left_out = is_left_out(file);
    if (!left_out || choice->count == 0) {
        if (choice->first_left_out)
            choice->count = 0;
        choice->first_left_out = left_out;
        choice->functions[choice->count++] = function;
    }
    return choice->count < choice->most || choice->first_left_out;
}

/* Each function that the thread runs, until one is of no use. */
static void each_function(const void *state, bool (*see)(struct choice *, struct fsafe_python_function),
                          struct choice *choice)
{
    for (struct fsafe_python_frame at = {0}; fsafe_python_frames_next(state, &at);)
        if (!see(choice, (struct fsafe_python_function){(uintptr_t)at.code, at.now}))
            break;
}

unsigned fsafe_python_frames_read(const void *state, struct fsafe_python_function *functions, unsigned most)
{
    struct choice choice = {.functions = functions, .most = most};
    each_function(state, choose, &choice);
    return choice.count;
}

unsigned fsafe_python_frames_choose(const struct fsafe_python_function *from, unsigned count,
                                    struct fsafe_python_function *functions, unsigned most)
{
    struct choice choice = {.functions = functions, .most = most};
    while (count-- > 0 && choose(&choice, *from++))
        ;
    return choice.count;
}

static bool take(struct choice *choice, struct fsafe_python_function function)
{
    choice->functions[choice->count++] = function;
    return true;
}

unsigned fsafe_python_frames_copy(const void *state, struct fsafe_python_function functions[FSAFE_PYTHON_DEEPEST])
{
    struct choice choice = {.functions = functions};
    each_function(state, take, &choice);
    return choice.count;
}

uintptr_t fsafe_python_frames_mark(const struct fsafe_python_function *function, bool runs)
{
    enum { WORDS = 24 }; /* what every version's code has at least */
    uintptr_t copy[WORDS];
    const uintptr_t *words = (const uintptr_t *)function->code;
    if (!runs)
        words = fsafe_sys_peek(function->code, copy, sizeof copy) ? copy : NULL;
    return words != NULL && words[1] == (uintptr_t)fsafe_python.PyCode_Type
               ? words[layout.code_file / sizeof *words] << 8 ^ words[layout.code_name / sizeof *words]
               : 0;
}

bool fsafe_python_frames_has(const struct fsafe_python_function *function, uintptr_t instruction)
{
    return instruction - first_instruction(function->code) < instructions_size(function->code);
}

void fsafe_python_frames_place(const struct fsafe_python_function *function, struct fsafe_source *place)
{
    int line = line_of(function->code, function->now);
    place->line = line > 0 ? (unsigned)line : 0;
    fsafe_python_frames_string((void *)word_at(function->code, layout.code_file), place->file, sizeof place->file);
    fsafe_python_frames_string((void *)word_at(function->code, layout.code_name), place->function,
                               sizeof place->function);
}

uintptr_t fsafe_python_frames_instruction(const void *state)
{
    if (!atomic_load_explicit(&works, memory_order_relaxed))
        return 0;
    uintptr_t frame = first_frame((uintptr_t)state);
    uintptr_t code = frame != 0 ? code_of(frame) : 0;
    return code != 0 ? instruction_of(frame, code) : 0;
}

bool fsafe_python_frames_next(const void *state, struct fsafe_python_frame *at)
{
    if (!atomic_load_explicit(&works, memory_order_acquire))
        return false;
    uintptr_t code = 0;
    do
        at->frame = at->depth == 0 ? first_frame((uintptr_t)state) : word_at(at->frame, layout.frame_back);
    while (at->depth++ < FSAFE_PYTHON_DEEPEST && at->frame != 0 && (code = code_of(at->frame)) == 0);
    if (code == 0)
        return false;
    at->code = (struct fsafe_object *)code;
    at->first = first_instruction(code);
    at->now = instruction_of(at->frame, code);
    return true;
}

#define MARKS (sizeof(uintptr_t) - 1) /* the low bits, from 3.14 on */

static uintptr_t value_at(uintptr_t from, unsigned index)
{
    uintptr_t value;
    return fsafe_sys_peek(from + index * sizeof value, &value, sizeof value) ? value & ~MARKS : 0;
}

struct fsafe_object *fsafe_python_frames_variable(const struct fsafe_python_frame *at, unsigned index)
{
    const uintptr_t *locals = (const uintptr_t *)(at->frame + layout.frame_locals);
    return (struct fsafe_object *)(locals[index] & ~MARKS);
}

uintptr_t fsafe_python_frames_value(const struct fsafe_python_frame *at, unsigned locals, unsigned index)
{
    return layout.frame_stack != 0 ? value_at(word_at(at->frame, layout.frame_stack), index)
                                   : value_at(at->frame + layout.frame_locals, locals + index);
}

int fsafe_python_frames_block(const struct fsafe_python_frame *at, unsigned index)
{
    struct {
        int kind, handler, level;
    } block;
    if (layout.frame_blocks == 0 || (int)index >= *(const int *)(at->frame + layout.frame_block_count) ||
        !fsafe_sys_peek(at->frame + layout.frame_blocks + index * sizeof block, &block, sizeof block))
        return -1;
    return block.level;
}

uintptr_t fsafe_python_frames_thread(const void *state)
{
    return atomic_load_explicit(&works, memory_order_acquire) ? word_at((uintptr_t)state, layout.state_thread) : 0;
}

/* --- The test ----------------------------------------------------------------------------------------------- */

/* Whether ours is the frame that the interpreter gave, in the same line. */
static bool agrees(uintptr_t frame, struct fsafe_object *theirs)
{
    struct fsafe_object *code = fsafe_python.PyFrame_GetCode(theirs);
    bool same = code != NULL && code_of(frame) == (uintptr_t)code &&
                line_of((uintptr_t)code, instruction_of(frame, (uintptr_t)code)) ==
                    fsafe_python.PyFrame_GetLineNumber(theirs) &&
                is_a(word_at((uintptr_t)code, layout.code_file), fsafe_python.PyUnicode_Type) &&
                is_a(word_at((uintptr_t)code, layout.code_name), fsafe_python.PyUnicode_Type);
    fsafe_python_drop(code);
    return same;
}

void fsafe_python_frames_start(void)
{
    void *state = fsafe_python.PyGILState_GetThisThreadState();
    struct fsafe_object *theirs = fsafe_python.PyThreadState_GetFrame(state);
    if (theirs == NULL)
        return; /* no Python code is running that could be compared */
    bool same = find_layout() && word_at((uintptr_t)state, layout.state_thread) == (uintptr_t)pthread_self();
    uintptr_t frame = same ? first_frame((uintptr_t)state) : 0;
    for (unsigned i = 0; theirs != NULL && i < FSAFE_PYTHON_DEEPEST; i++) {
        while (same && frame != 0 && code_of(frame) == 0)
            frame = word_at(frame, layout.frame_back);
        same = same && frame != 0 && agrees(frame, theirs);
        struct fsafe_object *back = fsafe_python.PyFrame_GetBack(theirs);
        fsafe_python.Py_DecRef(theirs);
        theirs = back;
        if (same)
            frame = word_at(frame, layout.frame_back);
    }
    fsafe_python_drop(theirs);
    atomic_store_explicit(&works, same, memory_order_release);
    if (same && fsafe_python.PyThreadState_GetUnchecked != NULL && fsafe_python_version() >= 0x030d)
        fsafe_python_frames_offsets = layout.state_frame | (uint32_t)layout.frame_instruction << 16;
}
