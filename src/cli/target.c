/* cli/target: see target.h. */
#include "config.h"

#include "cli/target.h"

#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The beginning of a file: of a program its headers and its loader's name, as linkers place them. */
struct head {
    char bytes[4096];
    size_t count;
};

static bool read_head(struct head *head, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd == -1 ? -1 : read(fd, head->bytes, sizeof head->bytes - 1);
    if (fd != -1)
        close(fd);
    head->count = count < 0 ? 0 : (size_t)count;
    head->bytes[head->count] = '\0';
    return count > 0;
}

/* In PATH, unless the name says where. */
static bool find(struct head *head, const char *command)
{
    const char *path = getenv("PATH");
    char *directories = strdup(path != NULL ? path : "/bin:/usr/bin"), *rest, file[PATH_MAX];
    bool found = strchr(command, '/') != NULL && read_head(head, command);
    if (directories != NULL && strchr(command, '/') == NULL) {
        for (char *directory = strtok_r(directories, ":", &rest); directory != NULL && !found;
             directory = strtok_r(NULL, ":", &rest)) {
            snprintf(file, sizeof file, "%s/%s", directory, command);
            found = access(file, X_OK) == 0 && read_head(head, file);
        }
    }
    free(directories);
    return found;
}

static bool is_program(const struct head *head)
{
    return head->count >= sizeof(ElfW(Ehdr)) && memcmp(head->bytes, ELFMAG, SELFMAG) == 0;
}

/* The name of the loader that is to start the program, or NULL: it needs none, or that cannot be seen. */
static const char *loader_of(const struct head *head)
{
    ElfW(Ehdr) header;
    memcpy(&header, head->bytes, sizeof header);
    for (unsigned i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        size_t at = header.e_phoff + i * sizeof segment;
        if (at + sizeof segment > head->count)
            return NULL;
        memcpy(&segment, head->bytes + at, sizeof segment);
        if (segment.p_type == PT_INTERP)
            return segment.p_offset < head->count ? head->bytes + segment.p_offset : NULL;
    }
    return NULL;
}

static const char *objection(const struct head *program, const struct head *library)
{
    /* Word size, byte order, and the processor, which follows the type. */
    ElfW(Ehdr) of_program, of_library;
    memcpy(&of_program, program->bytes, sizeof of_program);
    memcpy(&of_library, library->bytes, sizeof of_library);
    if (program->bytes[EI_CLASS] != library->bytes[EI_CLASS] || program->bytes[EI_DATA] != library->bytes[EI_DATA] ||
        of_program.e_machine != of_library.e_machine)
        return "is for another processor than the library";
    const char *loader = loader_of(program);
#ifdef FSAFE_LIBC_GLIBC
    if (loader != NULL && strstr(loader, "ld-musl") != NULL)
        return "is for musl, the library for the GNU C library";
#else
    if (loader != NULL && strstr(loader, "ld-linux") != NULL)
        return "is for the GNU C library, the library for another one";
#endif
    return NULL;
}

const char *fsafe_target_objection(const char *command, const char *library)
{
    struct head program, own;
    enum { SCRIPTS = 4 }; /* a script's interpreter may be a script; the kernel gives up there, too */
    if (!read_head(&own, library) || !is_program(&own) || !find(&program, command))
        return NULL;
    for (int i = 0; i < SCRIPTS && strncmp(program.bytes, "#!", 2) == 0; i++) {
        char *interpreter = program.bytes + 2 + strspn(program.bytes + 2, " \t"), name[PATH_MAX];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(interpreter, " \t\n"), interpreter);
        if (!read_head(&program, name))
            return NULL;
    }
    return is_program(&program) ? objection(&program, &own) : NULL;
}
