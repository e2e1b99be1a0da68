/* cli/explain-text: what explain finds, for people. */
#include "config.h"

#include "cli/forms.h"
#include "cli/position.h"
#include "cli/source.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Begin and end a part in bold or red; empty, except on a terminal. */
static const char *bold = "", *red = "", *plain = "";

static void choose_colors(void)
{
    const char *refused = getenv("NO_COLOR"), *terminal = getenv("TERM");
    if (!isatty(STDOUT_FILENO) || (refused != NULL && refused[0] != '\0') || terminal == NULL ||
        strcmp(terminal, "dumb") == 0)
        return;
    bold = "\033[1m";
    red = "\033[31m";
    plain = "\033[0m";
}

static void print_position(const char *words, const struct fsafe_position *position)
{
    if (position->function == NULL)
        return;
    printf("    %s%s", words, position->function);
    if (position->file != NULL)
        printf(" at %s:%d", position->file, position->line);
}

static bool print_source(const char *function, const char *file, int line, void *context)
{
    (void)context;
    printf("            %s", fsafe_source_demangle(function));
    if (file != NULL)
        printf(" at %s:%d", file, line);
    putchar('\n');
    return true;
}

static void print_place(const struct fsafe_log *log, const char *words, const struct fsafe_log_place *place)
{
    if (place->module == NULL && place->address == 0)
        return;
    char *name = fsafe_position_name(place);
    printf("        %s%s\n", words, name);
    free(name);
    const char *path = fsafe_position_file(log, place->module);
    if (path != NULL)
        fsafe_source_each(path, place->in_module, print_source, NULL);
}

static void print_caller(const char *words, const struct fsafe_log_source *source)
{
    printf("%s%s at %s:%u\n", words, source->function != NULL ? source->function : "?",
           source->file != NULL ? source->file : "?", source->line);
}

static void print_stack(const struct fsafe_log *log, const char *words, const struct fsafe_log_stack *stack)
{
    if (stack->at.module == NULL && stack->at.address == 0 && stack->caller_count == 0)
        return;
    printf("    %s\n", words);
    if (stack->caller_count != 0)
        print_caller("        ", &stack->source);
    for (unsigned i = 0; i < stack->caller_count; i++)
        print_caller("        from ", &stack->callers[i]);
    print_place(log, "", &stack->at);
    for (unsigned i = 0; i < stack->frame_count; i++)
        print_place(log, "from ", &stack->frames[i]);
}

static void print_first_line(const struct fsafe_log_event *event)
{
    printf("%s%s", bold, fsafe_log_deeds[event->deed].words);
    if (event->threads != 0)
        printf("%lu vanished thread%s in ", event->threads, event->threads == 1 ? "" : "s");
    fputs(event->lock != NULL ? event->lock : "?", stdout);
    if (event->lock_place.address != 0)
        printf(" 0x%llx", (unsigned long long)event->lock_place.address);
    if (event->lock_place.symbol != NULL)
        printf(" <%s", fsafe_source_demangle(event->lock_place.symbol));
    if (event->lock_place.offset != 0)
        printf("+0x%llx", (unsigned long long)event->lock_place.offset);
    if (event->lock_place.symbol != NULL)
        putchar('>');
    printf(" (%s)", event->kind != NULL ? event->kind : "?");
    if (event->times > 1)
        printf(", %lu times in all", event->times);
    puts(plain);
}

static void print_event(const struct fsafe_log *log, const struct fsafe_log_event *event)
{
    struct fsafe_position held = fsafe_position_find_holder(log, event);
    struct fsafe_position wanted = fsafe_position_find(log, &event->wanted);
    struct fsafe_position forked = fsafe_position_find(log, &event->fork);
    print_first_line(event);
    if (held.function != NULL) {
        fputs(red, stdout);
        print_position("culprit: ", &held);
        fputs(plain, stdout);
        fputs(held.has_gone_on            ? ", where the holder was at the fork"
              : event->in_use             ? ", still in it at the fork"
                                          : ", took the lock and held it at the fork",
              stdout);
        if (event->since.source.thread != NULL)
            printf("; thread \"%s\"", event->since.source.thread);
        else if (event->holder_name != NULL)
            printf("; thread %lu \"%s\"", event->holder_tid, event->holder_name);
        putchar('\n');
    }
    if (wanted.function != NULL) {
        print_position("wanted:  ", &wanted);
        printf(", by process %lu\n", event->pid);
    }
    if (forked.function != NULL) {
        print_position("forked:  ", &forked);
        printf(", fork %lu by thread %lu", event->fork_number, event->fork_tid);
        if (event->fork_age_ms >= 0)
            printf(", %ld ms before", event->fork_age_ms);
        putchar('\n');
    }
    if (event->why != NULL)
        printf("    not taken over because %s\n", event->why);
    printf("    %s\n", fsafe_log_deeds[event->deed].advice);
    print_stack(log, event->in_use ? "in use since" : "held since", &event->since);
    print_stack(log, "wanted in", &event->wanted);
    print_stack(log, "forked in", &event->fork);
}

/* Whether a culprit, or a place that wants a lock, has no line because the module has no debugging information. */
static bool is_missed(const struct fsafe_log *log, const char *module)
{
    for (size_t i = 0; i < log->count; i++) {
        const char *since = fsafe_position_find(log, &log->events[i].since).without_lines;
        const char *wanted = fsafe_position_find(log, &log->events[i].wanted).without_lines;
        if ((since != NULL && strcmp(since, module) == 0) || (wanted != NULL && strcmp(wanted, module) == 0))
            return true;
    }
    return false;
}

/* Names each module's file, and says if that is another file by now, whose lines would be wrong. */
static void print_modules(const struct fsafe_log *log)
{
    for (size_t i = 0; i < log->module_count; i++) {
        const struct fsafe_log_module *module = &log->modules[i];
        bool other = module->build_id != NULL &&
                     !fsafe_source_has_build_id(fsafe_position_file(log, module->name), module->build_id);
        printf("%s is %s%s\n", module->name, module->path,
               other ? ", but not the same as then (another build-id, or it is not there)" : "");
        if (!other && is_missed(log, module->name))
            printf("    it has no lines of source (stripped?): name the unstripped program with --debug=FILE,\n"
                   "    install its -dbgsym package, set DEBUGINFOD_URLS, or build it with -g\n");
    }
}

void fsafe_forms_text(const struct fsafe_log *log)
{
    choose_colors();
    for (size_t i = 0; i < log->count; i++)
        print_event(log, &log->events[i]);
    print_modules(log);
    if (log->count == 0)
        puts("No event: no child came upon a lock of a thread that vanished.");
#ifndef HAVE_LIBDW
    else
        puts("This forksafe was built without elfutils: it cannot look up source lines. See addr2line(1).");
#endif
}
