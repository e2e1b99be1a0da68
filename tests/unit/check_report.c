/*
 * Tests of src/report: the form of a line and where it goes. Linked with --export-dynamic, so that places in this
 * program have names.
 */
#define UNIT_LEAKS /* pipes and files of the tests' own */
#include "unit.h"

#include "base/options.h"
#include "base/sys.h"
#include "report/report.h"
#include "report/tally.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { LINE_BYTES = 1024, EVENT_BYTES = 4096 };

/* What other modules could call or lock. */
#define VISIBLE __attribute__((visibility("default")))
#define LONG_NAME(stem) stem##_with_a_name_as_long_as_only_mangled_ones_are_with_all_their_template_arguments
VISIBLE int unit_place(int x);
VISIBLE int LONG_NAME(unit_place)(int x);
VISIBLE extern pthread_mutex_t unit_lock;
VISIBLE extern pthread_mutex_t LONG_NAME(unit_lock);

int unit_place(int x)
{
    for (int i = 0; i < 10; i++)
        x = x * 7 + i;
    return x;
}

int LONG_NAME(unit_place)(int x)
{
    for (int i = 0; i < 10; i++)
        x = x * 5 + i;
    return x;
}

pthread_mutex_t unit_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t LONG_NAME(unit_lock) = PTHREAD_MUTEX_INITIALIZER;

static __attribute__((noinline)) int hidden_place(int x)
{
    for (int i = 0; i < 10; i++)
        x = x * 3 + i;
    return x;
}

/* --- Where lines go --------------------------------------------------------------------------------- */

static char directory[PATH_MAX];
static char log_path[PATH_MAX];

static void set_up(void)
{
    unit_make_directory(directory);
    ck_assert_int_lt(snprintf(log_path, sizeof log_path, "%.500s/log", directory), 600);
    memset(&fsafe_options, 0, sizeof fsafe_options);
    strcpy(fsafe_options.log, log_path);
}

static void tear_down(void)
{
    unit_remove_directory(directory);
}

static const char *prefix(void)
{
    static char text[64];
    snprintf(text, sizeof text, "forksafe[%d.%d] ", getpid(), fsafe_sys_gettid());
    return text;
}

/* The log's whole text is `expected`, behind the prefix and in front of a newline. */
static void assert_line(const char *expected)
{
    char line[2 * LINE_BYTES];
    char *log = unit_read_file(log_path);
    snprintf(line, sizeof line, "%s%s\n", prefix(), expected);
    ck_assert_str_eq(log, line);
    free(log);
    unlink(log_path);
}

/* The log is one event: this first line, this many columns at most, and these details, in this order. */
static void assert_event(const char *first, const char *const *details)
{
    char line[2 * LINE_BYTES];
    char *log = unit_read_file(log_path);
    snprintf(line, sizeof line, "%s%s\n", prefix(), first);
    ck_assert_msg(strncmp(log, line, strlen(line)) == 0, "%s", log);
    ck_assert_uint_lt(strcspn(log, "\n"), 120);
    const char *at = log + strlen(line);
    for (; *details != NULL; details++) {
        snprintf(line, sizeof line, "    %s\n", *details);
        ck_assert_msg(strncmp(at, line, strlen(line)) == 0, "%s is not at: %s", line, at);
        at += strlen(line);
    }
    ck_assert_msg(strncmp(at, "    ", 4) == 0 && strchr(at, '\n')[1] == '\0', "one line of advice is left: %s", at);
    free(log);
    unlink(log_path);
    memset(fsafe_tally, 0, sizeof *fsafe_tally);
}
#define ASSERT_EVENT(first, ...) assert_event(first, (const char *const[]){__VA_ARGS__, NULL})

UNIT_TEST(lines_are_appended_to_the_log)
{
    char expected[256];
    mode_t mask = umask(0);
    unsigned descriptors = unit_count_descriptors();
    errno = 77;
    fsafe_report_note("one");
    fsafe_report_note_number("two ", ULONG_MAX);
    ck_assert_int_eq(errno, 77);
    ck_assert_uint_eq(unit_count_descriptors(), descriptors);
    char *log = unit_read_file(log_path);
    snprintf(expected, sizeof expected, "%sone\n%stwo %lu\n", prefix(), prefix(), ULONG_MAX);
    ck_assert_str_eq(log, expected);
    struct stat status;
    ck_assert_int_eq(stat(log_path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0640);
    umask(mask);
    free(log);
}

UNIT_TEST(log_name_may_have_the_process_id)
{
    char expected[PATH_MAX];
    snprintf(fsafe_options.log, sizeof fsafe_options.log, "%.500s/%%p.%%p%%x.%%", directory);
    fsafe_report_note("words");
    snprintf(expected, sizeof expected, "%.500s/%d.%d%%x.%%", directory, getpid(), getpid());
    char *log = unit_read_file(expected);
    ck_assert_msg(strstr(log, "words\n") != NULL, "%s is missing", expected);
    free(log);
}

static void note_in_child(void *argument)
{
    fsafe_report_note(argument);
}

UNIT_TEST(log_name_has_the_childs_own_id)
{
    char expected[PATH_MAX];
    snprintf(fsafe_options.log, sizeof fsafe_options.log, "%.500s/%%p", directory);
    char words[] = "words";
    unit_in_child(note_in_child, words);
    snprintf(expected, sizeof expected, "%.500s/%d", directory, getpid());
    ck_assert_int_eq(access(expected, F_OK), -1);
}

static void start_and_note_words(void)
{
    fsafe_report_know_stderr();
    fsafe_report_note("words");
}

/* Runs with descriptor 2 in a file, opened with `flags` as well; returns what arrived there. */
static char *with_stderr(int flags, void (*body)(void))
{
    int before = dup(2);
    int fd = open(log_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    ck_assert_int_ge(fd, 0);
    dup2(fd, 2);
    body();
    dup2(before, 2);
    close(before);
    close(fd);
    return unit_read_file(log_path);
}

static void note_words(void)
{
    fsafe_report_note("words");
}

UNIT_LOOP(lines_go_to_stderr_by_default, 0, 2)
{
    char expected[128];
    strcpy(fsafe_options.log, _i == 0 ? "" : "stderr");
    char *got = with_stderr(0, start_and_note_words);
    snprintf(expected, sizeof expected, "%swords\n", prefix());
    ck_assert_str_eq(got, expected);
    free(got);
    ck_assert_int_eq(access("stderr", F_OK), -1); /* no file of that name */
}

/* A daemon closes descriptor 2 and gets the number again for its data. */
UNIT_TEST(lines_do_not_go_into_a_file_of_the_programs)
{
    int ends[2];
    char expected[128], text[128] = "";
    fsafe_options.log[0] = '\0';
    fsafe_report_know_stderr();
    snprintf(expected, sizeof expected, "%swords\n", prefix());
    char *got = with_stderr(0, note_words);
    ck_assert_str_eq(got, "");
    free(got);
    got = with_stderr(O_APPEND, note_words);
    ck_assert_str_eq(got, "");
    free(got);
    /* But one that it makes its stderr may have them. */
    int before = dup(2);
    ck_assert_int_eq(pipe(ends), 0);
    dup2(ends[1], 2);
    fsafe_report_note("words");
    fsafe_report_know_stderr();
    fsafe_report_note("words");
    dup2(before, 2);
    close(ends[1]);
    ck_assert_int_gt(read(ends[0], text, sizeof text - 1), 0);
    ck_assert_str_eq(text, expected);
}

/* Said once, to stderr: neither each line, nor nothing. */
UNIT_TEST(log_that_cannot_be_written_is_told_once)
{
    char expected[2 * PATH_MAX];
    snprintf(fsafe_options.log, sizeof fsafe_options.log, "%.500s/missing/log", directory);
    snprintf(expected, sizeof expected,
             "%sFORKSAFE_LOG: cannot write to %.300s: there is no such directory; what belongs there is lost\n",
             prefix(), fsafe_options.log);
    char *got = with_stderr(0, start_and_note_words);
    ck_assert_str_eq(got, expected);
    free(got);
    got = with_stderr(0, start_and_note_words);
    ck_assert_str_eq(got, "");
    free(got);
    memset(fsafe_options.log, 'x', sizeof fsafe_options.log - 1);
    fsafe_report_note("words");
    for (size_t i = 0; i + 2 < sizeof fsafe_options.log; i += 2) /* each %p becomes longer */
        memcpy(fsafe_options.log + i, "%p", 2);
    fsafe_report_note("words");
}

/* A FIFO that nobody reads: a program must not stop for a line of ours. */
UNIT_TEST(log_may_be_a_fifo_that_nobody_reads)
{
    ck_assert_int_eq(mkfifo(log_path, 0600), 0);
    unit_within(5);
    fsafe_report_note("words");
    alarm(0);
}

UNIT_TEST(lines_to_a_closed_pipe_end_nobody)
{
    int ends[2], before = dup(2);
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    fsafe_options.log[0] = '\0';
    dup2(ends[1], 2);
    fsafe_report_note("words");
    close(2);
    fsafe_report_note("words");
    dup2(before, 2);
}

/* --- The line about a lock -------------------------------------------------------------------------- */

/* As the module is named: by its file and how far inside it. */
static const char *module_of(uintptr_t address)
{
    static char texts[4][128];
    static unsigned next;
    Dl_info info;
    ck_assert_int_ne(dladdr((void *)address, &info), 0);
    char *text = texts[next++ % 4];
    snprintf(text, sizeof texts[0], "%s+0x%" PRIxPTR, unit_program(), address - (uintptr_t)info.dli_fbase);
    return text;
}

/* An event without anything unusual, whose lock and places have no names. */
static struct fsafe_event plain_event(void)
{
    return (struct fsafe_event){
        .deed = FSAFE_TOOK_OVER,
        .worth_a_line = true,
        .lock = "mutex",
        .kind = "normal",
        .address = 0x10008,
        .wanted_at = 0x10010,
        .holder = {.tid = 4711, .since = 0x10020},
    };
}

/* Where a call at `place` would return to: one byte on, where no call is, or where all of them are equally long. */
static uintptr_t after(uintptr_t place)
{
#ifdef __aarch64__
    return place + 4;
#else
    return place + 1;
#endif
}

#define PLAIN "child took over mutex 0x10008 (normal) for 0x10010 held at fork by "

UNIT_TEST(event_names_everything)
{
    uintptr_t place = (uintptr_t)unit_place;
    struct fsafe_event event = {
        .deed = FSAFE_TOOK_OVER,
        .worth_a_line = true,
        .lock = "mutex",
        .kind = "normal",
        .address = (uintptr_t)&unit_lock,
        .wanted_at = after(place),
        .holder = {.tid = 4711, .name = "worker", .since = after(place + 1)},
        .fork = {.number = 3, .tid = 4712, .at = after(place + 2)},
    };
    char first[LINE_BYTES], since[256], wanted[256], lock[256], fork[256], module[2 * PATH_MAX] = "";
    errno = 77;
    fsafe_report_event(&event);
    ck_assert_int_eq(errno, 77);
    snprintf(first, sizeof first,
             "child took over mutex 0x%" PRIxPTR " (normal) for unit_place held at fork by 4711 \"worker\"",
             event.address);
    snprintf(since, sizeof since, "since unit_place+0x1 in %s", module_of(place + 1));
    snprintf(wanted, sizeof wanted, "wanted in unit_place+0x0 in %s", module_of(place));
    snprintf(lock, sizeof lock, "the lock is <unit_lock> in %s", module_of(event.address));
    snprintf(fork, sizeof fork, "fork 3 by 4712 in unit_place+0x2 in %s", module_of(place + 2));
    char *log = unit_read_file(log_path), *said = strstr(log, " is /");
    ck_assert_msg(said != NULL && strstr(said, ", build-id ") != NULL, "%s", log);
    while (said[-1] != ' ')
        said--;
    snprintf(module, sizeof module, "%.*s", (int)strcspn(said, "\n"), said);
    free(log);
    ASSERT_EVENT(first, since, wanted, lock, fork, module);
}

UNIT_TEST(event_without_names)
{
    struct fsafe_event event = plain_event();
    uintptr_t place = (uintptr_t)hidden_place + (uintptr_t)(hidden_place(1) & 1);
    char first[LINE_BYTES], wanted[256];
    char *heap = unit_map_island(1, MAP_PRIVATE);
    event.address = (uintptr_t)heap;
    event.wanted_at = after(place);
    fsafe_tally_is_new_module("");
    fsafe_report_event(&event); /* the second does not say again which module that is */
    unlink(log_path);
    event.holder.since++;
    fsafe_report_event(&event);
    snprintf(first, sizeof first, "child took over mutex 0x%" PRIxPTR " (normal) for %s held at fork by 4711",
             event.address, module_of(place));
    snprintf(wanted, sizeof wanted, "wanted in %s", module_of(place));
    ASSERT_EVENT(first, "since 0x10021", wanted);
    munmap(heap, unit_page());
}

UNIT_TEST(event_says_where_in_an_object_the_lock_is)
{
    struct fsafe_event event = plain_event();
    char first[LINE_BYTES], lock[256];
    event.address = (uintptr_t)&unit_lock + 8;
    fsafe_report_event(&event);
    unlink(log_path);
    event.holder.since++;
    fsafe_report_event(&event);
    snprintf(first, sizeof first, "child took over mutex 0x%" PRIxPTR " (normal) for 0x10010 held at fork by 4711",
             event.address);
    snprintf(lock, sizeof lock, "the lock is <unit_lock+0x8> in %s", module_of(event.address));
    ASSERT_EVENT(first, "since 0x10021", "wanted in 0x10010", lock);
}

UNIT_TEST(event_says_what_was_done)
{
    static const struct {
        enum fsafe_deed deed;
        unsigned count;
        const char *beginning, *why, *end;
    } cases[] = {
        {FSAFE_TOOK_OVER, 0, "child took over ", NULL, NULL},
        {FSAFE_WOULD_HANG, 0, "child would hang on ", NULL, NULL},
        {FSAFE_FORGOT, 1, "child forgot 1 vanished thread in ", NULL, NULL},
        {FSAFE_FORGOT, 3, "child forgot 3 vanished threads in ", NULL, NULL},
        {FSAFE_RUNS_AGAIN, 0, "child runs again ", NULL, NULL},
        {FSAFE_MAY_HANG, 0, "child may hang on ", NULL, NULL},
        {FSAFE_REFUSED, 0, "child may hang on ", "of a reason", "not taken over because of a reason"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fsafe_event event = plain_event();
        char expected[LINE_BYTES];
        event.deed = cases[i].deed;
        event.count = cases[i].count;
        event.why = cases[i].why;
        event.lock = "semaphore";
        event.kind = "private";
        fsafe_report_event(&event);
        snprintf(expected, sizeof expected, "%ssemaphore 0x10008 (private) for 0x10010 held at fork by 4711",
                 cases[i].beginning);
        ASSERT_EVENT(expected, "since 0x10020", "wanted in 0x10010", cases[i].end);
    }
}

UNIT_TEST(event_leaves_out_what_is_unknown)
{
    struct fsafe_event event = plain_event();
    memset(&event.holder, 0, sizeof event.holder);
    fsafe_report_event(&event);
    ASSERT_EVENT(PLAIN "an unknown thread", "wanted in 0x10010");

    event.fork.number = 2;
    event.fork.tid = 99;
    fsafe_report_event(&event);
    ASSERT_EVENT(PLAIN "an unknown thread", "wanted in 0x10010", "fork 2 by 99");

    /* With its age and the time of the line. */
    unlink(log_path);
    event.wanted_at++;
    event.fork.when_ms = (uint32_t)(fsafe_sys_now_ns() / 1000000) - 2345;
    fsafe_report_event(&event);
    char *log = unit_read_file(log_path), *age = strstr(log, "fork 2 by 99, 2");
    ck_assert_msg(age != NULL && strstr(age, " ms before 20") != NULL, "%s", log);
    free(log);
    unlink(log_path);
    event.fork.when_ms = 0;
    event.wanted_at--;

    event.in_use = true; /* not a holder, but inside of it */
    fsafe_report_event(&event);
    ASSERT_EVENT("child took over mutex 0x10008 (normal) for 0x10010 in use at fork by an unknown thread",
                 "wanted in 0x10010", "fork 2 by 99");
    event.in_use = false;

    event.holder.tid = 98;
    event.fork.number = 0;
    event.fork.at = 0x10030;
    fsafe_report_event(&event);
    ASSERT_EVENT(PLAIN "98", "wanted in 0x10010");
}

UNIT_TEST(event_names_lines_of_a_script)
{
    const struct fsafe_source waiter = {
        .file = "/srv/app.py", .function = "handle", .line = 12, .thread = "MainThread"};
    const struct fsafe_source holder = {.file = "/srv/wor\nker.py", .function = "run", .line = 31};
    struct fsafe_event event = plain_event();
    event.wanted_in = &waiter;
    event.holder.source = &holder;
    fsafe_report_event(&event);
    ASSERT_EVENT("child took over mutex 0x10008 (normal) for app.py:12 held at fork by 4711", "since 0x10020",
                 "since run() in /srv/wor?ker.py:31", "wanted in 0x10010",
                 "wanted in handle() in /srv/app.py:12 (thread \"MainThread\")");
}

UNIT_TEST(event_cleans_the_recorded_thread_name)
{
    static const struct {
        const char name[17];
        const char *shown;
    } names[] = {
        {"a\"b\n\x1b[31m\t", "a?b??[31m?"},
        {"exactly16letters", "exactly16letters"}, /* no final zero */
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"with space\x7f", "with space?"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fsafe_event event = plain_event();
        char expected[LINE_BYTES];
        memcpy(event.holder.name, names[i].name, sizeof event.holder.name);
        fsafe_report_event(&event);
        snprintf(expected, sizeof expected, PLAIN "4711 \"%s\"", names[i].shown);
        ASSERT_EVENT(expected, "since 0x10020", "wanted in 0x10010");
    }
}

UNIT_TEST(event_has_the_name_of_a_living_thread)
{
    static const struct {
        const char *name, *shown;
    } names[] = {{"renamed", "renamed"}, {"x\ny\"z", "x?y?z"}, {"fifteen-letters", "fifteen-letters"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fsafe_event event = plain_event();
        char expected[LINE_BYTES];
        ck_assert_int_eq(prctl(PR_SET_NAME, names[i].name), 0);
        event.holder.tid = fsafe_sys_gettid();
        event.holder.pid = getpid();
        strcpy(event.holder.name, "as it was");
        fsafe_report_event(&event);
        snprintf(expected, sizeof expected, PLAIN "%d \"%s\"", event.holder.tid, names[i].shown);
        ASSERT_EVENT(expected, "since 0x10020", "wanted in 0x10010");
    }
}

static void *tell_tid(void *tid)
{
    *(pid_t *)tid = fsafe_sys_gettid();
    return NULL;
}

UNIT_TEST(event_has_the_recorded_name_of_a_thread_that_is_gone)
{
    struct fsafe_event event = plain_event();
    char expected[LINE_BYTES];
    unit_run_thread(tell_tid, &event.holder.tid);
    UNIT_EVENTUALLY(!fsafe_sys_thread_alive(getpid(), event.holder.tid));
    event.holder.pid = getpid();
    strcpy(event.holder.name, "as it was");
    fsafe_report_event(&event);
    snprintf(expected, sizeof expected, PLAIN "%d \"as it was\"", event.holder.tid);
    ASSERT_EVENT(expected, "since 0x10020", "wanted in 0x10010");
}

/* What is longest of all does not make the first line longer than a terminal's, but for the lock itself. */
UNIT_TEST(event_cuts_long_names)
{
    uintptr_t place = (uintptr_t)LONG_NAME(unit_place);
    struct fsafe_event event = plain_event();
    event.deed = FSAFE_WOULD_HANG;
    event.lock = "condition variable";
    event.kind = "private";
    event.in_use = true;
    event.holder.tid = 4194303;
    memcpy(event.holder.name, "fifteen-letters", 16);
    event.address = (uintptr_t)&LONG_NAME(unit_lock);
    event.wanted_at = after(place);
    fsafe_report_event(&event);
    char *log = unit_read_file(log_path);
    ck_assert_uint_lt(strcspn(log, "\n"), 120);
    ck_assert_msg(strstr(log, " (private) for unit_place") != NULL, "%s", log);
    ck_assert_msg(strstr(log, "in use at fork by 4194303 \"fifteen-letters\"\n") != NULL, "%s", log);
    char *name = strstr(log, "wanted in ");
    ck_assert_ptr_nonnull(name);
    ck_assert_uint_eq(strcspn(name, "+"), strlen("wanted in ") + 63);
    name = strstr(log, "<unit_lock_with_a_name_as");
    ck_assert_ptr_nonnull(name);
    ck_assert_uint_eq(strcspn(name, ">"), 64);
    free(log);
}

/* A wait has no holder to name: then nothing, or the count alone, goes to a second line. */
UNIT_TEST(event_cuts_long_names_of_waits)
{
    struct fsafe_event event = plain_event();
    event.deed = FSAFE_WAITS_FOR_HANDLER;
    event.lock = "semaphore";
    event.kind = "private";
    event.holder.tid = 0;
    event.holder.since = 0;
    event.wanted_at = after((uintptr_t)LONG_NAME(unit_place));
    event.address = (uintptr_t)&LONG_NAME(unit_lock);
    for (unsigned times = 1; times <= 2; times++) {
        fsafe_report_event(&event);
        char *log = unit_read_file(log_path);
        ck_assert_msg((strstr(log, "\n    so far 2 times\n") != NULL) == (times == 2), "%s", log);
        ck_assert_msg(strstr(log, "\n   \n") == NULL && strstr(log, "  , so far") == NULL, "%s", log);
        free(log);
        unlink(log_path);
    }
}

/* A module whose file has a name that is long and odd. */
UNIT_TEST(event_cuts_and_cleans_module_names)
{
    struct fsafe_event event = plain_event();
    char path[PATH_MAX], name[201], wanted[LINE_BYTES];
    memset(name, 'm', sizeof name - 1);
    memcpy(name, "a\"\x1b", 3);
    name[sizeof name - 1] = '\0';
    snprintf(path, sizeof path, "%.500s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, (off_t)unit_page()), 0);
    char *hole = unit_map_island(1, MAP_PRIVATE);
    ck_assert_ptr_eq(mmap(hole, unit_page(), PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0), hole);
    event.wanted_at = after((uintptr_t)hole + 16);
    fsafe_report_event(&event);
    char *log = unit_read_file(log_path);
    snprintf(wanted, sizeof wanted, "\n    wanted in a??%.60s+0x10\n", name + 3);
    ck_assert_msg(strstr(log, wanted) != NULL, "%s", log);
    free(log);
    close(fd);
}

/* The first, the tenth, the hundredth; of one kind only, and the later ones in one line. */
UNIT_TEST(event_is_told_again_seldom)
{
    struct fsafe_event event = plain_event(), other = plain_event();
    other.holder.since++;
    for (int i = 0; i < 2500; i++) {
        fsafe_report_event(&event);
        if (i < 3)
            fsafe_report_event(&other);
    }
    char expected[4 * LINE_BYTES], *log = unit_read_file(log_path);
    unit_join_lines(log);
    const char *advice = "wanted in 0x10010 what the lock guards may be half changed: see forksafe-fix(7)";
    snprintf(expected, sizeof expected,
             "%s" PLAIN "4711 since 0x10020 %s\n%s" PLAIN "4711 since 0x10021 %s\n%s" PLAIN "4711, so far 10 times\n"
             "%s" PLAIN "4711, so far 100 times\n%s" PLAIN "4711, so far 1000 times\n",
             prefix(), advice, prefix(), advice, prefix(), prefix(), prefix());
    ck_assert_str_eq(log, expected);
    free(log);
}

/* Each child may get its lock from the allocator anew: that is one kind, behind the first few. */
UNIT_TEST(event_about_many_locks_is_told_seldom)
{
    struct fsafe_event event = plain_event();
    for (int i = 0; i < 2500; i++) {
        event.address += 8;
        fsafe_report_event(&event);
    }
    unsigned lines = 0;
    char *log = unit_read_file(log_path);
    unit_join_lines(log);
    for (const char *at = log; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    ck_assert_uint_eq(lines, 4 + 4);
    ck_assert_uint_eq(fsafe_tally->deeds[FSAFE_TOOK_OVER], 2500);
    free(log);
}

UNIT_TEST(event_kinds_may_be_too_many)
{
    struct fsafe_event event = plain_event();
    for (int i = 0; i < 3 * FSAFE_KINDS; i++) {
        event.holder.since++;
        fsafe_report_event(&event);
    }
    char *log = unit_read_file(log_path);
    ck_assert_ptr_nonnull(strstr(log, ", so far 100 times\n"));
    ck_assert_ptr_null(strstr(log, ", so far 1000 times\n"));
    free(log);
}

UNIT_LOOP(event_is_told_each_time_when_asked_to, 0, 2)
{
    struct fsafe_event event = plain_event();
    if (_i == 0)
        fsafe_options.verbose = true;
    else
        fsafe_options.mode = FSAFE_MODE_ABORT;
    fsafe_report_event(&event);
    unlink(log_path);
    fsafe_report_event(&event);
    ASSERT_EVENT(PLAIN "4711, so far 2 times", "since 0x10020", "wanted in 0x10010");
}

static unsigned find_three(struct fsafe_source *places, unsigned most)
{
    static const struct fsafe_source all[] = {{.file = "/srv/store.py", .function = "put", .line = 8},
                                              {.file = "/srv/app.py", .function = "handle", .line = 14},
                                              {.file = "/srv/app.py", .function = "serve", .line = 16}};
    unsigned count = most < 3 ? most : 3;
    memcpy(places, all, count * sizeof *all);
    return count;
}

static unsigned find_held(const struct fsafe_holder *holder, struct fsafe_source *places, unsigned most)
{
    ck_assert_int_eq(holder->tid, 4711);
    return find_three(places, most < 2 ? most : 2);
}

static unsigned find_fork(const struct fsafe_fork *fork, struct fsafe_source *places, unsigned most)
{
    return fork->tid == 3 ? find_three(places, most) : 0;
}

static unsigned locks_looked_for;

static void find_lock(struct fsafe_event *event)
{
    locks_looked_for++;
    if (event->address == 0x10018)
        event->lock = "Lock";
}

/* To name a lock takes some hundred system calls: a child whose event is only counted makes none of them. */
UNIT_TEST(event_looks_for_the_interpreters_lock_for_a_line_only)
{
    static const struct fsafe_report_sources sources = {
        .here = find_three, .held = find_held, .forked = find_fork, .lock = find_lock};
    struct fsafe_event event = plain_event();
    event.address = 0x10018;
    fsafe_report_know_sources(&sources);
    locks_looked_for = 0;
    for (int i = 0; i < 12; i++)
        fsafe_report_event(&event);
    char *log = unit_read_file(log_path);
    ck_assert_msg(strstr(log, "over Lock 0x10018") != NULL && strstr(log, "so far 10 times") != NULL, "%s", log);
    ck_assert_uint_eq(locks_looked_for, 2);
    free(log);
}

UNIT_TEST(event_names_who_called_the_interpreters_functions)
{
    static const struct fsafe_report_sources sources = {
        .here = find_three, .held = find_held, .forked = find_fork, .lock = find_lock};
    struct fsafe_event event = plain_event();
    fsafe_report_know_sources(&sources);
    fsafe_options.frames = 1;
    fsafe_report_event(&event);
    ASSERT_EVENT("child took over mutex 0x10008 (normal) for store.py:8 held at fork by 4711", "since 0x10020",
                 "since put() in /srv/store.py:8", "    from handle() in /srv/app.py:14", "wanted in 0x10010",
                 "wanted in put() in /srv/store.py:8", "    from handle() in /srv/app.py:14");
    unlink(log_path);
    fsafe_options.frames = 4;
    fsafe_options.format = FSAFE_FORMAT_JSON;
    event.holder.since++;
    fsafe_report_event(&event);
    char *log = unit_read_file(log_path);
    ck_assert_msg(
        strstr(log, "\"function\":\"put\",\"callers\":[{\"file\":\"/srv/app.py\",\"line\":14,\"function\":\"handle\"},"
                    "{\"file\":\"/srv/app.py\",\"line\":16,\"function\":\"serve\"}]}},\"holder\"") != NULL,
        "%s", log);
    free(log);
    unlink(log_path);
    fsafe_options.format = FSAFE_FORMAT_TEXT;
    fsafe_report_summary();
    log = unit_read_file(log_path);
    ck_assert_msg(strstr(log, "1 times taken-over, wanted in store.py:8, held since store.py:8\n") != NULL, "%s", log);
    free(log);
}

UNIT_TEST(summary_counts_what_was_told_and_what_not)
{
    char expected[LINE_BYTES], *log;
    struct fsafe_event event = plain_event();
    for (int i = 0; i < 7; i++)
        fsafe_report_event(&event);
    event.deed = FSAFE_REFUSED;
    fsafe_report_event(&event);
    fsafe_tally_add(FSAFE_TOTAL_FORKS, 12);
    fsafe_tally_raise(FSAFE_TOTAL_DRAIN_US, 99);
    fsafe_tally_raise(FSAFE_TOTAL_DRAIN_US, 98);
    unlink(log_path);
    fsafe_report_summary();
    log = unit_read_file(log_path);
    snprintf(expected, sizeof expected,
             "forksafe[%d] in all: 12 forks, 0 waited for other threads, 0 threads waited for, 99 us the longest wait, "
             "0 mutexes rehomed, 7 taken-over, 1 refused\n"
             "    7 times taken-over, wanted in 0x10010, held since 0x10020\n"
             "    1 times refused, wanted in 0x10010, held since 0x10020\n", getpid());
    ck_assert_str_eq(log, expected);
    free(log);
    unlink(log_path);
    fsafe_options.format = FSAFE_FORMAT_JSON;
    fsafe_report_summary();
    log = unit_read_file(log_path);
    snprintf(
        expected, sizeof expected,
        "{\"event\":\"summary\",\"pid\":%d,\"forks\":12,\"drained\":0,\"drained_threads\":0,\"longest_drain_us\":99,"
        "\"rehomed\":0,\"taken-over\":7,"
        "\"would-hang\":0,\"forgot\":0,\"may-hang\":0,\"refused\":1,\"went-round\":0,\"runs-again\":0",
        getpid());
    ck_assert_mem_eq(log, expected, strlen(expected));
    ck_assert_str_eq(log + strlen(log) - 2, "}\n");
    free(log);
}

/* --- For machines ----------------------------------------------------------------------------------- */

UNIT_TEST(event_is_one_json_object)
{
    const struct fsafe_source holder = {.file = "/srv/wor\nk\"er\xff.py", .function = "run", .line = 31};
    struct fsafe_event event = plain_event();
    char expected[2 * LINE_BYTES];
    fsafe_options.format = FSAFE_FORMAT_JSON;
    ck_assert_int_eq(prctl(PR_SET_NAME, "na\\me"), 0);
    memcpy(event.holder.name, "\x01\xc3\xbc\xc3", 5);
    event.holder.source = &holder;
    event.why = "it is so";
    event.fork.number = 2;
    event.fork.tid = 9;
    fsafe_report_event(&event);
    char *log = unit_read_file(log_path);
    const char *rest = strstr(log, ",\"pid\":");
    ck_assert_ptr_nonnull(rest);
    ck_assert_mem_eq(log, "{\"event\":\"taken-over\",\"time\":", 29);
    snprintf(expected, sizeof expected,
             ",\"pid\":%d,\"tid\":%d,\"thread\":\"na\\\\me\",\"times\":1,"
             "\"lock\":{\"type\":\"mutex\",\"kind\":\"normal\",\"address\":\"0x10008\"},"
             "\"wanted\":{\"at\":{\"address\":\"0x10010\"}},"
             "\"holder\":{\"role\":\"owner\",\"tid\":4711,\"name\":\"\\u0001\xc3\xbc\\ufffd\",\"since\":{\"address\":"
             "\"0x10020\"},"
             "\"source\":{\"file\":\"/srv/wor\\u000ak\\\"er\\ufffd.py\",\"line\":31,\"function\":\"run\"}},"
             "\"fork\":{\"number\":2,\"tid\":9},\"why\":\"it is so\","
             "\"advice\":\"what the lock guards may be half changed: see forksafe-fix(7)\"}\n",
             getpid(), fsafe_sys_gettid());
    ck_assert_str_eq(rest, expected);
    free(log);
    unlink(log_path);
    fsafe_report_bad_option("FORKSAFE_MODE", "a\"b", "repair|off", "repair");
    snprintf(expected, sizeof expected,
             "{\"event\":\"note\",\"pid\":%d,\"tid\":%d,\"text\":\"FORKSAFE_MODE=a\\\"b is not repair|off: the default "
             "is used, repair\"}\n",
             getpid(), fsafe_sys_gettid());
    log = unit_read_file(log_path);
    ck_assert_str_eq(log, expected);
    free(log);
}

/* What does not fit is left out, not cut through. */
UNIT_TEST(json_is_whole_when_it_is_long)
{
    struct fsafe_event event = plain_event();
    static char why[8192];
    fsafe_options.format = FSAFE_FORMAT_JSON;
    event.wanted_at = after((uintptr_t)unit_place);
    for (size_t length = 3000; length < 3900; length += 7) {
        memset(why, 'w', length);
        event.why = why;
        event.holder.since++;
        memset(fsafe_tally, 0, sizeof *fsafe_tally);
        fsafe_report_event(&event);
        char *log = unit_read_file(log_path);
        size_t bytes = strlen(log);
        ck_assert_uint_le(bytes, 4096);
        if (length < 3500)
            ck_assert_msg(bytes > 3 && strcmp(log + bytes - 2, "}\n") == 0, "%zu: %s", length, log + bytes - 80);
        free(log);
        unlink(log_path);
    }
}

UNIT_TEST(event_is_cut_but_ends)
{
    struct fsafe_event event = plain_event();
    static char why[2 * EVENT_BYTES];
    memset(why, 'w', sizeof why - 1);
    event.deed = FSAFE_REFUSED;
    event.why = why;
    fsafe_report_event(&event);
    char *log = unit_read_file(log_path);
    ck_assert_uint_eq(strlen(log), EVENT_BYTES - 1);
    ck_assert_mem_eq(log + EVENT_BYTES - 10, "wwwwwwww\n", 9);
    free(log);
    unlink(log_path);
    fsafe_report_note(why);
    log = unit_read_file(log_path);
    ck_assert_ptr_eq(strchr(log, '\n'), log + strlen(log) - 1);
    ck_assert_uint_lt(strlen(log), LINE_BYTES);
    ck_assert_mem_eq(log + strlen(log) - 9, "wwwwwwww\n", 9);
    free(log);
}


static void *report_often(void *argument)
{
    struct fsafe_event event = plain_event();
    for (int i = 0; i < 200; i++)
        fsafe_report_event(&event);
    return argument;
}

/* One write each: lines of many threads do not mix. */
UNIT_TEST(events_stay_whole)
{
    fsafe_options.verbose = true; /* each of them */
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        unit_start_thread(&threads[i], report_often, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    char *log = unit_read_file(log_path);
    unit_join_lines(log);
    unsigned lines = 0;
    for (char *at = log; *at != '\0'; lines++) {
        char *end = strchr(at, '\n');
        ck_assert_ptr_nonnull(end);
        *end = '\0';
        int pid, tid, used = 0;
        ck_assert_int_eq(sscanf(at, "forksafe[%d.%d] %n", &pid, &tid, &used), 2);
        ck_assert_mem_eq(at + used, PLAIN "4711", sizeof PLAIN "4711" - 1);
        static const char last[] = " since 0x10020 wanted in 0x10010 what the lock guards may be half changed: see "
                                   "forksafe-fix(7)";
        ck_assert_str_eq(end - (sizeof last - 1), last);
        at = end + 1;
    }
    ck_assert_uint_eq(lines, 800);
    free(log);
}

/* --- The line about a setting ----------------------------------------------------------------------- */

UNIT_TEST(bad_option_is_told)
{
    char expected[256], value[200];
    fsafe_report_bad_option("FORKSAFE_MODE", "fi\nx\"", "repair|off", "repair");
    assert_line("FORKSAFE_MODE=fi?x? is not repair|off: the default is used, repair");
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    fsafe_report_bad_option("FORKSAFE_LOG", value, "text of 9 bytes", "empty");
    snprintf(expected, sizeof expected, "FORKSAFE_LOG=%.64s is not text of 9 bytes: the default is used, empty", value);
    assert_line(expected);
    fsafe_report_bad_option("FORKSAFE_LO\nG", value, NULL, "FORKSAFE_LOG");
    assert_line("FORKSAFE_LO?G is no setting, the nearest is FORKSAFE_LOG");
}

/* A page that nobody has written to is no memory yet. */
static bool is_last_kind_in_memory(void)
{
    unsigned char there = 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)&fsafe_tally->kinds[FSAFE_KINDS - 1];
    ck_assert_int_eq(mincore((void *)(at - at % page), 1, &there), 0);
    return (there & 1) != 0;
}

UNIT_TEST(counts_of_nothing_are_shared_without_their_pages)
{
    fsafe_tally_start(fsafe_sys_getpid());
    fsafe_tally_share();
    ck_assert_uint_eq(fsafe_tally->mark, FSAFE_TALLY_MARK);
    ck_assert_int_eq(fsafe_tally->first, fsafe_sys_getpid());
    ck_assert(!is_last_kind_in_memory());
}

UNIT_TEST(counts_are_shared_as_they_are)
{
    struct fsafe_event event = {.deed = FSAFE_TOOK_OVER, .lock = "mutex", .kind = "normal", .address = 8};
    fsafe_tally_start(fsafe_sys_getpid());
    ck_assert_uint_eq(fsafe_tally_count(&event), 1);
    const struct fsafe_tally *before = fsafe_tally;
    fsafe_tally_share();
    ck_assert_ptr_ne(fsafe_tally, before);
    ck_assert_uint_eq(fsafe_tally_count(&event), 2);
    ck_assert_uint_eq(fsafe_tally->deeds[FSAFE_TOOK_OVER], 2);
}

UNIT_TEST(place_is_new_once)
{
    ck_assert(fsafe_report_is_new_place(0x10));
    ck_assert(!fsafe_report_is_new_place(0x10));
    ck_assert(fsafe_report_is_new_place(0x20));
    ck_assert(!fsafe_report_is_new_place(0x20));
    ck_assert(!fsafe_report_is_new_place(0x10));
    pid_t child = fork(); /* which names its own places */
    if (child == 0)
        _exit(fsafe_report_is_new_place(0x10) && !fsafe_report_is_new_place(0x10) ? 0 : 1);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert(!fsafe_report_is_new_place(0x10));
}

UNIT_TEST(places_without_room_are_told_once)
{
    enum { PLACES = 128 };
    for (uintptr_t site = 1; site <= PLACES; site++)
        ck_assert(fsafe_report_is_new_place(site));
    for (uintptr_t site = 1; site <= PLACES + 2; site++)
        ck_assert(!fsafe_report_is_new_place(site));
    assert_line("other waits that only a signal handler can end are not named: places named so far: 128");
}

UNIT_MAIN("report", set_up, tear_down)
