/* track/lineage: see lineage.h. */
#include "config.h"

#include "base/compiler.h"
#include "base/pages.h"
#include "base/sys.h"
#include "track/lineage.h"

#include <string.h>

_Atomic uint32_t fsafe_generation FSAFE_FORK_STATE = 1;

/* ADOPTED, or 0 in a process that was forked since, or between the two. NULL: the kernel cannot wipe pages. */
enum { UNADOPTED, ADOPTING, ADOPTED };
static _Atomic uint32_t *adopted;

static pid_t pid FSAFE_FORK_STATE;

/* The latest forks, by the generation they ended. */
enum { KEEP_FORKS = 16 };
static struct {
    uint32_t generation;
    struct fsafe_fork fork;
} forks[KEEP_FORKS] FSAFE_FORK_STATE;

void fsafe_lineage_start(void)
{
    pid = fsafe_sys_getpid();
    adopted = fsafe_pages_map_wiped();
    if (adopted != NULL)
        atomic_store_explicit(adopted, ADOPTED, memory_order_relaxed);
}

pid_t fsafe_lineage_pid(void)
{
    return pid;
}

bool fsafe_lineage_is_unadopted(void)
{
    return adopted != NULL && atomic_load_explicit(adopted, memory_order_relaxed) != ADOPTED;
}

bool fsafe_lineage_is_guest(void)
{
    return adopted != NULL && atomic_load_explicit(adopted, memory_order_relaxed) == ADOPTED &&
           fsafe_sys_getpid() != pid;
}

bool fsafe_lineage_begin_adoption(void)
{
    /* Written without being read first: in a child that would be two page faults. */
    if (adopted == NULL)
        return true;
    if (atomic_exchange_explicit(adopted, ADOPTING, memory_order_relaxed) != ADOPTED)
        return true;
    atomic_store_explicit(adopted, ADOPTED, memory_order_relaxed);
    return false;
}

void fsafe_lineage_adopted(const struct fsafe_fork *fork)
{
    pid = fsafe_sys_getpid();
    uint32_t ended = fsafe_lineage_generation() - 1;
    forks[ended % KEEP_FORKS].generation = ended;
    forks[ended % KEEP_FORKS].fork = *fork;
    if (adopted != NULL)
        atomic_store_explicit(adopted, ADOPTED, memory_order_relaxed);
}

struct fsafe_fork fsafe_lineage_fork_after(uint32_t generation)
{
    struct fsafe_fork unknown;
    memset(&unknown, 0, sizeof unknown);
    return forks[generation % KEEP_FORKS].generation == generation ? forks[generation % KEEP_FORKS].fork
                                                                   : unknown;
}
