#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "python/frames.h"
#include "python/objects.h"
#include "python/places.h"
#include "python/tokens.h"
#include "report/report.h"
#include "track/lineage.h"

typedef struct fsafe_object object;

/* Semaphore.__exit__, which BoundedSemaphore inherits; NULL: threading is not loaded, or is not what we know. */
static object *leave;
static object *acquire_code, *leave_code, *release_code, *bounded_release_code;
static int got_index; /* which variable of acquire says that it has the token */
static object *semaphore_type, *bounded_type, *value_attribute;

/* What a class of the program's that is made from them has to inherit. */
static const char *const inherited_names[] = {"__enter__", "__exit__", "release"};
enum { INHERITED = sizeof inherited_names / sizeof *inherited_names };
static object *inherited[INHERITED];

/* A method that is bound to its object; the C API makes it public, as the head of any object. */
struct method {
    uintptr_t count;
    void *type;
    object *function, *self;
};

static bool make_inherited(void)
{
    unsigned made = 0;
    while (made < INHERITED && (inherited[made] = fsafe_python.PyUnicode_FromString(inherited_names[made])) != NULL)
        made++;
    return made == INHERITED;
}

void fsafe_python_tokens_find(void)
{
    object *type = leave != NULL ? NULL : fsafe_python_borrow("threading", "Semaphore");
    if (type == NULL || type == semaphore_type) /* or it has been looked at, and is not what we know */
        return;
    semaphore_type = type;
    object *method = NULL;
    const struct fsafe_python_error error = fsafe_python_keep_error();
    bounded_type = fsafe_python_borrow("threading", "BoundedSemaphore");
    value_attribute = fsafe_python.PyUnicode_FromString("_value");
    acquire_code = fsafe_python_code_of(semaphore_type, "acquire");
    leave_code = fsafe_python_code_of(semaphore_type, "__exit__");
    release_code = fsafe_python_code_of(semaphore_type, "release");
    bounded_release_code = fsafe_python_code_of(bounded_type, "release");
    got_index = fsafe_python_variable_of(acquire_code, "rc");
    if (got_index >= 0 && leave_code != NULL && release_code != NULL && bounded_release_code != NULL &&
        value_attribute != NULL && make_inherited())
        method = fsafe_python.PyObject_GetAttrString(semaphore_type, "__exit__");
    fsafe_python_restore_error(&error);
    leave = method;
}

void fsafe_python_tokens_start(void)
{
    leave = semaphore_type = NULL;
    fsafe_python_tokens_find();
}

/* Two references are the type's and ours. Each `with` that is under way has one more. */
bool fsafe_python_tokens_are_out(void)
{
    return leave != NULL && *(const uint32_t *)(const void *)leave > 2;
}

/* --- Where a with statement keeps the method ------------------------------------------------------------------ */

static unsigned length_of(object *code, const char *attribute)
{
    object *all = fsafe_python.PyObject_GetAttrString(code, attribute);
    object *length = all == NULL ? NULL : fsafe_python.PyObject_CallMethod(all, "__len__", NULL);
    long count = length == NULL ? 0 : fsafe_python.PyLong_AsLong(length);
    fsafe_python_drop(all), fsafe_python_drop(length);
    return count > 0 ? (unsigned)count : 0;
}

/* Locals, cells and free variables; a cell that is a parameter, too, is one of them once. */
static unsigned locals_of(object *code)
{
    unsigned count = length_of(code, "co_varnames") + length_of(code, "co_cellvars") + length_of(code, "co_freevars");
    object *names = fsafe_python.PyObject_GetAttrString(code, "co_varnames");
    object *cells = fsafe_python.PyObject_GetAttrString(code, "co_cellvars");
    for (intptr_t i = 0; names != NULL && cells != NULL; i++) {
        object *cell = fsafe_python.PyTuple_GetItem(cells, i);
        if (cell == NULL)
            break;
        object *found = fsafe_python.PyObject_CallMethod(names, "count", "O", cell);
        count -= found != NULL && fsafe_python.PyObject_IsTrue(found) == 1;
        fsafe_python_drop(found);
    }
    fsafe_python.PyErr_Clear();
    fsafe_python_drop(names), fsafe_python_drop(cells);
    return count;
}

/* Whether the class takes and gives its tokens as a plain semaphore does. None of the program's code is run for it. */
static bool is_plain(object *type)
{
    if (type == semaphore_type || type == bounded_type)
        return true;
    object *(*find)(object *, object *) = fsafe_python._PyType_Lookup;
    bool same = fsafe_python.PyType_IsSubtype(type, semaphore_type) && find(type, value_attribute) == NULL;
    for (unsigned i = 0; same && i < INHERITED; i++) {
        const object *method = find(type, inherited[i]);
        same = method == find(semaphore_type, inherited[i]) || method == find(bounded_type, inherited[i]);
    }
    return same;
}

static bool is_semaphore(const object *one)
{
    object *type = fsafe_python_type_of(one);
    return type != NULL && is_plain(type);
}

/* The semaphore whose method is value `index` of the stack; NULL: it is something else. */
static object *semaphore_at(const struct fsafe_python_frame *frame, unsigned locals, unsigned index)
{
    object *self = NULL;
    struct method method;
    uintptr_t value = fsafe_python_frames_value(frame, locals, index);
    if (fsafe_python_version() >= 0x030e && value == (uintptr_t)leave)
        self = (object *)fsafe_python_frames_value(frame, locals, index + 1); /* there they are two values */
    else if (value != 0 && fsafe_sys_peek(value, &method, sizeof method) && method.type == fsafe_python.PyMethod_Type &&
             method.function == leave)
        self = method.self;
    return is_semaphore(self) ? self : NULL;
}

/* A number of the table, six bits a byte. */
static unsigned read_number(const unsigned char **at, const unsigned char *end)
{
    unsigned number = 0;
    while (*at < end) {
        unsigned char byte = *(*at)++;
        number = number << 6 | (byte & 0x3f);
        if ((byte & 0x40) == 0)
            break;
    }
    return number;
}

struct with {
    object *semaphore;
    uintptr_t since; /* the instruction after the token was had; 0 unknown */
};

/* From 3.11 on the code's table says which instructions leave what depth of the stack when they fail, in order. */
struct rows {
    object *table;
    const unsigned char *at, *end;
    uintptr_t from, bytes; /* of the code */
    unsigned depth;
};

static struct rows begin_rows(object *code)
{
    struct rows rows = {.table = fsafe_python.PyObject_GetAttrString(code, "co_exceptiontable")};
    char *bytes;
    intptr_t length;
    if (rows.table == NULL || fsafe_python.PyBytes_AsStringAndSize(rows.table, &bytes, &length) != 0)
        return rows;
    rows.at = (const unsigned char *)bytes;
    rows.end = rows.at + length;
    return rows;
}

static bool next_row(struct rows *rows)
{
    enum { UNIT = 2 };
    if (rows->at == rows->end)
        return false;
    rows->from = (uintptr_t)read_number(&rows->at, rows->end) * UNIT;
    rows->bytes = (uintptr_t)read_number(&rows->at, rows->end) * UNIT;
    read_number(&rows->at, rows->end); /* the handler */
    rows->depth = read_number(&rows->at, rows->end) >> 1;
    return true;
}

/* What lies below that depth is on the stack now: also the methods of the with statements around that one. */
static unsigned find_by_table(const struct fsafe_python_frame *frame, struct with *found, unsigned most)
{
    unsigned count = 0, locals = locals_of(frame->code);
    struct rows rows = begin_rows(frame->code);
    bool covered = false;
    while (!covered && next_row(&rows))
        covered = frame->now - frame->first - rows.from < rows.bytes;
    for (unsigned i = covered ? rows.depth : 0; i-- > 0 && count < most;) {
        object *semaphore = semaphore_at(frame, locals, i);
        uintptr_t since = count == 0 ? frame->first + rows.from : 0;
        if (semaphore != NULL)
            found[count++] = (struct with){semaphore, since};
    }
    fsafe_python_drop(rows.table);
    return count;
}

static unsigned find_by_blocks(const struct fsafe_python_frame *frame, struct with *found, unsigned most)
{
    unsigned count = 0;
    int level;
    for (unsigned i = 0; count < most && (level = fsafe_python_frames_block(frame, i)) >= 0; i++) {
        object *semaphore = level == 0 ? NULL : semaphore_at(frame, 0, (unsigned)level - 1);
        if (semaphore != NULL)
            found[count++] = (struct with){.semaphore = semaphore};
    }
    return count;
}

/* --- Giving back -------------------------------------------------------------------------------------------- */

/* How many tokens the semaphore has left; -1: not known. */
static long left_in(object *semaphore)
{
    object *value = fsafe_python.PyObject_GenericGetAttr(semaphore, value_attribute);
    long left = value == NULL ? -1 : fsafe_python.PyLong_AsLong(value);
    fsafe_python_drop(value);
    fsafe_python.PyErr_Clear();
    return left;
}

static bool leave_in(object *semaphore, long tokens)
{
    object *value = fsafe_python.PyLong_FromLong(tokens);
    bool done = value != NULL && fsafe_python.PyObject_GenericSetAttr(semaphore, value_attribute, value) == 0;
    fsafe_python_drop(value);
    fsafe_python.PyErr_Clear();
    return done;
}

static void give_back(const struct with *with, uintptr_t thread)
{
    bool repairs = fsafe_options.mode == FSAFE_MODE_REPAIR;
    long left = left_in(with->semaphore);
    if (left < 0 || (repairs && !leave_in(with->semaphore, left + 1)))
        return;
    /* A child that finds another token would have needed no help. */
    if (left > 0 && !fsafe_options.verbose)
        return;
    struct fsafe_event event = {
        .deed = repairs ? FSAFE_TOOK_OVER : FSAFE_MAY_HANG,
        .worth_a_line = true,
        .lock = "Python semaphore",
        .kind = "held by a with statement",
        .address = (uintptr_t)with->semaphore,
        .fork = fsafe_lineage_latest_fork(),
        .holder.since = with->since,
    };
    event.wanted_at = fsafe_python_places_instruction(event.fork.at);
    fsafe_python_places_holder(thread, &event.holder);
    fsafe_report_event(&event);
}

/* Where the function's first with statement begins, in bytes of its code. */
static uintptr_t first_with(const struct fsafe_python_frame *frame)
{
    enum { SETUP_WITH = 143, UNIT = 2, LONGEST = 256 }; /* the first to 3.10, where no table says it */
    if (fsafe_python_version() >= 0x030b) {
        struct rows rows = begin_rows(frame->code);
        next_row(&rows);
        fsafe_python_drop(rows.table);
        return rows.from;
    }
    uintptr_t at = 0;
    while (at < LONGEST && *(const unsigned char *)(frame->first + at) != SETUP_WITH)
        at += UNIT;
    return at;
}

/*
 * Whether the thread has a token outside of the body: acquire has got the token, or __exit__ has not come to the lock
 * under which it gives the token back. The drain waits for a thread that has that lock.
 */
static bool has_on_the_way(const struct fsafe_python_frame *frame, const struct fsafe_python_frame *callee)
{
    if (frame->code == acquire_code)
        return fsafe_python_frames_variable(frame, (unsigned)got_index) == fsafe_python._Py_TrueStruct;
    if (frame->code != leave_code)
        return false;
    if (callee->code == NULL)
        return fsafe_python_version() >= 0x030b || frame->now == frame->first; /* before its one call, or after */
    return (callee->code == release_code || callee->code == bounded_release_code) &&
           callee->now - callee->first < first_with(callee);
}

static void return_of(const void *state)
{
    enum { MOST = 8 };
    uintptr_t thread = fsafe_python_frames_thread(state);
    struct fsafe_python_frame callee = {0};
    for (struct fsafe_python_frame at = {0}; fsafe_python_frames_next(state, &at); callee = at) {
        struct with found[MOST] = {{.since = at.now}};
        unsigned count = 0;
        if (has_on_the_way(&at, &callee))
            count = is_semaphore(found[0].semaphore = fsafe_python_frames_variable(&at, 0));
        if (count == 0)
            count = fsafe_python_version() >= 0x030b ? find_by_table(&at, found, MOST)
                                                     : find_by_blocks(&at, found, MOST);
        /*
         * __exit__ that ends a with statement by an error leaves the method on the stack: its own frame was looked at.
         */
        const object *ending = callee.code == leave_code ? fsafe_python_frames_variable(&callee, 0) : NULL;
        for (unsigned i = 0; i < count; i++)
            if (found[i].semaphore != ending)
                give_back(&found[i], thread);
    }
}

void fsafe_python_tokens_return(void)
{
    const struct fsafe_python_error error = fsafe_python_keep_error();
    for (void *state = fsafe_python_vanished(NULL); state != NULL; state = fsafe_python_vanished(state))
        return_of(state);
    fsafe_python_restore_error(&error);
}
