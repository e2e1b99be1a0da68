#include "config.h"

#include "base/compiler.h"
#include "cli/calls.h"
#include "cli/source.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBDW

#include <elfutils/libdwfl.h>

enum { CALL = 0xe8, JUMP = 0xe9, CALL_BYTES = 5, DEEPEST = 6, FUNCTIONS_MOST = 1000 };

struct code {
    Dwfl_Module *module;
    GElf_Addr bias;
    const unsigned char *bytes;
    uint64_t from;
    size_t count;
    uint64_t goal; /* the function to which the calls have to lead */
    unsigned left; /* how many more functions may be searched */
};

/* The module's section of instructions that has the address. */
static bool read_code(struct code *code, uint64_t address)
{
    Elf *elf = dwfl_module_getelf(code->module, &code->bias);
    GElf_Ehdr header;
    if (elf == NULL || gelf_getehdr(elf, &header) == NULL ||
        (header.e_machine != EM_X86_64 && header.e_machine != EM_386))
        return false;
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section)) != NULL;) {
        GElf_Shdr shape;
        Elf_Data *data;
        if (gelf_getshdr(section, &shape) == NULL || shape.sh_type != SHT_PROGBITS ||
            address - shape.sh_addr >= shape.sh_size || (data = elf_getdata(section, NULL)) == NULL ||
            data->d_buf == NULL)
            continue;
        code->bytes = data->d_buf;
        code->from = shape.sh_addr;
        code->count = data->d_size;
        return true;
    }
    return false;
}

static bool find_function(const struct code *code, uint64_t address, uint64_t *from, size_t *bytes)
{
    GElf_Off offset;
    GElf_Sym symbol;
    if (dwfl_module_addrinfo(code->module, address + code->bias, &offset, &symbol, NULL, NULL, NULL) == NULL)
        return false;
    *from = address - offset;
    *bytes = symbol.st_size;
    return *from >= code->from && *from - code->from + *bytes <= code->count;
}

static const char *find_line(const struct code *code, uint64_t address, int *number)
{
    Dwfl_Line *line = dwfl_module_getsrc(code->module, address + code->bias);
    return line == NULL ? NULL : dwfl_lineinfo(line, NULL, number, NULL, NULL, NULL);
}

static bool leads_there(struct code *code, uint64_t from, size_t bytes, unsigned depth);

/* Whether a call at `at` leads to the goal, directly or by functions of the system's libraries. */
static bool is_call_there(struct code *code, uint64_t at, unsigned depth)
{
    const unsigned char *bytes = code->bytes + (at - code->from);
    int32_t distance;
    uint64_t from;
    size_t count;
    int number;
    if (bytes[0] != CALL && bytes[0] != JUMP)
        return false;
    memcpy(&distance, bytes + 1, sizeof distance);
    uint64_t target = at + CALL_BYTES + (uint64_t)(int64_t)distance;
    if (target - code->from >= code->count || !find_function(code, target, &from, &count) || from != target)
        return false;
    if (target == code->goal)
        return true;
    if (depth == 0 || code->left == 0 || !fsafe_source_is_system_file(find_line(code, target, &number)))
        return false;
    code->left--;
    return leads_there(code, from, count, depth - 1);
}

static bool leads_there(struct code *code, uint64_t from, size_t bytes, unsigned depth)
{
    for (uint64_t at = from; at + CALL_BYTES <= from + bytes; at++)
        if (is_call_there(code, at, depth))
            return true;
    return false;
}

bool fsafe_calls_find(const char *path, uint64_t address, uint64_t inner, char **file, int *line)
{
    struct code code = {.module = fsafe_source_open(path), .left = FUNCTIONS_MOST};
    uint64_t from;
    size_t bytes;
    *file = NULL;
    if (code.module == NULL || !read_code(&code, address) || !find_function(&code, inner, &code.goal, &bytes) ||
        !find_function(&code, address, &from, &bytes))
        return false;
    for (uint64_t at = from; at + CALL_BYTES <= from + bytes; at++) {
        int number = 0;
        if (!is_call_there(&code, at, DEEPEST))
            continue;
        const char *found = find_line(&code, at, &number);
        if (found == NULL || (*file != NULL && (number != *line || strcmp(found, *file) != 0))) {
            free(*file);
            *file = NULL;
            return false;
        }
        if (*file == NULL)
            *file = strdup(found);
        *line = number;
    }
    return *file != NULL;
}

#else

FSAFE_BEGIN_ANSWERS
bool fsafe_calls_find(const char *path, uint64_t address, uint64_t inner, char **file, int *line) { return false; }
FSAFE_END_ANSWERS

#endif
