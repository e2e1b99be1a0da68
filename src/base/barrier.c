#include "config.h"

#include "base/barrier.h"
#include "base/pages.h"
#include "base/sys.h"

#include <stdatomic.h>
#include <sys/mman.h>

#ifndef SYS_membarrier
#define SYS_membarrier (-1)
#endif
/* <linux/membarrier.h> is younger than the kernels we meet. */
enum { PRIVATE_EXPEDITED = 1 << 3, REGISTER_PRIVATE_EXPEDITED = 1 << 4 };

static bool membarrier(int command)
{
    return FSAFE_SYS(SYS_membarrier, command, 0, 0) == 0;
}

void fsafe_barrier_start(void)
{
    membarrier(REGISTER_PRIVATE_EXPEDITED);
}

void fsafe_barrier_everywhere(void)
{
    if (membarrier(PRIVATE_EXPEDITED))
        return;
    /*
     * Taking a right away from a page that was just written interrupts every processor that runs this process. Each
     * caller does that to a page of its own: with one page for all, a caller wrote while another had taken the right
     * away.
     */
    _Atomic uint32_t *page = fsafe_pages_map(1);
    if (page == NULL)
        return;
    atomic_fetch_add(page, 1);
    FSAFE_SYS(SYS_mprotect, page, 1, PROT_READ);
    fsafe_pages_unmap(page, 1);
}
