/* Tests of src/base: text, options, maps, pages, latch, sys. */
#define UNIT_LEAKS /* pipes and files of the tests' own */
#include "unit.h"

#include "base/latch.h"
#include "base/maps.h"
#include "base/options.h"
#include "base/pages.h"
#include "base/sys.h"
#include "base/text.h"
#include "base/timer.h"

#include <dlfcn.h>
#include <sched.h>
#include <sys/resource.h>

/* --- text ------------------------------------------------------------------------------------------- */

/* A buffer whose end is watched. */
static char watched[200];

static void begin(struct fsafe_text *text, size_t capacity)
{
    memset(watched, '#', sizeof watched);
    fsafe_text_begin(text, watched, capacity);
}

static void assert_text(const struct fsafe_text *text, const char *expected)
{
    ck_assert_uint_eq(text->length, strlen(expected));
    ck_assert_mem_eq(watched, expected, text->length);
    for (size_t i = text->length; i < sizeof watched; i++)
        ck_assert_msg(watched[i] == '#', "byte %zu was written", i);
}

UNIT_TEST(text_is_put_together)
{
    struct fsafe_text text;
    begin(&text, 16);
    fsafe_text_char(&text, 'a');
    fsafe_text_string(&text, "bc");
    fsafe_text_put(&text, "%d0x%x", 1024, 0xbeef);
    fsafe_text_end_line(&text);
    assert_text(&text, "abc10240xbeef\n");
}

UNIT_TEST(text_is_cut_at_capacity)
{
    struct fsafe_text text;
    begin(&text, 8);
    fsafe_text_string(&text, "1234567890");
    assert_text(&text, "12345678");
    fsafe_text_char(&text, 'x');
    fsafe_text_put(&text, "%d", 5);
    fsafe_text_clean(&text, "x", 1);
    assert_text(&text, "12345678");

    begin(&text, 4);
    fsafe_text_put(&text, "0x%x", 0xabcdef);
    assert_text(&text, "0xab");
}

UNIT_TEST(text_line_ends_in_a_full_buffer)
{
    struct fsafe_text text;
    begin(&text, 8);
    fsafe_text_string(&text, "1234567");
    fsafe_text_end_line(&text);
    assert_text(&text, "1234567\n");

    begin(&text, 8);
    fsafe_text_string(&text, "12345678");
    fsafe_text_end_line(&text);
    assert_text(&text, "1234567\n");

    begin(&text, 0);
    fsafe_text_string(&text, "x");
    fsafe_text_end_line(&text);
    assert_text(&text, "");
}

UNIT_TEST(text_clean_replaces_what_could_break_a_line)
{
    struct fsafe_text text;
    begin(&text, 16);
    fsafe_text_clean(&text, "a\nb\"c\x1b[\x7f\t\x01 \xc3\xa4", 100);
    assert_text(&text, "a?b?c?[??? \xc3\xa4");
}

UNIT_TEST(text_of_json_is_utf8)
{
    static const struct {
        const char *string, *is;
    } rows[] = {
        {"a\"\\\n\x7f", "a\\\"\\\\\\u000a\\u007f"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x94\x92", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x94\x92"},
        {"\xc3x\xe2\x82x\xf0\x9f\x94x", "?x??x???x"},             /* each lacks its last byte */
        {"\x80\xc0\xaf\xe0\x9f\xbf\xf0\x8f\xbf\xbf", "??????????"}, /* alone; not the shortest forms */
        {"\xed\xa0\x80\xf4\x90\x80\x80\xff", "????????"},           /* a surrogate, too large, none */
        {"\xc3", "?"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fsafe_text text;
        char expected[200] = "";
        begin(&text, 190);
        fsafe_text_json(&text, rows[i].string, SIZE_MAX);
        for (const char *at = rows[i].is; *at != '\0'; at++) /* '?': what replaces a byte */
            strcat(expected, *at == '?' ? "\\ufffd" : (const char[]){*at, '\0'});
        assert_text(&text, expected);
    }
}

UNIT_TEST(text_clean_reads_no_more_than_told)
{
    char *end = unit_map_island(1, MAP_PRIVATE) + unit_page();
    memcpy(end - 4, "abcd", 4); /* no final zero before the end of what is mapped */
    struct fsafe_text text;
    begin(&text, 16);
    fsafe_text_clean(&text, end - 4, 4);
    assert_text(&text, "abcd");

    begin(&text, 16);
    fsafe_text_clean(&text, "abcdef", 3);
    fsafe_text_clean(&text, "x", 0);
    assert_text(&text, "abc");
}

UNIT_TEST(text_numbers_at_their_ends)
{
    char buffer[96], expected[96];
    struct fsafe_text text;
    fsafe_text_begin(&text, buffer, sizeof buffer);
#define FORMAT "%d %u %lu %x|%lx %zx%s", 0, UINT_MAX, ULONG_MAX, 0, ULONG_MAX, SIZE_MAX, ""
    fsafe_text_put(&text, FORMAT);
    fsafe_text_char(&text, '\0');
    snprintf(expected, sizeof expected, FORMAT);
    ck_assert_str_eq(buffer, expected);
}

UNIT_TEST(text_times_are_those_of_the_calendar)
{
    char buffer[64], expected[64];
    struct fsafe_text text;
    /* Each day from 1970 to 2200, or as far as 32 bits count, at another second of it. */
    const time_t end = sizeof end > 4 ? (time_t)(230LL * 365 * 86400) : INT32_MAX - 2 * 86400;
    for (time_t seconds = 0; seconds < end; seconds += 86400 + 61) {
        struct tm tm;
        gmtime_r(&seconds, &tm);
        strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.007Z", &tm);
        fsafe_text_begin(&text, buffer, sizeof buffer);
        fsafe_text_time(&text, (unsigned long)seconds, 7);
        fsafe_text_char(&text, '\0');
        ck_assert_str_eq(buffer, expected);
    }
}

/* --- options ---------------------------------------------------------------------------------------- */

static struct {
    unsigned count;
    char variable[64], value[4096], expected[128], usual[64];
} complaint;

static void complain(const char *variable, const char *value, const char *expected, const char *usual)
{
    complaint.count++;
    snprintf(complaint.variable, sizeof complaint.variable, "%s", variable);
    snprintf(complaint.value, sizeof complaint.value, "%s", value);
    snprintf(complaint.expected, sizeof complaint.expected, "%s", expected != NULL ? expected : "a setting");
    snprintf(complaint.usual, sizeof complaint.usual, "%s", usual);
}

/* Reads the settings from up to three entries. */
static void read_options(char *first, char *second, char *third)
{
    char *environment[] = {first, second, third, NULL};
    memset(&complaint, 0, sizeof complaint);
    fsafe_options_read(environment, complain);
}

static void assert_defaults(void)
{
#define FSAFE_CHOICE(variable, field, words) ck_assert_msg(fsafe_options.field == 0, "%s", #variable);
#define FSAFE_NUMBER(variable, field, usual, most) ck_assert_msg(fsafe_options.field == usual, "%s", #variable);
#define FSAFE_STRING(variable, field, bytes) ck_assert_msg(fsafe_options.field[0] == '\0', "%s", #variable);
#include "base/options.def"
}

UNIT_TEST(options_have_defaults)
{
    memset(&fsafe_options, 0x55, sizeof fsafe_options);
    memset(&complaint, 0, sizeof complaint);
    fsafe_options_read(NULL, complain);
    assert_defaults();

    memset(&fsafe_options, 0x55, sizeof fsafe_options);
    char home[] = "HOME=/";
    read_options(home, NULL, NULL);
    assert_defaults();
    ck_assert_uint_eq(complaint.count, 0);
    ck_assert_int_eq(fsafe_options.mode, FSAFE_MODE_REPAIR);
}

UNIT_TEST(options_know_the_modes)
{
    static char entries[][32] = {"FORKSAFE_MODE=repair", "FORKSAFE_MODE=report", "FORKSAFE_MODE=abort",
                                 "FORKSAFE_MODE=off"};
    static const int modes[] = {FSAFE_MODE_REPAIR, FSAFE_MODE_REPORT, FSAFE_MODE_ABORT, FSAFE_MODE_OFF};
    for (int i = 0; i < 4; i++) {
        read_options(entries[i], NULL, NULL);
        ck_assert_int_eq(fsafe_options.mode, modes[i]);
        ck_assert_uint_eq(complaint.count, 0);
    }
}

/* Every word of a row gives its index, and nothing like it does. */
static void try_choice(const char *variable, const char *words, const int *field)
{
    char entry[256];
    int index = 0;
    for (const char *word = words; *word != '\0'; index++) {
        int length = (int)strcspn(word, "|");
        snprintf(entry, sizeof entry, "%s=%.*s", variable, length, word);
        read_options(entry, NULL, NULL);
        ck_assert_msg(*field == index && complaint.count == 0, "%s", entry);

        static const char *const around[][2] = {{"", "x"}, {" ", ""}, {"|", ""}, {"", "|"}, {"", "|off"}};
        for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
            memset(&fsafe_options, 0x55, sizeof fsafe_options);
            snprintf(entry, sizeof entry, "%s=%s%.*s%s", variable, around[i][0], length, word, around[i][1]);
            char value[256];
            strcpy(value, entry + strlen(variable) + 1);
            read_options(entry, NULL, NULL);
            ck_assert_msg(*field == 0, "%s", entry);
            ck_assert_msg(complaint.count == 1, "%s: %u complaints", entry, complaint.count);
            ck_assert_str_eq(complaint.variable, variable);
            ck_assert_str_eq(complaint.value, value);
            ck_assert_str_eq(complaint.expected, words);
            ck_assert_uint_eq(strlen(complaint.usual), strcspn(words, "|"));
            ck_assert_mem_eq(complaint.usual, words, strlen(complaint.usual));
            /* No program that is started from here complains again. */
            ck_assert_str_eq(entry + strlen(variable), "=");
        }
        word += length;
        word += *word == '|';
    }
    ck_assert_int_ge(index, 2);

    snprintf(entry, sizeof entry, "%s=", variable);
    read_options(entry, NULL, NULL);
    ck_assert_msg(*field == 0 && complaint.count == 0, "%s", entry);
}

/* The numbers of its range and none beside it. */
static void try_number(const char *variable, const unsigned *field, unsigned usual, unsigned most)
{
    char entry[256];
    const unsigned good[] = {0, 1, most - 1, most};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(entry, sizeof entry, "%s=%u", variable, good[i]);
        read_options(entry, NULL, NULL);
        ck_assert_msg(*field == good[i] && complaint.count == 0, "%s", entry);
    }
    char above[32];
    snprintf(above, sizeof above, "%lu", most + 1ul);
    const char *const bad[] = {above,   "-1",         "+1",         " 1",  "1 ", "1x", "0x1",
                               "x",     "4294967296", "4294967297", "1.5", "1ms",
                               "18446744073709551616", "18446744073709551617",
                               "99999999999999999999999999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&fsafe_options, 0x55, sizeof fsafe_options);
        snprintf(entry, sizeof entry, "%s=%s", variable, bad[i]);
        read_options(entry, NULL, NULL);
        ck_assert_msg(*field == usual, "%s", entry);
        ck_assert_msg(complaint.count == 1, "%s: %u complaints", entry, complaint.count);
        ck_assert_str_eq(complaint.variable, variable);
        ck_assert_str_eq(complaint.value, bad[i]);
        char limits[64], standard[16];
        snprintf(limits, sizeof limits, "a whole number from 0 to %u", most);
        snprintf(standard, sizeof standard, "%u", usual);
        ck_assert_str_eq(complaint.expected, limits);
        ck_assert_str_eq(complaint.usual, standard);
    }
    snprintf(entry, sizeof entry, "%s=", variable);
    read_options(entry, NULL, NULL);
    ck_assert_msg(*field == usual && complaint.count == 0, "%s", entry);
}

/* The longest text that fits, and one more byte. */
static void try_string(const char *variable, const char *field, size_t bytes)
{
    size_t name = strlen(variable) + 1;
    char *entry = calloc(1, name + bytes + 1);
    ck_assert_ptr_nonnull(entry);
    sprintf(entry, "%s=", variable);
    memset(entry + name, 'x', bytes - 1);
    read_options(entry, NULL, NULL);
    ck_assert_uint_eq(complaint.count, 0);
    ck_assert_str_eq(field, entry + name);

    memset(entry, 'y', name + bytes - 1); /* setproctitle and friends */
    ck_assert_int_eq(field[0], 'x');

    sprintf(entry, "%s=", variable);
    memset(entry + name, 'x', bytes);
    read_options(entry, NULL, NULL);
    ck_assert_uint_eq(complaint.count, 1);
    ck_assert_str_eq(complaint.variable, variable);
    ck_assert_str_eq(field, "");
    free(entry);
}

UNIT_TEST(options_know_when_there_are_colors)
{
    char xterm[] = "TERM=xterm", dumb[] = "TERM=dumb", none[] = "TERM=";
    char refused[] = "NO_COLOR=1", empty[] = "NO_COLOR=";
    struct {
        char *terminal, *refusal;
        bool colors;
    } cases[] = {{xterm, NULL, true}, {xterm, empty, true}, {xterm, refused, false}, {dumb, NULL, false},
                 {none, NULL, false}, {refused, NULL, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        read_options(cases[i].terminal, cases[i].refusal, NULL);
        ck_assert_int_eq(fsafe_options.colors, cases[i].colors);
    }
}

UNIT_TEST(options_take_their_words_and_no_other)
{
#define FSAFE_CHOICE(variable, field, words) try_choice(#variable, words, &fsafe_options.field);
#define FSAFE_NUMBER(variable, field, usual, most) try_number(#variable, &fsafe_options.field, usual, most);
#define FSAFE_STRING(variable, field, bytes) try_string(#variable, fsafe_options.field, bytes);
#include "base/options.def"
}

UNIT_TEST(options_bad_value_spoils_no_other)
{
    char bad[] = "FORKSAFE_MODE=fix", log[] = "FORKSAFE_LOG=there", verbose[] = "FORKSAFE_VERBOSE=1";
    read_options(bad, log, verbose);
    ck_assert_uint_eq(complaint.count, 1);
    ck_assert_str_eq(complaint.variable, "FORKSAFE_MODE");
    ck_assert_str_eq(complaint.value, "fix");
    ck_assert_int_eq(fsafe_options.mode, FSAFE_MODE_REPAIR);
    ck_assert_str_eq(fsafe_options.log, "there");
    ck_assert_int_eq(fsafe_options.verbose, 1);
}

UNIT_TEST(options_names_must_match_whole)
{
    char longer[] = "FORKSAFE_MODEL=off", shorter[] = "FORKSAFE_MOD=off", bare[] = "FORKSAFE_MODE";
    read_options(longer, NULL, bare);
    assert_defaults();
    ck_assert_uint_eq(complaint.count, 1);
    ck_assert_str_eq(complaint.variable, "FORKSAFE_MODEL");
    ck_assert_str_eq(complaint.expected, "a setting");
    ck_assert_str_eq(complaint.usual, "FORKSAFE_MODE");
    ck_assert_str_eq(longer, "FORKSAFE_MODEL=off"); /* it may be the program's */
    read_options(shorter, bare, NULL);
    assert_defaults();
    ck_assert_uint_eq(complaint.count, 1);
    ck_assert_str_eq(complaint.variable, "FORKSAFE_MOD");
    char log[] = "FORKSAFE_LGO=x";
    read_options(log, NULL, NULL);
    ck_assert_str_eq(complaint.usual, "FORKSAFE_LOG");
    char before[] = "XFORKSAFE_MODE=off", lower[] = "forksafe_mode=off", empty[] = "";
    read_options(before, lower, empty);
    assert_defaults();
    ck_assert_uint_eq(complaint.count, 0);

    char mode[] = "FORKSAFE_MODE=off";
    read_options(longer, mode, NULL);
    ck_assert_int_eq(fsafe_options.mode, FSAFE_MODE_OFF);
    char report[] = "FORKSAFE_MODE=report"; /* the first counts, as for getenv */
    read_options(report, mode, NULL);
    ck_assert_int_eq(fsafe_options.mode, FSAFE_MODE_REPORT);
}

/* --- maps ------------------------------------------------------------------------------------------- */

static struct fsafe_mapping find(const volatile void *address)
{
    struct fsafe_mapping mapping;
    memset(&mapping, 0x55, sizeof mapping);
    mapping.address = (uintptr_t)address;
    mapping.path = NULL;
    ck_assert(fsafe_maps_find(&mapping, 1));
    return mapping;
}

/* Where the loader put the module that `address` lies in. */
static uintptr_t base_of(uintptr_t address)
{
    Dl_info info;
    ck_assert_int_ne(dladdr((void *)address, &info), 0);
    return (uintptr_t)info.dli_fbase;
}

UNIT_TEST(maps_tell_private_from_shared)
{
    char *private = unit_map_island(1, MAP_PRIVATE);
    struct fsafe_mapping mapping = find(private + 100);
    ck_assert(mapping.found && !mapping.shared && mapping.writable);
    ck_assert_str_eq(mapping.module, "");
    ck_assert_int_eq(mprotect(private, unit_page(), PROT_READ), 0);
    ck_assert(!find(private).writable);

    mapping = find(unit_map_island(1, MAP_SHARED) + 100);
    ck_assert(mapping.found && mapping.shared);

    mapping = find(private - 1);
    ck_assert(!mapping.found);
    mapping = find(private + unit_page());
    ck_assert(!mapping.found);
    mapping = find(private + unit_page() - 1);
    ck_assert(mapping.found);

    ck_assert_int_eq(munmap(private, unit_page()), 0);
    mapping = find(private);
    ck_assert(!mapping.found && !mapping.shared && mapping.base == 0);
    ck_assert_str_eq(mapping.module, "");
}

static char big_bss[1 << 20]; /* most of it is memory without a file, behind the program's data */
static int data = 1;

UNIT_TEST(maps_name_the_module_of_code_data_and_bss)
{
    struct fsafe_mapping places[] = {
        {.address = (uintptr_t)find},
        {.address = (uintptr_t)&data},
        {.address = (uintptr_t)&big_bss[sizeof big_bss / 2]},
    };
    big_bss[sizeof big_bss / 2] = 1;
    ck_assert(fsafe_maps_find(places, 3));
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(places[i].found && !places[i].shared, "place %d", i);
        ck_assert_str_eq(places[i].module, unit_program());
        ck_assert_uint_eq(places[i].base, base_of((uintptr_t)find));
    }
    void *in_libc = dlsym(RTLD_DEFAULT, "qsort");
    struct fsafe_mapping mapping = find(in_libc);
    ck_assert_ptr_nonnull(strstr(mapping.module, ".so"));
    ck_assert_uint_eq(mapping.base, base_of((uintptr_t)in_libc));

    int on_stack = 0;
    mapping = find(&on_stack);
    ck_assert(mapping.found && !mapping.shared);
    ck_assert_str_eq(mapping.module, "");
}

UNIT_TEST(maps_find_many_in_one_pass)
{
    enum { COUNT = 6 };
    struct fsafe_mapping places[COUNT] = {
        {.address = (uintptr_t)unit_map_island(1, MAP_SHARED)}, {.address = 0, .found = true, .shared = true},
        {.address = (uintptr_t)find}, {.address = (uintptr_t)&places},
        {.address = (uintptr_t)find}, {.address = (uintptr_t)unit_map_island(1, MAP_PRIVATE)},
    };
    unsigned descriptors = unit_count_descriptors();
    errno = 77;
    ck_assert(fsafe_maps_find(places, COUNT));
    ck_assert_int_eq(errno, 77);
    ck_assert_uint_eq(unit_count_descriptors(), descriptors);
    ck_assert(places[0].found && places[0].shared);
    ck_assert(!places[1].found && !places[1].shared);
    ck_assert(places[2].found && !places[2].shared);
    ck_assert(places[3].found && !places[3].shared);
    ck_assert_str_eq(places[4].module, places[2].module);
    ck_assert(places[5].found && !places[5].shared);
}

/* Maps a page of a new file, opened relative to `directory`, and removes its name again after `use`. */
static struct fsafe_mapping find_in_file(int directory, const char *name, int flags)
{
    int fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 2 * (off_t)unit_page()), 0);
    char *hole = unit_map_island(2, MAP_PRIVATE);
    char *first = mmap(hole, 2 * unit_page(), PROT_READ, flags | MAP_FIXED, fd, 0);
    ck_assert_ptr_eq(first, hole);
    struct fsafe_mapping mapping = find(first + unit_page() + 1);
    ck_assert(mapping.found);
    ck_assert_uint_eq(mapping.base, (uintptr_t)first);

    /* Lines behind this one in the kernel's list are read as well as ever. */
    int on_stack = 0;
    struct fsafe_mapping later[] = {{.address = (uintptr_t)&on_stack},
                                    {.address = (uintptr_t)dlsym(RTLD_DEFAULT, "qsort")}};
    ck_assert(fsafe_maps_find(later, 2));
    ck_assert(later[0].found && later[1].found);
    ck_assert_str_eq(later[0].module, "");
    ck_assert_ptr_nonnull(strstr(later[1].module, ".so"));

    munmap(first, 2 * unit_page());
    close(fd);
    ck_assert_int_eq(unlinkat(directory, name, 0), 0);
    return mapping;
}

UNIT_TEST(maps_name_files)
{
    char path[PATH_MAX];
    unit_make_directory(path);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fsafe_mapping mapping = find_in_file(directory, "plain file.so", MAP_PRIVATE);
    ck_assert(!mapping.shared);
    ck_assert_str_eq(mapping.module, "plain file.so");
    mapping = find_in_file(directory, "shared", MAP_SHARED);
    ck_assert(mapping.shared);
    ck_assert_str_eq(mapping.module, "shared");

    char name[201];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    mapping = find_in_file(directory, name, MAP_PRIVATE);
    ck_assert_uint_eq(strlen(mapping.module), sizeof mapping.module - 1);
    ck_assert_mem_eq(mapping.module, name, sizeof mapping.module - 1);
    unit_remove_directory(path);
}

/* A line of the kernel's list longer than any buffer for it: `_i` shifts where its end falls. */
UNIT_LOOP(maps_survive_very_long_paths, 1, 5)
{
    char path[PATH_MAX];
    unit_make_directory(path);
    enum { DEPTH = 16 };
    int directories[DEPTH + 1];
    char names[DEPTH][256];
    directories[0] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEPTH; i++) {
        /* Together somewhat more than one, two, three buffers. */
        memset(names[i], 'd', 60 * (unsigned)_i);
        names[i][60 * _i] = '\0';
        ck_assert_int_eq(mkdirat(directories[i], names[i], 0700), 0);
        directories[i + 1] = openat(directories[i], names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ck_assert_int_ge(directories[i + 1], 0);
    }
    ck_assert(!find_in_file(directories[DEPTH], "private", MAP_PRIVATE).shared);
    ck_assert(find_in_file(directories[DEPTH], "shared", MAP_SHARED).shared);
    for (int i = DEPTH; i-- > 0;)
        unlinkat(directories[i], names[i], AT_REMOVEDIR);
    unit_remove_directory(path);
}

/* A path whose part behind the first buffer looks like a line of its own, about all of memory. */
UNIT_TEST(maps_are_not_fooled_by_a_path)
{
    enum { BUFFER = 1023, COLUMN = 73 }; /* maps reads so much at once; the kernel writes paths from this column on */
    static char line[] = "0-ffffffffffffffff rw-s 00000000 00:00 0 ";
    char path[PATH_MAX], real[PATH_MAX], names[16][256];
    int directories[17] = {0}, depth = 0;
    unit_make_directory(path);
    ck_assert_ptr_nonnull(realpath(path, real));
    directories[0] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t left = BUFFER - COLUMN - strlen(real) - 1; left > 0;) {
        size_t length = left > 202 ? 200 : left - 1;
        memset(names[depth], 'd', length);
        names[depth][length] = '\0';
        ck_assert_int_eq(mkdirat(directories[depth], names[depth], 0700), 0);
        directories[depth + 1] = openat(directories[depth], names[depth], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        depth++;
        left -= length + 1;
    }
    ck_assert(!find_in_file(directories[depth], line, MAP_PRIVATE).shared);
    while (depth-- > 0)
        unlinkat(directories[depth], names[depth], AT_REMOVEDIR);
    unit_remove_directory(path);
}

/* Anonymous memory right behind a file is the file's .bss; behind a gap it is nobody's. */
UNIT_TEST(maps_tell_bss_from_other_memory)
{
    size_t page = unit_page();
    char path[PATH_MAX], name[PATH_MAX + 8];
    unit_make_directory(path);
    snprintf(name, sizeof name, "%s/module", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, (off_t)page), 0);
    char *at = unit_map_island(5, MAP_PRIVATE);
    ck_assert_ptr_eq(mmap(at, page, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0), at);
    ck_assert_int_eq(munmap(at + 2 * page, page), 0);
    struct fsafe_mapping mapping = find(at + page);
    ck_assert_str_eq(mapping.module, "module");
    ck_assert_uint_eq(mapping.base, (uintptr_t)at);
    mapping = find(at + 3 * page);
    ck_assert(mapping.found);
    ck_assert_str_eq(mapping.module, "");
    /* Nor is memory behind shared memory, which the kernel calls "/dev/zero (deleted)". */
    const int shared = MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS;
    ck_assert_ptr_eq(mmap(at, page, PROT_READ | PROT_WRITE, shared, -1, 0), at);
    mapping = find(at + page);
    ck_assert(mapping.found);
    ck_assert_str_eq(mapping.module, "");
    close(fd);
    unit_remove_directory(path);
}

static const char *program_name;

/*
 * The first thread may end before the others do: /proc/self shows nothing from then on. Nobody joins it: in a process
 * that fork made, musl 1.2.3 never sees that the first thread has ended.
 */
static void *look_when_first_has_ended(void *unused)
{
    char byte, folder[2];
    (void)unused;
    while (readlink("/proc/self/cwd", folder, sizeof folder) >= 0)
        usleep(1000);
    struct fsafe_mapping mapping = {.address = (uintptr_t)big_bss};
    bool good = fsafe_maps_find(&mapping, 1) && mapping.found && strcmp(mapping.module, program_name) == 0 &&
                fsafe_sys_peek((uintptr_t)big_bss, &byte, 1);
    _exit(good ? 0 : 1);
}

static void end_first_thread(void *argument)
{
    pthread_t thread;
    (void)argument;
    program_name = unit_program(); /* asks /proc/self */
    pthread_create(&thread, NULL, look_when_first_has_ended, NULL);
    pthread_exit(NULL);
}

UNIT_TEST(maps_and_peek_work_without_the_first_thread)
{
    if (unit_is_emulated() && sizeof(void *) == 4)
        return; /* then the kernel tells of the emulator's addresses only */
    unit_in_child(end_first_thread, NULL);
}

UNIT_TEST(maps_say_when_nothing_is_known)
{
    struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct fsafe_mapping mapping = {.address = (uintptr_t)find, .found = true, .shared = true};
    ck_assert(!fsafe_maps_find(&mapping, 1));
    ck_assert(!mapping.found && !mapping.shared);
}

UNIT_TEST(maps_probe_tells_shared_without_proc)
{
    char *private = unit_map_island(2, MAP_PRIVATE);
    char *shared = unit_map_island(2, MAP_SHARED);
    private[unit_page()] = 'p';
    shared[unit_page()] = 's';
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}), 0);
    ck_assert(fsafe_maps_probe_shared((uintptr_t)shared + unit_page() + 12));
    ck_assert(unit_is_emulated() || !fsafe_maps_probe_shared((uintptr_t)private + unit_page() + 12));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_int_eq(private[unit_page()], 'p');
    ck_assert_int_eq(shared[unit_page()], 's');

    /* Nothing stays behind. */
    char *lines = unit_read_file("/proc/self/maps");
    for (int i = 0; i < 10000; i++)
        ck_assert(fsafe_maps_probe_shared((uintptr_t)shared));
    char *lines_after = unit_read_file("/proc/self/maps");
    unsigned count = 0, count_after = 0;
    for (const char *at = lines; (at = strchr(at, '\n')) != NULL; at++)
        count++;
    for (const char *at = lines_after; (at = strchr(at, '\n')) != NULL; at++)
        count_after++;
    ck_assert_uint_le(count_after, count + 1);
}

/* --- pages ------------------------------------------------------------------------------------------ */

UNIT_TEST(pages_are_mapped_zeroed_and_unmapped)
{
    size_t bytes = 3 * unit_page() + 1;
    errno = 77;
    char *pages = fsafe_pages_map(bytes);
    ck_assert_ptr_nonnull(pages);
    ck_assert_uint_eq((uintptr_t)pages % unit_page(), 0);
    ck_assert(!find(pages).shared);
    for (size_t i = 0; i < bytes; i++)
        ck_assert_int_eq(pages[i], 0);
    memset(pages, 1, bytes);
    fsafe_pages_unmap(pages, bytes);
    for (size_t i = 0; i < bytes; i += unit_page()) {
        char byte;
        ck_assert(!fsafe_sys_peek((uintptr_t)pages + i, &byte, 1));
    }
    ck_assert_int_eq(errno, 77);
}

UNIT_TEST(pages_that_cannot_be_had_are_null)
{
    errno = 77;
    ck_assert_ptr_null(fsafe_pages_map(SIZE_MAX - 4 * unit_page()));
    ck_assert_int_eq(errno, 77);
}

static void assert_wiped(void *page)
{
    for (size_t i = 0; i < unit_page(); i++)
        ck_assert_int_eq(((char *)page)[i], 0);
    memset(page, 2, unit_page()); /* a page of the child's own, wiped again for its children */
}

static int exit_by_first_byte(void *page)
{
    return *(volatile char *)page;
}

UNIT_TEST(pages_wiped_in_forked_children_only)
{
    errno = 77;
    bool emulated;
    char *page = fsafe_pages_map_wiped(&emulated);
    ck_assert_int_eq(errno, 77);
    if (emulated) {
        ck_assert_ptr_null(page);
        return;
    }
    ck_assert_ptr_nonnull(page);
    assert_wiped(page);
    memset(page, 1, unit_page());
    unit_in_child(assert_wiped, page);
    for (size_t i = 0; i < unit_page(); i++)
        ck_assert_int_eq(page[i], 1);

    /* Children that share our memory see it as it is. */
    int status;
    pid_t pid = vfork();
    if (pid == 0)
        _exit(*(volatile char *)page);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);

    char *stack = unit_map_island(16, MAP_PRIVATE) + 16 * unit_page();
    pid = clone(exit_by_first_byte, stack, CLONE_VM | SIGCHLD, page);
    ck_assert_int_gt(pid, 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    ck_assert_int_eq(page[0], 1);
}

/* --- latch ------------------------------------------------------------------------------------------ */

enum { LATCH_THREADS = 4, LATCH_ROUNDS = 100000 };
static struct fsafe_latch latch = FSAFE_LATCH_FREE;
static volatile unsigned guarded;
static _Atomic int inside;
static _Atomic unsigned met; /* how often two were inside */

static void *take_in_turns(void *argument)
{
    for (int i = 0; i < LATCH_ROUNDS; i++) {
        struct fsafe_sigset old;
        const bool open = i % 3 == 0; /* both ways to hold it */
        if (open)
            fsafe_latch_acquire_open(&latch);
        else
            fsafe_latch_acquire(&latch, &old);
        if (atomic_fetch_add(&inside, 1) != 0)
            atomic_fetch_add(&met, 1);
        guarded++;
        if (i % 1000 == 0)
            sched_yield();
        atomic_fetch_sub(&inside, 1);
        if (open)
            fsafe_latch_release_open(&latch);
        else
            fsafe_latch_release(&latch, &old);
    }
    return argument;
}

UNIT_TEST(latch_lets_one_in)
{
    pthread_t threads[LATCH_THREADS];
    for (int i = 0; i < LATCH_THREADS; i++)
        unit_start_thread(&threads[i], take_in_turns, NULL);
    for (int i = 0; i < LATCH_THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(met, 0);
    ck_assert_uint_eq(guarded, LATCH_THREADS * LATCH_ROUNDS);
    ck_assert_uint_eq(latch.word, 0);
}

static void *take_once(void *argument)
{
    struct fsafe_sigset old;
    fsafe_latch_acquire(&latch, &old);
    guarded = 1;
    fsafe_latch_release(&latch, &old);
    return argument;
}

UNIT_TEST(latch_wakes_who_sleeps)
{
    struct fsafe_sigset old;
    pthread_t thread;
    fsafe_latch_acquire(&latch, &old);
    unit_start_thread(&thread, take_once, NULL);
    UNIT_EVENTUALLY(latch.word == 2);
    usleep(20000); /* asleep by now */
    ck_assert_uint_eq(guarded, 0);
    fsafe_latch_release(&latch, &old);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(guarded, 1);
}

static volatile sig_atomic_t handled;

static void handle(int number)
{
    (void)number;
    handled++;
}

/* The kernel's mask of this thread, with the signals that libc keeps to itself. */
static uint64_t kernel_mask(void)
{
    uint64_t mask = 0;
    ck_assert_int_eq(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask), 0);
    return mask;
}

UNIT_TEST(latch_blocks_signals_while_held)
{
    signal(SIGUSR1, handle);
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    sigaddset(&some, SIGRTMIN + 3);
    sigprocmask(SIG_SETMASK, &some, NULL);
    uint64_t before = kernel_mask();
    uint64_t never = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | 1ull << (SIGSYS - 1) |
                     (unit_is_emulated() ? 3ull << 62 : 0);

    struct fsafe_sigset old;
    fsafe_latch_acquire(&latch, &old);
    ck_assert_uint_eq(kernel_mask() | never, UINT64_MAX);
    raise(SIGUSR1);
    ck_assert_int_eq(handled, 0);
    fsafe_latch_release(&latch, &old);
    ck_assert_int_eq(handled, 1);
    ck_assert_uint_eq(kernel_mask(), before);
}

UNIT_TEST(latch_reset_makes_it_free)
{
    struct fsafe_sigset old;
    latch.word = 2;
    fsafe_latch_reset(&latch);
    fsafe_latch_acquire(&latch, &old);
    fsafe_latch_release(&latch, &old);
    ck_assert_uint_eq(latch.word, 0);
}

/* --- sys -------------------------------------------------------------------------------------------- */

UNIT_TEST(sys_peek_never_faults)
{
    char *island = unit_map_island(2, MAP_PRIVATE);
    size_t page = unit_page();
    char copy[64];
    memset(island, 'a', 2 * page);
    errno = 77;
    memset(copy, 0, sizeof copy);
    ck_assert(fsafe_sys_peek((uintptr_t)island + page - 32, copy, sizeof copy));
    for (size_t i = 0; i < sizeof copy; i++)
        ck_assert_int_eq(copy[i], 'a');
    ck_assert(fsafe_sys_peek((uintptr_t)island + 2 * page - 64, copy, 64));
    ck_assert(!fsafe_sys_peek((uintptr_t)island + 2 * page - 63, copy, 64)); /* all but one byte are there */
    ck_assert(!fsafe_sys_peek((uintptr_t)island + 2 * page, copy, 1));
    ck_assert(!fsafe_sys_peek((uintptr_t)island - 1, copy, 2));
    ck_assert(!fsafe_sys_peek(0, copy, 8));
    ck_assert(!fsafe_sys_peek(UINTPTR_MAX - 4, copy, 8));
    ck_assert_int_eq(mprotect(island, page, PROT_NONE), 0);
    ck_assert(!fsafe_sys_peek((uintptr_t)island, copy, 8));
    ck_assert_int_eq(mprotect(island, page, PROT_READ), 0);
    ck_assert(fsafe_sys_peek((uintptr_t)island, copy, 8));
    ck_assert_int_eq(errno, 77);
}

static _Atomic pid_t other_tid;
static _Atomic bool may_end;

static void *live(void *argument)
{
    other_tid = (pid_t)syscall(SYS_gettid);
    while (!may_end)
        usleep(1000);
    return argument;
}

/* Where nobody adds a thread of his own to each process. */
static bool single_threaded(void)
{
    return unit_is_emulated() || fsafe_sys_single_threaded();
}

UNIT_TEST(sys_knows_threads)
{
    pthread_t thread;
    errno = 77;
    ck_assert_int_eq(fsafe_sys_getpid(), getpid());
    ck_assert_int_eq(fsafe_sys_gettid(), (pid_t)syscall(SYS_gettid));
    ck_assert(single_threaded());
    ck_assert(fsafe_sys_thread_alive(getpid(), fsafe_sys_gettid()));
    ck_assert(!fsafe_sys_thread_alive(getpid(), getppid())); /* lives, but not here */
    ck_assert(fsafe_sys_thread_alive(getppid(), getppid()));
    ck_assert_int_eq(errno, 77);

    unit_start_thread(&thread, live, NULL);
    UNIT_EVENTUALLY(other_tid != 0);
    ck_assert(!fsafe_sys_single_threaded());
    ck_assert(fsafe_sys_thread_alive(getpid(), other_tid));
    may_end = true;
    pthread_join(thread, NULL);
    /* The kernel wakes the joiner a little before the thread is gone. */
    UNIT_EVENTUALLY(single_threaded());
    UNIT_EVENTUALLY(!fsafe_sys_thread_alive(getpid(), other_tid));
}

static void assert_single(void *vanished)
{
    ck_assert(single_threaded());
    ck_assert(!fsafe_sys_thread_alive(getpid(), *(_Atomic pid_t *)vanished));
}

UNIT_TEST(sys_knows_that_threads_vanish_at_fork)
{
    pthread_t thread;
    unit_start_thread(&thread, live, NULL);
    UNIT_EVENTUALLY(other_tid != 0);
    unit_in_child(assert_single, &other_tid);
    may_end = true;
    pthread_join(thread, NULL);
}

static size_t fill_pipe(int fd)
{
    size_t filled = 0;
    char block[4096] = {0};
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    for (ssize_t put; (put = write(fd, block, sizeof block)) > 0;)
        filled += (size_t)put;
    fcntl(fd, F_SETFL, flags);
    return filled;
}

UNIT_TEST(sys_offer_writes_at_once_or_not_at_all)
{
    int ends[2];
    char text[8] = "";
    ck_assert_int_eq(pipe(ends), 0);
    errno = 77;
    fsafe_sys_offer(ends[1], "hello", 5);
    ck_assert_int_eq(read(ends[0], text, sizeof text), 5);
    ck_assert_str_eq(text, "hello");

    size_t filled = fill_pipe(ends[1]);
    ck_assert_uint_gt(filled, 0);
    errno = 77;
    unit_within(10); /* a pipe nobody reads: waiting would be for ever */
    fsafe_sys_offer(ends[1], "lost", 4);
    alarm(0);
    ck_assert_int_eq(errno, 77);
    close(ends[1]);
    char block[4096];
    size_t drained = 0;
    for (ssize_t got; (got = read(ends[0], block, sizeof block)) > 0;)
        drained += (size_t)got;
    ck_assert_uint_eq(drained, filled);

    errno = 77;
    fsafe_sys_offer(ends[1], "closed", 6);
    ck_assert_int_eq(errno, 77);
}

UNIT_TEST(sys_offer_needs_no_descriptor_to_be_allowed)
{
    int ends[2], waste[2];
    char text[8] = "";
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    ck_assert_int_eq(pipe(waste), 0);
    fill_pipe(waste[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0}), 0);
    fsafe_sys_offer(STDERR_FILENO, "hello", 5);
    ck_assert_int_eq(read(ends[0], text, sizeof text), 5);
    ck_assert_str_eq(text, "hello");
    unit_within(10);
    fsafe_sys_offer(waste[1], "lost", 4); /* would wait for ever */
    alarm(0);
}

static bool sigpipe_is_pending(void)
{
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGPIPE) == 1;
}

UNIT_TEST(sys_offer_to_a_closed_pipe_raises_no_sigpipe)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    signal(SIGPIPE, SIG_DFL);
    uint64_t before = kernel_mask();
    fsafe_sys_offer(ends[1], "hello", 5); /* would end this process */
    ck_assert_uint_eq(kernel_mask(), before);
    ck_assert(!sigpipe_is_pending());

    signal(SIGPIPE, handle);
    fsafe_sys_offer(ends[1], "hello", 5);
    ck_assert_int_eq(handled, 0);

    sigset_t pipe_only;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_only, NULL);
    fsafe_sys_offer(ends[1], "hello", 5);
    ck_assert(!sigpipe_is_pending());
}

UNIT_LOOP(sys_offer_keeps_the_programs_own_sigpipe, 0, 2)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    signal(SIGPIPE, handle);
    sigset_t pipe_only;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_only, NULL);
    if (_i == 0)
        raise(SIGPIPE);
    else
        kill(getpid(), SIGPIPE);
    ck_assert(sigpipe_is_pending());
    fsafe_sys_offer(ends[1], "hello", 5);
    ck_assert(sigpipe_is_pending());
    sigprocmask(SIG_UNBLOCK, &pipe_only, NULL);
    ck_assert_int_ge(handled, 1);
}

static void tell_parent(int number)
{
    (void)number;
    ck_assert_int_eq(write(*(int *)(void *)big_bss, "h", 1), 1);
}

/* How SIGABRT may be treated by the program that is to end. */
enum treatment { DEFAULT, IGNORED, BLOCKED, HANDLED, TREATMENTS };

static void abort_treated(void *treatment)
{
    sigset_t abort_only;
    sigemptyset(&abort_only);
    sigaddset(&abort_only, SIGABRT);
    switch (*(enum treatment *)treatment) {
    case IGNORED:
        signal(SIGABRT, SIG_IGN);
        break;
    case BLOCKED:
        sigprocmask(SIG_BLOCK, &abort_only, NULL);
        break;
    case HANDLED:
        signal(SIGABRT, tell_parent);
        break;
    default:
        signal(SIGABRT, SIG_DFL);
    }
    setrlimit(RLIMIT_CORE, &(const struct rlimit){0, 0});
    fsafe_sys_abort();
}

UNIT_LOOP(sys_abort_ends_the_process_as_abort_does, 0, TREATMENTS)
{
    int ends[2];
    enum treatment treatment = (enum treatment)_i;
    ck_assert_int_eq(pipe(ends), 0);
    *(int *)(void *)big_bss = ends[1];
    int status = unit_fork(abort_treated, &treatment);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    close(ends[1]);
    char byte;
    ck_assert_int_eq(read(ends[0], &byte, 1), treatment == HANDLED);
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

UNIT_TEST(sys_pauses)
{
    int64_t begun = now_us();
    fsafe_sys_pause_us(30000);
    ck_assert_int_ge(now_us() - begun, 30000);
    uint32_t word = 1;
    fsafe_sys_futex_wait(&word, 0, NULL); /* another value: no sleep */
    begun = now_us();
    fsafe_sys_futex_wait(&word, 1, &(const struct timespec){.tv_nsec = 30000000});
    ck_assert_int_ge(now_us() - begun, 30000);
}

/* --- timer ------------------------------------------------------------------------------------------------ */

enum { TIMER_SIGNAL = 33 };
static int asked_first, asked_second;

static bool listen_first(siginfo_t *info, void *context)
{
    (void)context;
    return ++asked_first, info->si_value.sival_int == 1;
}

static bool listen_second(siginfo_t *info, void *context)
{
    (void)context;
    return ++asked_second, info->si_value.sival_int == 2;
}

static void send_timers_signal(int code, int whose)
{
    siginfo_t info = {.si_signo = TIMER_SIGNAL, .si_code = code};
    info.si_value.sival_int = whose;
    asked_first = asked_second = 0;
    ck_assert_int_eq(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), TIMER_SIGNAL, &info), 0);
}

/* Whoever began to listen last must not hand on for ever what is nobody's. */
UNIT_LOOP(timer_signals_reach_whose_they_are, 0, FSAFE_ARCH_INTERRUPTED)
{
    for (int i = 0; i < 3; i++) {
        ck_assert(fsafe_timer_listen(listen_first));
        ck_assert(fsafe_timer_listen(listen_second));
    }
    send_timers_signal(SI_TIMER, 1);
    ck_assert(asked_first == 1 && asked_second == 0);
    send_timers_signal(SI_TIMER, 2);
    ck_assert(asked_first == 1 && asked_second == 1);
    send_timers_signal(SI_TIMER, 3);
    ck_assert(asked_first == 1 && asked_second == 1);
    send_timers_signal(SI_QUEUE, 1); /* libc's own */
    ck_assert(asked_first == 0 && asked_second == 0);
    fsafe_timer_stop_listening(listen_first);
    send_timers_signal(SI_TIMER, 2);
    ck_assert(asked_first == 0 && asked_second == 1);
}

/* Through pointers: the compiler has functions of its own for these names. */
UNIT_TEST(string_compares_as_libc)
{
    int (*volatile bytes)(const void *, const void *, size_t) = memcmp;
    int (*volatile strings)(const char *, const char *) = strcmp;
    const char one[] = "abcdefghijklmnopqrstuvwx";
    for (size_t at = 1; at < sizeof one - 1; at++) {
        char other[sizeof one];
        memcpy(other, one, sizeof one);
        other[at] = (char)0xff;
        ck_assert(bytes(one, other, at) == 0 && bytes(one + at + 1, other + at + 1, sizeof one - at - 1) == 0);
        ck_assert(bytes(one, other, sizeof one) < 0 && bytes(other + 1, one + 1, sizeof one - 1) > 0);
        ck_assert(strings(one, one) == 0 && strings(one, other) < 0 && strings(other, one) > 0);
        other[at] = '\0';
        ck_assert(strings(one, other) > 0 && strings(other, one) < 0);
    }
}

static atomic_bool has_set_id;

static void *wait_for_ids(void *unused)
{
    while (!atomic_load(&has_set_id))
        usleep(1000);
    return unused;
}

/* libc changes the ids of each thread by that signal, and waits until each has answered. */
UNIT_LOOP(timer_hands_on_what_is_libcs, 0, FSAFE_ARCH_INTERRUPTED)
{
    pthread_t thread;
    unit_start_thread(&thread, wait_for_ids, NULL);
    ck_assert(fsafe_timer_listen(listen_first));
    unit_within(60);
    ck_assert_int_eq(setuid(getuid()), 0);
    atomic_store(&has_set_id, true);
    pthread_join(thread, NULL);
}

UNIT_MAIN("base", NULL, NULL)
