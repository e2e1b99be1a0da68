/*
 * Whatever the kernel, a module or the user writes is read without harm: the readers of /proc, of a module's tables and
 * unwind information, of the settings, with any bytes. `make fuzz` searches with libFuzzer and the sanitizers; built
 * without them this is a test that tries a seed for each reader with bytes changed, cut and repeated: the same ones
 * each time. The memory that is read ends where the input does. FUZZ_TRIES: how many (20,000 for each reader).
 * readers --seeds FOLDER writes the seeds as files, for libFuzzer to begin with.
 */
#include "config.h"

#include "base/options.h"
#include "base/patterns.h"
#include "base/sys.h"
#include "libc/callframe.h"
#include "libc/modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(condition) do { if (!(condition)) abort(); } while (0)

/* The file that is open: some of it with each read, which its own bytes decide. */
static const uint8_t *unread;
static size_t left;

static int open_given(const char *path, int flags, int mode)
{
    (void)path, (void)flags, (void)mode;
    return 1000;
}

static void close_given(int fd)
{
    (void)fd;
}

static ssize_t read_given(int fd, void *into, size_t bytes)
{
    (void)fd;
    size_t some = left != 0 && *unread % 4 == 0 ? (size_t)(*unread % 61) + 1 : bytes;
    some = some < bytes ? some : bytes;
    some = some < left ? some : left;
    memcpy(into, unread, some);
    unread += some;
    left -= some;
    return (ssize_t)some;
}

/* maps.c and tasks.c, with that for /proc: of the library's own objects neither is linked then. */
#define fsafe_sys_open open_given
#define fsafe_sys_close close_given
#define fsafe_sys_read read_given
#include "base/maps.c"
#include "base/tasks.c"

static void complain(const char *variable, const char *value, const char *expected, const char *usual)
{
    CHECK(strlen(variable) + strlen(value) + strlen(usual) + (expected != NULL ? strlen(expected) : 0) > 0);
}

static void read_options(const uint8_t *data, size_t bytes)
{
    enum { ENTRIES = 8 };
    char *text = malloc(bytes + 1), *environment[ENTRIES + 1] = {NULL};
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    char *at = text;
    for (int i = 0; i < ENTRIES && at != NULL; i++) {
        environment[i] = at;
        at = strchr(at, '\n');
        if (at != NULL)
            *at++ = '\0';
    }
    fsafe_options_read(environment, complain);
#define FSAFE_CHOICE(variable, field, words) CHECK(fsafe_options.field >= 0);
#define FSAFE_NUMBER(variable, field, usual, most) CHECK(fsafe_options.field <= (most));
#define FSAFE_STRING(variable, field, size) CHECK(memchr(fsafe_options.field, '\0', size) != NULL);
#include "base/options.def"
    if (environment[1] != NULL)
        fsafe_patterns_match(environment[0], environment[1]);
    free(text);
}

static void read_maps(const uint8_t *data, size_t bytes)
{
    char path[FSAFE_PATH_BYTES];
    struct fsafe_mapping mapping[] = {{.address = (uintptr_t)0x7f0000001000, .path = path}, {.address = 0x400000}};
    unread = data;
    left = bytes;
    CHECK(fsafe_maps_find(mapping, 2));
    CHECK(memchr(path, '\0', sizeof path) != NULL && memchr(mapping[1].module, '\0', sizeof mapping[1].module) != NULL);
}

static void read_tasks(const uint8_t *data, size_t bytes)
{
    struct fsafe_task task;
    unread = data;
    left = bytes;
    fsafe_tasks_look(1, &task);
    unread = data;
    left = bytes;
    fsafe_tasks_is_fork(1);
    fsafe_tasks_waits_in_vfork(1);
}

static void read_module(const uint8_t *data, size_t bytes)
{
    struct fsafe_mapping mapping = {.address = (uintptr_t)data + bytes / 2, .base = (uintptr_t)data, .found = true,
                                    .module = "m"};
    unsigned char id[FSAFE_BUILD_ID_BYTES];
    struct fsafe_place place;
    fsafe_modules_place(&mapping, true, &place);
    CHECK(memchr(place.symbol, '\0', sizeof place.symbol) != NULL);
    CHECK(fsafe_modules_build_id(mapping.base, id) <= sizeof id);
}

static void read_callframe(const uint8_t *data, size_t bytes)
{
#ifdef FSAFE_CALLFRAME
    static struct fsafe_unwind unwind;
    struct fsafe_callframe row;
    memset(&unwind, 0, sizeof unwind);
    unwind.ranges[0].start = unwind.ranges[0].base = unwind.ranges[0].table = (uintptr_t)data;
    unwind.ranges[0].end = (uintptr_t)data + bytes;
    unwind.count = 1;
    for (size_t at = 1; at < bytes; at += bytes / 8 + 1)
        fsafe_callframe_rules(&unwind, (uintptr_t)data + at, &row);
#else
    (void)data, (void)bytes;
#endif
}

/* One common entry and one function's, both as a table of one function has them. */
static const char frames[] =
    "\x01\x1b\x03\x3b\0\0\0\0" "\x01\0\0\0" "\0\0\0\0\x2c\0\0\0"
    "\x14\0\0\0\0\0\0\0" "\x01zR\0\x01\x78\x10\x01\x1b" "\x0c\x07\x08\x90\x01\0\0"
    "\x18\0\0\0\x1c\0\0\0" "\xcc\xff\xff\xff\x64\0\0\0\0" "\x42\x0e\x10\x83\x02\x0a\xc3\x0b\x07\x06\0";

#define SEED(text) text, sizeof text - 1

static const struct {
    const char *name;
    void (*read)(const uint8_t *data, size_t bytes);
    const char *seed; /* NULL: this program's own file */
    size_t bytes;
} readers[] = {
    {"options", read_options,
     SEED("FORKSAFE_MODE=report\nFORKSAFE_DRAIN_MS=20\nFORKSAFE_LOG=/tmp/%p\nFORKSAFE_MODES=x")},
    {"maps", read_maps,
     SEED("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/dbus-daemon\n"
          "00651000-00652000 r--p 00051000 08:02 173521 /usr/bin/dbus-daemon\n"
          "7f0000000000-7f0000002000 rw-s 00000000 00:05 1 /dev/shm/x (deleted)\n")},
    {"tasks", read_tasks,
     SEED("1 (a) b) S 17 1 1 0 -1 4194368 0 0 0 0 0 0 0 0 20 0 1 0\nState:\tS (sleeping)\n"
          "SigBlk:\t0000000000010000\nSigCgt:\t0000000180014a07\nSeccomp:\t2\n"
          "voluntary_ctxt_switches:\t150\n202 0x7f 0x80 0x2 0x0 0x0 0xffffffff 0x7ffc 0x7f12\n")},
    {"module", read_module, NULL, 0},
    {"callframe", read_callframe, SEED(frames)},
};
enum { READERS = sizeof readers / sizeof *readers };

/* Up to the end of readable memory. */
static void read_at_end(void (*reader)(const uint8_t *, size_t), const uint8_t *data, size_t bytes)
{
    enum { ROOM = 1 << 16, GUARD = 1 << 16 };
    static uint8_t *room;
    if (room == NULL) {
        room = mmap(NULL, ROOM + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(room != MAP_FAILED && mprotect(room + ROOM, GUARD, PROT_NONE) == 0);
    }
    if (bytes > ROOM)
        return;
    memcpy(room + ROOM - bytes, data, bytes);
    reader(room + ROOM - bytes, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes > 1)
        read_at_end(readers[data[0] % READERS].read, data + 1, bytes - 1);
    return 0;
}

#ifndef FUZZER

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* Changes, cuts, or repeats some of it. Returns its new size. */
static size_t change(uint8_t *data, size_t bytes, size_t most, uint32_t *state)
{
    static const uint8_t strange[] = {0, 1, 0x7f, 0x80, 0xff, '\n', ' ', '-', ')', '='};
    for (unsigned times = next(state) % 6; times-- > 0 && bytes > 0;) {
        size_t at = next(state) % bytes, some = next(state) % 16 + 1;
        switch (next(state) % 4) {
        case 0: data[at] = (uint8_t)next(state); break;
        case 1: data[at] = strange[next(state) % sizeof strange]; break;
        case 2: bytes = at; break;
        default:
            if (at + some <= bytes && bytes + some <= most) {
                memmove(data + at + some, data + at, bytes - at);
                bytes += some;
            }
        }
    }
    return bytes;
}

static size_t seed_of(int reader, uint8_t *into, size_t most)
{
    if (readers[reader].seed != NULL) {
        memcpy(into, readers[reader].seed, readers[reader].bytes);
        return readers[reader].bytes;
    }
    FILE *self = fopen("/proc/self/exe", "rb");
    CHECK(self != NULL);
    const size_t bytes = fread(into, 1, most, self);
    fclose(self);
    return bytes;
}

static void write_seed(const char *folder, int reader, const uint8_t *seed, size_t bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, readers[reader].name);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL && fputc(reader, out) == reader && fwrite(seed, 1, bytes, out) == bytes && fclose(out) == 0);
}

int main(int argc, char **argv)
{
    enum { MOST = 1 << 15 };
    static uint8_t seed[MOST], data[MOST];
    const char *setting = getenv("FUZZ_TRIES");
    const long tries = setting != NULL ? atol(setting) : 20000;
    printf("1..%d\n", READERS);
    for (int i = 0; i < READERS; i++) {
        const size_t bytes = seed_of(i, seed, sizeof seed);
        uint32_t state = 1;
        if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
            write_seed(argv[2], i, seed, bytes);
        for (long n = 0; argc == 1 && n < tries; n++) {
            alarm(60); /* ends a reader that does not end */
            memcpy(data, seed, bytes);
            const size_t now = n == 0 ? bytes : change(data, bytes, sizeof data, &state);
            if (now > 0)
                read_at_end(readers[i].read, data, now);
        }
        printf("ok %d - %s\n", i + 1, readers[i].name);
        fflush(stdout);
    }
    return 0;
}

#endif
