/* base/maps: see maps.h. A line reads "start-end perms offset dev inode   path". */
#include "config.h"

#include "base/maps.h"
#include "base/sys.h"
#include "base/tasks.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/auxv.h>
#include <sys/mman.h>

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

/* Fills in what the line says; `offset`: which byte of the file lies at its beginning. */
static bool parse_line(const char *at, struct fsafe_maps_line *line, uintptr_t *offset)
{
    line->start = (uintptr_t)fsafe_text_read(&at, 16);
    if (*at++ != '-')
        return false;
    line->end = (uintptr_t)fsafe_text_read(&at, 16);
    at = skip_field(at);
    if (strlen(at) < 4)
        return false;
    line->writable = at[1] == 'w';
    line->executable = at[2] == 'x';
    line->shared = at[3] == 's';
    at = skip_field(at);
    *offset = (uintptr_t)fsafe_text_read(&at, 16);
    at = skip_field(at);
    at = skip_field(at); /* device */
    line->path = skip_field(at);
    return true;
}

/* Makes `module` the one that the line belongs to: the line begins it, continues it or leaves it. */
static void follow(struct module *module, const struct fsafe_maps_line *line, uintptr_t offset)
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
    if (offset == 0)
        module->base = line->start;
    module->end = line->shared ? 0 : line->end; /* no .bss lies behind shared memory, as "/dev/zero (deleted)" */
}

/*
 * /proc/self/maps is empty once the first thread has ended; the second name lists, under qemu-user, the emulator's
 * memory and not the program's.
 */
static const char *const names[] = {"/proc/self/maps", "/proc/thread-self/maps"};

/* Opens the first list that is not empty and reads its beginning. Returns the descriptor, or -1. */
static int open_list(char *into, size_t bytes, size_t *filled)
{
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        int fd = fsafe_sys_open(names[i], O_RDONLY, 0);
        ssize_t got = fd < 0 ? -1 : fsafe_sys_read(fd, into, bytes);
        if (got > 0) {
            *filled = (size_t)got;
            return fd;
        }
        if (fd >= 0)
            fsafe_sys_close(fd);
    }
    return -1;
}

/* What each line needs of those before it, and who is to see it. */
struct listing {
    struct module module;
    fsafe_maps_see *see;
    void *context;
};

static bool see_line(char *text, void *context)
{
    struct listing *listing = context;
    struct fsafe_maps_line line;
    uintptr_t offset;
    if (!parse_line(text, &line, &offset))
        return true;
    follow(&listing->module, &line, offset);
    line.base = listing->module.base;
    line.module = listing->module.name;
    return listing->see(&line, listing->context);
}

bool fsafe_maps_each(fsafe_maps_see *see, void *context)
{
    /* Small enough for a thread with a 16 KiB stack. Where a path is cut a line of ours lacks the module's name. */
    char buffer[1024];
    size_t filled = 0;
    int fd = open_list(buffer, sizeof buffer - 1, &filled);
    if (fd < 0)
        return false;
    fsafe_sys_each_line(fd, buffer, sizeof buffer, filled, see_line,
                        &(struct listing){.see = see, .context = context});
    fsafe_sys_close(fd);
    return true;
}

/* What find looks for. */
struct wanted {
    struct fsafe_mapping *mappings;
    size_t count;
    uintptr_t last; /* the highest address; lines come in order, so that those behind it need not be read */
};

static bool match(const struct fsafe_maps_line *line, void *context)
{
    const struct wanted *wanted = context;
    for (size_t i = 0; i < wanted->count; i++) {
        struct fsafe_mapping *m = &wanted->mappings[i];
        if (m->address == 0 || m->address < line->start || m->address >= line->end)
            continue;
        m->found = true;
        m->writable = line->writable;
        m->shared = line->shared;
        m->base = line->base;
        memcpy(m->module, line->module, sizeof m->module);
        if (m->path != NULL && m->module[0] != '\0') { /* "" for the memory behind a file's segments */
            size_t length = strnlen(line->path, FSAFE_PATH_BYTES - 1);
            memcpy(m->path, line->path, length);
            m->path[length] = '\0';
        }
    }
    return line->start <= wanted->last;
}

bool fsafe_maps_find(struct fsafe_mapping *mappings, size_t count)
{
    struct wanted wanted = {.mappings = mappings, .count = count};
    for (size_t i = 0; i < count; i++) {
        if (mappings[i].address > wanted.last)
            wanted.last = mappings[i].address;
        mappings[i] = (struct fsafe_mapping){.address = mappings[i].address, .path = mappings[i].path};
        if (mappings[i].path != NULL)
            mappings[i].path[0] = '\0';
    }
    return fsafe_maps_each(match, &wanted);
}

/* The kernel's struct procmap_query and PROCMAP_QUERY, which its older headers lack. */
struct query {
    uint64_t size, flags, address, start, end, vma_flags, page_size, offset, inode;
    uint32_t major, minor, name_bytes, build_id_bytes;
    uint64_t name, build_id;
};
#define QUERY _IOWR('f', 17, struct query)
#define QUERY_SHARED 0x8u

int fsafe_maps_is_shared(uintptr_t address)
{
    struct query query = {.size = sizeof query, .address = address};
    int fd = fsafe_sys_open(names[1], O_RDONLY, 0);
    long answer = fd < 0 ? -1 : FSAFE_SYS(SYS_ioctl, fd, QUERY, &query);
    if (fd >= 0)
        fsafe_sys_close(fd);
    if (answer == 0)
        return (query.vma_flags & QUERY_SHARED) != 0;
    struct fsafe_mapping mapping = {.address = address};
    if (!fsafe_maps_find(&mapping, 1) || !mapping.found)
        return -1;
    return mapping.shared;
}

int fsafe_maps_is_shared_in(pid_t pid, uintptr_t address)
{
    char buffer[1024];
    struct fsafe_mapping mapping = {.address = address};
    struct wanted wanted = {.mappings = &mapping, .count = 1, .last = address};
    int fd = fsafe_tasks_open(pid, 0, "maps", 0);
    if (fd < 0)
        return -1;
    fsafe_sys_each_line(fd, buffer, sizeof buffer, 0, see_line, &(struct listing){.see = match, .context = &wanted});
    fsafe_tasks_close(fd);
    return mapping.found ? mapping.shared : -1;
}

bool fsafe_maps_probe_shared(uintptr_t address)
{
    /* mremap of zero bytes makes a second mapping of shareable memory; for private memory it is an invalid request. */
    size_t page = (size_t)getauxval(AT_PAGESZ);
    long second = FSAFE_SYS(SYS_mremap, address & ~(page - 1), 0, page, MREMAP_MAYMOVE, 0);
    if (second < 0 && second > -4096)
        return second != -EINVAL;
    FSAFE_SYS(SYS_munmap, second, page);
    return true;
}
