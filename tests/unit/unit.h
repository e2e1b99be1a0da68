/*
 * unit.h: what the unit tests share. Each program tests one room of src/ against core, which interposes nothing:
 * pthread_mutex_lock is libc's own here.
 *
 * libcheck forks a process for each test, so a test may start the registry, begin generations, change settings
 * and leak as it likes, except for descriptors.
 */
#ifndef UNIT_H
#define UNIT_H

#include "config.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/pages.h"
#include "libc/layout.h"

/*
 * check writes each place that a test has passed to a file, to tell where a crash came after it: a third of the time of
 * check_track's cases of ledgers (24 s instead of 16), whose loops assert very often.
 */
#undef _mark_point
#define _mark_point(file, line) ((void)0)

/* Makes a directory of the test's own and writes its name to `path`; remove it with unit_remove_directory. */
static inline void unit_make_directory(char path[PATH_MAX])
{
    const char *parent = getenv("TMPDIR");
    snprintf(path, PATH_MAX, "%s/forksafe-unit-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(path) == NULL)
        abort();
}

static inline int unit_remove_entry(const char *path, const struct stat *status, int kind, struct FTW *at)
{
    (void)status, (void)kind, (void)at;
    return remove(path);
}

/* With the files in it. */
static inline void unit_remove_directory(const char *path)
{
    nftw(path, unit_remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Returns how many descriptors are open. */
static inline unsigned unit_count_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

static unsigned unit_descriptors;

/* libcheck gives each test a process group of its own: it would outlive a runner that is killed. */
static void unit_begin(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    unit_descriptors = unit_count_descriptors();
}

/* A library that looks at /proc all day closes what it opens. A program whose tests do not defines UNIT_LEAKS. */
static void unit_end(void)
{
#ifndef UNIT_LEAKS
    ck_assert_uint_eq(unit_count_descriptors(), unit_descriptors);
#endif
}

/*
 * A test: its body follows. UNIT_LOOP: the body runs for each _i from `from` to `to` - 1. Each test is listed where it
 * is defined: a pointer to it goes into a section of its own, through which UNIT_MAIN goes.
 */
#define UNIT_TEST(name) UNIT_LOOP(name, 0, 1)
#define UNIT_LOOP(name, from, to)                                              \
    static void name##_body(int _i);                                           \
    static const TTest name##_test = {#name, name##_body, __FILE__, __LINE__}; \
    static const struct unit_test name = {&name##_test, from, to};             \
    static const struct unit_test *const name##_row UNIT_ROW = &name;          \
    static void name##_body(int _i __attribute__((unused)))
#define UNIT_ROW __attribute__((used, section("unit_tests")))
struct unit_test {
    const TTest *test;
    int from, to;
};
extern const struct unit_test *const __start_unit_tests[], *const __stop_unit_tests[];

/*
 * A program, with all its tests. `set_up` and `tear_down`, or NULL, stand around each of them. A test may take a while
 * on a busy machine; a hang is a failure all the same. What a failing test leaves in its directories goes with the
 * program's own.
 */
#define UNIT_MAIN(name, set_up, tear_down)                                                         \
    int main(void)                                                                                 \
    {                                                                                              \
        char folder[PATH_MAX];                                                                     \
        unit_make_directory(folder);                                                               \
        setenv("TMPDIR", folder, 1);                                                               \
        Suite *suite = suite_create(name);                                                         \
        TCase *tests = tcase_create(name);                                                         \
        suite_add_tcase(suite, tests);                                                             \
        tcase_set_timeout(tests, 120);                                                             \
        tcase_add_checked_fixture(tests, unit_begin, unit_end);                                    \
        tcase_add_checked_fixture(tests, set_up, tear_down);                                       \
        for (const struct unit_test *const *at = __start_unit_tests; at < __stop_unit_tests; at++) \
            tcase_add_loop_test(tests, (*at)->test, (*at)->from, (*at)->to);                       \
        SRunner *runner = srunner_create(suite);                                                   \
        srunner_run_all(runner, CK_ENV);                                                           \
        int failed = srunner_ntests_failed(runner);                                                \
        srunner_free(runner);                                                                      \
        unit_remove_directory(folder);                                                             \
        return failed != 0;                                                                        \
    }

/* Runs `body` in a forked child; returns the status that waitpid gave. */
static inline int unit_fork(void (*body)(void *argument), void *argument)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        body(argument);
        _exit(0);
    }
    int status;
    pid_t got;
    do
        got = waitpid(pid, &status, 0);
    while (got == -1 && errno == EINTR);
    ck_assert_int_eq(got, pid);
    return status;
}

/* Runs `body` in a forked child, where it may assert too. */
static inline void unit_in_child(void (*body)(void *argument), void *argument)
{
    ck_assert_int_eq(unit_fork(body, argument), 0);
}

static inline void unit_start_thread(pthread_t *thread, void *(*body)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10); /* thousands of them have room in 32 bits, too */
    ck_assert_int_eq(pthread_create(thread, &attributes, body, argument), 0);
    pthread_attr_destroy(&attributes);
}

static inline void unit_run_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    unit_start_thread(&thread, body, argument);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* Waits until `condition` holds: for what another thread or the kernel is about to do; ten seconds at most. */
#define UNIT_EVENTUALLY(condition)                                         \
    do {                                                                   \
        for (int tries_ = 0; !(condition) && tries_ < 10000; tries_++)     \
            usleep(1000);                                                  \
        ck_assert_msg((condition), "never came true: %s", #condition);     \
    } while (0)

/* Ends the test when what follows takes longer: for calls that must not wait. */
static inline void unit_within(unsigned seconds)
{
    signal(SIGALRM, SIG_DFL);
    alarm(seconds);
}

/* Returns the last part of this program's path. */
static inline const char *unit_program(void)
{
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    ck_assert_int_gt(length, 0);
    path[length] = '\0';
    return strrchr(path, '/') + 1;
}

/* Reads a whole file as a string, to be freed; "" when there is none. */
static inline char *unit_read_file(const char *path)
{
    size_t room = 1 << 20;
    char *text = calloc(1, room);
    ck_assert_ptr_nonnull(text);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got;
        size_t filled = 0;
        while (filled < room - 1 && (got = read(fd, text + filled, room - 1 - filled)) > 0)
            filled += (size_t)got;
        close(fd);
    }
    return text;
}

/* Puts each event on one line: what is indented below its first line belongs to it. */
static inline void unit_join_lines(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        if (strncmp(from, "\n    ", 5) == 0) {
            *to++ = ' ';
            from += 5;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

static inline size_t unit_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/*
 * Whether qemu-user runs this. It has a thread of its own in each process, keeps two signals, says yes to any advice
 * about pages and makes a second mapping of private memory, too: what depends on that is not asked there.
 */
static inline bool unit_is_emulated(void)
{
    bool emulated;
    void *page = fsafe_pages_map_wiped(&emulated);
    if (page != NULL)
        fsafe_pages_unmap(page, 1);
    return emulated;
}

/*
 * Maps pages with nothing mapped on either side: neither an overrun nor a neighbour goes unnoticed.
 * `flags`: MAP_PRIVATE or MAP_SHARED.
 */
static inline char *unit_map_island(size_t pages, int flags)
{
    size_t page = unit_page();
    size_t around = 64 * page;
    char *hole = mmap(NULL, pages * page + 2 * around, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(hole != MAP_FAILED);
    ck_assert_int_eq(munmap(hole, pages * page + 2 * around), 0);
    char *island = mmap(hole + around, pages * page, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    ck_assert_ptr_eq(island, hole + around);
    return island;
}

/* libc's own functions, for the self-test of the layout. */
static inline struct fsafe_layout_calls unit_libc_calls(void)
{
#define CALL(name, function) .name = function,
    return (struct fsafe_layout_calls){FSAFE_LAYOUT_CALLS(CALL)};
#undef CALL
}

/* Makes the layout ready, as the start-up code of the library does. */
static inline void unit_start_layout(void)
{
    struct fsafe_layout_calls calls = unit_libc_calls();
    fsafe_layout_self_test(&calls, getpid());
}

#endif
