/*
 * cli/explain: reads what the library wrote and prints each kind of event once, with the source behind its places and
 * what to do about it.
 */
#include "config.h"

#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: forksafe explain [FILE]...\n"
    "Read the lines that libforksafe wrote (standard input, or each FILE; - is standard input)\n"
    "and print each kind of event once: how often it was, and for each place function, file and\n"
    "line in the source, C++ names in their written form.\n"
    "\n"
    "  -h, --help   display this help and exit\n"
    "\n"
    "Examples:\n"
    "  forksafe run --log=/tmp/log -- ./app ; forksafe explain /tmp/log\n"
    "  forksafe ./app 2>&1 | forksafe explain\n"
    "\n"
    "Source lines need debugging information: build with -g, or install the -dbgsym package,\n"
    "or set DEBUGINFOD_URLS.\n";

/* A line and the indented ones below it. */
struct event {
    char **lines;
    size_t count;
    unsigned long times;
};

static struct event *events;
static size_t event_count;

/* Where modules are, as the events say it. */
static struct {
    char *name, *path;
} *known;
static size_t known_count;

static void *grow(void *array, size_t count, size_t bytes)
{
    void *more = (count & (count - 1)) != 0 ? array : realloc(array, (count == 0 ? 1 : 2 * count) * bytes);
    if (more == NULL)
        fsafe_cli_fail("out of memory");
    return more;
}

/* "    NAME is /PATH, build-id ID" */
static void learn_module(const char *line)
{
    const char *is = strstr(line, " is /");
    while (*line == ' ')
        line++;
    if (is == NULL || is <= line || memchr(line, ' ', (size_t)(is - line)) != NULL)
        return;
    known = grow(known, known_count, sizeof *known);
    const char *path = is + 4, *end = strstr(path, ", build-id ");
    known[known_count].name = strndup(line, (size_t)(is - line));
    known[known_count].path = strndup(path, end != NULL ? (size_t)(end - path) : strlen(path));
    known_count++;
}

static const char *path_of(const char *name, size_t length)
{
    for (size_t i = 0; i < known_count; i++)
        if (strlen(known[i].name) == length && memcmp(known[i].name, name, length) == 0)
            return known[i].path;
    return NULL;
}

/* What follows "] ", where an event begins; NULL for other lines. */
static const char *beginning_of(const char *line)
{
    int used = 0;
    unsigned long pid, tid;
    bool ours = sscanf(line, "forksafe[%lu.%lu] %n", &pid, &tid, &used) == 2 && used > 0;
    return ours && strncmp(line + used, "child ", 6) == 0 ? line + used : NULL;
}

static void read_from(FILE *file)
{
    char *line = NULL;
    size_t room = 0;
    bool inside = false;
    ssize_t length;
    while ((length = getline(&line, &room, file)) >= 0) {
        if (length > 0 && line[length - 1] == '\n')
            line[length - 1] = '\0';
        bool begins = beginning_of(line) != NULL;
        inside = begins || (inside && strncmp(line, "    ", 4) == 0);
        if (!inside)
            continue;
        if (begins) {
            events = grow(events, event_count, sizeof *events);
            events[event_count++] = (struct event){.times = 1};
            const char *far = strstr(line, ", so far ");
            if (far != NULL)
                events[event_count - 1].times = strtoul(far + 9, NULL, 10);
        } else {
            learn_module(line);
        }
        struct event *event = &events[event_count - 1];
        event->lines = grow(event->lines, event->count, sizeof *event->lines);
        event->lines[event->count++] = strdup(line);
    }
    free(line);
}

/* Whether both are of one kind: what was done to what, for which place. Numbers of processes and addresses differ. */
static bool is_alike(const struct event *one, const struct event *other)
{
    const char *a = beginning_of(one->lines[0]), *b = beginning_of(other->lines[0]);
    while (*a != '\0' && *b != '\0') {
        if (isxdigit((unsigned char)*a) && isxdigit((unsigned char)*b)) {
            while (isxdigit((unsigned char)*a) || *a == 'x')
                a++;
            while (isxdigit((unsigned char)*b) || *b == 'x')
                b++;
        } else if (*a != *b) {
            break;
        } else {
            a++;
            b++;
        }
    }
    /* What is told again has its first line only. */
    bool same = (*a == '\0' || strncmp(a, ", so far", 8) == 0) && (*b == '\0' || strncmp(b, ", so far", 8) == 0);
    if (!same || one->count == 1 || other->count == 1)
        return same;
    for (size_t i = 1; i < one->count && i < other->count; i++)
        if ((strstr(one->lines[i], "since ") != NULL || strstr(one->lines[i], "wanted in ") != NULL) &&
            strcmp(one->lines[i], other->lines[i]) != 0)
            return false;
    return true;
}

/* The source behind "... in MODULE+0xADDRESS" or "MODULE+0xADDRESS" at the end of a line. */
static void print_source(const char *line)
{
    const char *plus = strrchr(line, '+');
    if (plus == NULL || strncmp(plus, "+0x", 3) != 0)
        return;
    char *end;
    unsigned long long address = strtoull(plus + 1, &end, 16);
    const char *name = plus;
    while (name > line && name[-1] != ' ')
        name--;
    const char *path = *end == '\0' ? path_of(name, (size_t)(plus - name)) : NULL;
    if (path != NULL)
        fsafe_cli_print_source(stdout, "            ", path, address);
}

static void print_event(const struct event *event, unsigned long times)
{
    puts(event->lines[0]);
    if (times > 1)
        printf("    %lu times in all\n", times);
    for (size_t i = 1; i < event->count; i++) {
        puts(event->lines[i]);
        if (strstr(event->lines[i], "the lock is") == NULL)
            print_source(event->lines[i]);
    }
}

int fsafe_cli_explain(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'h')
            fsafe_cli_print_and_exit(help);
        fsafe_cli_fail_usage("explain", "see above");
    }
    if (optind == argc)
        read_from(stdin);
    for (; optind < argc; optind++) {
        FILE *file = strcmp(argv[optind], "-") == 0 ? stdin : fopen(argv[optind], "re");
        if (file == NULL)
            fsafe_cli_fail("cannot read %s: %s", argv[optind], strerror(errno));
        read_from(file);
        if (file != stdin)
            fclose(file);
    }
    for (size_t i = 0; i < event_count; i++) {
        if (events[i].times == 0 || events[i].lines == NULL)
            continue;
        /* Processes that share a count say the total so far; those that do not say each its own. */
        unsigned long times = events[i].times;
        for (size_t other = i + 1; other < event_count; other++) {
            if (events[other].times == 0 || !is_alike(&events[i], &events[other]))
                continue;
            times = events[other].times > 1 ? (events[other].times > times ? events[other].times : times) : times + 1;
            events[other].times = 0;
        }
        print_event(&events[i], times);
    }
    if (event_count == 0)
        puts("No event: no child came upon a lock of a thread that vanished.");
#ifndef HAVE_LIBDW
    else
        puts("This forksafe was built without elfutils: it cannot look up source lines. See addr2line(1).");
#endif
    return fflush(stdout) == EOF ? 125 : 0;
}
