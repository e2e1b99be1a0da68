/* base/maps: see maps.h. A line reads "start-end perms offset dev inode   path". */
#include "config.h"

#include "base/maps.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct line {
    uintptr_t start, end;
    uintptr_t offset;
    bool writable, shared;
    const char *path; /* "" when there is none */
};

/* The file whose segments are being listed. */
struct module {
    uintptr_t base; /* where its offset 0 is mapped */
    uintptr_t end;  /* of its latest segment */
    char name[64];
};

static const char *skip_field(const char *at)
{
    while (*at != '\0' && *at != ' ')
        at++;
    while (*at == ' ')
        at++;
    return at;
}

static uintptr_t read_hex(const char **at)
{
    uintptr_t value = 0;
    for (;; ++*at) {
        char c = **at;
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return value;
        value = value << 4 | digit;
    }
}

static bool parse_line(const char *at, struct line *line)
{
    line->start = read_hex(&at);
    if (*at++ != '-')
        return false;
    line->end = read_hex(&at);
    at = skip_field(at);
    if (strlen(at) < 4)
        return false;
    line->writable = at[1] == 'w';
    line->shared = at[3] == 's';
    at = skip_field(at);
    line->offset = read_hex(&at);
    at = skip_field(at);
    at = skip_field(at); /* device */
    line->path = skip_field(at);
    return true;
}

/* Takes the line into account: does it begin, continue or leave the module? */
static void follow(struct module *module, const struct line *line)
{
    const char *slash = strrchr(line->path, '/');
    if (slash == NULL) {
        /* Memory right behind a file's segment is its .bss; anything else belongs to no file. */
        if (line->path[0] == '\0' && line->start == module->end && module->name[0] != '\0')
            module->end = line->end;
        else
            module->name[0] = '\0';
        return;
    }
    size_t length = strnlen(slash + 1, sizeof module->name - 1);
    memcpy(module->name, slash + 1, length);
    module->name[length] = '\0';
    if (line->offset == 0)
        module->base = line->start;
    module->end = line->end;
}

static void match(const struct line *line, const struct module *module, struct fsafe_mapping *mappings,
                  size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct fsafe_mapping *m = &mappings[i];
        if (m->address == 0 || m->address < line->start || m->address >= line->end)
            continue;
        m->found = true;
        m->writable = line->writable;
        m->shared = line->shared;
        m->base = module->base;
        _Static_assert(sizeof m->module == sizeof module->name, "one length for a module's name");
        memcpy(m->module, module->name, sizeof m->module);
        if (m->path != NULL && m->module[0] != '\0') { /* "" for the memory behind a file's segments */
            size_t length = strnlen(line->path, FSAFE_PATH_BYTES - 1);
            memcpy(m->path, line->path, length);
            m->path[length] = '\0';
        }
    }
}

bool fsafe_maps_find(struct fsafe_mapping *mappings, size_t count)
{
    uintptr_t last = 0; /* lines come in order: what lies behind it need not be read */
    for (size_t i = 0; i < count; i++) {
        if (mappings[i].address > last)
            last = mappings[i].address;
        mappings[i].found = false;
        mappings[i].writable = false;
        mappings[i].shared = false;
        mappings[i].base = 0;
        mappings[i].module[0] = '\0';
        if (mappings[i].path != NULL)
            mappings[i].path[0] = '\0';
    }
    /* /proc/self/maps is empty once the first thread has ended. */
    int fd = fsafe_sys_open("/proc/thread-self/maps", O_RDONLY, 0);
    if (fd < 0)
        return false;
    /*
     * Small enough for a thread with a 16 KiB stack. A path that does not fit is cut at its end, which
     * costs a report the module's name and nothing else.
     */
    char buffer[1024];
    size_t filled = 0;
    bool cut = false; /* the rest of an overlong line is being thrown away */
    struct module module = {0, 0, ""};
    for (bool past = false; !past;) {
        ssize_t got = fsafe_sys_read(fd, buffer + filled, sizeof buffer - 1 - filled);
        if (got == -EINTR)
            continue;
        if (got <= 0)
            break;
        filled += (size_t)got;
        size_t begin = 0;
        for (;;) {
            char *newline = memchr(buffer + begin, '\n', filled - begin);
            bool full = newline == NULL && begin == 0 && filled == sizeof buffer - 1;
            if (newline == NULL && !full)
                break;
            size_t end = newline != NULL ? (size_t)(newline - buffer) : filled;
            buffer[end] = '\0';
            struct line line;
            if (!cut && parse_line(buffer + begin, &line)) {
                follow(&module, &line);
                match(&line, &module, mappings, count);
                past = line.start > last;
            }
            cut = full;
            begin = newline != NULL ? end + 1 : filled;
        }
        memmove(buffer, buffer + begin, filled - begin);
        filled -= begin;
    }
    fsafe_sys_close(fd);
    return true;
}

bool fsafe_maps_probe_shared(uintptr_t address)
{
    /* mremap of zero bytes makes a second mapping of shareable memory; for private memory it is an invalid request. */
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    long second = FSAFE_SYS(SYS_mremap, address & ~(page - 1), 0, page, MREMAP_MAYMOVE, 0, 0);
    if (second < 0 && second > -4096)
        return second != -EINVAL;
    FSAFE_SYS(SYS_munmap, second, page, 0, 0, 0, 0);
    return true;
}
