#include "config.h"

#include "base/text.h"
#include "cli/exit.h"
#include "cli/target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* A file in memory. */
struct image {
    const char *bytes;
    size_t count;
    struct stat status;
    bool capable; /* it has capabilities */
};

static bool open_image(struct image *image, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool opened = fd != -1 && fstat(fd, &image->status) == 0 && S_ISREG(image->status.st_mode) &&
                  image->status.st_size > 0;
    void *bytes = MAP_FAILED;
    if (opened)
        bytes = mmap(NULL, (size_t)image->status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd != -1)
        close(fd);
    if (bytes == MAP_FAILED)
        return false;
    image->bytes = bytes;
    image->count = (size_t)image->status.st_size;
    image->capable = getxattr(path, "security.capability", NULL, 0) > 0;
    return true;
}

static void close_image(struct image *image)
{
    munmap((void *)image->bytes, image->count);
}

/* Opens the command, which is looked for in PATH if it has no slash. */
static bool find(struct image *image, const char *command)
{
    const char *path = getenv("PATH");
    if (strchr(command, '/') != NULL)
        return open_image(image, command);
    char *directories = strdup(path != NULL ? path : "/bin:/usr/bin"), *rest, file[PATH_MAX];
    bool found = false;
    for (char *directory = directories == NULL ? NULL : strtok_r(directories, ":", &rest);
         directory != NULL && !found; directory = strtok_r(NULL, ":", &rest)) {
        snprintf(file, sizeof file, "%s/%s", directory, command);
        found = access(file, X_OK) == 0 && open_image(image, file);
    }
    free(directories);
    return found;
}

/* Copies `bytes` from `offset`; false when the file ends before. */
static bool take(const struct image *image, size_t offset, void *into, size_t bytes)
{
    if (offset > image->count || image->count - offset < bytes)
        return false;
    memcpy(into, image->bytes + offset, bytes);
    return true;
}

/* A string that ends within the file, or NULL. */
static const char *string_at(const struct image *image, size_t offset)
{
    if (offset >= image->count || memchr(image->bytes + offset, '\0', image->count - offset) == NULL)
        return NULL;
    return image->bytes + offset;
}

static bool is_program(const struct image *image)
{
    return image->count >= sizeof(ElfW(Ehdr)) && memcmp(image->bytes, ELFMAG, SELFMAG) == 0;
}

static bool find_segment(const struct image *image, ElfW(Word) type, ElfW(Phdr) *segment)
{
    ElfW(Ehdr) header;
    unsigned count = take(image, 0, &header, sizeof header) ? header.e_phnum : 0;
    for (unsigned i = 0; i < count; i++)
        if (take(image, header.e_phoff + i * sizeof *segment, segment, sizeof *segment) && segment->p_type == type)
            return true;
    return false;
}

/* Where in the file an address of the program is; the file's length: nowhere. */
static size_t offset_of(const struct image *image, ElfW(Addr) address)
{
    ElfW(Ehdr) header;
    ElfW(Phdr) segment;
    unsigned count = take(image, 0, &header, sizeof header) ? header.e_phnum : 0;
    for (unsigned i = 0; i < count; i++)
        if (take(image, header.e_phoff + i * sizeof segment, &segment, sizeof segment) && segment.p_type == PT_LOAD &&
            address - segment.p_vaddr < segment.p_filesz)
            return segment.p_offset + (address - segment.p_vaddr);
    return image->count;
}

/* Calls `see` for each library that the program is linked with. */
static void each_needed(const struct image *image, void (*see)(const char *name, void *context), void *context)
{
    ElfW(Phdr) segment;
    ElfW(Dyn) entry;
    if (!find_segment(image, PT_DYNAMIC, &segment))
        return;
    size_t count = segment.p_filesz / sizeof entry, strings = image->count;
    for (size_t i = 0; i < count && take(image, segment.p_offset + i * sizeof entry, &entry, sizeof entry); i++)
        if (entry.d_tag == DT_STRTAB)
            strings = offset_of(image, entry.d_un.d_ptr);
    for (size_t i = 0; i < count && take(image, segment.p_offset + i * sizeof entry, &entry, sizeof entry); i++) {
        const char *name = entry.d_tag == DT_NEEDED ? string_at(image, strings + entry.d_un.d_val) : NULL;
        if (name != NULL)
            see(name, context);
    }
}

/*
 * Go's linker puts this into each program, followed by the size of a pointer; a program that looks for it has it, too.
 */
static bool is_go(const struct image *image)
{
    static const char mark[] = "\xff Go buildinf:";
    const unsigned char *found = memmem(image->bytes, image->count, mark, sizeof mark - 1);
    return found != NULL && found + sizeof mark - 1 < (const unsigned char *)image->bytes + image->count &&
           (found[sizeof mark - 1] == 4 || found[sizeof mark - 1] == 8);
}

static void note_unseen(const char *name, void *context)
{
    static const struct {
        const char *library, *words;
    } rows[] = {
        {"libgomp.so", "the locks of OpenMP (libgomp)"},
        {"libomp.so", "the locks of OpenMP (libomp)"},
        {"libiomp5.so", "the locks of OpenMP (libiomp5)"},
        {"libtbb.so", "the spin locks of TBB"},
        {"libabsl_synchronization.so", "the locks of Abseil"},
        {"libtcmalloc", "the spin locks inside tcmalloc"},
    };
    struct fsafe_target *target = context;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strncmp(name, rows[i].library, strlen(rows[i].library)) == 0 &&
            target->unseen_count < sizeof target->unseen / sizeof *target->unseen)
            target->unseen[target->unseen_count++] = rows[i].words;
}

/* Why the program's loader will ignore LD_PRELOAD; NULL: it will not. */
static const char *find_privilege(const struct image *image)
{
    const struct stat *status = &image->status;
    if ((status->st_mode & S_ISUID) != 0 && status->st_uid != getuid())
        return "is set-user-ID, so its loader ignores LD_PRELOAD";
    if ((status->st_mode & S_ISGID) != 0 && (status->st_mode & S_IXGRP) != 0 && status->st_gid != getgid())
        return "is set-group-ID, so its loader ignores LD_PRELOAD";
    return image->capable && getuid() != 0 ? "has capabilities, so its loader ignores LD_PRELOAD" : NULL;
}

/* Whether the file is for musl; its loader's name is in the first page, whatever the word size. */
static bool is_for_musl(const struct image *program)
{
    static const char loader[] = "/ld-musl-";
    return memmem(program->bytes, program->count < 4096 ? program->count : 4096, loader, sizeof loader - 1) != NULL;
}

#ifdef FSAFE_LIBC_MUSL
static const bool own_is_for_musl = true;
#else
static const bool own_is_for_musl = false;
#endif

static void look(struct fsafe_target *target, const struct image *program, const struct image *library, bool for_musl)
{
    ElfW(Ehdr) of_program, of_library;
    ElfW(Phdr) segment;
    take(program, 0, &of_program, sizeof of_program);
    take(library, 0, &of_library, sizeof of_library);
    if (program->bytes[EI_CLASS] != library->bytes[EI_CLASS]) {
        bool small = program->bytes[EI_CLASS] == ELFCLASS32;
        target->objection = small ? "is a 32-bit program, the library is for 64 bits"
                                  : "is a 64-bit program, the library is for 32 bits";
        target->refuses = true;
        return;
    }
    if (program->bytes[EI_DATA] != library->bytes[EI_DATA] || of_program.e_machine != of_library.e_machine) {
        target->objection = "is for another processor than the library";
        target->refuses = true;
        return;
    }
    const char *loader = find_segment(program, PT_INTERP, &segment) ? string_at(program, segment.p_offset) : NULL;
    if (loader == NULL) {
        bool movable = find_segment(program, PT_DYNAMIC, &segment);
        target->objection = is_go(program) ? "is a Go program and statically linked: no loader reads LD_PRELOAD"
                            : movable      ? "is statically linked (static-pie): no loader reads LD_PRELOAD"
                                           : "is statically linked: no loader reads LD_PRELOAD";
        return;
    }
    if (is_for_musl(program) != for_musl) {
        target->objection = for_musl ? "is for the GNU C library, the library for musl"
                                     : "is for musl, the library for the GNU C library";
        target->refuses = true;
    }
    if (target->objection == NULL)
        target->objection = find_privilege(program);
    if (is_go(program))
        target->unseen[target->unseen_count++] = "the locks of Go";
    each_needed(program, note_unseen, target);
}

/* Goes on to a script's interpreter; false when there is none. */
static bool follow_script(struct image *program)
{
    char line[PATH_MAX], *rest;
    size_t count = program->count < sizeof line - 1 ? program->count : sizeof line - 1;
    memcpy(line, program->bytes, count);
    line[count] = '\0';
    line[strcspn(line, "\n")] = '\0';
    close_image(program);
    char *interpreter = strtok_r(line + 2, " \t", &rest), *word = strtok_r(NULL, " \t", &rest);
    if (interpreter == NULL)
        return false;
    const char *slash = strrchr(interpreter, '/');
    if (slash == NULL || strcmp(slash, "/env") != 0 || word == NULL)
        return open_image(program, interpreter);
    /* env(1): options and settings come before the command. */
    while (word != NULL && (word[0] == '-' || strchr(word, '=') != NULL))
        word = strtok_r(NULL, " \t", &rest);
    return word != NULL && find(program, word);
}

/* Looks for the library that was installed beside this one for such programs. */
static void try_other(struct fsafe_target *target, const struct image *program, char library[PATH_MAX])
{
    struct fsafe_target other = {.objection = NULL};
    struct image image;
    char path[PATH_MAX];
    bool for_musl = is_for_musl(program);
    const char *slash = strrchr(library, '/');
    int length = snprintf(path, sizeof path, "%.*s/libforksafe-%s%s.so", slash != NULL ? (int)(slash - library) : 0,
                          library, for_musl ? "musl" : "gnu", program->bytes[EI_CLASS] == ELFCLASS32 ? "32" : "");
    if (slash == NULL || length >= PATH_MAX || !open_image(&image, path))
        return;
    if (is_program(&image))
        look(&other, program, &image, for_musl);
    if (is_program(&image) && !other.refuses) {
        *target = other;
        strcpy(library, path);
    }
    close_image(&image);
}

void fsafe_target_look(struct fsafe_target *target, const char *command, char library[PATH_MAX])
{
    enum { SCRIPTS = 4 }; /* a script's interpreter may be a script; the kernel follows four, too */
    struct image program, own;
    memset(target, 0, sizeof *target);
    if (!open_image(&own, library))
        return;
    bool open = is_program(&own) && find(&program, command);
    for (int i = 0; open && i < SCRIPTS && program.count > 2 && memcmp(program.bytes, "#!", 2) == 0; i++)
        open = follow_script(&program);
    if (open && is_program(&program))
        look(target, &program, &own, own_is_for_musl);
    if (target->refuses)
        try_other(target, &program, library);
    if (open)
        close_image(&program);
    close_image(&own);
}

#ifndef FSAFE_LIBDIR
#define FSAFE_LIBDIR "/usr/local/lib"
#endif

#define LIBRARY "libforksafe.so"

/* Cuts the last component off an absolute path; "/x" becomes "", so that "/name" can be appended. */
static void strip_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        *slash = '\0';
}

/* Sets path to directory + suffix. Returns whether that is a file that we can read. */
static bool is_library(char path[PATH_MAX], const char *directory, const char *suffix)
{
    int length = snprintf(path, PATH_MAX, "%s%s", directory, suffix);
    return length > 0 && length < PATH_MAX && access(path, R_OK) == 0;
}

/* In this order two versions on one machine do not mix. */
void fsafe_target_find_library(char path[PATH_MAX])
{
    char directory[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", directory, sizeof directory);
    if (length > 0 && (size_t)length < sizeof directory) {
        directory[length] = '\0';
        strip_last(directory);
        if (is_library(path, directory, "/.libs/" LIBRARY))
            return;
        strip_last(directory);
        if (is_library(path, directory, "/lib/" LIBRARY))
            return;
    }
    if (!is_library(path, FSAFE_LIBDIR, "/" LIBRARY))
        fsafe_exit_failing("cannot read %s: %s", path, strerror(errno));
}

bool fsafe_target_is_library(const char *entry)
{
    const char *name = fsafe_text_last_part(entry);
    return strcmp(name, LIBRARY) == 0 || strncmp(name, "libforksafe-", strlen("libforksafe-")) == 0;
}

void fsafe_target_print(FILE *to, const struct fsafe_target *target, const char *command)
{
    if (target->objection != NULL)
        fprintf(to, "forksafe: '%s' %s: it runs unprotected\n", command, target->objection);
    for (unsigned i = 0; i < target->unseen_count && target->objection == NULL; i++)
        fprintf(to, "forksafe: '%s' may use %s, which are not seen\n", command, target->unseen[i]);
}

int fsafe_target_check(const char *command)
{
    struct fsafe_target target;
    struct image image;
    char library[PATH_MAX];
    fsafe_target_find_library(library);
    if (!find(&image, command))
        fsafe_exit_failing("no process and no program: '%s'", command);
    close_image(&image);
    fsafe_target_look(&target, command, library);
    fsafe_target_print(stdout, &target, command);
    if (target.objection == NULL && target.unseen_count == 0)
        printf("forksafe: '%s' can be protected\n", command);
    if (fflush(stdout) == EOF)
        return FSAFE_EXIT_OURS;
    return target.objection != NULL ? 1 : target.unseen_count != 0 ? 2 : 0;
}
