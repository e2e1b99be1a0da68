/* libc/loader: see loader.h. */
#include "config.h"

#include "base/sys.h"
#include "libc/layout.h"
#include "libc/loader.h"

#include <sys/auxv.h>

pthread_mutex_t *fsafe_loader_lock;

struct search {
    fsafe_loader_iterate *iterate;
    uintptr_t begin, end; /* the loader's data */
    unsigned depth;       /* of callbacks */
    unsigned found;
    pthread_mutex_t *lock;
};

static bool is_held(const pthread_mutex_t *mutex, unsigned times)
{
    return fsafe_layout_mutex_kind(mutex) == FSAFE_MUTEX_RECURSIVE && fsafe_layout_mutex_locked(mutex) &&
           fsafe_layout_mutex_owner(mutex) == (int)fsafe_sys_gettid() && fsafe_layout_mutex_depth(mutex) == times;
}

/* Where the loader keeps what it writes. */
static int find_data(struct dl_phdr_info *info, size_t size, void *data)
{
    struct search *search = data;
    (void)size;
    if (info->dlpi_addr != getauxval(AT_BASE) || info->dlpi_addr == 0)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) != 0) {
            search->begin = (info->dlpi_addr + segment->p_vaddr + 15) & ~(uintptr_t)15;
            search->end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        }
    }
    return 1;
}

static int look(struct dl_phdr_info *info, size_t size, void *data)
{
    struct search *search = data;
    (void)info;
    (void)size;
    if (++search->depth == 1) {
        for (uintptr_t at = search->begin; at + sizeof(pthread_mutex_t) <= search->end; at += sizeof(void *)) {
            pthread_mutex_t *mutex = (pthread_mutex_t *)at;
            if (is_held(mutex, 1)) {
                search->lock = mutex;
                search->found++;
            }
        }
        if (search->found == 1)
            search->iterate(look, search);
    } else if (!is_held(search->lock, 2)) {
        search->found = 0;
    }
    search->depth--;
    return 1;
}

void fsafe_loader_find(fsafe_loader_iterate *iterate)
{
    struct search search = {.iterate = iterate};
    if (!fsafe_layout.mutex_bytes || iterate(find_data, &search) != 1)
        return;
    iterate(look, &search);
    if (search.found != 1 || fsafe_layout_mutex_locked(search.lock) || fsafe_layout_mutex_owner(search.lock) != 0 ||
        fsafe_layout_mutex_kind(search.lock) != FSAFE_MUTEX_RECURSIVE)
        return;
    fsafe_loader_lock = search.lock;
}
