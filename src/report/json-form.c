/* report/json-form: an event as one JSON object. The keys are a promise, see libforksafe(7). */
#include "config.h"

#include "report/details.h"

#include <string.h>

/* An opening brace or a comma. */
static void begin_member(struct fsafe_text *text, const char *key)
{
    bool is_first = text->length > 0 && text->buffer[text->length - 1] == '{';
    fsafe_text_put(text, "%s\"%s\":", is_first ? "" : ",", key);
}

static void put_string(struct fsafe_text *text, const char *key, const char *value, size_t most)
{
    begin_member(text, key);
    fsafe_text_char(text, '"');
    fsafe_text_json(text, value, most);
    fsafe_text_char(text, '"');
}

static void put_known(struct fsafe_text *text, const char *key, const char *value)
{
    if (value != NULL && value[0] != '\0')
        put_string(text, key, value, strlen(value));
}

static void put_number(struct fsafe_text *text, const char *key, unsigned long value)
{
    begin_member(text, key);
    fsafe_text_put(text, "%lu", value);
}

/* As strings: a JSON number does not carry 64 bits. */
static void put_address(struct fsafe_text *text, const char *key, uintptr_t address)
{
    begin_member(text, key);
    fsafe_text_put(text, "\"0x%zx\"", address);
}

static void begin_object(struct fsafe_text *text, const char *key)
{
    begin_member(text, key);
    fsafe_text_char(text, '{');
}

static void put_place_members(struct fsafe_text *text, const struct fsafe_place *place)
{
    put_address(text, "address", place->address);
    if (place->module[0] != '\0') {
        put_known(text, "module", place->module);
        put_address(text, "in_module", place->in_module);
    }
    if (place->symbol[0] != '\0') {
        put_known(text, "symbol", place->symbol);
        put_number(text, "offset", place->offset);
    }
}

static void put_place(struct fsafe_text *text, const char *key, const struct fsafe_place *place)
{
    if (place->address == 0)
        return;
    begin_object(text, key);
    put_place_members(text, place);
    fsafe_text_char(text, '}');
}

static void put_frames(struct fsafe_text *text, const struct fsafe_place *frames)
{
    if (frames[0].address == 0)
        return;
    begin_member(text, "frames");
    for (unsigned i = 0; i < FSAFE_FRAMES_MOST && frames[i].address != 0; i++) {
        fsafe_text_string(text, i == 0 ? "[{" : ",{");
        put_place_members(text, &frames[i]);
        fsafe_text_char(text, '}');
    }
    fsafe_text_char(text, ']');
}

static void put_source_members(struct fsafe_text *text, const struct fsafe_source *source)
{
    put_known(text, "file", source->file);
    if (source->line != 0)
        put_number(text, "line", source->line);
    put_known(text, "function", source->function);
}

static void put_source(struct fsafe_text *text, const struct fsafe_source *source, const struct fsafe_source *callers)
{
    if (source == NULL)
        return;
    begin_object(text, "source");
    put_source_members(text, source);
    put_known(text, "thread", source->thread);
    put_known(text, "moment", source->at_fork ? "fork" : "");
    if (callers[0].file[0] != '\0')
        begin_member(text, "callers");
    for (unsigned i = 0; callers[i].file[0] != '\0'; i++) {
        fsafe_text_string(text, i == 0 ? "[{" : ",{");
        put_source_members(text, &callers[i]);
        fsafe_text_string(text, callers[i + 1].file[0] != '\0' ? "}" : "}]");
    }
    fsafe_text_char(text, '}');
}

static void put_module(struct fsafe_text *text, const struct fsafe_new_module *module)
{
    fsafe_text_char(text, '{');
    put_known(text, "module", module->name);
    put_known(text, "path", module->path);
    if (module->build_id_bytes != 0) {
        begin_member(text, "build_id");
        fsafe_text_char(text, '"');
        fsafe_text_bytes(text, module->build_id, module->build_id_bytes);
        fsafe_text_char(text, '"');
    }
    fsafe_text_char(text, '}');
}

static void put_lock(struct fsafe_text *text, const struct fsafe_details *details)
{
    begin_object(text, "lock");
    put_known(text, "type", details->event->lock);
    put_known(text, "kind", details->event->kind);
    if (details->event->address != 0)
        put_place_members(text, &details->places[FSAFE_LOCK_PLACE]);
    fsafe_text_char(text, '}');
}

static void put_holder(struct fsafe_text *text, const struct fsafe_details *details)
{
    const struct fsafe_event *event = details->event;
    begin_object(text, "holder");
    begin_member(text, "role");
    fsafe_text_string(text, event->in_use ? "\"user\"" : "\"owner\"");
    if (event->holder.tid != 0)
        put_number(text, "tid", (unsigned long)event->holder.tid);
    if (event->holder.pid != 0)
        put_number(text, "pid", (unsigned long)event->holder.pid);
    put_known(text, "name", details->holder_name);
    put_place(text, "since", &details->places[FSAFE_SINCE_PLACE]);
    put_frames(text, &details->places[FSAFE_SINCE_FRAMES]);
    put_source(text, event->holder.source, details->held_in + 1);
    fsafe_text_char(text, '}');
}

static void put_fork(struct fsafe_text *text, const struct fsafe_details *details)
{
    const struct fsafe_fork *fork = &details->event->fork;
    if (fork->number == 0)
        return;
    begin_object(text, "fork");
    put_number(text, "number", fork->number);
    put_number(text, "tid", (unsigned long)fork->tid);
    put_place(text, "at", &details->places[FSAFE_FORK_PLACE]);
    if (details->forked_in[0].file[0] != '\0')
        put_source(text, details->forked_in, details->forked_in + 1);
    if (fork->when_ms != 0)
        put_number(text, "age_ms", details->fork_age_ms);
    fsafe_text_char(text, '}');
}

void fsafe_json_form(struct fsafe_text *text, const struct fsafe_details *details)
{
    const struct fsafe_event *event = details->event;
    const struct fsafe_deed_row *row = &fsafe_deed_rows[event->deed];
    fsafe_text_char(text, '{');
    put_known(text, "event", row->key);
    put_number(text, "time", (unsigned long)details->when.tv_sec);
    unsigned long ms = (unsigned long)details->when.tv_nsec / 1000000;
    fsafe_text_put(text, "%s%lu", ms < 10 ? ".00" : ms < 100 ? ".0" : ".", ms);
    put_number(text, "pid", (unsigned long)details->pid);
    put_number(text, "tid", (unsigned long)details->tid);
    put_known(text, "thread", details->own_name);
    put_number(text, "times", details->times);
    if (event->count != 0)
        put_number(text, "threads", event->count);
    put_lock(text, details);
    begin_object(text, "wanted");
    put_place(text, "at", &details->places[FSAFE_WANTED_PLACE]);
    put_frames(text, &details->places[FSAFE_WANTED_FRAMES]);
    put_source(text, event->wanted_in, details->wanted_in + 1);
    fsafe_text_char(text, '}');
    put_holder(text, details);
    put_fork(text, details);
    put_known(text, "why", event->why);
    put_known(text, "advice", row->advice);
    if (details->new_module_count != 0) {
        begin_member(text, "modules");
        fsafe_text_char(text, '[');
        for (unsigned i = 0; i < details->new_module_count; i++) {
            if (i > 0)
                fsafe_text_char(text, ',');
            put_module(text, &details->new_modules[i]);
        }
        fsafe_text_char(text, ']');
    }
    fsafe_text_char(text, '}');
}
