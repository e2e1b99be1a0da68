/*
 * forksafe: starts a program under libforksafe; its verbs explain what the library wrote, and why a process hangs.
 *
 * Sets LD_PRELOAD and the library's settings in the environment, then becomes the command: no process and no file
 * descriptor of its own remains. Nothing here is linked with the library.
 *
 * Exit status, as for env(1) and stdbuf(1): 125 if the launcher itself fails, 126 if the command is found but cannot be
 * run, 127 if it is not found, otherwise the command's own.
 */
#include "config.h"

#include "cli/cli.h"
#include "cli/exit.h"
#include "cli/target.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PRELOAD_SEPARATORS " :" /* ld.so(8) splits at both and knows no escape */

enum { EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

/* What each setting takes, by the library's own table: one of several words, "a|b|c", a number, or any text. */
static const struct {
    const char *variable, *words;
    unsigned long most;
} rows[] = {
#define FSAFE_CHOICE(variable, field, words) {#variable, words, 0},
#define FSAFE_NUMBER(variable, field, usual, most) {#variable, NULL, most},
#define FSAFE_STRING(variable, field, bytes) {#variable, NULL, 0},
#include "base/options.def"
};

static const char help[] =
    "Usage: forksafe [run] [OPTION]... [--] COMMAND [ARG]...\n"
    "  or:  forksafe explain [OPTION]... [FILE]...\n"
    "  or:  forksafe check PID... | COMMAND\n"
    "  or:  forksafe status\n"
    "Run COMMAND under libforksafe: its forked children do not hang on locks held by\n"
    "threads that only the parent has. explain: the source behind what the library\n"
    "wrote. check: whether a process hangs because of a fork, and on which lock, or\n"
    "whether the library can be in a command. status: which processes have it.\n"
    "A COMMAND with the name of a verb is started by 'forksafe run'.\n"
    "\n"
    "      --mode=MODE  what to do when a child would hang on such a lock:\n"
    "                     repair  give the lock to the child and say so (default)\n"
    "                     report  say so and let it hang\n"
    "                     abort   say so and end the child with SIGABRT\n"
    "                     off     nothing\n"
    "      --log=FILE   append the lines to FILE instead of standard error; %p in FILE\n"
    "                     stands for the process id\n"
    "      --format=FORM  text (default) or json, one object a line\n"
    "      --drain-ms=N   how many milliseconds a fork may wait for threads inside libc\n"
    "                     (1000; 0: it waits for no thread)\n"
    "      --hang-ms=N    after how many milliseconds a line names a child's wait that\n"
    "                     nobody can end (1000; 0: never)\n"
    "      --frames=N     how many callers of a place to name (4)\n"
    "      --summary    totals of the whole process tree when its first process ends\n"
    "      --verbose    also say which programs and children are protected\n"
    "  -h, --help       display this help and exit\n"
    "      --version    output version information and exit\n"
    "\n"
    "The options set the variables of libforksafe(7), which can be set directly as well.\n"
    "\n"
    "Examples:\n"
    "  forksafe run --log=/tmp/log -- gunicorn --preload app:app\n"
    "  forksafe explain /tmp/log\n"
    "\n"
    "Exit status: 125 if forksafe itself fails, 126 if COMMAND is found but cannot be\n"
    "run, 127 if it cannot be found, otherwise the exit status of COMMAND.\n";

static void set_variable(const char *name, const char *value)
{
    if (setenv(name, value, 1) != 0)
        fsafe_exit_failing("cannot set %s: %s", name, strerror(errno));
}

static bool is_among(const char *value, const char *words)
{
    size_t length = strlen(value);
    for (;;) {
        size_t word = strcspn(words, "|");
        if (word == length && strncmp(words, value, length) == 0)
            return true;
        if (words[word] == '\0')
            return false;
        words += word + 1;
    }
}

static bool is_number(const char *value, unsigned long most)
{
    char *end;
    errno = 0;
    return strspn(value, "0123456789") != 0 && strtoul(value, &end, 10) <= most && errno == 0 && *end == '\0';
}

/* Ends if the value is wrong. (The library would use the default and go on.) */
static void set_checked(const char *variable, const char *value)
{
    size_t row = 0;
    while (strcmp(rows[row].variable, variable) != 0)
        row++;
    if (rows[row].words != NULL && !is_among(value, rows[row].words))
        fsafe_exit_misused("", "'%s' is none of %s", value, rows[row].words);
    if (rows[row].most != 0 && !is_number(value, rows[row].most))
        fsafe_exit_misused("", "'%s' is not a whole number from 0 to %lu", value, rows[row].most);
    set_variable(variable, value);
}

/* Sets LD_PRELOAD: our library first, then the entries that were there, without other libforksafes. */
static void set_preload(const char *library)
{
    const char *before = getenv("LD_PRELOAD");
    char *others = strdup(before != NULL ? before : "");
    char *preload = malloc(strlen(library) + strlen(before != NULL ? before : "") + 2);
    if (others == NULL || preload == NULL)
        fsafe_exit_failing("%s", strerror(errno));
    char *rest, *end = stpcpy(preload, library);
    for (char *entry = strtok_r(others, PRELOAD_SEPARATORS, &rest); entry != NULL;
         entry = strtok_r(NULL, PRELOAD_SEPARATORS, &rest))
        if (!fsafe_target_is_library(entry))
            end = stpcpy(stpcpy(end, ":"), entry);
    set_variable("LD_PRELOAD", preload);
    free(preload);
    free(others);
}

static void parse_options(int argc, char **argv)
{
    enum { OPT_VERSION = UCHAR_MAX + 1, FIRST };
    /* `value`: what the option stands for; NULL: its argument. */
    static const struct {
        const char *option, *variable, *value;
    } settings[] = {
        {"mode", "FORKSAFE_MODE", NULL},
        {"log", "FORKSAFE_LOG", NULL},
        {"format", "FORKSAFE_FORMAT", NULL},
        {"drain-ms", "FORKSAFE_DRAIN_MS", NULL},
        {"hang-ms", "FORKSAFE_HANG_MS", NULL},
        {"frames", "FORKSAFE_FRAMES", NULL},
        {"summary", "FORKSAFE_SUMMARY", "1"},
        {"verbose", "FORKSAFE_VERBOSE", "1"},
    };
    enum { SETTINGS = sizeof settings / sizeof *settings };
    struct option options[SETTINGS + 3] = {
        [SETTINGS] = {"help", no_argument, NULL, 'h'},
        [SETTINGS + 1] = {"version", no_argument, NULL, OPT_VERSION},
    };
    for (int i = 0; i < SETTINGS; i++)
        options[i] = (struct option){settings[i].option, settings[i].value == NULL, NULL, FIRST + i};
    int option;
    while ((option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
        if (option == 'h')
            fsafe_exit_printing(help);
        if (option == OPT_VERSION)
            fsafe_exit_printing("forksafe (" PACKAGE_NAME ") " PACKAGE_VERSION "\n");
        if (option < FIRST)
            fsafe_exit_wrong_option("");
        const char *value = settings[option - FIRST].value;
        set_checked(settings[option - FIRST].variable, value != NULL ? value : optarg);
    }
    if (optind == argc)
        fsafe_exit_misused("", "which command?");
}

int main(int argc, char **argv)
{
    char library[PATH_MAX];
    if (argc > 1 && strcmp(argv[1], "explain") == 0)
        return fsafe_cli_explain(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "check") == 0)
        return fsafe_cli_check(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "status") == 0)
        return fsafe_cli_status(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "run") == 0) {
        argc--;
        argv++;
    }
    argv[0] = "forksafe"; /* for what getopt_long says */
    parse_options(argc, argv);
    fsafe_target_find_library(library);
    if (strpbrk(library, PRELOAD_SEPARATORS) != NULL)
        fsafe_exit_failing("LD_PRELOAD cannot name '%s': it has a space or colon in it", library);
    struct fsafe_target target;
    fsafe_target_look(&target, argv[optind], library);
    fsafe_target_print(stderr, &target, argv[optind]);
    if (!target.refuses) /* also if the program itself cannot have the library: programs that it starts may */
        set_preload(library);

    execvp(argv[optind], argv + optind);
    int status = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
    fprintf(stderr, "forksafe: cannot run '%s': %s\n", argv[optind], strerror(errno));
    return status;
}
