/*
 * report/output: where lines go, and the lines in plain words. See report.h and details.h.
 */
#include "config.h"

#include "base/options.h"
#include "base/sys.h"
#include "report/details.h"
#include "report/report.h"
#include "report/tally.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The directory in which the program was started: where a relative FORKSAFE_LOG is, also when a daemon goes to "/". */
static char directory[1024];

/* The path of the log, with %p replaced. */
static void put_log_path(struct fsafe_text *path)
{
    if (fsafe_options.log[0] != '/' && directory[0] == '/')
        fsafe_text_put(path, "%s/", directory);
    for (const char *at = fsafe_options.log; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            fsafe_text_put(path, "%d", fsafe_sys_getpid());
            at++;
        } else {
            fsafe_text_char(path, *at);
        }
    }
}

static bool is_file(void)
{
    return fsafe_options.log[0] != '\0' && strcmp(fsafe_options.log, "stderr") != 0;
}

/* The file that descriptor 2 was at the program's start, or that the program put there by dup2. */
static struct stat known_stderr;
static bool has_stderr, is_terminal;

void fsafe_report_know_stderr(void)
{
    enum { TERMINALS = 4, PSEUDO = 136, LAST_PSEUDO = 143 }; /* Linux's major numbers of terminals */
    has_stderr = fsafe_sys_stat_fd(STDERR_FILENO, &known_stderr);
    unsigned kind = has_stderr && S_ISCHR(known_stderr.st_mode) ? known_stderr.st_rdev >> 8 & 0xfff : 0;
    is_terminal = kind == TERMINALS || (kind >= PSEUDO && kind <= LAST_PSEUDO);
}

void fsafe_report_start(void)
{
    if (fsafe_options.log[0] != '/' && is_file() && FSAFE_SYS(SYS_getcwd, directory, sizeof directory) <= 0)
        directory[0] = '\0';
}

/*
 * A program that closes descriptor 2, or was started without it, gets the number 2 for a file of its own, and a line of
 * ours would be in its data. So descriptor 2 must still be the very same file.
 */
static bool is_stderr(void)
{
    struct stat now;
    return has_stderr && fsafe_sys_stat_fd(STDERR_FILENO, &now) && now.st_dev == known_stderr.st_dev &&
           now.st_ino == known_stderr.st_ino;
}

bool fsafe_report_is_on_terminal(void)
{
    return !is_file() && is_terminal;
}

void fsafe_report_begin_note(struct fsafe_text *line, char buffer[FSAFE_NOTE_BYTES])
{
    bool json = fsafe_options.format == FSAFE_FORMAT_JSON;
    fsafe_text_begin(line, buffer, FSAFE_NOTE_BYTES - sizeof "\"}");
    fsafe_text_put(line, json ? "{\"event\":\"note\",\"pid\":%d,\"tid\":%d,\"text\":\"" : "forksafe[%d.%d] ",
                   fsafe_sys_getpid(), fsafe_sys_gettid());
}

static void end_text(struct fsafe_text *line)
{
    line->capacity = FSAFE_NOTE_BYTES;
    if (fsafe_options.format == FSAFE_FORMAT_JSON)
        fsafe_text_string(line, "\"}");
    fsafe_text_end_line(line);
}

/* Puts text that a user or a file system wrote, without the bytes that would break a line or JSON. */
static void put_foreign(struct fsafe_text *line, const char *string, size_t most)
{
    if (fsafe_options.format == FSAFE_FORMAT_JSON)
        fsafe_text_json(line, string, most);
    else
        fsafe_text_clean(line, string, most);
}

/* Says on stderr, once in the process tree, that the log cannot be written, and why. */
static void tell_of_log(const char *name, int why)
{
    char buffer[FSAFE_NOTE_BYTES];
    struct fsafe_text line;
    if (atomic_exchange_explicit(&fsafe_tally->log_refused, 1, memory_order_relaxed) != 0 || !is_stderr())
        return;
    fsafe_report_begin_note(&line, buffer);
    fsafe_text_string(&line, "FORKSAFE_LOG: cannot write to ");
    put_foreign(&line, name, 300);
    fsafe_text_put(&line, ": %s; what belongs there is lost",
                   why == ENOENT   ? "there is no such directory"
                   : why == EACCES ? "that is not permitted"
                   : why == EISDIR ? "it is a directory"
                   : why == ENXIO  ? "it is a FIFO that nobody reads"
                   : why == ENOSPC ? "the disk is full"
                   : why == EROFS  ? "the file system is read-only"
                                   : "the kernel refuses");
    end_text(&line);
    fsafe_sys_offer(STDERR_FILENO, line.buffer, line.length);
}

/*
 * The log file is opened for each line: a daemon that closes all descriptors it does not know would close ours, and
 * then give its number to a file of its own.
 */
void fsafe_report_send(const struct fsafe_text *line)
{
    if (is_file()) {
        char name[sizeof directory + sizeof fsafe_options.log + 32];
        struct fsafe_text path;
        fsafe_text_begin(&path, name, sizeof name - 1);
        put_log_path(&path);
        name[path.length] = '\0';
        int fd = fsafe_sys_open(name, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0640);
        long wrote = fd < 0 ? fd : fsafe_sys_offer(fd, line->buffer, line->length);
        if (fd >= 0)
            fsafe_sys_close(fd);
        if (wrote < 0)
            tell_of_log(name, (int)-wrote);
    } else if (is_stderr()) {
        fsafe_sys_offer(STDERR_FILENO, line->buffer, line->length);
    }
}

void fsafe_report_end_note(struct fsafe_text *line)
{
    end_text(line);
    fsafe_report_send(line);
}

void fsafe_report_bad_option(const char *variable, const char *value, const char *expected, const char *usual)
{
    char buffer[FSAFE_NOTE_BYTES];
    struct fsafe_text line;
    fsafe_report_begin_note(&line, buffer);
    put_foreign(&line, variable, 64);
    if (expected == NULL) {
        fsafe_text_put(&line, " is no setting, the nearest is %s", usual);
    } else {
        fsafe_text_char(&line, '=');
        put_foreign(&line, value, 64);
        fsafe_text_put(&line, " is not %s: the default is used, %s", expected, usual);
    }
    fsafe_report_end_note(&line);
}

void fsafe_report_note(const char *words)
{
    char buffer[FSAFE_NOTE_BYTES];
    struct fsafe_text line;
    fsafe_report_begin_note(&line, buffer);
    fsafe_text_string(&line, words);
    fsafe_report_end_note(&line);
}

void fsafe_report_note_number(const char *words, unsigned long number)
{
    char buffer[FSAFE_NOTE_BYTES];
    struct fsafe_text line;
    fsafe_report_begin_note(&line, buffer);
    fsafe_text_put(&line, "%s%lu", words, number);
    fsafe_report_end_note(&line);
}
