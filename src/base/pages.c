/*
 * By system calls, not by libc's functions: some libraries put hooks into these, which take locks, and a thread's first
 * lock maps its ledger. Measured. UCX, which torch and MPI load, writes over the code of libc's mmap.
 */
#include "config.h"

#include "base/pages.h"
#include "base/sys.h"

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
    const int protection = PROT_READ | PROT_WRITE, flags = whose | MAP_ANONYMOUS;
#if defined(__s390x__)
    const long arguments[] = {0, (long)whole_pages(bytes), protection, flags, -1, 0};
    long answer = FSAFE_SYS(SYS_mmap, arguments);
#elif defined(SYS_mmap2)
    long answer = FSAFE_SYS(SYS_mmap2, 0, whole_pages(bytes), protection, flags, -1, 0);
#else
    long answer = FSAFE_SYS(SYS_mmap, 0, whole_pages(bytes), protection, flags, -1, 0);
#endif
    return answer < 0 && answer > -4096 ? NULL : (void *)answer;
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
    FSAFE_SYS(SYS_munmap, pages, whole_pages(bytes));
}

static bool advise(void *page, int advice)
{
    return FSAFE_SYS(SYS_madvise, page, whole_pages(1), advice) == 0;
}

void *fsafe_pages_map_wiped(bool *emulated)
{
    enum { NO_ADVICE = 0x7fff }; /* a kernel refuses it */
    void *page = fsafe_pages_map(1);
    *emulated = false;
    if (page == NULL)
        return NULL;
    *emulated = advise(page, NO_ADVICE);
    bool wiped = !*emulated && advise(page, MADV_WIPEONFORK);
    if (wiped)
        return page;
    fsafe_pages_unmap(page, 1);
    return NULL;
}
