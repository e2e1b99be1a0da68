#include "config.h"

#include "cli/exit.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain(const char *format, va_list args)
{
    fputs("forksafe: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

_Noreturn void fsafe_exit_failing(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    exit(FSAFE_EXIT_OURS);
}

_Noreturn void fsafe_exit_wrong_option(const char *verb)
{
    fprintf(stderr, "Try 'forksafe%s%s --help' for more information.\n", *verb == '\0' ? "" : " ", verb);
    exit(FSAFE_EXIT_OURS);
}

_Noreturn void fsafe_exit_misused(const char *verb, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    fsafe_exit_wrong_option(verb);
}

_Noreturn void fsafe_exit_printing(const char *text)
{
    if (fputs(text, stdout) == EOF || fflush(stdout) == EOF)
        fsafe_exit_failing("cannot write: %s", strerror(errno));
    exit(EXIT_SUCCESS);
}

int fsafe_exit_on_help(int argc, char **argv, const char *text)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    const char *verb = argv[0];
    argv[0] = "forksafe"; /* for what getopt_long says */
    int option = getopt_long(argc, argv, "+h", options, NULL);
    if (option == 'h')
        fsafe_exit_printing(text);
    if (option != -1)
        fsafe_exit_wrong_option(verb);
    return optind;
}
