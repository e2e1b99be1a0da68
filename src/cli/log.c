#include "config.h"

#include "cli/exit.h"
#include "cli/log.h"

#include <stdlib.h>
#include <string.h>

const struct fsafe_deed_row fsafe_log_deeds[FSAFE_DEEDS] = {
#define FSAFE_DEED(name, key, words, advice) {key, words, advice},
#include "report/deeds.def"
};

static void *grow(void *array, size_t count, size_t bytes)
{
    void *more = (count & (count - 1)) != 0 ? array : realloc(array, (count == 0 ? 1 : 2 * count) * bytes);
    if (more == NULL)
        fsafe_exit_failing("out of memory");
    return more;
}

struct fsafe_log_event *fsafe_log_add_event(struct fsafe_log *log)
{
    log->events = grow(log->events, log->count, sizeof *log->events);
    log->events[log->count] = (struct fsafe_log_event){.times = 1, .fork_age_ms = -1};
    return &log->events[log->count++];
}

const struct fsafe_log_module *fsafe_log_module(const struct fsafe_log *log, const char *name)
{
    for (size_t i = 0; name != NULL && i < log->module_count; i++)
        if (strcmp(log->modules[i].name, name) == 0)
            return &log->modules[i];
    return NULL;
}

void fsafe_log_add_module(struct fsafe_log *log, const char *name, const char *path, const char *build_id)
{
    if (fsafe_log_module(log, name) != NULL)
        return;
    log->modules = grow(log->modules, log->module_count, sizeof *log->modules);
    log->modules[log->module_count++] = (struct fsafe_log_module){
        .name = strdup(name), .path = strdup(path), .build_id = build_id == NULL ? NULL : strdup(build_id)};
}

static bool same(const char *one, const char *other)
{
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

/* One of the two may be cut, with two dots at its end. */
static bool same_brief(const char *one, const char *other)
{
    if (one == NULL || other == NULL)
        return one == other;
    size_t a = strlen(one), b = strlen(other), shorter = a < b ? a : b;
    const char *cut = a < b ? one : other;
    if (a != b && shorter > 2 && strcmp(cut + shorter - 2, "..") == 0)
        return strncmp(one, other, shorter - 2) == 0;
    return strcmp(one, other) == 0;
}

static bool same_stack(const struct fsafe_log_stack *one, const struct fsafe_log_stack *other)
{
    return same(one->at.module, other->at.module) && one->at.in_module == other->at.in_module &&
           same(one->source.file, other->source.file) && one->source.line == other->source.line;
}

static bool is_alike(const struct fsafe_log_event *one, const struct fsafe_log_event *other)
{
    if (one->deed != other->deed || !same(one->lock, other->lock) || !same(one->kind, other->kind) ||
        !same_brief(one->brief, other->brief))
        return false;
    return !one->whole || !other->whole ||
           (same_stack(&one->since, &other->since) && same_stack(&one->wanted, &other->wanted));
}

/* A line that says how often its event has happened counts as that number, any other line as one. */
void fsafe_log_group(struct fsafe_log *log)
{
    size_t count = 0;
    for (size_t i = 0; i < log->count; i++) {
        struct fsafe_log_event *event = &log->events[i];
        size_t at = 0;
        while (at < count && !is_alike(&log->events[at], event))
            at++;
        if (at == count)
            log->events[count++] = *event;
        else if (event->times == 1)
            log->events[at].times++;
        else if (event->times > log->events[at].times)
            log->events[at].times = event->times;
    }
    log->count = count;
}
