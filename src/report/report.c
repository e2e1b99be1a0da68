/*
 * report: see report.h.
 *
 * Measured. The deepest of our own stack frames: about 5 KiB (a report with a symbol looked up); a thread of
 * PTHREAD_STACK_MIN forks, and its child takes over a mutex, an rwlock and a semaphore.
 *
 * A write beyond RLIMIT_FSIZE raises SIGXFSZ, as one into a broken pipe raises SIGPIPE: fsafe_sys_offer removes both.
 */
#include "config.h"

#include "base/options.h"
#include "base/pages.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "libc/unwind.h"
#include "report/details.h"
#include "report/report.h"
#include "report/tally.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 1024, EVENT_BYTES = 4096 /* what a pipe takes in one piece */ };

/*
 * The directory in which the program was started: a daemon goes to "/" later, and a relative FORKSAFE_LOG stays here.
 */
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

/* The file that descriptor 2 was when the program started, or that the program put there by dup2 and the like. */
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
    if (fsafe_options.log[0] != '/' && is_file() && FSAFE_SYS(SYS_getcwd, directory, sizeof directory, 0, 0, 0, 0) <= 0)
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

/* begin_line and end_text write a line in plain words, in either form; the caller puts clean text between the two. */
static void begin_line(struct fsafe_text *line, char *buffer)
{
    bool json = fsafe_options.format == FSAFE_FORMAT_JSON;
    fsafe_text_begin(line, buffer, LINE_BYTES - sizeof "\"}");
    fsafe_text_string(line, json ? "{\"event\":\"note\",\"pid\":" : "forksafe[");
    fsafe_text_decimal(line, (unsigned long)fsafe_sys_getpid());
    fsafe_text_string(line, json ? ",\"tid\":" : ".");
    fsafe_text_decimal(line, (unsigned long)fsafe_sys_gettid());
    fsafe_text_string(line, json ? ",\"text\":\"" : "] ");
}

static void end_text(struct fsafe_text *line)
{
    line->capacity = LINE_BYTES;
    if (fsafe_options.format == FSAFE_FORMAT_JSON)
        fsafe_text_string(line, "\"}");
    fsafe_text_end_line(line);
}

/* Text that a user or a file system wrote, with what would break the line or JSON replaced. */
static void put_foreign(struct fsafe_text *line, const char *string, size_t most)
{
    if (fsafe_options.format == FSAFE_FORMAT_JSON)
        fsafe_text_json(line, string, most);
    else
        fsafe_text_clean(line, string, most);
}

/* Says on stderr, once in the process tree, that lines are lost, and why. */
static void tell_of_log(const char *name, int why)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    if (atomic_exchange_explicit(&fsafe_tally->log_refused, 1, memory_order_relaxed) != 0 || !is_stderr())
        return;
    begin_line(&line, buffer);
    fsafe_text_string(&line, "FORKSAFE_LOG: cannot open ");
    put_foreign(&line, name, 300);
    fsafe_text_string(&line, why == ENOENT   ? ": there is no such directory"
                             : why == EACCES ? ": that is not permitted"
                             : why == EISDIR ? ": it is a directory"
                             : why == ENXIO  ? ": it is a FIFO that nobody reads"
                                             : ": the kernel refuses");
    fsafe_text_string(&line, "; what belongs there is lost");
    end_text(&line);
    fsafe_sys_offer(STDERR_FILENO, line.buffer, line.length);
}

/*
 * The log file is opened for each line: a daemon that closes all descriptors it does not know would close ours, and
 * then give its number to a file of its own.
 */
void fsafe_report_send(const struct fsafe_text *line)
{
    int fd = STDERR_FILENO;
    bool own = is_file();
    if (own) {
        char name[sizeof directory + sizeof fsafe_options.log + 32];
        struct fsafe_text path;
        fsafe_text_begin(&path, name, sizeof name - 1);
        put_log_path(&path);
        name[path.length] = '\0';
        fd = fsafe_sys_open(name, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0640);
        if (fd < 0) {
            tell_of_log(name, -fd);
            return;
        }
    } else if (!is_stderr()) {
        return;
    }
    fsafe_sys_offer(fd, line->buffer, line->length);
    if (own)
        fsafe_sys_close(fd);
}

static void end_line(struct fsafe_text *line)
{
    end_text(line);
    fsafe_report_send(line);
}

const struct fsafe_deed_row fsafe_deed_rows[FSAFE_DEEDS] = {
#define FSAFE_DEED(name, key, words, advice) {key, words, advice},
#include "report/deeds.def"
#undef FSAFE_DEED
};

/* The kernel's name of a thread now; "" if the kernel does not tell. */
static void find_thread_name(pid_t pid, pid_t tid, char name[32])
{
    name[0] = '\0';
    int fd = pid != 0 ? fsafe_tasks_open(pid, tid, "comm", 0) : -1;
    if (fd < 0)
        return;
    ssize_t got = fsafe_sys_read(fd, name, 31);
    name[got > 0 ? got - 1 : 0] = '\0'; /* the kernel ends it with a newline */
    fsafe_sys_close(fd);
}

/* In memory of our own: all that a report needs is too much for the stack of a small thread. */
struct work {
    char buffer[EVENT_BYTES];
    char paths[FSAFE_PLACES][FSAFE_PATH_BYTES];
    struct fsafe_mapping mappings[FSAFE_PLACES];
    struct fsafe_details details;
    struct fsafe_unwind unwind;
};

static void find_places(struct work *work)
{
    const struct fsafe_event *event = work->details.event;
    struct fsafe_mapping *mappings = work->mappings;
    uintptr_t frames[FSAFE_FRAMES_MOST];
    mappings[FSAFE_LOCK_PLACE].address = event->address;
    mappings[FSAFE_WANTED_PLACE].address = event->wanted_at;
    mappings[FSAFE_SINCE_PLACE].address = event->holder.since;
    mappings[FSAFE_FORK_PLACE].address = event->fork.at;
    unsigned count =
        event->pid != 0 ? 0 : fsafe_unwind_here(&work->unwind, event->wanted_at, frames, fsafe_options.frames);
    for (unsigned i = 0; i < count; i++)
        mappings[FSAFE_WANTED_FRAMES + i].address = frames[i];
    count = fsafe_unwind_vanished(&work->unwind, event->holder.since, event->holder.stack, frames,
                                  fsafe_options.frames);
    for (unsigned i = 0; i < count; i++)
        mappings[FSAFE_SINCE_FRAMES + i].address = frames[i];
    for (unsigned i = 0; i < FSAFE_PLACES; i++)
        mappings[i].path = work->paths[i];
    fsafe_maps_find(mappings, FSAFE_PLACES);
    const struct fsafe_source *sources[FSAFE_PLACES] = {
        [FSAFE_WANTED_PLACE] = event->wanted_in,
        [FSAFE_SINCE_PLACE] = event->holder.source,
    };
    for (unsigned i = 0; i < FSAFE_PLACES; i++) {
        struct fsafe_place *place = &work->details.places[i];
        /* An interpreter's instruction lies in memory that the program writes: it has a source and no module. */
        if (sources[i] != NULL && mappings[i].found && mappings[i].writable)
            continue;
        fsafe_modules_place(&mappings[i], i != FSAFE_LOCK_PLACE, place);
        if (work->details.new_module_count < FSAFE_NEW_MODULES && place->module[0] != '\0' &&
            work->paths[i][0] == '/' && fsafe_tally_is_new_module(work->paths[i])) {
            struct fsafe_new_module *module = &work->details.new_modules[work->details.new_module_count++];
            module->name = place->module;
            module->path = work->paths[i];
            module->build_id_bytes = fsafe_modules_build_id(place->base, module->build_id);
        }
    }
}

static void put_json_again(struct fsafe_text *text, struct work *work)
{
    fsafe_text_begin(text, work->buffer, EVENT_BYTES - 1);
    fsafe_json_form(text, &work->details);
}

/* One whole object a line: if it gets too long it is made again without frames, then modules, then symbols. */
static void put_json(struct fsafe_text *text, struct work *work)
{
    fsafe_json_form(text, &work->details);
    if (text->cut) {
        for (unsigned i = FSAFE_FORK_PLACE + 1; i < FSAFE_PLACES; i++)
            work->details.places[i].address = 0;
        work->details.wanted_in[1].file[0] = work->details.held_in[1].file[0] = '\0';
        put_json_again(text, work);
    }
    if (text->cut) {
        work->details.new_module_count = 0;
        put_json_again(text, work);
    }
    if (text->cut) {
        for (unsigned i = 0; i < FSAFE_PLACES; i++)
            work->details.places[i].symbol[0] = '\0';
        put_json_again(text, work);
    }
    text->capacity++; /* for the newline */
}

static bool is_power_of_ten(uint64_t number)
{
    while (number % 10 == 0)
        number /= 10;
    return number == 1;
}

static void tell_without_memory(const struct fsafe_event *event)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    fsafe_text_string(&line, fsafe_deed_rows[event->deed].words);
    fsafe_text_string(&line, event->lock);
    fsafe_text_char(&line, ' ');
    fsafe_text_hex(&line, event->address);
    fsafe_text_string(&line, " (there is no memory to say more)");
    end_line(&line);
}

static const struct fsafe_report_sources *_Atomic known_sources;

void fsafe_report_know_sources(const struct fsafe_report_sources *sources)
{
    atomic_store_explicit(&known_sources, sources, memory_order_release);
}

static void find_sources(struct fsafe_event *event, struct fsafe_source *wanted_in, struct fsafe_source *held_in)
{
    const struct fsafe_report_sources *known = atomic_load_explicit(&known_sources, memory_order_acquire);
    if (known == NULL || event->pid != 0)
        return;
    if (event->wanted_in == NULL && known->here(wanted_in, 1) != 0)
        event->wanted_in = wanted_in;
    if (event->holder.source == NULL && known->held(&event->holder, held_in, 1) != 0)
        event->holder.source = held_in;
}

static void find_callers(struct fsafe_details *details, bool here, bool held)
{
    const struct fsafe_report_sources *known = atomic_load_explicit(&known_sources, memory_order_acquire);
    unsigned most = 1 + (fsafe_options.frames < FSAFE_CALLERS_MOST ? fsafe_options.frames : FSAFE_CALLERS_MOST);
    if (here)
        known->here(details->wanted_in, most);
    if (held)
        known->held(&details->event->holder, details->held_in, most);
}

void fsafe_report_event(const struct fsafe_event *told)
{
    struct fsafe_source wanted_in, held_in;
    struct fsafe_event copy = *told, *event = &copy;
    find_sources(event, &wanted_in, &held_in);
    uint64_t times = fsafe_tally_count(event);
    /* Each child that hangs gets a line, and each event in these modes. */
    bool all = fsafe_options.verbose || fsafe_options.mode == FSAFE_MODE_ABORT ||
               event->deed >= FSAFE_HANGS || event->deed == FSAFE_WOULD_HANG;
    if (!all && !is_power_of_ten(times))
        return;
    struct work *work = fsafe_pages_map(sizeof *work);
    if (work == NULL) {
        tell_without_memory(event);
        return;
    }
    struct fsafe_details *details = &work->details;
    details->event = event;
    details->times = times;
    details->again = times > 1 && !all;
    details->pid = event->pid != 0 ? event->pid : fsafe_sys_getpid();
    details->tid = event->pid != 0 ? event->tid : fsafe_sys_gettid();
    clock_gettime(CLOCK_REALTIME, &details->when);
    details->fork_age_ms = (uint32_t)(fsafe_sys_now_ns() / 1000000) - event->fork.when_ms;
    details->colored = !is_file() && fsafe_options.colors && is_terminal;
    find_callers(details, event->wanted_in == &wanted_in, event->holder.source == &held_in);
    find_places(work);
    FSAFE_SYS(SYS_prctl, PR_GET_NAME, details->own_name, 0, 0, 0, 0);
    /* The name of now, if the thread still runs: a program usually names a thread after the thread's first lock. */
    find_thread_name(event->holder.pid, event->holder.tid, details->holder_name);
    if (details->holder_name[0] == '\0')
        memcpy(details->holder_name, event->holder.name, sizeof event->holder.name);
    struct fsafe_text text;
    fsafe_text_begin(&text, work->buffer, EVENT_BYTES - 1);
    if (fsafe_options.format == FSAFE_FORMAT_JSON)
        put_json(&text, work);
    else
        fsafe_text_form(&text, details);
    fsafe_text_end_line(&text);
    fsafe_report_send(&text);
    fsafe_pages_unmap(work, sizeof *work);
}

void fsafe_report_bad_option(const char *variable, const char *value, const char *expected, const char *usual)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    put_foreign(&line, variable, 64);
    if (expected == NULL) {
        fsafe_text_string(&line, " is no setting, the nearest is ");
        fsafe_text_string(&line, usual);
    } else {
        fsafe_text_char(&line, '=');
        put_foreign(&line, value, 64);
        fsafe_text_string(&line, " is not ");
        fsafe_text_string(&line, expected);
        fsafe_text_string(&line, ": the default is used, ");
        fsafe_text_string(&line, usual);
    }
    end_line(&line);
}

void fsafe_report_note(const char *words)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    fsafe_text_string(&line, words);
    end_line(&line);
}

void fsafe_report_note_number(const char *words, unsigned long number)
{
    char buffer[LINE_BYTES];
    struct fsafe_text line;
    begin_line(&line, buffer);
    fsafe_text_string(&line, words);
    fsafe_text_decimal(&line, number);
    end_line(&line);
}
