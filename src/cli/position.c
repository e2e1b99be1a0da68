#include "config.h"

#include "cli/calls.h"
#include "cli/exit.h"
#include "cli/position.h"
#include "cli/source.h"

#include <stdlib.h>
#include <string.h>

enum { DEBUG_FILES = 64 };
static const char *debug_files[DEBUG_FILES];
static size_t debug_file_count;

void fsafe_position_add_file(const char *path)
{
    if (debug_file_count < DEBUG_FILES)
        debug_files[debug_file_count++] = path;
}

const char *fsafe_position_file(const struct fsafe_log *log, const char *name)
{
    const struct fsafe_log_module *module = fsafe_log_module(log, name);
    for (size_t i = 0; module != NULL && i < debug_file_count; i++)
        if (fsafe_source_has_build_id(debug_files[i], module->build_id))
            return debug_files[i];
    return module != NULL ? module->path : NULL;
}

void fsafe_position_check_files(const struct fsafe_log *log)
{
    for (size_t i = 0; i < debug_file_count; i++) {
        bool used = log->module_count == 0;
        for (size_t k = 0; k < log->module_count && !used; k++)
            used = fsafe_source_has_build_id(debug_files[i], log->modules[k].build_id);
        if (!used)
            fprintf(stderr, "forksafe: --debug=%s is not used: no module of the log has its build-id\n",
                    debug_files[i]);
    }
}

struct search {
    struct fsafe_position found, first;
    bool of_system; /* the place is in a library of the system: its caller is the culprit */
};

static bool see_candidate(const char *function, const char *file, int line, void *context)
{
    struct search *search = context;
    bool meant = file != NULL && !search->of_system && !fsafe_source_is_system_file(file);
    struct fsafe_position *to = meant ? &search->found : search->first.function == NULL ? &search->first : NULL;
    if (to != NULL) {
        to->function = strdup(fsafe_source_demangle(function));
        to->file = file == NULL ? NULL : strdup(file);
        to->line = line;
    }
    return !meant;
}

char *fsafe_position_name(const struct fsafe_log_place *place)
{
    char *text = NULL;
    int length;
    if (place->symbol != NULL)
        length = asprintf(&text, "%s in %s+0x%llx", fsafe_source_demangle(place->symbol), place->module,
                          (unsigned long long)place->in_module);
    else if (place->module != NULL)
        length = asprintf(&text, "%s+0x%llx", place->module, (unsigned long long)place->in_module);
    else
        length = asprintf(&text, "0x%llx", (unsigned long long)place->address);
    if (length < 0)
        fsafe_exit_failing("out of memory");
    return text;
}

static bool see_name(const char *function, const char *file, int line, void *name)
{
    (void)file, (void)line;
    *(char **)name = strdup(function);
    return false;
}

/* By the module's tables, if it has no lines: the library knows the names of exported functions only. */
static char *find_name(const struct fsafe_log *log, const struct fsafe_log_place *place)
{
    struct fsafe_log_place named = *place;
    const char *path = fsafe_position_file(log, place->module);
    if (named.symbol == NULL && path != NULL)
        fsafe_source_each(path, place->in_module, see_name, &named.symbol);
    return fsafe_position_name(&named);
}

struct fsafe_position fsafe_position_find(const struct fsafe_log *log, const struct fsafe_log_stack *stack)
{
    struct search search = {0};
    const struct fsafe_log_source *source = &stack->source;
    if (source->file != NULL)
        return (struct fsafe_position){.function = source->function != NULL ? source->function : strdup("?"),
                                       .file = source->file, .line = (int)source->line};
    const struct fsafe_log_place *unknown = NULL;
    for (unsigned i = 0; i <= stack->frame_count && search.found.file == NULL; i++) {
        const struct fsafe_log_place *place = i == 0 ? &stack->at : &stack->frames[i - 1];
        const char *path = fsafe_position_file(log, place->module);
        search.of_system = fsafe_source_is_system_module(path);
        search.found.at = place;
        bool known = path != NULL && fsafe_source_each(path, place->in_module, see_candidate, &search);
        if (unknown == NULL && !search.of_system && (place->module != NULL || place->address != 0) &&
            (!known || search.first.file == NULL))
            unknown = place;
    }
    if (search.found.file != NULL)
        return search.found;
    /* There is no source: takes the first place outside of the system's libraries. */
    if (unknown != NULL)
        return (struct fsafe_position){.function = find_name(log, unknown), .without_lines = unknown->module};
    return search.first;
}

struct fsafe_position fsafe_position_find_holder(const struct fsafe_log *log, const struct fsafe_log_event *event)
{
    const struct fsafe_log_stack *since = &event->since;
    struct fsafe_position position = fsafe_position_find(log, since);
    const struct fsafe_log_place *at = position.at;
    char *file;
    int line;
    /* The functions that took the lock for the culprit have returned. */
    position.has_gone_on = since->source.at_fork || (position.file != NULL && at != NULL && at != &since->at);
    if (position.file != NULL && at != NULL && at != &since->at && since->at.module != NULL &&
        strcmp(at->module, since->at.module) == 0 &&
        fsafe_calls_find(fsafe_position_file(log, at->module), at->in_module, since->at.in_module, &file, &line)) {
        position.file = file;
        position.line = line;
        position.has_gone_on = false;
    }
    return position;
}
