/* cli/explain-json: what explain finds, for machines. The keys are a promise, see forksafe(1). */
#include "config.h"

#include "cli/forms.h"
#include "cli/position.h"
#include "cli/source.h"

#ifdef HAVE_JSON_C

#include <json-c/json.h>

static void put_string(struct json_object *object, const char *key, const char *value)
{
    if (value != NULL)
        json_object_object_add(object, key, json_object_new_string(value));
}

static void put_number(struct json_object *object, const char *key, unsigned long value)
{
    if (value != 0)
        json_object_object_add(object, key, json_object_new_int64((int64_t)value));
}

static struct json_object *make_position(const char *function, const char *file, int line)
{
    struct json_object *object = json_object_new_object();
    put_string(object, "function", function);
    put_string(object, "file", file);
    put_number(object, "line", (unsigned long)line);
    return object;
}

static bool add_source(const char *function, const char *file, int line, void *context)
{
    json_object_array_add(context, make_position(fsafe_source_demangle(function), file, line));
    return true;
}

/* The whole way, innermost first. */
static struct json_object *make_stack(const struct fsafe_log *log, const struct fsafe_log_stack *stack)
{
    struct json_object *array = json_object_new_array();
    for (unsigned i = 0; i < stack->caller_count + (stack->caller_count != 0); i++) {
        const struct fsafe_log_source *source = i == 0 ? &stack->source : &stack->callers[i - 1];
        json_object_array_add(array, make_position(source->function, source->file, (int)source->line));
    }
    for (unsigned i = 0; i <= stack->frame_count; i++) {
        const struct fsafe_log_place *place = i == 0 ? &stack->at : &stack->frames[i - 1];
        const char *path = fsafe_position_file(log, place->module);
        if (path != NULL && fsafe_source_each(path, place->in_module, add_source, array))
            continue;
        if (place->symbol != NULL)
            json_object_array_add(array, make_position(place->symbol, NULL, 0));
    }
    return array;
}

static void put_side(struct json_object *object, const char *key, const struct fsafe_log *log,
                     const struct fsafe_log_stack *stack, struct fsafe_position position)
{
    if (position.function == NULL)
        return;
    struct json_object *side = make_position(position.function, position.file, position.line);
    put_string(side, "thread", stack->source.thread);
    json_object_object_add(side, "stack", make_stack(log, stack));
    json_object_object_add(object, key, side);
}

static struct json_object *make_event(const struct fsafe_log *log, const struct fsafe_log_event *event)
{
    struct json_object *object = json_object_new_object(), *lock = json_object_new_object();
    put_string(object, "event", fsafe_log_deeds[event->deed].key);
    put_number(object, "times", event->times);
    put_number(object, "pid", event->pid);
    put_number(object, "threads", event->threads);
    put_string(lock, "type", event->lock);
    put_string(lock, "kind", event->kind);
    if (event->lock_place.symbol != NULL)
        put_string(lock, "symbol", fsafe_source_demangle(event->lock_place.symbol));
    put_number(lock, "offset", event->lock_place.offset);
    json_object_object_add(object, "lock", lock);
    put_side(object, "culprit", log, &event->since, fsafe_position_find_holder(log, event));
    put_side(object, "wanted", log, &event->wanted, fsafe_position_find(log, &event->wanted));
    put_side(object, "forked", log, &event->fork, fsafe_position_find(log, &event->fork));
    put_string(object, "holder", event->holder_name);
    put_number(object, "holder_tid", event->holder_tid);
    put_number(object, "fork", event->fork_number);
    if (event->fork_age_ms >= 0)
        json_object_object_add(object, "fork_age_ms", json_object_new_int64(event->fork_age_ms));
    put_string(object, "why", event->why);
    put_string(object, "advice", fsafe_log_deeds[event->deed].advice);
    return object;
}

bool fsafe_forms_json(const struct fsafe_log *log, FILE *to)
{
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; i < log->count; i++)
        json_object_array_add(array, make_event(log, &log->events[i]));
    int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE;
    fprintf(to, "%s\n", json_object_to_json_string_ext(array, flags));
    json_object_put(array);
    return true;
}

#else

bool fsafe_forms_json(const struct fsafe_log *log, FILE *to)
{
    (void)log, (void)to;
    return false;
}

#endif
