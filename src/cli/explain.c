/*
 * cli/explain: reads what the library wrote and writes each kind of event once: the culprit, the source behind the
 * event's places, and what to do about it.
 */
#include "config.h"

#include "cli/cli.h"
#include "cli/explain.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: forksafe explain [OPTION]... [FILE]...\n"
    "Read the lines that libforksafe wrote (standard input, or each FILE; - is standard input),\n"
    "text or json, and write each kind of event once: how often it was, which line of source\n"
    "took the lock, which one wanted it, which one forked, and how the threads came there.\n"
    "\n"
    "      --debug=FILE  where a program's debugging information is, if it is stripped: the\n"
    "                      program before it was, or what objcopy --only-keep-debug kept of\n"
    "                      it; may be given several times\n"
    "      --json        one JSON array, an object for each kind of event\n"
    "      --html        a page with a picture of each\n"
    "      --svg         the pictures alone\n"
    "  -h, --help        display this help and exit\n"
    "\n"
    "Examples:\n"
    "  forksafe run --log=/tmp/log -- ./app ; forksafe explain /tmp/log\n"
    "  forksafe ./app 2>&1 | forksafe explain --html >/tmp/page.html\n"
    "\n"
    "Source lines need debugging information: build with -g, or install the -dbgsym package,\n"
    "or set DEBUGINFOD_URLS.\n";

enum { DEBUG_FILES = 64 };
static const char *debug_files[DEBUG_FILES];
static size_t debug_file_count;

const char *fsafe_explain_file(const struct fsafe_log *log, const char *name)
{
    const struct fsafe_log_module *module = fsafe_log_module(log, name);
    for (size_t i = 0; module != NULL && i < debug_file_count; i++)
        if (fsafe_cli_is_module(debug_files[i], module->build_id))
            return debug_files[i];
    return module != NULL ? module->path : NULL;
}

/* --- Who is meant --------------------------------------------------------------------------------------- */

struct search {
    struct fsafe_position found, first;
    bool of_system; /* the place is in a library of the system: the function that called that is the culprit */
};

static bool see_candidate(const char *function, const char *file, int line, void *context)
{
    struct search *search = context;
    bool meant = file != NULL && !search->of_system && !fsafe_cli_is_system_file(file);
    struct fsafe_position *to = meant ? &search->found : search->first.function == NULL ? &search->first : NULL;
    if (to != NULL) {
        to->function = strdup(fsafe_cli_demangle(function));
        to->file = file == NULL ? NULL : strdup(file);
        to->line = line;
    }
    return !meant;
}

static char *native_name(const struct fsafe_log_place *place)
{
    char *text = NULL;
    int length;
    if (place->symbol != NULL)
        length = asprintf(&text, "%s in %s+0x%llx", fsafe_cli_demangle(place->symbol), place->module,
                          (unsigned long long)place->in_module);
    else if (place->module != NULL)
        length = asprintf(&text, "%s+0x%llx", place->module, (unsigned long long)place->in_module);
    else
        length = asprintf(&text, "0x%llx", (unsigned long long)place->address);
    if (length < 0)
        fsafe_cli_fail("out of memory");
    return text;
}

struct fsafe_position fsafe_explain_find(const struct fsafe_log *log, const struct fsafe_log_stack *stack)
{
    struct search search = {0};
    const struct fsafe_log_source *source = &stack->source;
    if (source->file != NULL)
        return (struct fsafe_position){.function = source->function != NULL ? source->function : strdup("?"),
                                       .file = source->file, .line = (int)source->line};
    const struct fsafe_log_place *unknown = NULL;
    for (unsigned i = 0; i <= stack->frame_count && search.found.file == NULL; i++) {
        const struct fsafe_log_place *place = i == 0 ? &stack->at : &stack->frames[i - 1];
        const char *path = fsafe_explain_file(log, place->module);
        search.of_system = fsafe_cli_is_system_module(path);
        search.found.at = place;
        bool known = path != NULL && fsafe_cli_each_source(path, place->in_module, see_candidate, &search);
        if (unknown == NULL && !search.of_system && (place->module != NULL || place->address != 0) &&
            (!known || search.first.file == NULL))
            unknown = place;
    }
    if (search.found.file != NULL)
        return search.found;
    /* There is no source: takes the first place outside of the system's libraries. */
    if (unknown != NULL)
        return (struct fsafe_position){.function = native_name(unknown), .without_lines = unknown->module};
    return search.first;
}

struct fsafe_position fsafe_explain_find_holder(const struct fsafe_log *log, const struct fsafe_log_event *event)
{
    const struct fsafe_log_stack *since = &event->since;
    struct fsafe_position position = fsafe_explain_find(log, since);
    const struct fsafe_log_place *at = position.at;
    char *file;
    int line;
    /* The functions that took the lock for that function have returned. */
    position.has_gone_on = since->source.at_fork || (position.file != NULL && at != NULL && at != &since->at);
    if (position.file != NULL && at != NULL && at != &since->at && since->at.module != NULL &&
        strcmp(at->module, since->at.module) == 0 &&
        fsafe_cli_find_call(fsafe_explain_file(log, at->module), at->in_module, since->at.in_module, &file, &line)) {
        position.file = file;
        position.line = line;
        position.has_gone_on = false;
    }
    return position;
}

/* The library knows the names of exported variables alone. */
static void name_locks(struct fsafe_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        struct fsafe_log_place *place = &log->events[i].lock_place;
        const char *path = fsafe_explain_file(log, place->module);
        const char *name = place->symbol != NULL || path == NULL
                               ? NULL
                               : fsafe_cli_variable(path, place->in_module, &place->offset);
        if (name != NULL)
            place->symbol = strdup(name);
    }
}

/* --- The form for people -------------------------------------------------------------------------------- */

/* What begins and ends a part that stands out: empty, except on a terminal. */
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
    printf("            %s", fsafe_cli_demangle(function));
    if (file != NULL)
        printf(" at %s:%d", file, line);
    putchar('\n');
    return true;
}

static void print_place(const struct fsafe_log *log, const char *words, const struct fsafe_log_place *place)
{
    if (place->module == NULL && place->address == 0)
        return;
    char *name = native_name(place);
    printf("        %s%s\n", words, name);
    free(name);
    const char *path = fsafe_explain_file(log, place->module);
    if (path != NULL)
        fsafe_cli_each_source(path, place->in_module, print_source, NULL);
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
        printf(" <%s", fsafe_cli_demangle(event->lock_place.symbol));
    if (event->lock_place.offset != 0)
        printf("+0x%llx", (unsigned long long)event->lock_place.offset);
    if (event->lock_place.symbol != NULL)
        putchar('>');
    printf(" (%s)", event->kind != NULL ? event->kind : "?");
    /* A user of Python knows of no semaphore. */
    if (event->lock != NULL && strcmp(event->lock, "semaphore") == 0 && event->wanted.source.file != NULL)
        fputs(": a lock of Python's", stdout);
    if (event->times > 1)
        printf(", %lu times in all", event->times);
    puts(plain);
}

static void print_event(const struct fsafe_log *log, const struct fsafe_log_event *event)
{
    struct fsafe_position held = fsafe_explain_find_holder(log, event);
    struct fsafe_position wanted = fsafe_explain_find(log, &event->wanted);
    struct fsafe_position forked = fsafe_explain_find(log, &event->fork);
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

/* Whether the module has no debugging information, so that a culprit or a wanting place in it has no line. */
static bool is_missed(const struct fsafe_log *log, const char *module)
{
    for (size_t i = 0; i < log->count; i++) {
        const char *since = fsafe_explain_find(log, &log->events[i].since).without_lines;
        const char *wanted = fsafe_explain_find(log, &log->events[i].wanted).without_lines;
        if ((since != NULL && strcmp(since, module) == 0) || (wanted != NULL && strcmp(wanted, module) == 0))
            return true;
    }
    return false;
}

/* Says which file each module is, and where that is not the file of then: its lines would be wrong. */
static void print_modules(const struct fsafe_log *log)
{
    for (size_t i = 0; i < log->module_count; i++) {
        const struct fsafe_log_module *module = &log->modules[i];
        bool other = module->build_id != NULL &&
                     !fsafe_cli_is_module(fsafe_explain_file(log, module->name), module->build_id);
        printf("%s is %s%s\n", module->name, module->path,
               other ? ", but not the same as then (another build-id, or it is not there)" : "");
        if (!other && is_missed(log, module->name))
            printf("    it has no lines of source (stripped?): name the program as it was before with --debug=FILE,\n"
                   "    install its -dbgsym package or set DEBUGINFOD_URLS, or build it with -g\n");
    }
}

static void print_text(const struct fsafe_log *log)
{
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

int fsafe_cli_explain(int argc, char **argv)
{
    enum { TEXT, JSON = 256, HTML, SVG, DEBUG_FILE };
    static const struct option options[] = {
        {"debug", required_argument, NULL, DEBUG_FILE},
        {"json", no_argument, NULL, JSON},
        {"html", no_argument, NULL, HTML},
        {"svg", no_argument, NULL, SVG},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    static struct fsafe_log log;
    int form = TEXT;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'h')
            fsafe_cli_print_and_exit(help);
        if (option == '?')
            fsafe_cli_fail_option("explain");
        if (option != DEBUG_FILE)
            form = option;
        else if (debug_file_count < DEBUG_FILES)
            debug_files[debug_file_count++] = optarg;
    }
    if (optind == argc)
        fsafe_log_read(&log, stdin);
    for (; optind < argc; optind++) {
        FILE *file = strcmp(argv[optind], "-") == 0 ? stdin : fopen(argv[optind], "re");
        if (file == NULL)
            fsafe_cli_fail("cannot read %s: %s", argv[optind], strerror(errno));
        fsafe_log_read(&log, file);
        if (file != stdin)
            fclose(file);
    }
    fsafe_log_group(&log);
    name_locks(&log);
    choose_colors();
    if (form == TEXT)
        print_text(&log);
    else if (form != JSON)
        fsafe_explain_picture(&log, stdout, form == HTML);
    else if (!fsafe_explain_json(&log, stdout))
        fsafe_cli_fail("this forksafe was built without json-c: it cannot write JSON");
    return fflush(stdout) == EOF ? 125 : 0;
}
