/*
 * cli/explain: reads what the library wrote and writes each kind of event once: the culprit, the lines of source of the
 * event's places, and what to do about it.
 */
#include "config.h"

#include "base/text.h"
#include "cli/cli.h"
#include "cli/exit.h"
#include "cli/forms.h"
#include "cli/position.h"
#include "cli/source.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: forksafe explain [OPTION]... [FILE]...\n"
    "Read the lines that libforksafe wrote (standard input, or each FILE; - is standard input),\n"
    "text or json, and write each kind of event once: how often it happened, which line of\n"
    "source took the lock, which one wanted it, which one forked, and the callers of each.\n"
    "\n"
    "      --debug=FILE  a stripped program's debugging information: the program before it was\n"
    "                      stripped, or what objcopy --only-keep-debug kept of it; may be\n"
    "                      given several times\n"
    "      --json        one JSON array, an object for each kind of event\n"
    "      --html        a page with a picture of each kind\n"
    "      --svg         the pictures alone\n"
    "  -h, --help        display this help and exit\n"
    "\n"
    "Examples:\n"
    "  forksafe run --log=/tmp/log -- ./app ; forksafe explain /tmp/log\n"
    "  forksafe ./app 2>&1 | forksafe explain --html >/tmp/page.html\n"
    "\n"
    "Source lines need debugging information: build with -g, or install the -dbgsym package,\n"
    "or set DEBUGINFOD_URLS.\n";

/* Names locks by the module's tables: the library knows the names of exported variables only. */
static void name_locks(struct fsafe_log *log)
{
    for (size_t i = 0; i < log->count; i++) {
        struct fsafe_log_place *place = &log->events[i].lock_place;
        const char *path = fsafe_position_file(log, place->module);
        const char *name = place->symbol != NULL || path == NULL
                               ? NULL
                               : fsafe_source_variable(path, place->in_module, &place->offset);
        if (name != NULL)
            place->symbol = strdup(name);
    }
}

/* JSON and XML are UTF-8, and names may be anything: the kernel cuts a thread's in the middle of a character. */
static void print_valid(const char *text)
{
    enum { LONGEST = 4 };
    for (size_t length; *text != '\0'; text += length != 0 ? length : 1) {
        length = fsafe_text_utf8_length((const unsigned char *)text, LONGEST);
        fwrite(length != 0 ? text : "\xef\xbf\xbd", length != 0 ? length : 3, 1, stdout);
    }
}

/* Returns false where there is no JSON. */
static bool print_form(const struct fsafe_log *log, bool json, bool html)
{
    char *text = NULL;
    size_t bytes;
    FILE *memory = open_memstream(&text, &bytes);
    bool good = memory != NULL && (!json || fsafe_forms_json(log, memory));
    if (good && !json)
        fsafe_forms_picture(log, memory, html);
    if (memory == NULL || fclose(memory) != 0)
        fsafe_exit_failing("out of memory");
    print_valid(good ? text : "");
    free(text);
    return good;
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
    argv[0] = "forksafe"; /* for what getopt_long says */
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'h')
            fsafe_exit_printing(help);
        if (option == '?')
            fsafe_exit_wrong_option("explain");
        if (option != DEBUG_FILE)
            form = option;
        else if (access(optarg, R_OK) == 0)
            fsafe_position_add_file(optarg);
        else
            fsafe_exit_failing("cannot read %s: %s", optarg, strerror(errno));
    }
    if (optind == argc)
        fsafe_log_read(&log, stdin);
    for (; optind < argc; optind++) {
        FILE *file = strcmp(argv[optind], "-") == 0 ? stdin : fopen(argv[optind], "re");
        if (file != NULL)
            fsafe_log_read(&log, file);
        if (file == NULL || ferror(file))
            fsafe_exit_failing("cannot read %s: %s", argv[optind], strerror(errno));
        if (file != stdin)
            fclose(file);
    }
    fsafe_position_check_files(&log);
    fsafe_log_group(&log);
    name_locks(&log);
    if (form == TEXT)
        fsafe_forms_text(&log);
    else if (!print_form(&log, form == JSON, form == HTML))
        fsafe_exit_failing("this forksafe was built without json-c: it cannot write JSON");
    return fflush(stdout) == EOF ? FSAFE_EXIT_OURS : 0;
}
