/* report/text-form: an event in plain English. Its parts are explained in libforksafe(7). */
#include "config.h"

#include "report/details.h"

#include <string.h>

enum { COLUMNS = 119 };

static void put_clean(struct fsafe_text *text, const char *string)
{
    fsafe_text_clean(text, string, strlen(string));
}

void fsafe_text_place(struct fsafe_text *text, const struct fsafe_place *place)
{
    if (place->symbol[0] != '\0') {
        put_clean(text, place->symbol);
        fsafe_text_put(text, "+0x%zx in ", place->offset);
    }
    put_clean(text, place->module);
    if (place->module[0] != '\0')
        fsafe_text_put(text, "+0x%zx", place->in_module);
    else
        fsafe_text_put(text, "0x%zx", place->address);
}

/* run() in /srv/app.py:31 (thread "Thread-1") */
static void put_source(struct fsafe_text *text, const struct fsafe_source *source)
{
    if (source->function[0] != '\0') {
        put_clean(text, source->function);
        fsafe_text_string(text, "() in ");
    }
    put_clean(text, source->file);
    if (source->line != 0)
        fsafe_text_put(text, ":%u", source->line);
    if (source->thread[0] != '\0') {
        fsafe_text_string(text, " (thread \"");
        put_clean(text, source->thread);
        fsafe_text_string(text, "\")");
    }
}

/* The shortest name of the place where the lock was wanted. */
static void put_briefly(struct fsafe_text *text, const struct fsafe_details *details)
{
    const struct fsafe_place *place = &details->places[FSAFE_WANTED_PLACE];
    const struct fsafe_source *source = details->event->wanted_in;
    if (source != NULL && source->file[0] != '\0') {
        put_clean(text, fsafe_text_last_part(source->file));
        fsafe_text_put(text, ":%u", source->line);
    } else if (place->symbol[0] != '\0') {
        put_clean(text, place->symbol);
    } else {
        fsafe_text_place(text, place);
    }
}

/* <name of the variable>, when the lock is one that its module exports. */
static void put_lock_name(struct fsafe_text *text, const struct fsafe_place *place)
{
    if (place->symbol[0] == '\0')
        return;
    fsafe_text_string(text, " <");
    put_clean(text, place->symbol);
    if (place->offset != 0)
        fsafe_text_put(text, "+0x%zx", place->offset);
    fsafe_text_char(text, '>');
}

static void put_holder(struct fsafe_text *text, const struct fsafe_details *details)
{
    /* A wait for an object without an owner usually has no holder to name. */
    if (details->event->deed >= FSAFE_HANGS && details->event->holder.tid == 0)
        return;
    fsafe_text_string(text, details->event->in_use ? " in use at fork by " : " held at fork by ");
    if (details->event->holder.tid == 0) {
        fsafe_text_string(text, "an unknown thread");
        return;
    }
    fsafe_text_put(text, "%d", details->event->holder.tid);
    if (details->holder_name[0] == '\0')
        return;
    fsafe_text_string(text, " \"");
    put_clean(text, details->holder_name);
    fsafe_text_char(text, '"');
}

static void put_times(struct fsafe_text *text, uint64_t times)
{
    if (times != 1)
        fsafe_text_put(text, ", so far %lu times", (unsigned long)times);
}

static void put_style(struct fsafe_text *text, const struct fsafe_details *details, const char *number)
{
    if (details->colored)
        fsafe_text_put(text, "\033[%sm", number);
}

#define BOLD "1"
#define RED "31"
#define PLAIN "0"

/* The first line: the deed, the lock, its holder. The place that wanted the lock gets the rest of the line. */
static void put_first_line(struct fsafe_text *text, const struct fsafe_details *details)
{
    const struct fsafe_event *event = details->event;
    size_t begin = text->length;
    char rest[160], brief[256];
    struct fsafe_text holder, place;
    fsafe_text_begin(&holder, rest, sizeof rest - 1);
    put_holder(&holder, details);
    put_times(&holder, details->times);
    rest[holder.length] = '\0';
    fsafe_text_begin(&place, brief, sizeof brief);
    put_briefly(&place, details);

    fsafe_text_put(text, "forksafe[%d.%d] %s", details->pid, details->tid, fsafe_deed_rows[event->deed].words);
    if (event->deed == FSAFE_FORGOT)
        fsafe_text_put(text, "%u vanished thread%s in ", event->count, event->count == 1 ? "" : "s");
    fsafe_text_string(text, event->lock);
    if (event->address != 0)
        fsafe_text_put(text, " 0x%zx", event->address);
    fsafe_text_put(text, " (%s) for ", event->kind);

    enum { SHORTEST = 12 };
    size_t used = text->length - begin, room = used + holder.length + SHORTEST <= COLUMNS
                                                   ? COLUMNS - used - holder.length
                                                   : used < COLUMNS - SHORTEST ? COLUMNS - used : SHORTEST;
    for (size_t i = 0; i < place.length && i < room; i++)
        fsafe_text_char(text, place.length > room && i + 2 >= room ? '.' : brief[i]);
    const char *end = rest;
    if (holder.length > 0 && text->length - begin + holder.length > COLUMNS) {
        fsafe_text_string(text, "\n   ");
        end += *end == ',';
    }
    fsafe_text_string(text, end);
}

static void begin_detail(struct fsafe_text *text, const char *words)
{
    fsafe_text_put(text, "\n    %s", words);
}

/* The callers of the place in the line above. */
static void put_frames(struct fsafe_text *text, const struct fsafe_place *frames)
{
    for (unsigned i = 0; i < FSAFE_FRAMES_MOST && frames[i].address != 0; i++) {
        begin_detail(text, "    from ");
        fsafe_text_place(text, &frames[i]);
    }
}

static void put_callers(struct fsafe_text *text, const struct fsafe_source *callers)
{
    for (; callers->file[0] != '\0'; callers++) {
        begin_detail(text, "    from ");
        put_source(text, callers);
    }
}

static void put_module(struct fsafe_text *text, const struct fsafe_new_module *module)
{
    begin_detail(text, "");
    put_clean(text, module->name);
    fsafe_text_string(text, " is ");
    put_clean(text, module->path);
    if (module->build_id_bytes == 0)
        return;
    fsafe_text_string(text, ", build-id ");
    fsafe_text_bytes(text, module->build_id, module->build_id_bytes);
}

static void put_fork(struct fsafe_text *text, const struct fsafe_details *details)
{
    const struct fsafe_fork *fork = &details->event->fork;
    if (fork->number == 0)
        return;
    fsafe_text_put(text, "\n    fork %lu by %d", fork->number, fork->tid);
    if (fork->at != 0) {
        fsafe_text_string(text, " in ");
        fsafe_text_place(text, &details->places[FSAFE_FORK_PLACE]);
    }
    if (fork->when_ms != 0) {
        fsafe_text_put(text, ", %u ms before ", details->fork_age_ms);
        fsafe_text_time(text, (unsigned long)details->when.tv_sec, (unsigned)details->when.tv_nsec / 1000000);
    }
}

void fsafe_text_form(struct fsafe_text *text, const struct fsafe_details *details)
{
    const struct fsafe_event *event = details->event;
    put_style(text, details, BOLD);
    put_first_line(text, details);
    put_style(text, details, PLAIN);
    if (details->again)
        return;
    if (details->places[FSAFE_SINCE_PLACE].address != 0) {
        begin_detail(text, "since ");
        put_style(text, details, RED);
        fsafe_text_place(text, &details->places[FSAFE_SINCE_PLACE]);
        put_style(text, details, PLAIN);
        put_frames(text, &details->places[FSAFE_SINCE_FRAMES]);
    }
    if (event->holder.source != NULL) {
        begin_detail(text, event->holder.source->at_fork ? "at fork in " : "since ");
        put_style(text, details, RED);
        put_source(text, event->holder.source);
        put_style(text, details, PLAIN);
        put_callers(text, details->held_in + 1);
    }
    if (details->places[FSAFE_WANTED_PLACE].address != 0) {
        begin_detail(text, "wanted in ");
        fsafe_text_place(text, &details->places[FSAFE_WANTED_PLACE]);
        put_frames(text, &details->places[FSAFE_WANTED_FRAMES]);
    }
    if (event->wanted_in != NULL) {
        begin_detail(text, "wanted in ");
        put_source(text, event->wanted_in);
        put_callers(text, details->wanted_in + 1);
    }
    if (details->places[FSAFE_LOCK_PLACE].module[0] != '\0') {
        begin_detail(text, "the lock is");
        put_lock_name(text, &details->places[FSAFE_LOCK_PLACE]);
        fsafe_text_string(text, " in ");
        put_clean(text, details->places[FSAFE_LOCK_PLACE].module);
        fsafe_text_put(text, "+0x%zx", details->places[FSAFE_LOCK_PLACE].in_module);
    }
    put_fork(text, details);
    if (details->forked_in[0].file[0] != '\0') {
        begin_detail(text, "forked in ");
        put_source(text, details->forked_in);
        put_callers(text, details->forked_in + 1);
    }
    if (event->why != NULL) {
        fsafe_text_put(text, "\n    not taken over because %s", event->why);
    }
    for (unsigned i = 0; i < details->new_module_count; i++)
        put_module(text, &details->new_modules[i]);
    begin_detail(text, fsafe_deed_rows[event->deed].advice);
}
