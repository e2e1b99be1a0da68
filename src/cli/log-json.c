/* cli/log-json: the form for machines, by json-c. */
#include "config.h"

#include "base/text.h"
#include "cli/exit.h"
#include "cli/log.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_JSON_C

#include <json-c/json.h>

static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return object != NULL && json_object_object_get_ex(object, key, &value) ? value : NULL;
}

static char *string(struct json_object *object, const char *key)
{
    struct json_object *value = member(object, key);
    return value == NULL ? NULL : strdup(json_object_get_string(value));
}

static unsigned long number(struct json_object *object, const char *key)
{
    return (unsigned long)json_object_get_int64(member(object, key));
}

static uint64_t address(struct json_object *object, const char *key)
{
    struct json_object *value = member(object, key);
    return value == NULL ? 0 : strtoull(json_object_get_string(value), NULL, 16);
}

static void read_place(struct fsafe_log_place *place, struct json_object *object)
{
    place->address = address(object, "address");
    place->module = string(object, "module");
    place->in_module = address(object, "in_module");
    place->symbol = string(object, "symbol");
    place->offset = number(object, "offset");
}

static void read_source(struct fsafe_log_source *source, struct json_object *object)
{
    source->file = string(object, "file");
    source->function = string(object, "function");
    source->thread = string(object, "thread");
    source->line = (unsigned)number(object, "line");
}

static void read_stack(struct fsafe_log_stack *stack, struct json_object *object, const char *at)
{
    read_place(&stack->at, member(object, at));
    struct json_object *frames = member(object, "frames"), *source = member(object, "source");
    size_t count = json_object_is_type(frames, json_type_array) ? json_object_array_length(frames) : 0;
    for (size_t i = 0; i < count && i < FSAFE_LOG_FRAMES; i++)
        read_place(&stack->frames[stack->frame_count++], json_object_array_get_idx(frames, i));
    read_source(&stack->source, source);
    struct json_object *callers = member(source, "callers");
    count = json_object_is_type(callers, json_type_array) ? json_object_array_length(callers) : 0;
    for (size_t i = 0; i < count && i < FSAFE_LOG_CALLERS; i++)
        read_source(&stack->callers[stack->caller_count++], json_object_array_get_idx(callers, i));
    stack->source.at_fork = member(source, "moment") != NULL;
}

/* As in the form for people, so that both forms of one event are alike. */
static char *find_brief(const struct fsafe_log_stack *wanted)
{
    char *brief = NULL;
    int length;
    if (wanted->source.file != NULL)
        length = asprintf(&brief, "%s:%u", fsafe_text_last_part(wanted->source.file), wanted->source.line);
    else if (wanted->at.symbol != NULL)
        length = asprintf(&brief, "%s", wanted->at.symbol);
    else if (wanted->at.module != NULL)
        length = asprintf(&brief, "%s+0x%llx", wanted->at.module, (unsigned long long)wanted->at.in_module);
    else
        length = asprintf(&brief, "0x%llx", (unsigned long long)wanted->at.address);
    return length < 0 ? NULL : brief;
}

static void read_event(struct fsafe_log_event *event, struct json_object *object)
{
    struct json_object *lock = member(object, "lock"), *holder = member(object, "holder");
    struct json_object *fork = member(object, "fork");
    event->pid = number(object, "pid");
    event->tid = number(object, "tid");
    event->times = number(object, "times");
    event->threads = number(object, "threads");
    event->why = string(object, "why");
    event->lock = string(lock, "type");
    event->kind = string(lock, "kind");
    read_place(&event->lock_place, lock);
    read_stack(&event->wanted, member(object, "wanted"), "at");
    read_stack(&event->since, holder, "since");
    read_stack(&event->fork, fork, "at");
    event->brief = find_brief(&event->wanted);
    event->holder_tid = number(holder, "tid");
    event->holder_name = string(holder, "name");
    const char *role = json_object_get_string(member(holder, "role"));
    event->in_use = role != NULL && strcmp(role, "user") == 0;
    event->fork_number = number(fork, "number");
    if (member(fork, "age_ms") != NULL)
        event->fork_age_ms = (long)number(fork, "age_ms");
    event->fork_tid = number(fork, "tid");
    event->whole = true;
}

void fsafe_log_read_object(struct fsafe_log *log, const char *line)
{
    struct json_object *object = json_tokener_parse(line);
    const char *key = json_object_get_string(member(object, "event"));
    enum fsafe_deed deed = 0;
    while (deed < FSAFE_DEEDS && (key == NULL || strcmp(fsafe_log_deeds[deed].key, key) != 0))
        deed++;
    if (deed < FSAFE_DEEDS) {
        struct fsafe_log_event *event = fsafe_log_add_event(log);
        event->deed = deed;
        read_event(event, object);
        struct json_object *modules = member(object, "modules");
        size_t count = json_object_is_type(modules, json_type_array) ? json_object_array_length(modules) : 0;
        for (size_t i = 0; i < count; i++) {
            struct json_object *module = json_object_array_get_idx(modules, i);
            const char *name = json_object_get_string(member(module, "module"));
            const char *path = json_object_get_string(member(module, "path"));
            if (name != NULL && path != NULL)
                fsafe_log_add_module(log, name, path, json_object_get_string(member(module, "build_id")));
        }
    }
    json_object_put(object);
}

#else

void fsafe_log_read_object(struct fsafe_log *log, const char *line)
{
    (void)log, (void)line;
    fsafe_exit_failing("this forksafe was built without json-c: it reads only what FORKSAFE_FORMAT=text has written");
}

#endif
