/* Our syslog client against libc's, call by call: the same calls are made by one process through libc and by another
 * through the client; what the daemon, stderr and the console get, and what setlogmask answers, must be the same to
 * the byte. Links core, interposes nothing. Speaks TAP. */
#include "libc/symbol.h"
#include "private_dev.h"
#include "standin/logger.h"

#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <syslog.h>

extern void __vsyslog_chk(int priority, int flag, const char *format, va_list arguments);

/* --- Calls --------------------------------------------------------------------------------------------------- */

enum what { OPEN, CLOSE, MASK, LOG, LOG_LONG, DAEMON, RENAME, IDENT_CHANGES, CALLS };
enum { NO_DAEMON, DATAGRAMS, STREAM };

struct call {
    enum what what;
    const char *text; /* ident or format */
    int a, b;         /* option, facility; mask; priority, length or errno; kind of daemon */
};

enum { MOST = 40 };
struct script {
    struct call call[MOST];
    int count;
};

static void add(struct script *script, enum what what, const char *text, int a, int b)
{
    script->call[script->count++] = (struct call){what, text, a, b};
}

/* --- One run of a script ----------------------------------------------------------------------------------------- */

enum { ROOM = 1 << 22 };
struct transcript {
    size_t length;
    char text[ROOM];
};

static void note(struct transcript *to, const void *bytes, size_t count)
{
    if (to->length + count > ROOM)
        count = ROOM - to->length;
    memcpy(to->text + to->length, bytes, count);
    to->length += count;
}

__attribute__((format(printf, 2, 3))) static void note_text(struct transcript *to, const char *format, ...)
{
    char text[256];
    va_list values;
    va_start(values, format);
    const int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    note(to, text, (size_t)length);
}

/* The pid, which no two runs share, becomes a word. */
static void note_from(struct transcript *to, const char *where, const char *bytes, size_t count)
{
    char pid[16];
    const size_t digits = (size_t)snprintf(pid, sizeof pid, "[%d]", (int)getpid());
    note_text(to, "%s(%zu): ", where, count);
    for (const char *at = bytes, *end = bytes + count; at < end;) {
        const char *found = memmem(at, (size_t)(end - at), pid, digits);
        note(to, at, (size_t)((found ? found : end) - at));
        if (!found)
            break;
        note_text(to, "[PID]");
        at = found + digits;
    }
    note_text(to, "\n");
}

static int server = -1, server_type, peers[64], peer_count;
static char incoming[1 << 20];

static void become_daemon(int kind)
{
    if (server >= 0)
        close(server);
    while (peer_count > 0)
        close(peers[--peer_count]);
    unlink("/dev/log");
    server_type = kind == STREAM ? SOCK_STREAM : SOCK_DGRAM;
    server = kind == NO_DAEMON ? -1 : private_daemon(server_type | SOCK_NONBLOCK);
}

static void read_as_daemon(struct transcript *to)
{
    ssize_t got;
    if (server >= 0 && server_type == SOCK_STREAM) {
        int peer;
        while ((peer = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
            peers[peer_count++] = peer;
            note_text(to, "connection %d\n", peer_count);
        }
        for (int i = 0; i < peer_count; i++)
            while ((got = recv(peers[i], incoming, sizeof incoming, 0)) > 0)
                note_from(to, "stream", incoming, (size_t)got);
    } else if (server >= 0) {
        while ((got = recv(server, incoming, sizeof incoming, 0)) >= 0)
            note_from(to, "datagram", incoming, (size_t)got);
    }
}

static void read_from(struct transcript *to, const char *where, int fd)
{
    const ssize_t got = read(fd, incoming, sizeof incoming);
    if (got > 0)
        note_from(to, where, incoming, (size_t)got);
}

__attribute__((format(printf, 4, 5))) static void write_one(bool client, bool fortified, int priority,
                                                           const char *format, ...)
{
    va_list values;
    va_start(values, format);
    if (client)
        fsafe_logger_write(priority, fortified ? 1 : -1, format, values);
    else if (fortified)
        __vsyslog_chk(priority, 1, format, values);
    else
        vsyslog(priority, format, values);
    va_end(values);
}

#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"

static char changing_ident[] = "before";

static void make(const struct call *call, bool client, struct transcript *to)
{
    switch (call->what) {
    case OPEN:
        (client ? fsafe_logger_open : openlog)(call->text, call->a, call->b);
        break;
    case CLOSE:
        (client ? fsafe_logger_close : closelog)();
        break;
    case MASK:
        note_text(to, "mask %x\n", (unsigned)(client ? fsafe_logger_mask : setlogmask)(call->a));
        break;
    case LOG:
        errno = call->b;
        write_one(client, (call->a & 1) != 0, call->a, call->text, "text", 42, 2.5, L"wide", 0);
        if (client && errno != call->b)
            note_text(to, "errno changed to %d\n", errno);
        break;
    case LOG_LONG: {
        /* What a stream does not hold would wait for us to read it. */
        const size_t length = server >= 0 && server_type == SOCK_STREAM && call->b > 100000 ? 100000 : (size_t)call->b;
        char *text = malloc(length + 1);
        memset(text, 'x', length);
        text[length] = '\0';
        errno = ENOENT;
        write_one(client, false, call->a, call->text, text);
        free(text);
        break;
    }
    case DAEMON:
        become_daemon(call->a);
        break;
    case RENAME:
        program_invocation_short_name = (char *)(uintptr_t)call->text;
        break;
    case IDENT_CHANGES: /* libc keeps the pointer */
        memcpy(changing_ident, call->text, 6);
        break;
    default:
        break;
    }
}

static void play(const struct script *script, bool client, struct transcript *to)
{
    const int error = memfd_create("stderr", MFD_CLOEXEC);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", error);
    const int error_reader = open(path, O_RDONLY | O_CLOEXEC);
    const int console_reader = open("/dev/console", O_RDONLY | O_CLOEXEC);
    if (truncate("/dev/console", 0) != 0 || dup2(error, STDERR_FILENO) < 0)
        _exit(3);
    alarm(60);
    for (int i = 0; i < script->count; i++) {
        note_text(to, "- %d\n", i);
        make(&script->call[i], client, to);
        read_as_daemon(to);
        read_from(to, "stderr", error_reader);
        lseek(console_reader, 0, SEEK_SET); /* nobody opens it for appending */
        read_from(to, "console", console_reader);
        if (truncate("/dev/console", 0) != 0)
            _exit(3);
    }
    _exit(0);
}

static struct transcript *transcripts; /* libc's and ours, shared with the processes that write them */

static bool run(const struct script *script, bool client)
{
    transcripts[client].length = 0;
    const pid_t child = fork();
    if (child == 0) {
        fsafe_logger_note_message(LOG_EMERG); /* the zone, as if libc had been about to log in the parent */
        play(script, client, &transcripts[client]);
    }
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* --- TAP ---------------------------------------------------------------------------------------------------------- */

static int reported;

static void ok(bool good, const char *name)
{
    printf("%s %d - %s\n", good ? "ok" : "not ok", ++reported, name);
    fflush(stdout);
}

static void show(const char *whose, const struct transcript *text, size_t from)
{
    printf("# %s: ", whose);
    for (size_t i = from > 200 ? from - 200 : 0; i < text->length && i < from + 200; i++)
        printf(text->text[i] == '\n' ? "\n#     " : text->text[i] >= ' ' ? "%c" : "\\%o", text->text[i]);
    printf("\n");
}

/* Whether both gave the same; a second may pass between the two runs, so a difference has to last. */
static bool agree(const struct script *script)
{
    for (int tries = 0; tries < 4; tries++) {
        if (!run(script, false) || !run(script, true)) {
            printf("# a run died\n");
            return false;
        }
        if (transcripts[0].length == transcripts[1].length &&
            memcmp(transcripts[0].text, transcripts[1].text, transcripts[0].length) == 0)
            return true;
    }
    size_t at = 0;
    while (at < transcripts[0].length && at < transcripts[1].length &&
           transcripts[0].text[at] == transcripts[1].text[at])
        at++;
    for (int i = 0; i < script->count; i++) {
        const struct call *call = &script->call[i];
        printf("# %d: what %d \"%.40s\" %#x %#x\n", i, call->what, call->text ? call->text : "(null)",
               (unsigned)call->a, (unsigned)call->b);
    }
    show("libc", &transcripts[0], at);
    show("ours", &transcripts[1], at);
    return false;
}

/* --- Scripts ------------------------------------------------------------------------------------------------------ */

static const char *const formats[] = {
    "", "plain", "%s", "%s %d %.3f", "%%", "100%% %s", "ends in newline\n", "%m", "a %m b %m", "%%m %m",
    "%8s|%-5d|", "two\nlines", "tab\t\1bell", "%1$s %2$d %1$s", "%s: %m\n", "\n", "[12] %s[1]", "%2$c %1$s",
    "\xff\xfe %s", "%s %d %.1f %ls",
    "%s %d %.1f %ls%c behind a zero",
};
static const int errors[] = {0, ENOENT, EAGAIN, 9999, -3, EILSEQ};
static const char *const idents[] = {NULL, "ident", "", "with blank: colon", "%s%n%d", changing_ident};
static const int priorities[] = {
    LOG_EMERG,           LOG_ERR, LOG_INFO,  LOG_DEBUG, LOG_KERN | LOG_ERR, LOG_MAIL | LOG_CRIT, LOG_LOCAL7 | LOG_DEBUG,
    LOG_AUTH | LOG_INFO, 0x400,   0x7fffff81};
static const int options[] = {LOG_PID, LOG_CONS, LOG_NDELAY, LOG_ODELAY, LOG_PERROR, LOG_NOWAIT};
static const int facilities[] = {0, LOG_USER, LOG_DAEMON, LOG_LOCAL7, LOG_LOCAL0 | 3, 0x4000, -1};
static const int masks[] = {0, LOG_UPTO(LOG_ERR), LOG_MASK(LOG_INFO), 0xff, LOG_MASK(LOG_DEBUG) | LOG_MASK(LOG_EMERG)};
static const int lengths[] = {0,    1,     900,   960,   970,   980,   985,    986,    987,    988,
                              989,  990,   991,   992,   993,   994,   995,    996,    997,    998,
                              999,  1000,  1010,  1023,  1024,  1025,  2000,   4063,   4064,   4095,
                              4096, 10000, 65535, 65536, 65537, 99999, 150000, 212000, 213500, 500000};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* glibc before 2.36: see standin/logger.c for what is left out. */
static bool is_old(void)
{
    return fsafe_symbol_is_older("2.36");
}

static unsigned random_state;
static unsigned below(unsigned limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}
#define ONE_OF(array) array[below(COUNT(array))]

/* The last one has a zero byte. */
static size_t count_formats(void)
{
    return COUNT(formats) - is_old();
}

static int some_options(void)
{
    int option = 0;
    for (size_t i = 0; i < COUNT(options); i++)
        if (below(3) == 0)
            option |= options[i];
    return option;
}

/* `kind` of daemon comes and goes; one kind for another is a case of its own, see below. */
static void add_random(struct script *script, int kind)
{
    switch (below(12)) {
    case 0:
    case 1:
        add(script, OPEN, ONE_OF(idents), some_options(), ONE_OF(facilities));
        break;
    case 2:
        add(script, CLOSE, NULL, 0, 0);
        break;
    case 3:
        add(script, MASK, NULL, ONE_OF(masks), 0);
        break;
    case 4:
        add(script, DAEMON, NULL, below(2) ? kind : NO_DAEMON, 0);
        break;
    case 5:
        add(script, LOG_LONG, "%s %m", ONE_OF(priorities), ONE_OF(lengths));
        break;
    case 6:
        if (below(2) && !is_old())
            add(script, RENAME, below(2) ? "renamed" : "again", 0, 0);
        else
            add(script, IDENT_CHANGES, below(2) ? "later " : "latest", 0, 0);
        break;
    default:
        add(script, LOG, formats[below((unsigned)count_formats())], ONE_OF(priorities), ONE_OF(errors));
    }
}

static bool random_scripts(unsigned from, unsigned count)
{
    for (unsigned seed = from; seed < from + count; seed++) {
        struct script script = {.count = 0};
        random_state = seed * 2654435761u;
        const int kind = below(2) ? STREAM : DATAGRAMS;
        add(&script, DAEMON, NULL, kind, 0);
        while (script.count < MOST - 1)
            add_random(&script, kind);
        if (!agree(&script)) {
            printf("# seed %u\n", seed);
            return false;
        }
    }
    return true;
}

/* Every set of options, with each kind of daemon, which comes and goes. */
static bool option_sets(int kind)
{
    for (int set = 0; set < 1 << COUNT(options); set++) {
        int option = 0;
        for (size_t i = 0; i < COUNT(options); i++)
            option |= set & 1 << i ? options[i] : 0;
        struct script script = {.count = 0};
        add(&script, DAEMON, NULL, kind, 0);
        add(&script, OPEN, "ident", option, LOG_DAEMON);
        add(&script, LOG, "%s %m", LOG_ERR, ENOENT);
        add(&script, LOG, "newline %d\n", LOG_INFO | LOG_MAIL, 0);
        add(&script, LOG_LONG, "%s", LOG_INFO, 3000);
        add(&script, DAEMON, NULL, NO_DAEMON, 0);
        add(&script, LOG, "nobody there", LOG_ERR, 0);
        add(&script, DAEMON, NULL, kind, 0);
        add(&script, LOG, "back", LOG_ERR, 0);
        add(&script, CLOSE, NULL, 0, 0);
        add(&script, LOG, "no ident", LOG_ERR, 0);
        if (!agree(&script))
            return false;
    }
    return true;
}

static bool all_formats(int kind)
{
    for (size_t i = 0; i < count_formats(); i++) {
        struct script script = {.count = 0};
        add(&script, DAEMON, NULL, kind, 0);
        add(&script, OPEN, NULL, LOG_PERROR | LOG_PID, LOG_LOCAL1);
        for (size_t k = 0; k < COUNT(errors); k++) {
            add(&script, LOG, formats[i], LOG_ERR, errors[k]); /* odd: fortified */
            add(&script, LOG, formats[i], LOG_INFO, errors[k]);
        }
        if (!agree(&script))
            return false;
    }
    return true;
}

static bool all_lengths(int kind)
{
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct script script = {.count = 0};
        add(&script, DAEMON, NULL, kind, 0);
        add(&script, OPEN, "ident", LOG_CONS | LOG_PERROR | LOG_PID, LOG_USER);
        add(&script, LOG_LONG, "%s", LOG_ERR, lengths[i]);
        add(&script, LOG_LONG, "%s%m", LOG_ERR, lengths[i]);
        add(&script, LOG_LONG, "%s\n", LOG_ERR, lengths[i]);
        if (!agree(&script))
            return false;
    }
    return true;
}

/*
 * A daemon that reads datagrams is followed by one that reads a stream. libc leaves out the zero behind the first
 * message on it, which so becomes one with the second; we do not.
 */
static bool daemon_of_another_kind(void)
{
    struct script script = {.count = 0};
    add(&script, DAEMON, NULL, DATAGRAMS, 0);
    add(&script, LOG, "zero", LOG_ERR, 0);
    add(&script, DAEMON, NULL, STREAM, 0);
    add(&script, LOG, "one", LOG_ERR, 0);
    add(&script, LOG, "two", LOG_ERR, 0);
    add(&script, DAEMON, NULL, DATAGRAMS, 0);
    add(&script, LOG, "three", LOG_ERR, 0);
    if (!run(&script, true))
        return false;
    const struct transcript *got = &transcripts[1];
    return memmem(got->text, got->length, ": one\0\n", 7) != NULL &&
           memmem(got->text, got->length, ": two\0\n", 7) != NULL &&
           memmem(got->text, got->length, ": three\n", 8) != NULL;
}

int main(void)
{
    static const struct {
        const char *name;
        int kind;
    } kinds[] = {{"no daemon", NO_DAEMON}, {"datagrams", DATAGRAMS}, {"a stream", STREAM}};
    char name[80];
    transcripts = mmap(NULL, 2 * sizeof *transcripts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (transcripts == MAP_FAILED || !private_dev()) {
        printf("1..0 # SKIP no /dev of our own here\n");
        return 0;
    }
    for (size_t i = 0; i < COUNT(kinds); i++) {
        snprintf(name, sizeof name, "64 sets of options, %s", kinds[i].name);
        ok(option_sets(kinds[i].kind), name);
        snprintf(name, sizeof name, "formats and errors, %s", kinds[i].name);
        ok(all_formats(kinds[i].kind), name);
        snprintf(name, sizeof name, "lengths up to 500,000, %s", kinds[i].name);
        ok(all_lengths(kinds[i].kind), name);
    }
    for (unsigned from = 1; from <= 400; from += 50) {
        snprintf(name, sizeof name, "random calls, seeds %u to %u", from, from + 49);
        ok(random_scripts(from, 50), name);
    }
    ok(daemon_of_another_kind(), "datagrams, then a stream: every message ends");
    printf("1..%d\n", reported);
    return 0;
}
