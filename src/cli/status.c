/* cli/status: the processes that have the library in them, with their mode and the totals of their process tree. */
#include "config.h"

#include "cli/cli.h"
#include "cli/exit.h"
#include "cli/log.h"
#include "cli/process.h"
#include "report/tally.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: forksafe status\n"
    "List the processes that have libforksafe in them, one line each: process id, mode, totals\n"
    "of all processes that come from the same start of a program, command.\n"
    "\n"
    "  -h, --help   display this help and exit\n"
    "\n"
    "Shows the caller's processes; for root those of all users.\n"
    "\n"
    "Example:\n"
    "  forksafe status | grep gunicorn\n"
    "\n"
    "Exit status: 0 if there is such a process, 1 if there is none.\n";

/*
 * Finds the totals: in memory that the process shares with its children, or before its first fork among the library's
 * variables. The last part of the variables has no name in the map, and comes right after a part with a name. *loaded:
 * whether the process has the library.
 */
static bool find_tally(long pid, struct fsafe_tally *tally, bool *loaded)
{
    char line[4096];
    bool found = false, named = false;
    *loaded = false;
    FILE *file = fsafe_process_open(pid, "maps");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        unsigned long from, to;
        bool follows = named;
        named = strstr(line, "/libforksafe.so") != NULL;
        *loaded |= named;
        if (found || sscanf(line, "%lx-%lx", &from, &to) != 2 || to - from < sizeof *tally ||
            (strstr(line, " rw-s ") == NULL && !((named || follows) && strstr(line, " rw-p ") != NULL)))
            continue;
        /* The kernel may have joined it with other memory of that kind. */
        for (unsigned long at = from; !found && to - at >= sizeof *tally; at += 4096)
            found = fsafe_process_peek(pid, at, tally, sizeof *tally) && tally->mark == FSAFE_TALLY_MARK;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

/* The value of a variable in a file of /proc whose strings end with zeroes; "": it is not there. */
static void read_variable(long pid, const char *file_name, const char *variable, char *value, size_t bytes)
{
    char *entry = NULL;
    size_t room = 0, length = strlen(variable);
    value[0] = '\0';
    FILE *file = fsafe_process_open(pid, file_name);
    while (file != NULL && getdelim(&entry, &room, '\0', file) > 0) {
        if (strncmp(entry, variable, length) != 0)
            continue;
        snprintf(value, bytes, "%s", entry + length);
        break;
    }
    if (file != NULL)
        fclose(file);
    free(entry);
}

static void put_totals(const struct fsafe_tally *tally)
{
    static const char *const words[FSAFE_TOTALS] = {
#define FSAFE_TOTAL(name, key, words) words,
#include "report/tally.def"
    };
    printf("%lu %s, %lu %s", (unsigned long)tally->totals[FSAFE_TOTAL_FORKS], words[FSAFE_TOTAL_FORKS],
           (unsigned long)tally->totals[FSAFE_TOTAL_DRAINED], words[FSAFE_TOTAL_DRAINED]);
    for (unsigned i = 0; i < FSAFE_DEEDS; i++)
        if (tally->deeds[i] != 0)
            printf(", %lu %s", (unsigned long)tally->deeds[i], fsafe_log_deeds[i].key);
}

static void show(long pid, void *any)
{
    struct fsafe_tally tally;
    bool loaded, counts = find_tally(pid, &tally, &loaded);
    char mode[32], name[64];
    if (!loaded)
        return;
    read_variable(pid, "environ", "FORKSAFE_MODE=", mode, sizeof mode);
    fsafe_process_thread_name(pid, pid, name);
    printf("%ld\t%s\t", pid, !counts ? "off" : mode[0] != '\0' ? mode : "repair");
    if (counts)
        put_totals(&tally);
    printf("\t%s\n", name);
    *(bool *)any = true;
}

int fsafe_cli_status(int argc, char **argv)
{
    if (fsafe_exit_on_help(argc, argv, help) != argc)
        fsafe_exit_misused("status", "'status' takes no arguments");
    bool any = false;
    fsafe_process_each(show, &any);
    return fflush(stdout) == EOF ? FSAFE_EXIT_OURS : any ? 0 : 1;
}
