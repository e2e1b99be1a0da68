/* report: see report.h. The form of a line is explained in libforksafe(7). */
#include "config.h"

#include "base/maps.h"
#include "base/options.h"
#include "base/sys.h"
#include "base/text.h"
#include "libc/modules.h"
#include "report/report.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };

/* Where the program was started: a daemon goes to "/" later, and its relative FORKSAFE_LOG stays. */
static char directory[1024];

/* The file of FORKSAFE_LOG with %p replaced. */
static void put_log_path(struct fsafe_text *path)
{
    if (fsafe_options.log[0] != '/' && directory[0] == '/') {
        fsafe_text_string(path, directory);
        fsafe_text_char(path, '/');
    }
    for (const char *at = fsafe_options.log; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            fsafe_text_decimal(path, (unsigned long)fsafe_sys_getpid());
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

/* What descriptor 2 was when the program started, or was made by it on purpose. */
static struct stat known_stderr;
static bool has_stderr;

void fsafe_report_know_stderr(void)
{
    has_stderr = fsafe_sys_stat_fd(STDERR_FILENO, &known_stderr);
}

void fsafe_report_start(void)
{
    if (fsafe_options.log[0] != '/' && is_file() && FSAFE_SYS(SYS_getcwd, directory, sizeof directory, 0, 0, 0, 0) <= 0)
        directory[0] = '\0';
}

/*
 * A program that closes descriptor 2, or was started without, gets the number again for a file of its own, and a line
 * of ours would be in its data. So it must still be the very same thing.
 */
static bool is_stderr(void)
{
    struct stat now;
    return has_stderr && fsafe_sys_stat_fd(STDERR_FILENO, &now) && now.st_dev == known_stderr.st_dev &&
           now.st_ino == known_stderr.st_ino;
}

/*
 * The log file is opened for each line: a descriptor kept open would be closed by daemons that close all
 * they do not know, and the number given to a file of theirs.
 */
static void send(struct fsafe_text *line)
{
    fsafe_text_end_line(line);
    int fd = STDERR_FILENO;
    bool own = is_file();
    if (own) {
        char name[sizeof directory + sizeof fsafe_options.log + 32];
        struct fsafe_text path;
        fsafe_text_begin(&path, name, sizeof name - 1);
        put_log_path(&path);
        name[path.length] = '\0';
        fd = fsafe_sys_open(name, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0640);
        if (fd < 0)
            return;
    } else if (!is_stderr()) {
        return;
    }
    fsafe_sys_offer(fd, line->buffer, line->length);
    if (own)
        fsafe_sys_close(fd);
}

static void begin_line(struct fsafe_text *line, char *buffer)
{
    fsafe_text_begin(line, buffer, LINE_BYTES);
    fsafe_text_string(line, "forksafe[");
    fsafe_text_decimal(line, (unsigned long)fsafe_sys_getpid());
    fsafe_text_char(line, '.');
    fsafe_text_decimal(line, (unsigned long)fsafe_sys_gettid());
    fsafe_text_string(line, "] ");
}

/* symbol+0xoffset in module+0xoffset, as far as it is known. */
static void put_place(struct fsafe_text *line, const struct fsafe_mapping *place)
{
    char name[64];
    uintptr_t offset;
    if (fsafe_modules_symbol(place, name, sizeof name, &offset)) {
        fsafe_text_clean(line, name, sizeof name);
        fsafe_text_char(line, '+');
        fsafe_text_hex(line, offset);
        fsafe_text_string(line, " in ");
    }
    if (place->found && place->module[0] != '\0') {
        fsafe_text_clean(line, place->module, sizeof place->module);
        fsafe_text_char(line, '+');
        fsafe_text_hex(line, place->address - place->base);
    } else {
        fsafe_text_hex(line, place->address);
    }
}

/* <name of the variable>, when the lock is one that its module exports. */
static void put_lock_name(struct fsafe_text *line, const struct fsafe_mapping *place)
{
    char name[64];
    uintptr_t offset;
    if (!fsafe_modules_symbol(place, name, sizeof name, &offset))
        return;
    fsafe_text_string(line, " <");
    fsafe_text_clean(line, name, sizeof name);
    if (offset != 0) {
        fsafe_text_char(line, '+');
        fsafe_text_hex(line, offset);
    }
    fsafe_text_char(line, '>');
}

/*
 * The thread's name as it is now, if the process it lives in still runs; else as it was when the thread
 * first took a lock. A program usually names a thread after that.
 */
static void put_thread_name(struct fsafe_text *line, const struct fsafe_holder *holder)
{
    char name[32] = "";
    char path[64];
    struct fsafe_text text;
    fsafe_text_begin(&text, path, sizeof path - 1);
    fsafe_text_string(&text, "/proc/");
    fsafe_text_decimal(&text, (unsigned long)holder->pid);
    fsafe_text_string(&text, "/task/");
    fsafe_text_decimal(&text, (unsigned long)holder->tid);
    fsafe_text_string(&text, "/comm");
    path[text.length] = '\0';
    int fd = holder->pid != 0 ? fsafe_sys_open(path, O_RDONLY, 0) : -1;
    if (fd >= 0) {
        ssize_t got = fsafe_sys_read(fd, name, sizeof name - 1);
        name[got > 0 ? got - 1 : 0] = '\0'; /* the kernel ends it with a newline */
        fsafe_sys_close(fd);
    }
    if (name[0] == '\0')
        memcpy(name, holder->name, sizeof holder->name);
    if (name[0] == '\0')
        return;
    fsafe_text_string(line, " \"");
    fsafe_text_clean(line, name, sizeof name);
    fsafe_text_char(line, '"');
}

static void put_holder(struct fsafe_text *line, const struct fsafe_holder *holder,
                       const struct fsafe_mapping *since, bool in_use)
{
    fsafe_text_string(line, in_use ? " in use at fork by " : " held at fork by ");
    if (holder->tid == 0) {
        fsafe_text_string(line, "an unknown thread");
    } else {
        fsafe_text_decimal(line, (unsigned long)holder->tid);
        put_thread_name(line, holder);
    }
    if (holder->since != 0) {
        fsafe_text_string(line, " since ");
        put_place(line, since);
    }
}

static void put_fork(struct fsafe_text *line, const struct fsafe_fork *fork, const struct fsafe_mapping *at)
{
    if (fork->number == 0)
        return;
    fsafe_text_string(line, "; fork ");
    fsafe_text_decimal(line, fork->number);
    fsafe_text_string(line, " by ");
    fsafe_text_decimal(line, (unsigned long)fork->tid);
    if (fork->at != 0) {
        fsafe_text_string(line, " in ");
        put_place(line, at);
    }
}

void fsafe_report_event(const struct fsafe_event *event)
{
    static const char *const deeds[] = {
        [FSAFE_TOOK_OVER] = "child took over ",
        [FSAFE_WOULD_HANG] = "child would hang on ",
        [FSAFE_FORGOT] = "child forgot ",
        [FSAFE_MAY_HANG] = "child may hang on ",
        [FSAFE_REFUSED] = "child may hang on ",
        [FSAFE_WENT_ROUND] = "child went round ",
        [FSAFE_HANGS] = "child hangs in ",
        [FSAFE_WAITS_FOR_HANDLER] = "only a signal handler can end the child's wait in ",
        [FSAFE_WENT_ON] = "child went on after its wait in ",
    };
    enum { LOCK, WANTED, SINCE, FORK, PLACES };
    struct fsafe_mapping places[PLACES] = {
        [LOCK] = {.address = event->address},
        [WANTED] = {.address = event->wanted_at},
        [SINCE] = {.address = event->holder.since},
        [FORK] = {.address = event->fork.at},
    };
    fsafe_maps_find(places, PLACES);

    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    fsafe_text_string(&line, deeds[event->deed]);
    if (event->deed == FSAFE_FORGOT) {
        fsafe_text_decimal(&line, event->count);
        fsafe_text_string(&line, event->count == 1 ? " vanished thread in " : " vanished threads in ");
    }
    fsafe_text_string(&line, event->lock);
    if (event->address != 0) {
        fsafe_text_char(&line, ' ');
        fsafe_text_hex(&line, event->address);
        put_lock_name(&line, &places[LOCK]);
    }
    fsafe_text_string(&line, " (");
    fsafe_text_string(&line, event->kind);
    fsafe_text_string(&line, ") for ");
    put_place(&line, &places[WANTED]);
    /* Of a wait that has no owner mostly nobody is known, nor does it matter when it is over. */
    if (event->deed < FSAFE_HANGS || event->holder.tid != 0)
        put_holder(&line, &event->holder, &places[SINCE], event->in_use);
    put_fork(&line, &event->fork, &places[FORK]);
    if (event->why != NULL) {
        fsafe_text_string(&line, "; not taken over because ");
        fsafe_text_string(&line, event->why);
    }
    send(&line);
}

void fsafe_report_bad_option(const char *variable, const char *value, const char *expected)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    fsafe_text_string(&line, variable);
    fsafe_text_char(&line, '=');
    fsafe_text_clean(&line, value, 64);
    fsafe_text_string(&line, " is not ");
    fsafe_text_string(&line, expected);
    fsafe_text_string(&line, ": the default is used");
    send(&line);
}

void fsafe_report_note(const char *words)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    fsafe_text_string(&line, words);
    send(&line);
}

void fsafe_report_note_number(const char *words, unsigned long number)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    fsafe_text_string(&line, words);
    fsafe_text_decimal(&line, number);
    send(&line);
}
