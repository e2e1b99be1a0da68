#include "config.h"

#include "base/pages.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)getauxval(AT_PAGESZ);
    return (bytes + page - 1) / page * page;
}

static void *map(size_t bytes, int whose)
{
    int saved = errno;
    void *pages = mmap(NULL, whole_pages(bytes), PROT_READ | PROT_WRITE, whose | MAP_ANONYMOUS, -1, 0);
    errno = saved;
    return pages == MAP_FAILED ? NULL : pages;
}

void *fsafe_pages_map(size_t bytes)
{
    return map(bytes, MAP_PRIVATE);
}

void *fsafe_pages_map_shared(size_t bytes)
{
    return map(bytes, MAP_SHARED);
}

void fsafe_pages_unmap(void *pages, size_t bytes)
{
    int saved = errno;
    munmap(pages, whole_pages(bytes));
    errno = saved;
}

void *fsafe_pages_map_wiped(bool *emulated)
{
    enum { NO_ADVICE = 0x7fff }; /* that a kernel knows: it would be refused */
    void *page = fsafe_pages_map(1);
    *emulated = false;
    if (page == NULL)
        return NULL;
    int saved = errno;
    *emulated = madvise(page, whole_pages(1), NO_ADVICE) == 0;
    bool wiped = !*emulated && madvise(page, whole_pages(1), MADV_WIPEONFORK) == 0;
    errno = saved;
    if (wiped)
        return page;
    fsafe_pages_unmap(page, 1);
    return NULL;
}
